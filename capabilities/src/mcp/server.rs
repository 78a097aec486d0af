//! One server, kept up: started, greeted, asked for its tools, and started again with growing pauses when it is gone.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use atoll_protocol::error::CallError;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{ChildStderr, Command};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::client::Session;
use super::meter::Metered;
use super::settings::Settings;
use super::{Listed, unavailable};
use crate::group::Group;

/// How long a server may take to greet, and to list its tools. `npx` may have to fetch it first.
const GREETING: Duration = Duration::from_secs(60);

/// Pauses before a server is started again: doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// One that was up for this long begins with the first pause again.
const GOOD: Duration = Duration::from_secs(60);

/// Between two looks at its tools, however often it says that they have changed.
const LOOKS: Duration = Duration::from_millis(250);

/// What of its standard error goes to the log: lines a minute, and characters of one. More: left out.
const LINES: u32 = 60;
const LINE: u64 = 500;

/// How a server is.
#[derive(Clone)]
pub(super) enum State {
    /// Not up yet for the first time.
    Starting,
    /// It can be called.
    Up(Up),
    /// It is not there, and why.
    Down(String),
}

/// A server that can be called.
#[derive(Clone)]
pub(super) struct Up {
    pub(super) session: Session,
    pub(super) tools: Arc<[Listed]>,
}

/// One server.
pub(super) struct Server {
    name: String,
    settings: Settings,
    state: watch::Sender<State>,
    /// Its processes.
    group: Mutex<Option<Group>>,
}

impl Server {
    pub(super) fn new(name: String, settings: Settings) -> Self {
        Self {
            name,
            settings,
            state: watch::Sender::new(State::Starting),
            group: Mutex::new(None),
        }
    }

    /// Whether the owner's file says just this of it.
    pub(super) fn is_written(&self, settings: &Settings) -> bool {
        self.settings == *settings
    }

    /// The same one before it was ever started.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.name.clone(), self.settings.clone())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The tools that it offers now, as far as its owner allows them.
    pub(super) fn listed(&self) -> Arc<[Listed]> {
        match &*self.state.borrow() {
            State::Up(up) => Arc::clone(&up.tools),
            State::Starting | State::Down(_) => Arc::default(),
        }
    }

    /// The server, to be called; one that has never been up is waited for.
    ///
    /// # Errors
    /// `MCP_SERVER_UNAVAILABLE`, with the reason.
    pub(super) async fn up(&self, until: Instant) -> Result<Up, CallError> {
        let mut state = self.state.subscribe();
        let known = timeout_at(until, state.wait_for(|state| !matches!(state, State::Starting))).await;
        let known = known.ok().and_then(Result::ok).map(|state| state.clone());
        let why = match known {
            Some(State::Up(up)) => return Ok(up),
            Some(State::Down(why)) => why,
            Some(State::Starting) | None => "it is being started".to_owned(),
        };
        Err(unavailable(format!(
            "the MCP server {:?} is not there: {why}",
            self.name
        )))
    }

    /// Never ends. Dropping it leaves the processes to [`Self::end`].
    pub(super) async fn keep_up(&self, changed: impl Fn()) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            let why = self.run(&changed).await;
            self.end().await;
            if began.elapsed() > GOOD {
                pause = FIRST_PAUSE;
            }
            tracing::warn!(
                server = self.name,
                "an MCP server is gone: {why}; it is started again in {pause:?}"
            );
            self.state
                .send_replace(State::Down(format!("{why}; it is being started again")));
            changed();
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Ends its processes.
    pub(super) async fn end(&self) {
        if let Some(mut group) = self.group.lock().await.take() {
            group.kill().await;
        }
    }

    /// From its start to its end; tells why it ended.
    async fn run(&self, changed: &impl Fn()) -> String {
        let (session, _stderr) = match timeout(GREETING, self.open()).await {
            Ok(Ok(open)) => open,
            Ok(Err(why)) => return self.how_it_ended(why).await,
            Err(_) => return format!("it did not greet within {} s", GREETING.as_secs()),
        };
        loop {
            let tools = match timeout(GREETING, session.tools()).await {
                Ok(Ok(tools)) => tools,
                Ok(Err(why)) => return self.how_it_ended(format!("it does not list its tools: {why}")).await,
                Err(_) => return "it does not list its tools".to_owned(),
            };
            let tools = tools
                .into_iter()
                .filter(|tool| self.settings.allows(&tool.name))
                .collect();
            self.state.send_replace(State::Up(Up {
                session: session.clone(),
                tools,
            }));
            changed();
            let next = Instant::now() + LOOKS;
            let news = async {
                sleep_until(next).await;
                session.changed().await;
            };
            tokio::select! {
                why = session.ended() => return self.how_it_ended(why).await,
                () = news => {}
            }
        }
    }

    async fn open(&self) -> Result<(Session, AbortOnDropHandle<()>), String> {
        let mut group = Group::spawn(self.command()).map_err(|error| {
            format!(
                "{} does not start in {}: {error}",
                self.settings.program,
                self.settings.folder.display()
            )
        })?;
        let child = group.child();
        let pipes = (child.stdin().take(), child.stdout().take(), child.stderr().take());
        *self.group.lock().await = Some(group);
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err("it has no pipes".to_owned());
        };
        let log = AbortOnDropHandle::new(tokio::spawn(log(self.name.clone(), stderr)));
        let session = Session::open(Metered::new(stdout), stdin).await?;
        Ok((session, log))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.settings.program);
        command
            .args(&self.settings.args)
            .env_clear()
            .envs(&self.settings.env)
            .current_dir(&self.settings.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Its exit status says more than that its pipes are closed.
    async fn how_it_ended(&self, why: String) -> String {
        let group = self.group.lock().await.take();
        let status = match group {
            Some(mut group) => group.kill().await,
            None => None,
        };
        status.map_or_else(|| why.clone(), |status| format!("{why} ({status})"))
    }
}

/// Passes its standard error on to the log, as far as there is room for it; what is beyond is read and forgotten.
async fn log(server: String, stderr: ChildStderr) {
    let mut stderr = BufReader::new(stderr);
    let (mut count, mut since, mut line) = (0, Instant::now(), Vec::new());
    loop {
        line.clear();
        match (&mut stderr).take(LINE).read_until(b'\n', &mut line).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        if since.elapsed() > Duration::from_secs(60) {
            (count, since) = (0, Instant::now());
        }
        count += 1;
        if count <= LINES {
            let text = String::from_utf8_lossy(&line);
            tracing::info!(server, "{}", text.trim_end().escape_debug());
        } else if count == LINES + 1 {
            tracing::info!(
                server,
                "[it says more than {LINES} lines a minute; the rest is left out]"
            );
        }
    }
}
