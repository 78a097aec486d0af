//! The last word before a command starts: the owner's policy, or a plan that a person approved and the gateway signed.
//!
//! What remains between the check and the start: files are hashed, the use of the approval is recorded, and the program is started
//! by its path. Whoever can write to the program or the script in those milliseconds, as this user or as root, could swap it; such a
//! person could run commands without us anyway. A file that a script loads in turn is not part of what was approved.

use std::collections::BTreeMap;
use std::path::Path;

use atoll_protocol::error::CallError;
use atoll_protocol::frame::SignedPlan;
use atoll_protocol::id::CallId;
use atoll_protocol::plan::{FileHash, Plan};
use sha2::{Digest, Sha256};

use super::program::{bound_files, hash_files};
use super::request::Params;
use super::used::Used;
use super::{PlanVerifier, environment};
use crate::exec_policy::document::Document;
use crate::exec_policy::{Program, Request, Verdict, evaluate, runs_unanswered};

/// `SYSTEM_RUN_DENIED`, in the words that OpenClaw's gateway looks for.
pub(crate) fn denied(why: impl std::fmt::Display) -> CallError {
    CallError::new("SYSTEM_RUN_DENIED", format!("SYSTEM_RUN_DENIED: {why}"))
}

/// A command that was looked up on this device and waits to be let through.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) params: Params,
    pub(crate) program: Program,
    pub(crate) cwd: String,
    pub(crate) home: String,
    /// Where programs are looked up.
    pub(crate) path: String,
}

impl Candidate {
    /// The program as it will be started, and its arguments.
    pub(crate) fn argv(&self) -> Vec<String> {
        let mut argv = self.params.command.clone();
        argv[0].clone_from(&self.program.found);
        argv
    }

    /// What the policy judges.
    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            program: &self.program,
            args: &self.params.command[1..],
            cwd: &self.cwd,
            home: Some(&self.home),
        }
    }

    /// The environment that was asked for.
    pub(crate) fn env(&self) -> BTreeMap<String, String> {
        self.params.env.clone().unwrap_or_default()
    }

    /// Hashes the files that decide what it does. Blocks on the disk.
    pub(crate) fn hashes(&self) -> Result<BTreeMap<usize, FileHash>, String> {
        let files = bound_files(
            &self.program,
            &self.params.command[1..],
            Path::new(&self.cwd),
            &self.path,
        );
        hash_files(&files)
    }
}

/// Lets a command through or says why not. Blocks on the disk; spends the approval.
pub(crate) fn admit(
    candidate: &Candidate,
    document: &Document,
    approval: Option<(&SignedPlan, &CallId)>,
    verifier: &dyn PlanVerifier,
    used: &Used,
    now_ms: u64,
) -> Result<(), CallError> {
    let agent = candidate.params.agent();
    match (evaluate(document, agent, &candidate.request()), approval) {
        (Verdict::Deny(why), _) => Err(denied(format!(
            "{why}. The owner of this device can change that in its exec-approvals.json"
        ))),
        (Verdict::Allow, None) => Ok(()),
        // A plan that came along is held to, also where none was needed: a person saw it.
        (Verdict::Allow | Verdict::Ask(_), Some((signed, call))) => {
            let plan = verifier.verify(signed, call).map_err(denied)?;
            check_plan(candidate, &plan, call, now_ms).map_err(denied)?;
            used.spend(plan.approval.as_str(), plan.expires_at_ms, now_ms)
                .map_err(denied)
        }
        (Verdict::Ask(_), None) if runs_unanswered(document, agent, &candidate.request()) => Ok(()),
        (Verdict::Ask(why), None) if candidate.params.approved == true => Err(denied(format!(
            "approval required: {why}. The approval that came along is not signed, and counts for nothing here; the owner of \
             this device can allow the command in its exec-approvals.json"
        ))),
        (Verdict::Ask(why), None) => Err(denied(format!(
            "approval required: {why}. Ask for an approval through the gateway, or let the owner of this device allow it there"
        ))),
    }
}

/// Every fact of the plan against what is about to happen.
fn check_plan(candidate: &Candidate, plan: &Plan, call: &CallId, now_ms: u64) -> Result<(), String> {
    let stdin = candidate.params.stdin.as_deref().unwrap_or_default();
    let session = candidate.params.session_key.as_deref();
    let facts = [
        ("the call", plan.call == *call),
        ("the command", plan.argv == candidate.argv()),
        ("the working folder", plan.cwd == candidate.cwd),
        (
            "the environment",
            plan.env_sha256 == environment::sha256(&candidate.env()),
        ),
        (
            "the standard input",
            plan.stdin_sha256 == <[u8; 32]>::from(Sha256::digest(stdin)),
        ),
        (
            "the session",
            plan.session.is_empty() || session.is_none_or(|session| session == plan.session),
        ),
    ];
    if let Some((what, _)) = facts.iter().find(|(_, same)| !same) {
        return Err(format!("{what} is not what was approved; ask for a new approval"));
    }
    if plan.expires_at_ms <= now_ms {
        return Err("the approval has expired; ask for a new one".to_owned());
    }
    let hashes: Vec<FileHash> = candidate.hashes()?.into_values().collect();
    let changed = hashes.iter().find(|file| !plan.files.contains(file));
    match (changed, plan.files.iter().find(|file| !hashes.contains(file))) {
        (Some(file), _) | (None, Some(file)) => Err(format!(
            "{} has changed since it was approved; ask for a new approval",
            file.path
        )),
        (None, None) => Ok(()),
    }
}
