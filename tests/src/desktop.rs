//! What a desktop is made of, without a screen that anybody sees: an X server and a session bus, each with a number or an address of its own.

use tokio::process::Command;

use crate::program::Program;
use crate::wait::until;

/// A real X server. It ends with this value.
#[derive(Debug)]
pub struct Screen {
    /// For `DISPLAY`.
    pub display: String,
    _program: Program,
}

impl Screen {
    /// Starts one, on a number that nobody uses.
    ///
    /// # Panics
    /// When Xvfb is not installed or does not start.
    pub async fn start() -> Self {
        let mut command = Command::new("Xvfb");
        command.args(["-displayfd", "1", "-screen", "0", "640x480x24", "-nolisten", "tcp"]);
        let program = Program::start("Xvfb", command);
        let number = until("a screen", async || {
            let log = program.log();
            log.lines().find(|line| line.parse::<u32>().is_ok()).map(str::to_owned)
        });
        Self {
            display: format!(":{}", number.await),
            _program: program,
        }
    }
}

/// A real session bus. It ends with this value.
#[derive(Debug)]
pub struct Bus {
    /// For `DBUS_SESSION_BUS_ADDRESS`.
    pub address: String,
    _program: Program,
}

impl Bus {
    /// Starts one.
    ///
    /// # Panics
    /// When dbus-daemon is not installed or does not start.
    pub async fn start() -> Self {
        let mut command = Command::new("dbus-daemon");
        command.args(["--session", "--nofork", "--print-address"]);
        let program = Program::start("dbus-daemon", command);
        let line = program.line("unix:").await;
        Self {
            address: line.trim().to_owned(),
            _program: program,
        }
    }
}
