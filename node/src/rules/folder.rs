//! Notices that something in a folder has changed: told by the system where it can, else by looking again every so often. The one place
//! that knows how a system tells.

use std::path::Path;
use std::time::Duration;

/// Where the system does not tell.
const LOOK: Duration = Duration::from_secs(1);

/// What is told of one folder.
#[derive(Debug)]
pub(crate) struct FolderWatch {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    told: Option<inotify::Told>,
}

impl FolderWatch {
    /// From now on. A folder that is not there is looked at every second.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn new(folder: &Path) -> Self {
        let told = inotify::Told::new(folder);
        if let Err(error) = &told {
            tracing::debug!(%error, folder = %folder.display(), "the system does not tell of changes there");
        }
        Self { told: told.ok() }
    }

    /// From now on.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn new(_folder: &Path) -> Self {
        Self {}
    }

    /// Resolves when a file may have come, gone or been written. Loses nothing when dropped.
    pub(crate) async fn changed(&mut self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(told) = &self.told {
            match told.changed().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(%error, "the system stopped telling of changes");
                    self.told = None;
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod inotify {
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::path::Path;

    use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
    use tokio::io::unix::AsyncFd;

    /// An inotify descriptor.
    #[derive(Debug)]
    pub(super) struct Told(AsyncFd<OwnedFd>);

    impl Told {
        pub(super) fn new(folder: &Path) -> io::Result<Self> {
            let descriptor = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            let whole_files = WatchFlags::CLOSE_WRITE
                | WatchFlags::MOVED_TO
                | WatchFlags::MOVED_FROM
                | WatchFlags::DELETE
                | WatchFlags::ATTRIB;
            add_watch(&descriptor, folder, whole_files)?;
            #[expect(
                deprecated,
                reason = "its successor is unsafe; an OwnedFd that nobody else has is what it asks for"
            )]
            let told = AsyncFd::new(descriptor)?;
            Ok(Self(told))
        }

        /// Takes all that was told so far as one.
        pub(super) async fn changed(&self) -> io::Result<()> {
            loop {
                let mut ready = self.0.readable().await?;
                let mut room = [MaybeUninit::uninit(); 4096];
                let mut reader = Reader::new(ready.get_inner(), &mut room);
                let mut any = false;
                let ended = loop {
                    match reader.next() {
                        Ok(_) => any = true,
                        Err(error) => break error,
                    }
                };
                if ended != rustix::io::Errno::AGAIN {
                    return Err(ended.into());
                }
                ready.clear_ready();
                if any {
                    return Ok(());
                }
            }
        }
    }
}
