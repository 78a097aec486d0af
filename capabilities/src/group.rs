//! A program in a process group of its own, which is dead when this says so. The one place where processes differ by system.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

/// Between the polite signal and the one that cannot be caught.
pub(crate) const GRACE: Duration = Duration::from_millis(300);

/// A program and everything it started that did not leave its process group. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    child: Box<dyn ChildWrapper>,
    /// Once the program has been waited for, its number may belong to another: no signal from then on.
    reaped: bool,
}

impl Group {
    /// Starts it.
    ///
    /// # Errors
    /// There is no such program, or the system has no room for it.
    pub(crate) fn spawn(command: Command) -> io::Result<Self> {
        let mut command = CommandWrap::from(command);
        #[cfg(unix)]
        command.wrap(process_wrap::tokio::ProcessGroup::leader());
        let child = command.wrap(KillOnDrop).spawn()?;
        Ok(Self { child, reaped: false })
    }

    /// The program, for its pipes.
    pub(crate) fn child(&mut self) -> &mut dyn ChildWrapper {
        self.child.as_mut()
    }

    /// Waits until the program itself has ended. Loses nothing when dropped.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.inner_mut().wait().await?;
        self.reaped = true;
        Ok(status)
    }

    /// Asks the group to end, then ends it. The program is not waited for before that, so its number stays its own.
    /// Gives how the program ended, if it has not been waited for before.
    pub(crate) async fn kill(&mut self) -> Option<ExitStatus> {
        if self.reaped {
            return None;
        }
        self.ask_to_end().await;
        let _ = self.child.start_kill();
        let status = self.child.inner_mut().wait().await.ok();
        self.reaped = status.is_some();
        status
    }

    #[cfg(unix)]
    async fn ask_to_end(&mut self) {
        use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, waitid};
        let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) else {
            return;
        };
        let _ = self.child.signal(Signal::TERM.as_raw());
        let over = Instant::now() + GRACE;
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while Instant::now() < over && matches!(waitid(WaitId::Pid(pid), look), Ok(None)) {
            sleep(Duration::from_millis(10)).await;
        }
    }

    #[cfg(not(unix))]
    async fn ask_to_end(&mut self) {}
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.child.start_kill();
        }
    }
}
