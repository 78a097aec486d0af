//! Questions to a person: may this command run? From the asking to the one use of a yes.
//!
//! `pending → allowed → used`, or `denied`, or `expired`. The first answer wins, a yes is used once, an agent never
//! answers, whoever asked does not answer itself. Pure: ids and the time come in, [`ApprovalChange`]s go out, to be made
//! durable before anybody is told. Never runs anything and never decides whether a question is needed.

use std::collections::BTreeMap;

use atoll_protocol::id::{AgentId, ApprovalId, CallId, DeviceId, SessionKey};
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::plan::FileHash;
use atoll_protocol::scope::Scope;

mod error;
mod grant;
pub mod plan;
pub mod record;
pub mod rows;

pub use error::{ApprovalError, SpendError};
pub use grant::{GRANTS, Grant, GrantKey};

use crate::access::{Granted, Principal, ResolveApproval};
use grant::Grants;

/// Questions that wait at once. More: asking fails, which counts as no.
pub const PENDING: usize = 256;

/// Questions remembered in all. More: the oldest that has ended is forgotten.
pub const REMEMBERED: usize = 4096;

/// How long an ended question is remembered.
pub const HISTORY_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// What is asked: everything that decides what will happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The node that would run it; none: the gateway's own machine.
    pub node: Option<DeviceId>,
    /// The command as a person reads it.
    pub command: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The working folder.
    pub cwd: Option<String>,
    /// As in [`atoll_protocol::plan::Plan`].
    pub env_sha256: [u8; 32],
    /// As in [`atoll_protocol::plan::Plan`].
    pub stdin_sha256: [u8; 32],
    /// As in [`atoll_protocol::plan::Plan`].
    pub files: Vec<FileHash>,
    /// The agent that wants it.
    pub agent: Option<AgentId>,
    /// The session that it works in.
    pub session: Option<SessionKey>,
    /// The plan as the node prepared it; it is forwarded as stored, whatever the later call says.
    pub system_run_plan: Option<Json>,
    /// The `security` in force.
    pub security: String,
    /// The `ask` in force.
    pub ask: String,
    /// Something that the person should know.
    pub warning: Option<String>,
    /// Whether `allow-always` is a possible answer.
    pub offers_always: bool,
}

/// Who asked. It may not answer itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requester {
    /// The connection it asked through; none for an agent's own tool call.
    pub connection: Option<String>,
    /// Its device, where it has one.
    pub device: Option<DeviceId>,
}

impl Requester {
    /// The requester behind a principal.
    pub fn of(principal: &Principal) -> Self {
        Self {
            connection: principal.connection().map(str::to_owned),
            device: principal.device_id(),
        }
    }
}

/// A question to be asked.
#[derive(Debug, Clone)]
pub struct NewApproval {
    /// A fresh id.
    pub id: ApprovalId,
    /// What is asked.
    pub question: Question,
    /// Who asks.
    pub requester: Requester,
    /// How long it may wait, milliseconds; none: [`limits::APPROVAL`].
    pub lifetime_ms: Option<u64>,
    /// Nobody has a use for the answer once the connection that asks has ended.
    pub is_bound: bool,
}

/// A person's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// This one time.
    AllowOnce,
    /// This time, and every later time that is exactly the same.
    AllowAlways,
    /// No.
    Deny,
}

impl Decision {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AllowOnce => "allow-once",
            Self::AllowAlways => "allow-always",
            Self::Deny => "deny",
        }
    }

    /// Reads the word; none when it is no answer.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::AllowOnce, Self::AllowAlways, Self::Deny]
            .into_iter()
            .find(|decision| decision.as_str() == word)
    }
}

/// Where a question stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nobody has answered.
    Pending,
    /// Somebody said yes; not used yet.
    Allowed(Answer),
    /// Somebody said no.
    Denied(Answer),
    /// It ended without an answer, which counts as no.
    Expired {
        /// Why.
        reason: Ended,
        /// When, Unix milliseconds.
        at_ms: u64,
    },
    /// The yes was used.
    Used {
        /// The yes.
        answer: Answer,
        /// By this call.
        call: CallId,
    },
}

/// Who answered what, when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What.
    pub decision: Decision,
    /// Who, as [`Principal::label`] says.
    pub by: String,
    /// When, Unix milliseconds.
    pub at_ms: u64,
}

/// Why a question ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nobody answered in time.
    Timeout,
    /// There was nobody to ask.
    NoRoute,
    /// What wanted to know is gone: the turn was stopped, the call cancelled.
    Withdrawn,
}

impl Ended {
    /// The word of `terminalReason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::NoRoute => "no-route",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Status and reason in the words of `approval.get`, which knows fewer.
    pub(super) fn in_snapshot(self) -> (&'static str, &'static str) {
        match self {
            Self::Timeout => ("expired", "timeout"),
            Self::NoRoute => ("denied", "no-route"),
            Self::Withdrawn => ("cancelled", "run-aborted"),
        }
    }
}

/// One question and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Its id.
    pub id: ApprovalId,
    /// What is asked.
    pub question: Question,
    /// Who asked.
    pub requester: Requester,
    /// When, Unix milliseconds.
    pub created_ms: u64,
    /// When a missing answer counts as no, and an unused yes is void, Unix milliseconds.
    pub expires_ms: u64,
    /// Nobody has a use for the answer once the connection that asked has ended.
    pub is_bound: bool,
    /// Where it stands.
    pub state: State,
}

impl Approval {
    /// The answer, if a person gave one.
    pub fn decision(&self) -> Option<Decision> {
        match &self.state {
            State::Allowed(answer) | State::Denied(answer) | State::Used { answer, .. } => Some(answer.decision),
            State::Pending | State::Expired { .. } => None,
        }
    }

    /// Whether it waits for an answer.
    pub fn is_pending(&self) -> bool {
        self.state == State::Pending
    }

    /// Whether this principal may see and answer it: a person with `operator.approvals`, not the one who asked. What another
    /// operator asked is for an administrator, for the same device, or for the owner in a chat.
    pub fn is_for(&self, principal: &Principal) -> bool {
        if principal.is_agent() || !principal.scopes().give(Scope::Approvals) {
            return false;
        }
        let Some(connection) = &self.requester.connection else {
            return true;
        };
        if principal.connection() == Some(connection) {
            return false;
        }
        let same_device = self.requester.device.is_some() && self.requester.device == principal.device_id();
        same_device || principal.scopes().give(Scope::Admin) || principal.is_owner_in_chat()
    }

    fn ended_ms(&self) -> Option<u64> {
        match &self.state {
            State::Pending | State::Allowed(_) => None,
            State::Denied(answer) | State::Used { answer, .. } => Some(answer.at_ms),
            State::Expired { at_ms, .. } => Some(*at_ms),
        }
    }
}

/// One consequence. `Put`, `Forget`, `PutGrant` and `ForgetGrant` are to be stored first.
#[derive(Debug, Clone, PartialEq)]
pub enum ApprovalChange {
    /// Store this question, durably.
    Put(Box<Approval>),
    /// Drop this question from storage.
    Forget(ApprovalId),
    /// Store this grant, durably.
    PutGrant(Box<Grant>),
    /// Drop this grant from storage, durably.
    ForgetGrant(ApprovalId),
    /// Tell those for whom [`Approval::is_for`] says so.
    Event {
        /// Which question.
        id: ApprovalId,
        /// `exec.approval.requested` or `exec.approval.resolved`.
        name: &'static str,
        /// Its facts.
        payload: Json,
    },
    /// Whoever waits for the answer can have it now.
    Settled(ApprovalId),
}

/// All questions and all grants for always.
#[derive(Debug, Default)]
pub struct Approvals {
    all: BTreeMap<ApprovalId, Approval>,
    grants: Grants,
}

impl Approvals {
    /// Puts stored questions and grants back.
    pub fn restore(approvals: impl IntoIterator<Item = Approval>, grants: impl IntoIterator<Item = Grant>) -> Self {
        Self {
            all: approvals
                .into_iter()
                .map(|approval| (approval.id.clone(), approval))
                .collect(),
            grants: grants.into_iter().collect(),
        }
    }

    /// Asks, unless a person has allowed exactly this for always: then it is allowed at once, for one use like any
    /// other.
    ///
    /// # Errors
    /// The id is taken, or too many questions wait.
    pub fn request(&mut self, new: NewApproval, now_ms: u64) -> Result<Vec<ApprovalChange>, ApprovalError> {
        if self.all.contains_key(&new.id) {
            return Err(ApprovalError::IdTaken);
        }
        let key = GrantKey::of(&new.question);
        if !self.grants.hold(&key) && self.waiting(now_ms) >= PENDING {
            return Err(ApprovalError::TooMany);
        }
        let mut approval = open(new, now_ms);
        let mut changes = self.make_room(now_ms);
        match self.grants.apply(&key, now_ms).cloned() {
            Some(grant) => {
                approval.state = State::Allowed(Answer {
                    decision: Decision::AllowOnce,
                    by: format!("always:{}", grant.id),
                    at_ms: now_ms,
                });
                changes.extend([ApprovalChange::PutGrant(Box::new(grant)), put(&approval)]);
                changes.push(ApprovalChange::Settled(approval.id.clone()));
            }
            None => changes.extend([put(&approval), rows::requested(&approval)]),
        }
        self.all.insert(approval.id.clone(), approval);
        Ok(changes)
    }

    /// Answers. The first answer stands.
    ///
    /// # Errors
    /// No such question, answered or expired before, not this person's, or not among the possible answers.
    pub fn resolve(
        &mut self,
        granted: &Granted<ResolveApproval>,
        decision: Decision,
        now_ms: u64,
    ) -> Result<Vec<ApprovalChange>, ApprovalError> {
        let id = &granted.action().id;
        let approval = self.all.get_mut(id).ok_or(ApprovalError::Unknown)?;
        let by = granted.principal();
        if !approval.is_for(by) {
            return Err(ApprovalError::NotYours);
        }
        match &approval.state {
            State::Pending if approval.expires_ms <= now_ms => return Err(ApprovalError::Unknown),
            State::Pending => {}
            State::Expired { .. } => return Err(ApprovalError::Unknown),
            State::Allowed(_) | State::Denied(_) | State::Used { .. } => return Err(ApprovalError::AlreadyResolved),
        }
        if decision == Decision::AllowAlways && !approval.question.offers_always {
            return Err(ApprovalError::NotOffered);
        }
        let answer = Answer {
            decision,
            by: by.label(),
            at_ms: now_ms,
        };
        approval.state = match decision {
            Decision::Deny => State::Denied(answer),
            Decision::AllowOnce | Decision::AllowAlways => State::Allowed(answer),
        };
        let mut changes = settled(approval, now_ms);
        if decision == Decision::AllowAlways {
            changes.splice(0..0, self.grants.add(approval, by.label(), now_ms));
        }
        Ok(changes)
    }

    /// Uses a yes for one call. The same call may ask again, so that a crash between storing and sending loses nothing;
    /// the node runs it once all the same.
    ///
    /// # Errors
    /// There is no yes for this use; see [`SpendError`].
    pub fn consume(
        &mut self,
        id: &ApprovalId,
        spend: &Spend,
        now_ms: u64,
    ) -> Result<(Approval, Vec<ApprovalChange>), SpendError> {
        let approval = self.all.get_mut(id).ok_or(SpendError::Unknown)?;
        spend.check(approval)?;
        let answer = match &approval.state {
            State::Used { call, .. } if *call == spend.call => return Ok((approval.clone(), Vec::new())),
            State::Expired { .. } => return Err(SpendError::Expired),
            State::Allowed(_) | State::Pending if approval.expires_ms <= now_ms => return Err(SpendError::Expired),
            State::Allowed(answer) => answer.clone(),
            State::Pending | State::Denied(_) | State::Used { .. } => return Err(SpendError::Required),
        };
        approval.state = State::Used {
            answer,
            call: spend.call.clone(),
        };
        Ok((approval.clone(), vec![put(approval)]))
    }

    /// Ends a question that nobody needs an answer to any more, or that nobody can be asked. A yes that nobody wants any more is void
    /// where it was not used.
    pub fn withdraw(&mut self, id: &ApprovalId, reason: Ended, now_ms: u64) -> Vec<ApprovalChange> {
        match self.all.get_mut(id) {
            Some(approval) if approval.is_pending() => end(approval, reason, now_ms),
            Some(approval) if matches!(approval.state, State::Allowed(_)) && reason == Ended::Withdrawn => {
                end(approval, reason, now_ms)
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// After a start: ends what was bound to connections, of which there is none any more.
    pub fn withdraw_bound(&mut self, now_ms: u64) -> Vec<ApprovalChange> {
        let bound = |approval: &&Approval| approval.is_bound && approval.ended_ms().is_none();
        let ids: Vec<_> = self
            .all
            .values()
            .filter(bound)
            .map(|approval| approval.id.clone())
            .collect();
        let withdrawn = ids.iter().flat_map(|id| self.withdraw(id, Ended::Withdrawn, now_ms));
        withdrawn.collect()
    }

    /// Ends what nobody answered in time, voids what was allowed and not used, forgets what is long over.
    pub fn expire(&mut self, now_ms: u64) -> Vec<ApprovalChange> {
        let late = self.all.values_mut().filter(|approval| {
            approval.expires_ms <= now_ms && matches!(approval.state, State::Pending | State::Allowed(_))
        });
        let mut changes: Vec<_> = late
            .flat_map(|approval| end(approval, Ended::Timeout, now_ms))
            .collect();
        let old = self.all.extract_if(.., |_, approval| {
            approval
                .ended_ms()
                .is_some_and(|ended| now_ms.saturating_sub(ended) >= HISTORY_MS)
        });
        changes.extend(old.map(|(id, _)| ApprovalChange::Forget(id)));
        changes
    }

    /// When [`Self::expire`] has something to do next, Unix milliseconds.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        self.all
            .values()
            .filter(|approval| matches!(approval.state, State::Pending | State::Allowed(_)))
            .map(|approval| approval.expires_ms)
            .min()
    }

    /// One question.
    pub fn find(&self, id: &ApprovalId) -> Option<&Approval> {
        self.all.get(id)
    }

    /// Every question that is remembered.
    pub fn iter(&self) -> impl Iterator<Item = &Approval> {
        self.all.values()
    }

    /// The questions that wait, oldest first.
    pub fn pending(&self) -> Vec<&Approval> {
        let mut waiting: Vec<_> = self.all.values().filter(|approval| approval.is_pending()).collect();
        waiting.sort_by_key(|approval| approval.created_ms);
        waiting
    }

    /// The whole reply of `exec.approval.list` for this principal.
    pub fn list(&self, principal: &Principal) -> serde_json::Value {
        let rows = self.pending().into_iter().filter(|approval| approval.is_for(principal));
        rows.map(rows::entry).collect()
    }

    /// What is allowed for always.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.iter()
    }

    /// Takes back an allowance for always, named by the question that made it.
    ///
    /// # Errors
    /// There is none.
    pub fn revoke_grant(&mut self, granted: &Granted<ResolveApproval>) -> Result<Vec<ApprovalChange>, ApprovalError> {
        let id = &granted.action().id;
        self.grants.remove(id).ok_or(ApprovalError::Unknown)?;
        Ok(vec![ApprovalChange::ForgetGrant(id.clone())])
    }

    fn waiting(&self, now_ms: u64) -> usize {
        let waits = |approval: &&Approval| approval.is_pending() && approval.expires_ms > now_ms;
        self.all.values().filter(waits).count()
    }

    fn make_room(&mut self, now_ms: u64) -> Vec<ApprovalChange> {
        let mut changes = self.expire(now_ms);
        while self.all.len() >= REMEMBERED {
            let oldest = self
                .all
                .values()
                .filter_map(|approval| Some((approval.ended_ms()?, approval.id.clone())))
                .min();
            let Some((_, id)) = oldest else { break };
            self.all.remove(&id);
            changes.push(ApprovalChange::Forget(id));
        }
        changes
    }
}

/// A use of a yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spend {
    /// The call that uses it.
    pub call: CallId,
    /// Where it will run; none: the gateway's own machine.
    pub node: Option<DeviceId>,
    /// Who uses it.
    pub by: Requester,
}

impl Spend {
    fn check(&self, approval: &Approval) -> Result<(), SpendError> {
        let asked = &approval.requester;
        if self.node != approval.question.node {
            Err(SpendError::NodeMismatch)
        } else if self.by.device != asked.device {
            Err(SpendError::DeviceMismatch)
        } else if asked.device.is_none() && self.by.connection != asked.connection {
            Err(SpendError::ClientMismatch)
        } else {
            Ok(())
        }
    }
}

fn open(new: NewApproval, now_ms: u64) -> Approval {
    let longest = limits::CALL_DEADLINE_MAX.as_millis() as u64;
    let lifetime = new
        .lifetime_ms
        .unwrap_or(limits::APPROVAL.as_millis() as u64)
        .min(longest);
    Approval {
        id: new.id,
        question: new.question,
        requester: new.requester,
        created_ms: now_ms,
        expires_ms: now_ms.saturating_add(lifetime),
        is_bound: new.is_bound,
        state: State::Pending,
    }
}

fn put(approval: &Approval) -> ApprovalChange {
    ApprovalChange::Put(Box::new(approval.clone()))
}

fn end(approval: &mut Approval, reason: Ended, now_ms: u64) -> Vec<ApprovalChange> {
    approval.state = State::Expired { reason, at_ms: now_ms };
    settled(approval, now_ms)
}

fn settled(approval: &Approval, now_ms: u64) -> Vec<ApprovalChange> {
    vec![
        put(approval),
        rows::resolved(approval, now_ms),
        ApprovalChange::Settled(approval.id.clone()),
    ]
}

#[cfg(test)]
mod tests;
