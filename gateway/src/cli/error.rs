//! How a command fails: one sentence with the next step, and an exit code a script can branch on.

use std::process::ExitCode;

use atoll_protocol::error::WireError;

/// A command that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The words typed do not fit together.
    #[error("{0}")]
    Usage(String),
    /// No gateway answered.
    #[error("{0}")]
    Unreachable(String),
    /// The gateway said no.
    #[error("{}", told(.0))]
    Refused(WireError),
    /// What was asked for happened and failed, e.g. a command on a node with this exit code.
    #[error("{message}")]
    Failed {
        /// What happened.
        message: String,
        /// The exit code to pass on.
        code: u8,
    },
    /// This machine: a file, a process, a terminal.
    #[error(transparent)]
    Local(#[from] anyhow::Error),
}

impl CliError {
    /// `1` failed, `2` wrong words, `3` no gateway, `4` refused; or the exit code of what ran.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Local(_) => ExitCode::from(1),
            Self::Usage(_) => ExitCode::from(2),
            Self::Unreachable(_) => ExitCode::from(3),
            Self::Refused(_) => ExitCode::from(4),
            Self::Failed { code, .. } => ExitCode::from(*code),
        }
    }

    /// A local failure in words.
    pub(super) fn local(message: impl std::fmt::Display) -> Self {
        Self::Local(anyhow::anyhow!("{message}"))
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::Local(error.into())
    }
}

fn told(error: &WireError) -> String {
    let next = match error.detail_code().as_deref() {
        Some("PAIRING_REQUIRED") => "\nnext: approve this device on the gateway with `atoll devices approve <request>`",
        Some("AUTH_TOKEN_MISMATCH" | "AUTH_TOKEN_MISSING") => {
            "\nnext: set ATOLL_GATEWAY_TOKEN (or --token-file) to the gateway's token"
        }
        Some("MISSING_SCOPE") => {
            "\nnext: run this on the gateway's own machine, or approve this device with that scope"
        }
        Some("NOT_CONNECTED") => "\nnext: start `atoll-node run` on that device, or see `atoll nodes list`",
        Some(_) | None => "",
    };
    format!("{}{next}", error.message)
}
