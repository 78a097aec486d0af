//! How questions and grants are stored: their serde twins. New fields get a default.

use atoll_protocol::id::{AgentId, ApprovalId, CallId, DeviceId, SessionKey};
use atoll_protocol::json::Json;
use atoll_protocol::plan::FileHash;
use serde::{Deserialize, Serialize};

use super::{Answer, Approval, Decision, Ended, Grant, GrantKey, Question, Requester, State};

/// A question as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredApproval {
    id: ApprovalId,
    question: StoredQuestion,
    connection: Option<String>,
    device: Option<DeviceId>,
    created_ms: u64,
    expires_ms: u64,
    #[serde(default)]
    is_bound: bool,
    state: StoredState,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredQuestion {
    node: Option<DeviceId>,
    command: String,
    argv: Vec<String>,
    cwd: Option<String>,
    env_sha256: [u8; 32],
    stdin_sha256: [u8; 32],
    files: Vec<FileHash>,
    agent: Option<AgentId>,
    session: Option<SessionKey>,
    system_run_plan: Option<Json>,
    security: String,
    ask: String,
    warning: Option<String>,
    offers_always: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StoredState {
    Pending,
    Allowed(StoredAnswer),
    Denied(StoredAnswer),
    TimedOut(u64),
    NoRoute(u64),
    Withdrawn(u64),
    Used(StoredAnswer, CallId),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredAnswer {
    decision: StoredDecision,
    by: String,
    at_ms: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StoredDecision {
    AllowOnce,
    AllowAlways,
    Deny,
}

/// A grant as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredGrant {
    id: ApprovalId,
    node: Option<DeviceId>,
    agent: Option<AgentId>,
    argv: Vec<String>,
    cwd: Option<String>,
    env_sha256: [u8; 32],
    stdin_sha256: [u8; 32],
    by: String,
    created_ms: u64,
    last_used_ms: Option<u64>,
    uses: u64,
}

/// Both ways between two structs with the same fields.
macro_rules! twins {
    ($domain:ident, $stored:ident { $($field:ident),* $(,)? }) => {
        impl From<$domain> for $stored {
            fn from(value: $domain) -> Self {
                Self { $($field: value.$field.into(),)* }
            }
        }

        impl From<$stored> for $domain {
            fn from(value: $stored) -> Self {
                Self { $($field: value.$field.into(),)* }
            }
        }
    };
}

twins!(
    Question,
    StoredQuestion {
        node,
        command,
        argv,
        cwd,
        env_sha256,
        stdin_sha256,
        files,
        agent,
        session,
        system_run_plan,
        security,
        ask,
        warning,
        offers_always,
    }
);
twins!(Answer, StoredAnswer { decision, by, at_ms });

impl From<Decision> for StoredDecision {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::AllowOnce => Self::AllowOnce,
            Decision::AllowAlways => Self::AllowAlways,
            Decision::Deny => Self::Deny,
        }
    }
}

impl From<StoredDecision> for Decision {
    fn from(decision: StoredDecision) -> Self {
        match decision {
            StoredDecision::AllowOnce => Self::AllowOnce,
            StoredDecision::AllowAlways => Self::AllowAlways,
            StoredDecision::Deny => Self::Deny,
        }
    }
}

impl From<State> for StoredState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Allowed(answer) => Self::Allowed(answer.into()),
            State::Denied(answer) => Self::Denied(answer.into()),
            State::Expired { reason, at_ms } => match reason {
                Ended::Timeout => Self::TimedOut(at_ms),
                Ended::NoRoute => Self::NoRoute(at_ms),
                Ended::Withdrawn => Self::Withdrawn(at_ms),
            },
            State::Used { answer, call } => Self::Used(answer.into(), call),
        }
    }
}

impl From<StoredState> for State {
    fn from(state: StoredState) -> Self {
        let expired = |reason, at_ms| Self::Expired { reason, at_ms };
        match state {
            StoredState::Pending => Self::Pending,
            StoredState::Allowed(answer) => Self::Allowed(answer.into()),
            StoredState::Denied(answer) => Self::Denied(answer.into()),
            StoredState::TimedOut(at_ms) => expired(Ended::Timeout, at_ms),
            StoredState::NoRoute(at_ms) => expired(Ended::NoRoute, at_ms),
            StoredState::Withdrawn(at_ms) => expired(Ended::Withdrawn, at_ms),
            StoredState::Used(answer, call) => Self::Used {
                answer: answer.into(),
                call,
            },
        }
    }
}

impl From<Approval> for StoredApproval {
    fn from(approval: Approval) -> Self {
        Self {
            id: approval.id,
            question: approval.question.into(),
            connection: approval.requester.connection,
            device: approval.requester.device,
            created_ms: approval.created_ms,
            expires_ms: approval.expires_ms,
            is_bound: approval.is_bound,
            state: approval.state.into(),
        }
    }
}

impl From<StoredApproval> for Approval {
    fn from(stored: StoredApproval) -> Self {
        Self {
            id: stored.id,
            question: stored.question.into(),
            requester: Requester {
                connection: stored.connection,
                device: stored.device,
            },
            created_ms: stored.created_ms,
            expires_ms: stored.expires_ms,
            is_bound: stored.is_bound,
            state: stored.state.into(),
        }
    }
}

impl From<Grant> for StoredGrant {
    fn from(grant: Grant) -> Self {
        let key = grant.key;
        Self {
            id: grant.id,
            node: key.node,
            agent: key.agent,
            argv: key.argv,
            cwd: key.cwd,
            env_sha256: key.env_sha256,
            stdin_sha256: key.stdin_sha256,
            by: grant.by,
            created_ms: grant.created_ms,
            last_used_ms: grant.last_used_ms,
            uses: grant.uses,
        }
    }
}

impl From<StoredGrant> for Grant {
    fn from(stored: StoredGrant) -> Self {
        Self {
            id: stored.id,
            key: GrantKey {
                node: stored.node,
                agent: stored.agent,
                argv: stored.argv,
                cwd: stored.cwd,
                env_sha256: stored.env_sha256,
                stdin_sha256: stored.stdin_sha256,
            },
            by: stored.by,
            created_ms: stored.created_ms,
            last_used_ms: stored.last_used_ms,
            uses: stored.uses,
        }
    }
}
