//! A wall clock that a test moves under a program, by libfaketime. Timers go on as before: a machine whose clock is set does not forget how
//! long it has been up.

use std::path::PathBuf;

use tempfile::TempDir;

/// Where distributions put the library: below one of these, in `faketime/`.
const LIBRARIES: [&str; 2] = ["/usr/lib", "/usr/lib64"];

/// The clock of one or more programs.
#[derive(Debug)]
pub struct Clock {
    folder: TempDir,
}

impl Clock {
    /// The time of this machine, so far.
    ///
    /// # Panics
    /// When there is no room for a file.
    pub fn new() -> Self {
        let clock = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        clock.set_off_by(0);
        clock
    }

    /// What makes a program go by this clock.
    ///
    /// # Panics
    /// Without libfaketime.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        let on = || "1".to_owned();
        [
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", on()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", on()),
            ("NO_FAKE_STAT", on()),
        ]
    }

    /// What makes all the time of a program, timers too, pass so many times faster than this machine's.
    ///
    /// # Panics
    /// Without libfaketime.
    pub fn environment_at(speed: u32) -> [(&'static str, String); 3] {
        [
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME", format!("+0 x{speed}")),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }

    /// From now on it is so many seconds fast; slow when negative.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn set_off_by(&self, seconds: i64) {
        let draft = self.folder.path().join("draft");
        std::fs::write(&draft, format!("{seconds:+}\n")).expect("a writable folder");
        // In one step, since the program reads it at any moment.
        std::fs::rename(&draft, self.file()).expect("a writable folder");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("clock")
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

fn library() -> PathBuf {
    let name = PathBuf::from("faketime/libfaketimeMT.so.1");
    let places = LIBRARIES.iter().map(PathBuf::from).flat_map(|place| {
        let inside = std::fs::read_dir(&place).into_iter().flatten().flatten();
        inside.map(|folder| folder.path()).chain([place])
    });
    let found = places.map(|place| place.join(&name)).find(|path| path.is_file());
    found.expect("libfaketime, which scripts/test installs (Debian: faketime)")
}
