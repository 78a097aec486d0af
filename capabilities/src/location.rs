//! `location.get`: where this device is. Asks what its owner named in `node.json`, else the system; rounds on the device. Owns the fix that
//! was found last; what a fix says is in `fix`, whom it comes from in `source`.

mod fix;
mod source;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use crate::installed::{Installed, unless_cancelled, until};
use crate::owned::section;
use crate::params::{millis, read};
use crate::{Call, Capability, Description};
use fix::Fix;
use source::{Settings, Source};

const LOCATION: &str = "location.get";

/// How long a device may look for itself when a call does not say, and the longest.
const TIME: Duration = Duration::from_secs(10);
const TIME_MAX: Duration = Duration::from_secs(120);

/// Of what was found before.
const AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How exactly a caller wants to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Accuracy {
    /// A kilometre or two.
    Coarse,
    #[default]
    Balanced,
    Precise,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Raw {
    max_age_ms: Option<f64>,
    desired_accuracy: Option<Accuracy>,
    timeout_ms: Option<f64>,
}

/// Where this device is.
#[derive(Debug)]
pub struct Location {
    state_dir: PathBuf,
    installed: Installed,
    last: Mutex<Option<Found>>,
}

/// What was found, by whom, and how hard it was looked for.
#[derive(Debug, Clone)]
struct Found {
    source: Source,
    accuracy: Accuracy,
    fix: Fix,
}

impl Location {
    /// Under the owner's file in `state_dir`, with the programs that this process sees.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            installed: Installed::here(),
            last: Mutex::default(),
        }
    }

    fn sources(&self) -> Result<Vec<Source>, String> {
        let settings: Settings = section(&self.state_dir, "location", |_| Ok(()))?;
        settings.sources(&self.installed)
    }

    /// What was found before, if it is fresh and exact enough and the owner has named nobody else since.
    fn known(&self, sources: &[Source], accuracy: Accuracy, max_age: Duration) -> Option<Fix> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let found = last.as_ref()?;
        let age = Timestamp::now().duration_since(found.fix.timestamp).unsigned_abs();
        let fits = sources.contains(&found.source) && found.accuracy >= accuracy && age <= max_age;
        fits.then(|| found.fix.clone())
    }

    async fn look(&self, sources: Vec<Source>, accuracy: Accuracy, until: Instant) -> Result<Fix, CallError> {
        let mut failures = Vec::new();
        for source in sources {
            match timeout_at(until, source.ask(&self.installed, accuracy, until)).await {
                Ok(Ok(fix)) => {
                    let found = Found {
                        source,
                        accuracy,
                        fix: fix.clone(),
                    };
                    *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
                    return Ok(fix);
                }
                Ok(Err(failure)) if !failure.is_late => failures.push(failure.why),
                Ok(Err(_)) | Err(_) => {
                    let why = format!(
                        "{source} did not find out in time where this device is; give it longer with timeoutMs"
                    );
                    return Err(CallError::new("LOCATION_TIMEOUT", why));
                }
            }
        }
        Err(unavailable(failures.join("; ")))
    }

    async fn locate(&self, call: &Call) -> Result<Json, CallError> {
        let raw: Raw = read(call.params.as_ref())?;
        let accuracy = raw.desired_accuracy.unwrap_or_default();
        let max_age = millis(raw.max_age_ms, Duration::ZERO, AGE_MAX, "maxAgeMs")?;
        let time = millis(raw.timeout_ms, TIME, TIME_MAX, "timeoutMs")?;
        let until = until(call.deadline, time);
        let sources = self.sources().map_err(unavailable)?;
        let fix = match self.known(&sources, accuracy, max_age) {
            Some(fix) => fix,
            None => self.look(sources, accuracy, until).await?,
        };
        Ok(if accuracy == Accuracy::Coarse {
            fix.rounded()
        } else {
            fix
        }
        .json())
    }
}

#[async_trait]
impl Capability for Location {
    fn describe(&self) -> Description {
        let mut description = Description {
            cap: "location",
            ..Description::default()
        };
        match self.sources() {
            Ok(_) => description.commands.push(LOCATION),
            Err(why) => description.missing.push((LOCATION, why)),
        }
        description
    }

    async fn invoke(&self, call: Call) -> Result<Option<Json>, CallError> {
        unless_cancelled(call.cancel.clone(), self.locate(&call))
            .await
            .map(Some)
    }
}

fn unavailable(message: impl Into<String>) -> CallError {
    CallError::new("LOCATION_UNAVAILABLE", message)
}

#[cfg(all(test, unix))]
mod tests;
