//! One browser with one page: a Chromium with a profile of its own, spoken to through a pair of pipes that it gets in the place of its
//! standard input and output.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atoll_protocol::error::CallError;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::devtools::{Broken, DevTools, Failed, before, cut};
use super::params::{Format, Shot};
use super::settings::Window;
use super::{CANVAS, Fault, RESULT, too_large};
use crate::group::Group;
use crate::installed::Installed;
use crate::last_words::remember;

/// How long a browser may take until it can be spoken to.
const START: Duration = Duration::from_secs(20);

/// How often it is asked for its page until it has one.
const LOOK: Duration = Duration::from_millis(50);

/// How often the folder of one that is dead is tried to be removed.
const REMOVALS: u32 = 40;

/// What is left of a call's time to say that a page or a script took too long.
const SAYING: Duration = Duration::from_secs(2);

/// What is left of that to hear that a script was ended.
const TERMINATION: Duration = Duration::from_millis(500);

/// No questions to whoever sits there, nothing sent to its maker, no further windows, nothing of its user's.
const ARGUMENTS: [&str; 18] = [
    "--remote-debugging-pipe",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-breakpad",
    "--disable-session-crashed-bubble",
    "--disable-features=Translate,MediaRouter",
    "--block-new-web-contents",
    "--deny-permission-prompts",
    "--password-store=basic",
    "--use-mock-keychain",
    "--noerrdialogs",
    "--test-type",
    "--log-level=3",
];

/// A running browser. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Browser {
    devtools: DevTools,
    group: Group,
    is_seen: bool,
    last_words: Arc<Mutex<Vec<u8>>>,
    _listening: AbortOnDropHandle<()>,
    /// Removed once the browser is dead; what it puts into a temporary folder is in there too.
    profile: Option<TempDir>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Targets {
    target_infos: Vec<Target>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    target_id: String,
    r#type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attached {
    session_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Navigated {
    loader_id: Option<String>,
    error_text: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Evaluated {
    result: Remote,
    exception_details: Option<Thrown>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remote {
    r#type: String,
    value: Option<Box<RawValue>>,
    unserializable_value: Option<String>,
}

#[derive(Deserialize)]
struct Thrown {
    text: String,
    exception: Option<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    description: Option<String>,
    value: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metrics {
    css_visual_viewport: Viewport,
    css_layout_viewport: Viewport,
    layout_viewport: Viewport,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Viewport {
    page_x: f64,
    page_y: f64,
    client_width: f64,
    client_height: f64,
}

#[derive(Deserialize)]
struct Taken {
    data: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bounded {
    window_id: i64,
}

impl Browser {
    /// Starts one with an empty page.
    pub(super) async fn start(installed: &Installed, window: &Window) -> Result<Self, Fault> {
        let until = Instant::now() + START;
        let mut browser = Self::spawn(installed, window)?;
        match browser.attach(until).await {
            Ok(()) => Ok(browser),
            Err(Fault::Broken(broken)) => {
                let why = browser.end(broken).await;
                Err(CANVAS
                    .unavailable(format!("{} does not start: {why}", window.program.display()))
                    .into())
            }
            Err(error) => Err(error),
        }
    }

    fn spawn(installed: &Installed, window: &Window) -> Result<Self, CallError> {
        let broken = |error: &dyn std::fmt::Display| CANVAS.unavailable(format!("the browser does not start: {error}"));
        let profile = tempfile::Builder::new()
            .prefix("atoll-canvas-")
            .tempdir()
            .map_err(|error| broken(&error))?;
        let mut command = installed.command("/bin/sh");
        // It reads its orders from the third pipe and answers into the fourth.
        command
            .args(["-c", "exec \"$@\" 3<&0 4>&1 0</dev/null 1>&2", "sh"])
            .arg(&window.program);
        command.args(arguments(window, &profile));
        command
            .env("TMPDIR", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut group = Group::spawn(command).map_err(|error| broken(&error))?;
        let child = group.child();
        let pipes = (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(broken(&"it has no pipes"));
        };
        let last_words = Arc::new(Mutex::new(Vec::new()));
        let listening = tokio::spawn(remember(stderr, Arc::clone(&last_words)));
        Ok(Self {
            devtools: DevTools::over(stdout, stdin),
            group,
            is_seen: !window.headless,
            last_words,
            _listening: AbortOnDropHandle::new(listening),
            profile: Some(profile),
        })
    }

    async fn attach(&mut self, until: Instant) -> Result<(), Fault> {
        let page = loop {
            let targets: Targets = self.ask("Target.getTargets", json!({}), until).await?;
            if let Some(page) = targets.target_infos.into_iter().find(|target| target.r#type == "page") {
                break page;
            }
            sleep(LOOK).await;
            if Instant::now() >= until {
                return Err(Broken::Late.into());
            }
        };
        self.tell("Browser.setDownloadBehavior", json!({"behavior": "deny"}), until)
            .await?;
        let attach = json!({"targetId": page.target_id, "flatten": true});
        let attached: Attached = self.ask("Target.attachToTarget", attach, until).await?;
        self.devtools.attend(attached.session_id);
        self.tell("Page.enable", json!({}), until).await?;
        self.tell("Page.setLifecycleEventsEnabled", json!({"enabled": true}), until)
            .await
    }

    /// Whether somebody can see it.
    pub(super) fn is_seen(&self) -> bool {
        self.is_seen
    }

    /// Whether its page is still there: whoever sits at the device may have closed the window.
    pub(super) fn is_there(&mut self) -> bool {
        self.devtools.is_open()
    }

    /// Ends it; tells what went wrong.
    pub(super) async fn end(mut self, broken: Broken) -> String {
        let status = self.group.kill().await;
        self.leave_nothing().await;
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let words = String::from_utf8_lossy(&words);
        match (broken, status, words.trim()) {
            (Broken::Late, ..) | (Broken::Ended, None, _) => broken.to_string(),
            (Broken::Ended, Some(status), "") => format!("{broken} ({status})"),
            (Broken::Ended, Some(status), words) => format!("{broken} ({status}); its last words: {words}"),
        }
    }

    /// What it started is killed with it, and may write a last file for a moment.
    async fn leave_nothing(&mut self) {
        let Some(profile) = self.profile.take() else { return };
        let removing = tokio::task::spawn_blocking(move || {
            let profile = profile.keep();
            for _ in 0..REMOVALS {
                match std::fs::remove_dir_all(&profile) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => std::thread::sleep(LOOK),
                    Ok(()) | Err(_) => return,
                }
            }
            tracing::warn!(profile = %profile.display(), "the profile of a browser is left behind");
        });
        // A panic in it leaves the folder, which the system clears away.
        let _ = removing.await;
    }

    /// Puts its window somewhere.
    pub(super) async fn place(&mut self, bounds: &Value, until: Instant) -> Result<(), Fault> {
        let window: Bounded = self.ask("Browser.getWindowForTarget", json!({}), until).await?;
        let place = json!({"windowId": window.window_id, "bounds": bounds});
        self.tell("Browser.setWindowBounds", place, until).await
    }

    /// Shows a page, or the one that is there already, before everything else.
    pub(super) async fn show(&mut self, url: Option<&str>, until: Instant) -> Result<(), Fault> {
        self.tell("Page.bringToFront", json!({}), until).await?;
        let Some(url) = url else { return Ok(()) };
        let began = Instant::now();
        let navigated = self
            .ask::<Navigated>("Page.navigate", json!({"url": url}), before(until, SAYING))
            .await;
        let navigated = match navigated {
            // Whoever serves it says nothing; the browser itself is well.
            Err(Fault::Broken(Broken::Late)) => return self.stop_loading(began, until).await,
            navigated => navigated?,
        };
        if let Some(why) = navigated.error_text {
            return Err(CANVAS
                .unavailable(format!("the page cannot be shown: {}", cut(&why)))
                .into());
        }
        match navigated.loader_id {
            Some(loader) => self.wait_for(&loader, began, until).await,
            None => Ok(()),
        }
    }

    async fn wait_for(&mut self, loader: &str, began: Instant, until: Instant) -> Result<(), Fault> {
        if self
            .devtools
            .loaded(loader, before(until, SAYING))
            .await
            .map_err(fault)?
        {
            return Ok(());
        }
        self.unless_hung(&late("the page was not loaded", began), until).await
    }

    /// What a script gives: text as it is, anything else as JSON. Promises are waited for.
    pub(super) async fn evaluate(&mut self, code: &str, until: Instant) -> Result<String, Fault> {
        let (began, end) = (Instant::now(), before(until, SAYING));
        // The browser ends a script that never does by itself.
        let over = before(end, TERMINATION);
        let time = over.saturating_duration_since(began).as_millis() as u64;
        let ask = json!({"expression": code, "awaitPromise": true, "returnByValue": true, "timeout": time});
        let evaluated = match self.ask::<Evaluated>("Runtime.evaluate", ask, end).await {
            Err(Fault::Broken(Broken::Late)) => {
                self.unless_hung(&late("the script did not end", began), until).await?;
                return Err(Broken::Late.into());
            }
            // It says no more than that something went wrong.
            Err(Fault::Call(_)) if Instant::now() >= over => return Err(late("the script did not end", began).into()),
            evaluated => evaluated?,
        };
        if let Some(thrown) = evaluated.exception_details {
            let exception = thrown.exception.as_ref();
            let words = exception.and_then(|exception| {
                let value = exception.value.as_ref().map(|value| value.get().to_owned());
                exception.description.clone().or(value)
            });
            return Err(CallError::new("CANVAS_ERROR", cut(&words.unwrap_or(thrown.text))).into());
        }
        let Remote {
            r#type,
            value,
            unserializable_value,
        } = evaluated.result;
        match (value, unserializable_value) {
            (Some(value), _) if value.get().len() > 6 * RESULT => Err(too_large().into()),
            (Some(value), _) => Ok(serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned())),
            (None, Some(number)) => Ok(number),
            (None, None) => Ok(r#type),
        }
    }

    /// A picture of what can be seen of the page: base64, width, height.
    pub(super) async fn picture(&mut self, shot: &Shot, until: Instant) -> Result<(String, u32, u32), Fault> {
        let metrics: Metrics = self.ask("Page.getLayoutMetrics", json!({}), until).await?;
        let seen = metrics.css_visual_viewport;
        // Pixels of the screen for one of the page.
        let density = metrics.layout_viewport.client_width / metrics.css_layout_viewport.client_width;
        let density = if density.is_finite() {
            density.clamp(0.1, 10.0)
        } else {
            1.0
        };
        let scale = (shot.max_width / (seen.client_width * density)).min(1.0);
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(CANVAS.unavailable("the window has no room for a page").into());
        }
        let mut ask = json!({"format": shot.format.as_str(), "clip": {
            "x": seen.page_x, "y": seen.page_y, "width": seen.client_width, "height": seen.client_height, "scale": scale,
        }});
        if shot.format == Format::Jpeg {
            ask["quality"] = json!(shot.quality);
        }
        let taken: Taken = self.ask("Page.captureScreenshot", ask, until).await?;
        let pixels = |length: f64| (length * density * scale).round() as u32;
        Ok((taken.data, pixels(seen.client_width), pixels(seen.client_height)))
    }

    /// Gives a page up that does not come: until then the one that is there does not answer.
    async fn stop_loading(&mut self, began: Instant, until: Instant) -> Result<(), Fault> {
        self.tell("Page.stopLoading", json!({}), until).await?;
        Err(late("the page was not loaded", began).into())
    }

    /// This error, unless the page does not answer at all: then the browser is of no use.
    async fn unless_hung(&mut self, error: &CallError, until: Instant) -> Result<(), Fault> {
        let ask = json!({"expression": "1", "returnByValue": true});
        self.ask::<IgnoredAny>("Runtime.evaluate", ask, until).await?;
        Err(error.clone().into())
    }

    async fn tell(&mut self, method: &str, params: Value, until: Instant) -> Result<(), Fault> {
        self.ask::<IgnoredAny>(method, params, until).await.map(drop)
    }

    async fn ask<T: DeserializeOwned>(&mut self, method: &str, params: Value, until: Instant) -> Result<T, Fault> {
        self.devtools.ask(method, params, until).await.map_err(fault)
    }
}

fn fault(failed: Failed) -> Fault {
    match failed {
        Failed::Broken(broken) => broken.into(),
        Failed::Refused(why) => CallError::new("CANVAS_ERROR", why).into(),
        Failed::TooLarge => too_large().into(),
    }
}

fn late(what: &str, began: Instant) -> CallError {
    let time = began.elapsed().as_secs_f32();
    CANVAS.unavailable(format!("{what} within {time:.1} s"))
}

fn arguments(window: &Window, profile: &TempDir) -> Vec<String> {
    let mut arguments: Vec<_> = ARGUMENTS.map(str::to_owned).into();
    arguments.push(format!("--user-data-dir={}", profile.path().display()));
    arguments.extend(window.arguments.iter().cloned());
    match window.headless {
        true => arguments.extend(["--headless=new", "--hide-scrollbars", "about:blank"].map(str::to_owned)),
        false => arguments.push("--app=about:blank".to_owned()),
    }
    arguments
}
