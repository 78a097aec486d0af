//! From a used yes to the plan that the gateway signs, and back to what a node may do with it.
//!
//! The node still hashes the files itself and refuses an approval that it has seen: this only says that the plan is
//! the gateway's, for this node, for this call, and still in time.

use atoll_protocol::frame::SignedPlan;
use atoll_protocol::id::{CallId, DeviceId};
use atoll_protocol::plan::Plan;

use super::{Approval, State};
use crate::identity::{Identity, open_plan};

/// The plan of a used approval for a run on a node; none when it is not used, or not for a node.
pub fn plan_of(approval: &Approval) -> Option<Plan> {
    let State::Used { call, .. } = &approval.state else {
        return None;
    };
    let question = &approval.question;
    Some(Plan {
        approval: approval.id.clone(),
        call: call.clone(),
        node: question.node?,
        argv: question.argv.clone(),
        cwd: question.cwd.clone().unwrap_or_default(),
        env_sha256: question.env_sha256,
        stdin_sha256: question.stdin_sha256,
        files: question.files.clone(),
        session: question
            .session
            .as_ref()
            .map_or_else(String::new, |session| session.as_str().to_owned()),
        expires_at_ms: approval.expires_ms,
    })
}

/// Signs a plan with the gateway's key.
pub fn sign_plan(gateway: &Identity, plan: &Plan) -> SignedPlan {
    gateway.sign_plan(plan)
}

/// What the node is about to do.
#[derive(Debug, Clone, Copy)]
pub struct Expectation<'a> {
    /// Itself.
    pub node: DeviceId,
    /// The call in hand.
    pub call: &'a CallId,
    /// The time, Unix milliseconds.
    pub now_ms: u64,
}

/// A plan that allows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not signed by the gateway that this node is paired with.
    #[error("the approval was not signed by this node's gateway")]
    Signature,
    /// For another node.
    #[error("the approval is for another node")]
    Node,
    /// For another call.
    #[error("the approval is for another call")]
    Call,
    /// Too late.
    #[error("the approval has expired")]
    Expired,
}

/// Checks a plan against the gateway's pinned key and against what is about to happen.
///
/// # Errors
/// See [`PlanError`].
pub fn verify_plan(gateway: &[u8; 32], signed: &SignedPlan, expected: Expectation<'_>) -> Result<Plan, PlanError> {
    let plan = open_plan(gateway, signed).map_err(|_| PlanError::Signature)?;
    if plan.node != expected.node {
        Err(PlanError::Node)
    } else if plan.call != *expected.call {
        Err(PlanError::Call)
    } else if plan.expires_at_ms <= expected.now_ms {
        Err(PlanError::Expired)
    } else {
        Ok(plan)
    }
}
