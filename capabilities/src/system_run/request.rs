//! The parameters and the result of `system.run`, as OpenClaw writes them and a little more.

use std::collections::BTreeMap;

use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use serde::{Deserialize, Serialize};

/// Parameters of `system.run` and `system.run.prepare`. Unknown keys are ignored: gateways add some with each release. `approvalDecision`
/// and its kin are among them, since only a signed plan counts as an approval here; so is `rawCommand`, which decides nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Params {
    /// The program and its arguments.
    #[serde(default)]
    pub(super) command: Vec<String>,
    /// The working folder; the home folder when absent.
    #[serde(default)]
    pub(super) cwd: Option<String>,
    /// Variables on top of the base environment.
    #[serde(default)]
    pub(super) env: Option<BTreeMap<String, String>>,
    /// Text for standard input; without it the program reads end of file.
    #[serde(default)]
    pub(super) stdin: Option<String>,
    /// How long it may take, milliseconds; the call's deadline holds as well.
    #[serde(default)]
    pub(super) timeout_ms: Option<u64>,
    /// Which agent asks; picks the part of the owner's document.
    #[serde(default)]
    pub(super) agent_id: Option<String>,
    /// The session that asks.
    #[serde(default)]
    pub(super) session_key: Option<String>,
    /// The gateway says that somebody said yes. It decides nothing but the words of the refusal.
    #[serde(default)]
    pub(super) approved: serde_json::Value,
}

impl Params {
    /// Reads and checks them.
    ///
    /// # Errors
    /// `INVALID_REQUEST` with what is wrong.
    pub(super) fn read(params: Option<&Json>) -> Result<Self, CallError> {
        let tree = params.map(Json::tree).unwrap_or_default();
        if !tree.get("command").is_some_and(serde_json::Value::is_array) {
            return Err(invalid("command required: an array of the program and its arguments"));
        }
        let params: Self = serde_json::from_value(tree).map_err(|error| invalid(error.to_string()))?;
        if params.command.first().is_none_or(String::is_empty) {
            return Err(invalid("command required: its first entry names the program"));
        }
        let nul = |text: &String| text.contains('\0');
        if params.command.iter().any(nul) || params.cwd.as_ref().is_some_and(nul) {
            return Err(invalid("command and cwd cannot hold a NUL character"));
        }
        Ok(params)
    }

    /// The agent whose policy holds.
    pub(super) fn agent(&self) -> &str {
        self.agent_id.as_deref().unwrap_or("main")
    }
}

/// `INVALID_REQUEST`.
pub(crate) fn invalid(message: impl Into<String>) -> CallError {
    CallError::new("INVALID_REQUEST", message)
}

/// What a finished command leaves. A command that failed is a result too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunResult {
    /// Absent when the program never started or was ended by a signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exit_code: Option<i32>,
    /// The signal that ended it, e.g. `SIGKILL`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signal: Option<String>,
    /// Whether it was stopped because its time was over; then `exitCode` is 124.
    pub(super) timed_out: bool,
    /// It exited by itself with 0.
    pub(super) success: bool,
    /// What it wrote, invalid UTF-8 replaced.
    pub(super) stdout: String,
    /// As `stdout`.
    pub(super) stderr: String,
    /// How much it wrote there, bytes, whether or not `stdout` holds all of it.
    pub(super) stdout_bytes: u64,
    /// As `stdout_bytes`.
    pub(super) stderr_bytes: u64,
    /// Why it never started.
    pub(super) error: Option<String>,
    /// Whether a part of the output was left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) truncated: bool,
}
