//! The certificates that a gateway makes for ordinary clients: one is shown, and before it ends the next one is made, made known, and
//! shown in its place. Owns their files and the days; the clock is the caller's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::certificate::{Made, WebCertificate};
use super::validity::Validity;
use super::{TlsError, file_error};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A day less than pages may pin, so that no clock has to be exact.
const LIFE: Duration = DAY.saturating_mul(13);

/// A clock that is late by less than this still finds it good.
const BEFORE: Duration = Duration::from_secs(60 * 60);

/// The next one is made, and its fingerprint made known, so long before the end.
const ANNOUNCED: Duration = DAY.saturating_mul(3);

/// The next one is shown so long before the end.
const SWAPPED: Duration = DAY;

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    Rest,
    /// Make the next one.
    Prepare,
    /// Show the next one.
    Swap,
    /// None is any good: make one and show it.
    Renew,
}

fn duty(now_ms: u64, shown: Option<Validity>, next: Option<Validity>) -> Duty {
    let serves = |validity: Option<Validity>, longer| validity.is_some_and(|validity| validity.serves(now_ms, longer));
    match (serves(shown, SWAPPED), serves(next, SWAPPED)) {
        (false, true) => Duty::Swap,
        (false, false) => Duty::Renew,
        (true, false) if !serves(shown, ANNOUNCED) => Duty::Prepare,
        (true, _) => Duty::Rest,
    }
}

/// The certificate that is shown and, near its end, the one that will be.
#[derive(Debug)]
pub struct Rotation {
    names: Vec<String>,
    shown_path: PathBuf,
    next_path: PathBuf,
    shown: Arc<WebCertificate>,
    next: Option<Arc<WebCertificate>>,
}

impl Rotation {
    /// Takes up what lies in `folder` (`web-cert.pem`, `web-cert-next.pem`), and makes what is missing or over, for `names`.
    ///
    /// # Errors
    /// A file cannot be read or written, or holds something else; such a file is left alone.
    pub fn open(folder: &Path, names: Vec<String>, now_ms: u64) -> Result<Self, TlsError> {
        let (shown_path, next_path) = (folder.join("web-cert.pem"), folder.join("web-cert-next.pem"));
        let shown = match read(&shown_path)? {
            Some(shown) => shown,
            None => {
                make(&shown_path, &names, now_ms)?;
                WebCertificate::from_pem_files(&shown_path, &shown_path)?
            }
        };
        let mut rotation = Self {
            shown: Arc::new(shown),
            next: read(&next_path)?.map(Arc::new),
            names,
            shown_path,
            next_path,
        };
        rotation.turn(now_ms)?;
        Ok(rotation)
    }

    /// Does what is due at this moment; whether anything has changed.
    ///
    /// # Errors
    /// A file cannot be written; what is shown stays.
    pub fn turn(&mut self, now_ms: u64) -> Result<bool, TlsError> {
        let next = self.next.as_ref().and_then(|next| next.validity());
        match duty(now_ms, self.shown.validity(), next) {
            Duty::Rest => return Ok(false),
            Duty::Prepare => self.prepare(now_ms)?,
            Duty::Swap => self.swap()?,
            Duty::Renew => {
                self.prepare(now_ms)?;
                self.swap()?;
            }
        }
        Ok(true)
    }

    /// What to show.
    pub fn shown(&self) -> &Arc<WebCertificate> {
        &self.shown
    }

    /// What will be shown; from three days before the end on.
    pub fn next(&self) -> Option<&Arc<WebCertificate>> {
        self.next.as_ref()
    }

    fn prepare(&mut self, now_ms: u64) -> Result<(), TlsError> {
        match fs::remove_file(&self.next_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_error(&self.next_path, error)),
            Ok(()) | Err(_) => {}
        }
        make(&self.next_path, &self.names, now_ms)?;
        self.next = read(&self.next_path)?.map(Arc::new);
        Ok(())
    }

    fn swap(&mut self) -> Result<(), TlsError> {
        fs::rename(&self.next_path, &self.shown_path).map_err(|error| file_error(&self.shown_path, error))?;
        if let Some(next) = self.next.take() {
            self.shown = next;
        }
        Ok(())
    }
}

fn make(path: &Path, names: &[String], now_ms: u64) -> Result<(), TlsError> {
    let since_1970 = Duration::from_millis(now_ms);
    let from = since_1970.saturating_sub(BEFORE);
    Made::new(names, from, from + LIFE)?.place(path)
}

fn read(path: &Path) -> Result<Option<WebCertificate>, TlsError> {
    match path.try_exists() {
        Ok(false) => Ok(None),
        Ok(true) => WebCertificate::from_pem_files(path, path).map(Some),
        Err(error) => Err(file_error(path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 60 * 60 * 1000;
    const START: u64 = 1_795_000_000_000;

    fn open(folder: &tempfile::TempDir, now: u64) -> Rotation {
        Rotation::open(folder.path(), vec!["localhost".to_owned()], now).expect("a writable folder")
    }

    #[test]
    fn through_a_hundred_days_what_is_shown_is_good_short_and_was_known_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut rotation = open(&folder, START);
        let mut shown = rotation.shown().fingerprint();
        let (mut swaps, mut known_since) = (0, None);
        for hour in 0..100 * 24 {
            let now = START + hour * HOUR;
            rotation.turn(now).expect("turns");
            let validity = rotation.shown().validity().expect("its days");
            assert!(
                validity.not_before_ms <= now && now < validity.not_after_ms,
                "hour {hour}"
            );
            assert!(validity.not_after_ms - validity.not_before_ms < 14 * 24 * HOUR);
            if rotation.shown().fingerprint() != shown {
                let (fingerprint, since) = known_since.take().expect("it was known");
                assert_eq!(fingerprint, rotation.shown().fingerprint());
                assert!(now - since >= 24 * HOUR, "known for {} hours", (now - since) / HOUR);
                shown = fingerprint;
                swaps += 1;
            }
            known_since = known_since.or(rotation.next().map(|next| (next.fingerprint(), now)));
        }
        assert!((8..=11).contains(&swaps), "{swaps} swaps");
    }

    #[test]
    fn a_restart_takes_both_up_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = open(&folder, START).shown().fingerprint();
        let later = START + 11 * 24 * HOUR;
        let before = open(&folder, later);
        assert_eq!(before.shown().fingerprint(), first);
        let next = before.next().expect("made").fingerprint();
        let after = open(&folder, later + 24 * HOUR);
        assert_eq!((after.shown().fingerprint(), after.next().is_none()), (next, true));
    }

    #[test]
    fn one_that_is_over_lives_too_long_or_is_of_the_future_is_not_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("web-cert.pem");
        let from = Duration::from_millis(START);
        Made::new(&[], from, from + DAY * 30)
            .expect("made")
            .place(&path)
            .expect("written");
        let long = WebCertificate::from_pem_files(&path, &path)
            .expect("reads")
            .fingerprint();
        let first = open(&folder, START + HOUR).shown().fingerprint();
        assert_ne!(first, long);
        let over = open(&folder, START + 60 * 24 * HOUR).shown().fingerprint();
        assert_ne!(over, first);
        let back = open(&folder, START).shown().fingerprint();
        assert_ne!(back, over, "the clock was set back");
    }

    #[test]
    fn a_broken_file_is_named_and_left_alone() {
        for name in ["web-cert.pem", "web-cert-next.pem"] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join(name);
            fs::write(&path, "nothing").expect("written");
            let error = Rotation::open(folder.path(), Vec::new(), START).expect_err("broken");
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(fs::read(&path).expect("still there"), b"nothing");
        }
    }

    #[test]
    fn its_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().expect("a folder");
        open(&folder, START);
        let mode = fs::metadata(folder.path().join("web-cert.pem"))
            .expect("made")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
