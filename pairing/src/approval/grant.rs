//! What a person allowed for always: exactly the same command in exactly the same circumstances, nothing like it.

use std::collections::BTreeMap;

use atoll_protocol::id::{AgentId, ApprovalId, DeviceId};

use super::{Approval, ApprovalChange, Question};

/// Grants kept. More: the one unused for longest is forgotten, and its command asks again.
pub const GRANTS: usize = 1024;

/// What must be equal for a grant to hold. Environment and standard input count, since either can carry a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantKey {
    /// Where; none: the gateway's own machine.
    pub node: Option<DeviceId>,
    /// For which agent.
    pub agent: Option<AgentId>,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The working folder.
    pub cwd: Option<String>,
    /// The environment's hash.
    pub env_sha256: [u8; 32],
    /// The standard input's hash.
    pub stdin_sha256: [u8; 32],
}

impl GrantKey {
    /// The key of a question.
    pub fn of(question: &Question) -> Self {
        Self {
            node: question.node,
            agent: question.agent.clone(),
            argv: question.argv.clone(),
            cwd: question.cwd.clone(),
            env_sha256: question.env_sha256,
            stdin_sha256: question.stdin_sha256,
        }
    }
}

/// One allowance for always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The question whose answer made it.
    pub id: ApprovalId,
    /// What it allows.
    pub key: GrantKey,
    /// Who gave it.
    pub by: String,
    /// When, Unix milliseconds.
    pub created_ms: u64,
    /// When it last spared a question, Unix milliseconds.
    pub last_used_ms: Option<u64>,
    /// How often it did.
    pub uses: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Grants(BTreeMap<GrantKey, Grant>);

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Self(grants.into_iter().map(|grant| (grant.key.clone(), grant)).collect())
    }
}

impl Grants {
    pub(super) fn hold(&self, key: &GrantKey) -> bool {
        self.0.contains_key(key)
    }

    /// The grant for this key, counted as used.
    pub(super) fn apply(&mut self, key: &GrantKey, now_ms: u64) -> Option<&Grant> {
        let grant = self.0.get_mut(key)?;
        grant.last_used_ms = Some(now_ms);
        grant.uses += 1;
        Some(grant)
    }

    pub(super) fn add(&mut self, approval: &Approval, by: String, now_ms: u64) -> Vec<ApprovalChange> {
        let mut changes = Vec::new();
        if self.0.len() >= GRANTS {
            let stalest = self
                .0
                .values()
                .min_by_key(|grant| grant.last_used_ms.unwrap_or(grant.created_ms))
                .map(|grant| grant.id.clone());
            if let Some(id) = stalest {
                self.remove(&id);
                changes.push(ApprovalChange::ForgetGrant(id));
            }
        }
        let grant = Grant {
            id: approval.id.clone(),
            key: GrantKey::of(&approval.question),
            by,
            created_ms: now_ms,
            last_used_ms: None,
            uses: 0,
        };
        changes.push(ApprovalChange::PutGrant(Box::new(grant.clone())));
        if let Some(older) = self.0.insert(grant.key.clone(), grant) {
            changes.push(ApprovalChange::ForgetGrant(older.id));
        }
        changes
    }

    pub(super) fn remove(&mut self, id: &ApprovalId) -> Option<Grant> {
        let key = self.0.values().find(|grant| grant.id == *id)?.key.clone();
        self.0.remove(&key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.0.values()
    }
}
