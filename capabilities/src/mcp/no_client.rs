//! No way to speak to servers: this build has none. The same face as `client`.

use std::convert::Infallible;

use atoll_protocol::error::CallError;
use serde_json::{Map, Value};
use tokio::process::{ChildStdin, ChildStdout};

use super::Listed;
use super::meter::Metered;

/// Why there is none.
pub(super) const MISSING: Option<&str> = Some("this atoll-node was built without MCP; build it with the feature mcp");

/// Never there.
#[derive(Debug, Clone)]
pub(super) struct Session(Infallible);

impl Session {
    pub(super) async fn open(_: Metered<ChildStdout>, _: ChildStdin) -> Result<Self, String> {
        Err(MISSING.unwrap_or_default().to_owned())
    }

    pub(super) async fn tools(&self) -> Result<Vec<Listed>, String> {
        match self.0 {}
    }

    pub(super) async fn call(&self, _: &str, _: Map<String, Value>) -> Result<Value, CallError> {
        match self.0 {}
    }

    pub(super) async fn changed(&self) {
        match self.0 {}
    }

    pub(super) async fn ended(&self) -> String {
        match self.0 {}
    }
}
