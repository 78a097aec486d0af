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

    /// All of it for a terminal, causes included.
    pub fn words(&self) -> String {
        super::output::visible(&format!("{self:#}"))
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
    let details = error.details.as_ref().map(|details| details.tree()).unwrap_or_default();
    let next = match error.detail_code().as_deref() {
        Some("PAIRING_REQUIRED") => {
            let request = details
                .get("requestId")
                .and_then(|id| id.as_str())
                .unwrap_or("<request>");
            return format!(
                "{}\nnext: on the gateway's machine: atoll devices approve {request}",
                error.message
            );
        }
        Some("AUTH_TOKEN_MISMATCH" | "AUTH_TOKEN_MISSING" | "DEVICE_IDENTITY_REQUIRED") => {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_says_what_to_do_next() {
        for (details, expected) in [
            (
                json!({"code": "PAIRING_REQUIRED", "requestId": "r1"}),
                "atoll devices approve r1",
            ),
            (json!({"code": "AUTH_TOKEN_MISSING"}), "ATOLL_GATEWAY_TOKEN"),
            (json!({"code": "NOT_CONNECTED"}), "atoll-node run"),
        ] {
            let text = CliError::Refused(WireError::invalid("no").with_details(&details)).to_string();
            assert!(text.starts_with("no\nnext: ") && text.contains(expected), "{text}");
        }
        assert_eq!(CliError::Refused(WireError::invalid("no")).to_string(), "no");
    }

    #[test]
    fn a_local_failure_tells_its_causes() {
        let error = anyhow::anyhow!("inner\u{7}").context("outer");
        assert_eq!(CliError::from(error).words(), "outer: inner�");
    }
}
