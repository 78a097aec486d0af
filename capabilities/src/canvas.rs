//! `canvas.present`, `canvas.navigate`, `canvas.hide`, `canvas.eval` and `canvas.snapshot`: a page that an agent shows on the screen of
//! this device, in a window of a browser that is installed here.
//!
//! Names and parameters are OpenClaw's, where it has them; the results are those of the phone page. The browser is started by the first
//! page and ended with the last; it has a profile of its own, which is gone afterwards, so no page meets what its user is logged in to.

mod browser;
mod devtools;
mod params;
mod settings;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::capture::{Content, Subject, carry};
use crate::installed::{Installed, unless_cancelled, until};
use crate::params::invalid;
use crate::{Call, Capability, Description};
use browser::Browser;
use devtools::Broken;
use params::{Code, Page, Shot};
use settings::{Settings, Window};

const PRESENT: &str = "canvas.present";
const NAVIGATE: &str = "canvas.navigate";
const HIDE: &str = "canvas.hide";
const EVAL: &str = "canvas.eval";
const SNAPSHOT: &str = "canvas.snapshot";
const ALL: [&str; 5] = [PRESENT, NAVIGATE, HIDE, EVAL, SNAPSHOT];

/// The longest that any of them takes.
const TIME: Duration = Duration::from_secs(30);

/// What it takes to end a browser that hangs; so much is left of a call's time.
const ENDING: Duration = Duration::from_secs(1);

/// A browser without a window that nobody has asked anything for so long is ended.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// The most that a script gives, bytes of text.
const RESULT: usize = 256 * 1024;

const CANVAS: Subject = Subject::Canvas;

/// What is shown on this device.
#[derive(Debug)]
pub struct Canvas {
    state_dir: PathBuf,
    installed: Installed,
    shown: Arc<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    /// One works with it at a time.
    browser: Mutex<Option<Browser>>,
    /// Ends it when nobody has asked for long.
    idle: StdMutex<Option<AbortOnDropHandle<()>>>,
}

impl Canvas {
    /// With the owner's file in `state_dir`, and the browsers that this process sees.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            installed: Installed::here(),
            shown: Arc::default(),
        }
    }

    async fn do_it(&self, call: Call) -> Result<Value, CallError> {
        let until = until(call.deadline.saturating_sub(ENDING.min(call.deadline / 4)), TIME);
        // What is wrong with the parameters is said before anything starts.
        match call.command.as_str() {
            PRESENT | NAVIGATE => {
                let page = Page::read(call.params.as_ref(), call.command == NAVIGATE)?;
                self.with(until, async |browser| self.present(browser, page, until).await)
                    .await?;
                Ok(json!({"ok": true}))
            }
            HIDE => {
                self.hide(until).await?;
                Ok(json!({"ok": true}))
            }
            EVAL => {
                let code = Code::read(call.params.as_ref())?;
                let result = self.with(until, async |browser| evaluate(browser, &code, until).await);
                Ok(json!({"result": result.await?}))
            }
            SNAPSHOT => {
                let shot = Shot::read(call.params.as_ref())?;
                let taking = self.with(until, async |browser| {
                    presented(browser).await?.picture(&shot, until).await
                });
                let (base64, width, height) = taking.await?;
                let bytes = STANDARD
                    .decode(base64)
                    .map_err(|error| CANVAS.unavailable(error.to_string()))?;
                let format = shot.format.as_str();
                let result = json!({"format": format, "width": width, "height": height});
                let named = (format!("canvas.{}", shot.format.extension()), format!("image/{format}"));
                let content = Content::of_bytes(CANVAS, bytes).await?;
                carry(CANVAS, call.blobs, content, named, result).await
            }
            other => Err(invalid(format!("{other} is not a command of this capability"))),
        }
    }

    /// Works with the browser. One that has ended, hangs or cannot be understood is not kept: the next call begins anew.
    async fn with<T>(
        &self,
        until: Instant,
        work: impl AsyncFnOnce(&mut Option<Browser>) -> Result<T, Fault>,
    ) -> Result<T, CallError> {
        let mut browser = timeout_at(until, self.shown.browser.lock())
            .await
            .map_err(|_| CANVAS.unavailable("another call works with the page that is shown; try again"))?;
        let done = match timeout_at(until, work(&mut browser)).await {
            Ok(done) => done,
            Err(_) => Err(Fault::Broken(Broken::Late)),
        };
        match done {
            Ok(done) => {
                self.rest(browser.as_ref());
                Ok(done)
            }
            Err(Fault::Call(error)) => Err(error),
            Err(Fault::Broken(broken)) => {
                let why = match browser.take() {
                    Some(browser) => browser.end(broken).await,
                    None => broken.to_string(),
                };
                Err(CANVAS.unavailable(format!("{why}. Nothing is shown now; present the page again")))
            }
        }
    }

    /// A window stays until it is hidden or closed; what nobody sees does not.
    fn rest(&self, browser: Option<&Browser>) {
        let shown = Arc::downgrade(&self.shown);
        let idle = browser.filter(|browser| !browser.is_seen()).map(|_| {
            AbortOnDropHandle::new(tokio::spawn(async move {
                sleep(IDLE).await;
                if let Some(shown) = shown.upgrade() {
                    end(&mut *shown.browser.lock().await).await;
                }
            }))
        });
        *self.shown.idle.lock().unwrap_or_else(PoisonError::into_inner) = idle;
    }

    async fn present(&self, browser: &mut Option<Browser>, page: Page, until: Instant) -> Result<(), Fault> {
        if browser.as_mut().is_none_or(|browser| !browser.is_there()) {
            // Ended first, so that there are never two.
            end(browser).await;
            let settings = self.settings().await.map_err(|why| CANVAS.unavailable(why))?;
            let window = self.window(&settings).map_err(|why| CANVAS.unavailable(why))?;
            *browser = Some(Browser::start(&self.installed, &window).await?);
        }
        let Some(browser) = browser else {
            return Err(Fault::Broken(Broken::Ended));
        };
        if let Some(placement) = &page.placement {
            browser.place(placement, until).await?;
        }
        browser.show(page.url.as_deref(), until).await
    }

    async fn hide(&self, until: Instant) -> Result<(), CallError> {
        let ending = async {
            end(&mut *self.shown.browser.lock().await).await;
        };
        let ended = timeout_at(until, ending).await;
        ended.map_err(|_| CANVAS.unavailable("another call works with the page that is shown; try again"))
    }

    async fn settings(&self) -> Result<Settings, String> {
        let folder = self.state_dir.clone();
        let loaded = tokio::task::spawn_blocking(move || settings::load(&folder)).await;
        loaded.map_err(|error| error.to_string())?
    }

    fn window(&self, settings: &Settings) -> Result<Window, String> {
        settings.window(&self.installed)
    }
}

#[async_trait]
impl Capability for Canvas {
    fn describe(&self) -> Description {
        let mut description = Description {
            cap: "canvas",
            ..Description::default()
        };
        match settings::load(&self.state_dir).and_then(|settings| self.window(&settings)) {
            Ok(_) => description.commands = ALL.into(),
            Err(why) => description.missing = ALL.map(|command| (command, why.clone())).into(),
        }
        description
    }

    async fn invoke(&self, call: Call) -> Result<Option<Json>, CallError> {
        let cancel = call.cancel.clone();
        unless_cancelled(cancel, self.do_it(call))
            .await
            .map(|done| Some(done.into()))
    }
}

/// Why a call went wrong.
#[derive(Debug)]
enum Fault {
    /// The browser is of no use any more.
    Broken(Broken),
    /// It goes on.
    Call(CallError),
}

impl From<Broken> for Fault {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

async fn end(browser: &mut Option<Browser>) {
    if let Some(browser) = browser.take() {
        browser.end(Broken::Ended).await;
    }
}

async fn presented(browser: &mut Option<Browser>) -> Result<&mut Browser, Fault> {
    if browser.as_mut().is_none_or(|browser| !browser.is_there()) {
        end(browser).await;
    }
    let empty = || CallError::new("CANVAS_EMPTY", "nothing is presented; present something first");
    browser.as_mut().ok_or_else(|| empty().into())
}

async fn evaluate(browser: &mut Option<Browser>, code: &Code, until: Instant) -> Result<String, Fault> {
    let text = presented(browser).await?.evaluate(&code.0, until).await?;
    if text.len() > RESULT {
        return Err(too_large().into());
    }
    Ok(text)
}

/// A script gave more than is taken.
fn too_large() -> CallError {
    let most = RESULT / 1024;
    CallError::new(
        "PAYLOAD_TOO_LARGE",
        format!("the script gave more than {most} KiB, which is not taken; let it give less"),
    )
}
