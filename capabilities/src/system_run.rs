//! `system.run` and its family: commands on this device, under the owner's policy.
//!
//! A call goes through `request` (shape), `environment` (what it may set), `program` (what it means here), `gate` (may it?) and
//! `process` (run it, kill it). [`PlanVerifier`] comes from whoever knows the gateway's key; this crate knows no keys.

pub(crate) mod environment;
mod gate;
mod output;
mod policy_file;
mod prepare;
mod process;
pub(crate) mod program;
mod request;
mod used;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_protocol::error::CallError;
use atoll_protocol::frame::SignedPlan;
use atoll_protocol::id::CallId;
use atoll_protocol::json::Json;
use atoll_protocol::plan::Plan;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::group::GRACE;
use crate::{Call, Capability, Description};
use gate::{Candidate, denied};
use policy_file::PolicyFile;
use process::Start;
use request::{Params, RunResult, invalid};
use used::Used;

/// The owner's policy, in the state folder.
pub const POLICY_FILE: &str = "exec-approvals.json";

/// The approvals that were used, in the state folder.
pub const USED_FILE: &str = "used-approvals.jsonl";

/// Names that `system.which` looks up in one call. More: refused.
const WHICH_NAMES: usize = 512;

/// Knows whose signature makes a plan an approval.
pub trait PlanVerifier: Send + Sync {
    /// The plan, if the pinned gateway signed it for this node and this call.
    ///
    /// # Errors
    /// A sentence that goes to the caller.
    fn verify(&self, signed: &SignedPlan, call: &CallId) -> Result<Plan, String>;

    /// The time by which its plans are judged, Unix milliseconds.
    fn now_ms(&self) -> u64;
}

/// `system.run`, `system.run.prepare`, `system.which`, `system.execApprovals.get` and `.set`.
pub struct SystemRun {
    inner: Arc<Inner>,
}

struct Inner {
    policy: PolicyFile,
    used: Used,
    verifier: Arc<dyn PlanVerifier>,
    env: BTreeMap<String, String>,
    home: PathBuf,
}

impl SystemRun {
    /// Commands under the policy in `state_dir`, with this process's environment as their base.
    pub fn new(state_dir: &Path, verifier: Arc<dyn PlanVerifier>) -> Self {
        let all =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::with_environment(state_dir, verifier, all)
    }

    /// As [`Self::new`], out of another environment.
    pub fn with_environment(
        state_dir: &Path,
        verifier: Arc<dyn PlanVerifier>,
        all: impl Iterator<Item = (String, String)>,
    ) -> Self {
        let env = environment::base(all);
        let home = env
            .get("HOME")
            .or_else(|| env.get("USERPROFILE"))
            .map_or("/".into(), PathBuf::from);
        Self {
            inner: Arc::new(Inner {
                policy: PolicyFile::new(state_dir.join(POLICY_FILE)),
                used: Used::new(state_dir.join(USED_FILE)),
                verifier,
                env,
                home,
            }),
        }
    }
}

#[async_trait]
impl Capability for SystemRun {
    fn describe(&self) -> Description {
        Description {
            cap: "system",
            commands: vec![
                "system.run",
                "system.run.prepare",
                "system.which",
                "system.execApprovals.get",
                "system.execApprovals.set",
            ],
            missing: Vec::new(),
        }
    }

    async fn invoke(&self, call: Call) -> Result<Option<Json>, CallError> {
        let inner = Arc::clone(&self.inner);
        let params = call.params.clone();
        match call.command.as_str() {
            "system.run" => run(inner, call).await,
            "system.run.prepare" => blocking(move || inner.prepare(params.as_ref())).await,
            "system.which" => {
                let names = names(params.as_ref())?;
                if names.is_empty() {
                    Ok(hits([])) // nothing to look for on the disk
                } else {
                    blocking(move || Ok(inner.which(&names))).await
                }
            }
            "system.execApprovals.get" => blocking(move || inner.policy.show()).await,
            "system.execApprovals.set" => blocking(move || inner.policy.narrow(params.as_ref())).await,
            other => Err(invalid(format!("{other} is not a command of this capability"))),
        }
        .map(Some)
    }
}

/// Disk work off the event loop.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CallError> + Send + 'static,
) -> Result<T, CallError> {
    let failed = |error: tokio::task::JoinError| CallError::new("UNAVAILABLE", format!("the check failed: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}

async fn run(inner: Arc<Inner>, call: Call) -> Result<Json, CallError> {
    let Call {
        id,
        params,
        deadline,
        plan,
        cancel,
        progress,
        command: _,
        blobs: _,
        silent: _,
    } = call;
    let began = tokio::time::Instant::now();
    let admitted = blocking(move || inner.admit(params.as_ref(), plan.as_ref(), &id)).await?;
    let result = match admitted {
        Admitted::Unknown(error) => RunResult {
            error: Some(error),
            ..RunResult::default()
        },
        Admitted::Start { start, time } => {
            let left = time_left(time, deadline.saturating_sub(began.elapsed()));
            process::run(start, left, &cancel, &progress).await.map_err(|_| {
                CallError::new(
                    "CANCELLED",
                    "the call was cancelled; the command and what it started are dead",
                )
            })?
        }
    };
    Json::of(&result).map_err(|error| CallError::new("UNAVAILABLE", error.to_string()))
}

/// The command must be dead when the caller stops waiting, so it is asked to end a little before that.
fn time_left(asked: Option<Duration>, deadline: Duration) -> Duration {
    let until_asked_to_end = deadline.saturating_sub(GRACE.min(deadline / 2));
    asked.map_or(until_asked_to_end, |asked| asked.min(until_asked_to_end))
}

/// What the gate let through.
enum Admitted {
    Start {
        start: Start,
        time: Option<Duration>,
    },
    /// There is no such program: a result and not a refusal, as OpenClaw has it.
    Unknown(String),
}

impl Inner {
    fn path(&self) -> &str {
        self.env.get("PATH").map_or("", String::as_str)
    }

    /// Looks a command up on this device. The inner error: there is no such program.
    fn candidate(&self, params: Params) -> Result<Result<Candidate, String>, CallError> {
        if let Some(env) = &params.env {
            environment::check(env)?;
        }
        let cwd = program::folder(params.cwd.as_deref(), &self.home).map_err(invalid)?;
        let resolved = program::resolve(&params.command[0], Path::new(&cwd), self.path());
        Ok(resolved.map(|program| Candidate {
            params,
            program,
            cwd,
            home: self.home.to_string_lossy().into_owned(),
            path: self.path().to_owned(),
        }))
    }

    fn admit(&self, params: Option<&Json>, plan: Option<&SignedPlan>, call: &CallId) -> Result<Admitted, CallError> {
        let params = Params::read(params)?;
        let document = self.policy.document().map_err(denied)?;
        let candidate = match self.candidate(params)? {
            Ok(candidate) => candidate,
            Err(error) => return Ok(Admitted::Unknown(error)),
        };
        let approval = plan.map(|plan| (plan, call));
        gate::admit(
            &candidate,
            &document,
            approval,
            self.verifier.as_ref(),
            &self.used,
            self.verifier.now_ms(),
        )?;
        let mut env = self.env.clone();
        env.extend(candidate.env());
        let args = candidate.argv().split_off(1);
        Ok(Admitted::Start {
            time: candidate.params.timeout_ms.map(Duration::from_millis),
            start: Start {
                program: candidate.program.found.into(),
                args,
                cwd: candidate.cwd.into(),
                env,
                stdin: candidate.params.stdin,
            },
        })
    }

    fn prepare(&self, params: Option<&Json>) -> Result<Json, CallError> {
        let document = self.policy.document().map_err(denied)?;
        let candidate = self.candidate(Params::read(params)?)?.map_err(invalid)?;
        prepare::prepare(&candidate, &document).map_err(invalid)
    }

    fn which(&self, names: &[String]) -> Json {
        let path = self.path();
        let hit = |name: &String| Some((name.clone(), json!(program::in_path(name, path)?.to_str()?)));
        hits(names.iter().filter_map(hit))
    }
}

/// What `system.which` shall look for.
fn names(params: Option<&Json>) -> Result<Vec<String>, CallError> {
    #[derive(Deserialize)]
    struct Which {
        bins: Vec<String>,
    }
    let params = params.ok_or_else(|| invalid("bins required: an array of names"))?;
    let which: Which = params.read().map_err(|error| invalid(error.to_string()))?;
    if which.bins.len() > WHICH_NAMES {
        return Err(invalid(format!(
            "{} names; {WHICH_NAMES} are allowed",
            which.bins.len()
        )));
    }
    Ok(which.bins)
}

fn hits(found: impl IntoIterator<Item = (String, Value)>) -> Json {
    let bins: serde_json::Map<_, _> = found.into_iter().collect();
    Json::from(json!({ "bins": bins }))
}

#[cfg(all(test, unix))]
fn now_ms() -> u64 {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(all(test, unix))]
mod tests;
