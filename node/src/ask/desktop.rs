//! The desktop: notifications through `notify-send` (libnotify 0.8 or newer, for the buttons) of the session that the daemon runs in.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::{Child, Command};

use super::{Question, Way};

/// The program.
const PROGRAM: &str = "notify-send";

/// How long one that is asked to take its notification back has for it.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long it may take to show something.
const SHOWING: Duration = Duration::from_secs(5);

/// A session with a bus, and the program to speak to it.
#[derive(Debug)]
pub(super) struct Desktop {
    program: PathBuf,
    bus: String,
}

impl Desktop {
    /// None without a session bus or without the program.
    pub(super) fn find() -> Option<Self> {
        let bus = std::env::var("DBUS_SESSION_BUS_ADDRESS")
            .ok()
            .filter(|bus| !bus.is_empty());
        let bus = bus.or_else(|| {
            // Where systemd puts it, for those who were not told.
            let socket = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?).join("bus");
            socket.exists().then(|| format!("unix:path={}", socket.display()))
        })?;
        let path = std::env::var_os("PATH")?;
        let program = std::env::split_paths(&path)
            .map(|folder| folder.join(PROGRAM))
            .find(|file| file.is_file())?;
        Some(Self { program, bus })
    }

    fn command(&self, urgency: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus)
            .args(["--app-name=atoll", &format!("--urgency={urgency}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// None: the notification was closed, or there is nobody who shows it.
    async fn asked(&self, question: &Question) -> Option<bool> {
        let mut command = self.command("critical");
        let time = question.patience.as_millis();
        command.args([
            "--wait",
            "--action=yes=Allow",
            "--action=no=Deny",
            &format!("--expire-time={time}"),
        ]);
        command.args(["--", &format!("Allow {}?", question.command), &escape(&body(question))]);
        let mut shown = Shown(Some(command.spawn().ok()?));
        let mut out = shown.0.as_mut()?.stdout.take()?;
        let mut text = String::new();
        // Nothing it writes is long.
        let mut limited = tokio::io::AsyncReadExt::take(&mut out, 64);
        tokio::io::AsyncReadExt::read_to_string(&mut limited, &mut text)
            .await
            .ok()?;
        match text.trim() {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        }
    }
}

#[async_trait]
impl Way for Desktop {
    fn name(&self) -> &'static str {
        "desktop"
    }

    async fn ask(&self, question: &Question) -> bool {
        match self.asked(question).await {
            Some(said) => said,
            // Whoever waves it away has not answered; another way may.
            None => std::future::pending().await,
        }
    }

    fn show(&self, what: &str) {
        let mut command = self.command("normal");
        command.stdout(Stdio::null()).args(["--", "In use", &escape(what)]);
        let Ok(mut child) = command.spawn() else { return };
        tokio::spawn(async move {
            let _ = tokio::time::timeout(SHOWING, child.wait()).await;
        });
    }
}

fn body(question: &Question) -> String {
    let seconds = question.patience.as_secs();
    format!("{question}. Without an answer it is denied in {seconds} s.")
}

/// Notifications may have markup (Desktop Notifications Specification); nothing of ours is any.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A notification that waits; it goes with this.
struct Shown(Option<Child>);

impl Drop for Shown {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        #[cfg(unix)]
        let pid = child
            .id()
            .and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
        #[cfg(unix)]
        if let Some(pid) = pid {
            // It closes its notification then; killed, it would leave it standing with buttons that do nothing.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = tokio::time::timeout(FAREWELL, child.wait()).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_caller_is_markup() {
        let question = Question {
            id: "abcd".to_owned(),
            command: "camera.snap".to_owned(),
            about: "deviceId <b>x</b> & y".to_owned(),
            gateway: "gateway 12ab".to_owned(),
            patience: Duration::from_secs(30),
        };
        assert_eq!(
            escape(&body(&question)),
            "gateway 12ab wants camera.snap (deviceId &lt;b&gt;x&lt;/b&gt; &amp; y). Without an answer it is denied in 30 s."
        );
    }
}
