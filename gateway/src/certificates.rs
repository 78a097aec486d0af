//! The certificate that ordinary clients see: one of our own that is made anew before it ends, or the owner's files, read again when
//! they change. Owns which one is shown and what is made known of it. Never the device's certificate, which native links see.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use atoll_pairing::tls::{self, Fingerprint, Rotation, TlsError, WebCertificate};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::config::{Config, Tls};
use crate::state::expand;

/// How often the days and the files are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Why there is no certificate to show; names the key and the file.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {source}")]
pub struct CertificateError {
    place: String,
    source: TlsError,
}

/// A certificate by what clients pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pin {
    /// SHA-256 of it.
    pub(crate) fingerprint: Fingerprint,
    /// When it ends, Unix milliseconds, where that can be read.
    pub(crate) not_after_ms: Option<u64>,
    /// Made here: of the kind, and for so few days, that a page may pin it.
    pub(crate) is_made: bool,
}

impl Pin {
    fn of(certificate: &WebCertificate, is_made: bool) -> Self {
        Self {
            fingerprint: certificate.fingerprint(),
            not_after_ms: certificate.not_after_ms(),
            is_made,
        }
    }
}

/// What is known of the certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    /// The one that is shown.
    pub(crate) shown: Pin,
    /// The one that will be shown when that one ends, once there is one.
    pub(crate) next: Option<Pin>,
}

/// What the configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Made,
    Given {
        chain: PathBuf,
        key: PathBuf,
        /// Where there are no such files.
        makes: bool,
    },
}

impl Wanted {
    fn of(tls: &Tls) -> Self {
        match (&tls.cert_path, &tls.key_path) {
            (Some(chain), Some(key)) => Self::Given {
                chain: expand(chain),
                key: expand(key),
                makes: tls.auto_generate,
            },
            // One without the other is refused with the rest of the configuration.
            (Some(_) | None, _) => Self::Made,
        }
    }
}

/// When the owner's two files were written last.
type Stamp = [Option<SystemTime>; 2];

enum Source {
    Made(Rotation),
    Given(Arc<WebCertificate>, Stamp),
}

/// Keeps a certificate to show.
pub(crate) struct Keeper {
    folder: PathBuf,
    names: Vec<String>,
    wanted: Wanted,
    source: Source,
    known: watch::Sender<Known>,
}

impl Keeper {
    /// With what the configuration asks for, made where there is none.
    pub(crate) fn open(tls: &Tls, folder: &Path, names: Vec<String>, now_ms: u64) -> Result<Self, CertificateError> {
        let wanted = Wanted::of(tls);
        let source = Source::open(&wanted, folder, &names, now_ms)?;
        Ok(Self {
            folder: folder.to_owned(),
            names,
            wanted,
            known: watch::Sender::new(source.known()),
            source,
        })
    }

    /// What to show now.
    pub(crate) fn shown(&self) -> &WebCertificate {
        match &self.source {
            Source::Made(rotation) => rotation.shown(),
            Source::Given(certificate, _) => certificate,
        }
    }

    /// What is known, now and later.
    pub(crate) fn known(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    /// Does what is due; whether another certificate is to be shown. After an error the last one stays.
    fn look(&mut self, tls: &Tls, now_ms: u64) -> Result<bool, CertificateError> {
        let (before, wanted) = (self.shown().fingerprint(), Wanted::of(tls));
        let is_other = wanted != self.wanted;
        let is_newer = matches!(&self.source, Source::Given(_, stamp) if stamp_of(&wanted) != *stamp);
        if is_other || is_newer {
            self.source = Source::open(&wanted, &self.folder, &self.names, now_ms)?;
            self.wanted = wanted;
        } else if let Source::Made(rotation) = &mut self.source {
            rotation.turn(now_ms).map_err(|error| made_error(&self.folder, error))?;
        }
        let known = self.source.known();
        self.known
            .send_if_modified(|last| std::mem::replace(last, known) != known);
        Ok(self.shown().fingerprint() != before)
    }

    /// Follows days, files and configuration until stopped.
    pub(crate) async fn run(
        mut self,
        server: tls::Server,
        mut configs: watch::Receiver<Arc<Config>>,
        stop: CancellationToken,
    ) {
        let mut told = None;
        loop {
            let config = configs.borrow_and_update().clone();
            match self.look(&config.gateway.tls, clock::now_ms()) {
                Ok(true) => {
                    tracing::info!(fingerprint = %self.shown().fingerprint(), "another certificate is shown from now on");
                    server.show(self.shown());
                    told = None;
                }
                Ok(false) => told = None,
                Err(error) => tell_once(&mut told, &error),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = configs.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

fn tell_once(told: &mut Option<String>, error: &CertificateError) {
    let text = error.to_string();
    if told.as_ref() != Some(&text) {
        tracing::error!("{text}; the last certificate is still shown");
        *told = Some(text);
    }
}

impl Source {
    fn open(wanted: &Wanted, folder: &Path, names: &[String], now_ms: u64) -> Result<Self, CertificateError> {
        match wanted {
            Wanted::Made => {
                let rotation = Rotation::open(folder, names.to_vec(), now_ms);
                Ok(Self::Made(rotation.map_err(|error| made_error(folder, error))?))
            }
            Wanted::Given { chain, key, makes } => {
                // Before the files are read: what is written while they are is read again.
                let stamp = stamp_of(wanted);
                let read = || {
                    if *makes && stamp == [None, None] {
                        tracing::warn!(certificate = %chain.display(), "made a certificate, since there was none");
                        WebCertificate::make_lasting(names, now_ms, chain, key)?;
                    }
                    WebCertificate::from_pem_files(chain, key)
                };
                let certificate = read().map_err(|error| given_error(chain, key, error))?;
                Ok(Self::Given(Arc::new(certificate), stamp))
            }
        }
    }

    fn known(&self) -> Known {
        match self {
            Self::Made(rotation) => Known {
                shown: Pin::of(rotation.shown(), true),
                next: rotation.next().map(|next| Pin::of(next, true)),
            },
            Self::Given(certificate, _) => Known {
                shown: Pin::of(certificate, false),
                next: None,
            },
        }
    }
}

fn stamp_of(wanted: &Wanted) -> Stamp {
    let written = |path: &PathBuf| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    match wanted {
        Wanted::Made => [None, None],
        Wanted::Given { chain, key, .. } => [written(chain), written(key)],
    }
}

fn made_error(folder: &Path, source: TlsError) -> CertificateError {
    let place = format!("the certificate in {}", folder.display());
    CertificateError { place, source }
}

fn given_error(chain: &Path, key: &Path, source: TlsError) -> CertificateError {
    let place = match &source {
        TlsError::File { path, .. } | TlsError::Content { path, .. } if path == key => "gateway.tls.keyPath".to_owned(),
        TlsError::File { .. } | TlsError::Content { .. } => "gateway.tls.certPath".to_owned(),
        TlsError::Key(_) | TlsError::Make(_) => format!(
            "gateway.tls.certPath and keyPath ({} and {})",
            chain.display(),
            key.display()
        ),
    };
    CertificateError { place, source }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DAY: u64 = 24 * 60 * 60 * 1000;
    const START: u64 = 1_795_000_000_000;

    fn tls(value: &serde_json::Value) -> Tls {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("atoll.json");
        std::fs::write(&path, json!({"gateway": {"tls": value}}).to_string()).expect("writes");
        let loaded = crate::config::check_file(&path, &|_| None).expect("valid");
        loaded.config.gateway.tls.clone()
    }

    fn keeper(tls: &Tls, folder: &tempfile::TempDir) -> Result<Keeper, CertificateError> {
        Keeper::open(tls, folder.path(), vec!["localhost".to_owned()], START)
    }

    /// The owner's files, made by a gateway that was allowed to.
    fn given(folder: &tempfile::TempDir) -> Tls {
        let path = |name: &str| folder.path().join(name).display().to_string();
        tls(&json!({"certPath": path("own-cert.pem"), "keyPath": path("own-key.pem")}))
    }

    #[test]
    fn the_next_one_is_made_known_before_it_is_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let tls = tls(&json!({}));
        let mut keeper = keeper(&tls, &folder).expect("made");
        let known = keeper.known();
        let first = *known.borrow();
        assert_eq!(
            (first.next, keeper.look(&tls, START + DAY).expect("looks")),
            (None, false)
        );
        assert!(!keeper.look(&tls, START + 11 * DAY).expect("looks"), "only made known");
        let next = known.borrow().next.expect("known");
        assert_eq!(known.borrow().shown, first.shown);
        assert!(keeper.look(&tls, START + 12 * DAY).expect("looks"), "shown");
        assert_eq!(
            *known.borrow(),
            Known {
                shown: next,
                next: None
            }
        );
    }

    #[test]
    fn the_owners_files_are_shown_and_read_again_when_they_change() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = given(&folder);
        let mut keeper = keeper(&tls(&json!({})), &folder).expect("made");
        let made = keeper.shown().fingerprint();
        assert!(keeper.look(&own, START).expect("another source"));
        let first = keeper.shown().fingerprint();
        assert_ne!(first, made);
        assert!(!keeper.look(&own, START + 100 * DAY).expect("not ours to make anew"));

        let other = tempfile::tempdir().expect("a folder");
        let another = super::Keeper::open(&given(&other), other.path(), Vec::new(), START).expect("made");
        for name in ["own-cert.pem", "own-key.pem"] {
            let path = folder.path().join(name);
            std::fs::copy(other.path().join(name), &path).expect("copied");
            // Both files may be as old as each other to the tick of the file system's clock.
            let file = std::fs::File::options().append(true).open(&path).expect("opens");
            file.set_modified(SystemTime::UNIX_EPOCH + LOOK).expect("sets");
        }
        assert!(keeper.look(&own, START).expect("reads them"));
        assert_eq!(keeper.shown().fingerprint(), another.shown().fingerprint());
        assert!(keeper.look(&tls(&json!({})), START).expect("back"));
        assert_eq!(keeper.shown().fingerprint(), made);
    }

    #[test]
    fn an_error_names_key_and_file_and_the_last_certificate_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = given(&folder);
        let mut keeper = keeper(&own, &folder).expect("made");
        let shown = keeper.shown().fingerprint();
        let (chain, key) = (folder.path().join("own-cert.pem"), folder.path().join("own-key.pem"));
        let (good_chain, good_key) = (std::fs::read(&chain).expect("is"), std::fs::read(&key).expect("is"));
        let stranger = tempfile::tempdir().expect("a folder");
        super::Keeper::open(&given(&stranger), stranger.path(), Vec::new(), START).expect("made");
        let strange_key = std::fs::read(stranger.path().join("own-key.pem")).expect("is");
        for (chain_text, key_text, expected) in [
            (&b"nothing"[..], &good_key[..], "gateway.tls.certPath: "),
            (&good_chain, b"nothing", "gateway.tls.keyPath: "),
            (&good_chain, &strange_key, "gateway.tls.certPath and keyPath ("),
        ] {
            std::fs::write(&chain, chain_text).expect("writes");
            std::fs::write(&key, key_text).expect("writes");
            let error = Keeper::open(&own, folder.path(), Vec::new(), START)
                .err()
                .expect("broken")
                .to_string();
            assert!(error.starts_with(expected) && error.contains("own-"), "{error}");
        }
        std::fs::remove_file(&key).expect("removes");
        let error = keeper.look(&own, START).expect_err("half of it is gone").to_string();
        assert!(
            error.starts_with("gateway.tls.keyPath: ") && error.contains("own-key.pem"),
            "{error}"
        );
        assert_eq!(keeper.shown().fingerprint(), shown);
    }

    #[test]
    fn files_are_made_only_where_that_is_allowed() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = Tls {
            auto_generate: false,
            ..given(&folder)
        };
        let error = keeper(&own, &folder).err().expect("no files").to_string();
        assert!(error.starts_with("gateway.tls.certPath: "), "{error}");
        assert!(!folder.path().join("own-cert.pem").exists());
    }
}
