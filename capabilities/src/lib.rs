//! What a device can do, one capability a file. Knows nothing of gateways, links or pairing.
//!
//! A capability describes itself and runs one command at a time; many run at once. Whoever calls it has decided already that it may
//! run, except where the decision needs the command itself (`system.run`, see [`exec_policy`]).

pub mod audio;
pub mod blob;
pub mod camera;
pub mod canvas;
pub mod capture;
pub mod clipboard;
pub mod device;
pub mod exec_policy;
pub mod file;
mod group;
mod installed;
mod last_words;
pub mod location;
pub mod mcp;
pub mod notify;
pub mod owned;
mod params;
pub mod screen;
pub mod shrink;
pub mod system_run;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_protocol::calls::Said;
use atoll_protocol::error::CallError;
use atoll_protocol::frame::SignedPlan;
use atoll_protocol::id::CallId;
use atoll_protocol::json::Json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What one capability offers here and now, and what it cannot offer and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// The family, e.g. `system`.
    pub cap: &'static str,
    /// Commands that work now.
    pub commands: Vec<&'static str>,
    /// Commands that cannot work here, each with the reason and the next step.
    pub missing: Vec<(&'static str, String)>,
}

/// One call of one command.
#[derive(Debug)]
pub struct Call {
    /// The gateway's id for it.
    pub id: CallId,
    /// The command, one of [`Description::commands`].
    pub command: String,
    /// Its parameters.
    pub params: Option<Json>,
    /// When this is over the caller stops waiting; the work must be dead by then.
    pub deadline: Duration,
    /// What a person approved, not yet verified.
    pub plan: Option<SignedPlan>,
    /// Ends the work early; the work must be dead soon after.
    pub cancel: CancellationToken,
    /// Where parts of the output go; bounded, and a full one slows the work down.
    pub progress: mpsc::Sender<Said>,
    /// Carries bytes beside the result; none where everything has to be in it.
    pub blobs: Option<Arc<dyn blob::Blobs>>,
    /// Why the microphone stays off in this call, where it does.
    pub silent: Option<String>,
}

/// A family of commands on this device.
#[async_trait]
pub trait Capability: Send + Sync {
    /// What is on offer.
    fn describe(&self) -> Description;

    /// Whether this call, as it is, also takes what the microphone hears.
    fn listens(&self, _call: &Call) -> bool {
        false
    }

    /// Runs one call to its end. Dropping the future kills whatever it started.
    ///
    /// # Errors
    /// A code and a sentence that go to the caller as they are.
    async fn invoke(&self, call: Call) -> Result<Option<Json>, CallError>;
}

/// The capabilities of a device, in the order in which they are declared.
pub type Capabilities = Vec<Arc<dyn Capability>>;
