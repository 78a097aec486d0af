//! Why a gateway did not start or had to end, in words for whoever started it.

use std::io;
use std::path::PathBuf;

use atoll_agent::model::BuildError;
use atoll_pairing::identity::IdentityError;
use atoll_pairing::tls::TlsError;

use crate::accept::BindError;
use crate::certificates::CertificateError;
use crate::config::{Invalid, Problem};
use crate::journal::JournalError;
use crate::logs::LogError;
use crate::sessions::SessionError;
use crate::state::StateError;

/// Why the gateway did not start, or had to end; the words name what, why and the next step.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The configuration is broken.
    #[error(transparent)]
    Config(#[from] Invalid),
    /// Nothing could be logged.
    #[error(transparent)]
    Logs(#[from] LogError),
    /// `--bind` has no such value.
    #[error("--bind {0}: allowed are loopback, lan, tailnet, custom, auto")]
    Bind(String),
    /// The configured host is not an address.
    #[error("gateway.customBindHost: {0} is no address")]
    Host(String),
    /// Strangers could come in.
    #[error("the gateway would not be safe to start:{}", .0.iter().map(|problem| format!("\n  {problem}")).collect::<String>())]
    Unsafe(Vec<Problem>),
    /// The device key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// TLS cannot be set up with the device key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The certificate of ordinary clients cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// An address or the local socket cannot be listened on.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// The journal cannot be opened or read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store of blobs cannot be opened.
    #[error("the media folder cannot be used: {0}")]
    Media(#[source] io::Error),
    /// No model could be asked.
    #[error(transparent)]
    Models(#[from] BuildError),
    /// It ran, and a part of it broke.
    #[error(
        "a part of the gateway ({0}) broke; what was under way is kept. Start it again, and report what `atoll logs` says"
    )]
    Broken(&'static str),
    /// What an earlier start left open cannot be read.
    #[error("what was under way before the last end cannot be taken up")]
    TakeUp(#[source] SessionError),
    /// Programs here could not learn the port.
    #[error("cannot write {}", path.display())]
    PortFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
