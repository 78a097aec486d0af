//! `exec.approval.*`: questions of operators' programs, and answers to all questions.

use std::time::Duration;

use atoll_pairing::approval::{Approval, ApprovalError, Decision, Ended, NewApproval, Question, Requester, rows};
use atoll_protocol::error::WireError;
use atoll_protocol::id::{AgentId, ApprovalId, DeviceId, SessionKey};
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::method::NoParams;
use atoll_protocol::method::approval::{
    AnyApprovalResolve, ApprovalKind, ApprovalNamed, ApprovalRequest, ApprovalResolve, ApprovalWait,
};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{Answer, Ask, Reply, WaitPlace, done};
use crate::approvals::{Approvals, Refused};
use crate::clock;
use crate::direct::{self, Unanswered};
use crate::exec::words;
use crate::house::House;

pub(super) async fn list(house: &House, ask: Ask) -> Answer {
    let principal = ask.caller.principal.clone();
    done(house.approvals.read(move |all| all.list(&principal)).await?)
}

pub(super) async fn one(house: &House, ask: Ask) -> Answer {
    let id = approval_id(ask.read::<ApprovalNamed>()?.id.as_str())?;
    let approval = house.approvals.read(move |all| all.find(&id).cloned()).await?;
    let approval = approval.filter(|approval| approval.is_for(&ask.caller.principal));
    done(rows::detail(&approval.ok_or_else(|| ApprovalError::Unknown.to_wire())?))
}

/// What OpenClaw's plugins and its own agent ask about: nothing here.
pub(super) async fn none(_: &House, ask: Ask) -> Answer {
    let _: NoParams = ask.read()?;
    done(json!([]))
}

pub(super) async fn of_any_kind(house: &House, ask: Ask) -> Answer {
    let id = ask.read::<ApprovalNamed>()?.id;
    done(json!({"approval": rows::snapshot(&visible(house, &ask, id.as_str()).await?)}))
}

/// Answers a question; one that somebody answered before is shown as it ended, and nothing is applied.
pub(super) async fn resolve_any(house: &House, ask: Ask) -> Answer {
    let params: AnyApprovalResolve = ask.read()?;
    if params.grant_expires_in_days.is_some() {
        return Err(WireError::invalid(
            "grantExpiresInDays: this gateway cannot do that yet; a grant lasts until it is taken back",
        ));
    }
    let known = visible(house, &ask, params.id.as_str()).await?;
    if params.kind != ApprovalKind::Exec {
        return Err(not_found());
    }
    let Some(decision) = Decision::parse(params.decision.as_str()) else {
        return Err(WireError::invalid("unknown decision"));
    };
    let applied = match direct::resolve(house, &ask.caller.principal, known.id.clone(), decision).await {
        Ok(()) => true,
        Err(Unanswered::Denied(denied)) => return Err(denied.into()),
        Err(Unanswered::Refused(refused)) => {
            let now = visible(house, &ask, params.id.as_str()).await?;
            if now.is_pending() {
                return Err(refused.into());
            }
            false
        }
    };
    let now = visible(house, &ask, params.id.as_str()).await?;
    done(json!({"applied": applied, "approval": rows::snapshot(&now)}))
}

/// A question that the caller may see.
async fn visible(house: &House, ask: &Ask, id: &str) -> Result<Approval, WireError> {
    let id = ApprovalId::new(id).map_err(|_| not_found())?;
    let approval = house.approvals.read(move |all| all.find(&id).cloned()).await?;
    let approval = approval.filter(|approval| approval.is_for(&ask.caller.principal));
    approval.ok_or_else(not_found)
}

fn not_found() -> WireError {
    WireError::invalid("approval not found").with_details(&json!({"reason": "APPROVAL_NOT_FOUND"}))
}

pub(super) async fn resolve(house: &House, ask: Ask) -> Answer {
    let params: ApprovalResolve = ask.read()?;
    let id = approval_id(params.id.as_str())?;
    let decision = Decision::parse(params.decision.as_str()).ok_or_else(|| WireError::invalid("unknown decision"))?;
    match direct::resolve(house, &ask.caller.principal, id, decision).await {
        Ok(()) => done(json!({"ok": true})),
        Err(Unanswered::Denied(denied)) => Err(denied.into()),
        Err(Unanswered::Refused(refused)) => Err(refused.into()),
    }
}

pub(super) async fn wait_decision(house: &House, ask: Ask) -> Answer {
    let params: ApprovalWait = ask.read()?;
    let id = approval_id(params.id.as_str())?;
    let patience = params
        .timeout_ms
        .map_or(limits::APPROVAL, Duration::from_millis)
        .min(limits::CALL_DEADLINE_MAX);
    Ok(later(
        ask.wait_place()?,
        None,
        outcome(house.approvals.clone(), id, patience),
    ))
}

/// The outcome of a question as the answer.
fn later(
    place: WaitPlace,
    first: Option<Json>,
    outcome: impl Future<Output = Result<serde_json::Value, WireError>> + Send + 'static,
) -> Reply {
    let then = Box::pin(async move { Ok(Json::from(outcome.await?)) });
    Reply::Later { place, first, then }
}

pub(super) async fn request(house: &House, ask: Ask) -> Answer {
    let params: ApprovalRequest = ask.read()?;
    let place = ask.wait_place()?;
    let is_two_phase = params.two_phase.unwrap_or_default();
    let env = params.env.clone();
    let mut new = new_approval(&ask, params)?;
    if let Some(node) = new.question.node.filter(|_| new.question.system_run_plan.is_some()) {
        let command = json!({"command": new.question.argv, "cwd": new.question.cwd, "env": env});
        let files = Box::pin(house.exec.files(&ask.caller.principal, node, &command)).await;
        new.question.files = files.unwrap_or(new.question.files);
    }
    new.lifetime_ms.get_or_insert(house.config().approvals.exec.timeout_ms);
    let requester = new.requester.clone();
    let approval = house.approvals.ask(new).await?;
    if approval.requester != requester {
        // Somebody else's question has this id; its answer is theirs.
        return Err(ApprovalError::IdTaken.to_wire());
    }
    if approval.is_bound {
        let (approvals, gone) = (house.approvals.clone(), ask.caller.gone.clone());
        house.tasks.spawn(call_off(approvals, approval.clone(), gone));
    }
    if approval.is_pending() && !house.approvals.has_route(&requester).await {
        house.approvals.withdraw(approval.id.clone(), Ended::NoRoute).await?;
    }
    let then = outcome(house.approvals.clone(), approval.id.clone(), limits::CALL_DEADLINE_MAX);
    let first = is_two_phase.then(|| Json::from(rows::accepted(&approval)));
    Ok(later(place, first, then))
}

/// Withdraws a question when the link that asked it ends, whatever was answered meanwhile.
async fn call_off(approvals: Approvals, asked: Approval, gone: CancellationToken) {
    let expiry = clock::instant_at(asked.expires_ms).into();
    if tokio::time::timeout_at(expiry, gone.cancelled()).await.is_err() {
        return;
    }
    match approvals.withdraw(asked.id.clone(), Ended::Withdrawn).await {
        // The next start withdraws it.
        Ok(()) | Err(Refused::GoingDown) => {}
        Err(error) => tracing::error!(approval = %asked.id, %error, "a question could not be withdrawn"),
    }
}

/// The answer, or the lack of one when the patience is over.
async fn outcome(approvals: Approvals, id: ApprovalId, patience: Duration) -> Result<serde_json::Value, WireError> {
    let approval = match tokio::time::timeout(patience, approvals.wait(&id)).await {
        Ok(approval) => approval?,
        Err(_) => approvals.read(move |all| all.find(&id).cloned()).await?,
    };
    let approval: Approval = approval.ok_or_else(|| WireError::invalid("approval expired or not found"))?;
    Ok(rows::outcome(&approval))
}

/// What runs on a node is named with the node and with its plan.
fn check_host(params: &ApprovalRequest) -> Result<(), WireError> {
    if params.host.as_ref().and_then(Option::as_deref) != Some("node") {
        return Ok(());
    }
    if params.node_id.as_ref().is_none_or(Option::is_none) {
        return Err(WireError::invalid("nodeId is required for host=node"));
    }
    if params.system_run_plan.is_none() {
        return Err(WireError::invalid("systemRunPlan is required for host=node"));
    }
    Ok(())
}

fn new_approval(ask: &Ask, params: ApprovalRequest) -> Result<NewApproval, WireError> {
    check_host(&params)?;
    let plan = params.system_run_plan;
    let argv = plan
        .as_ref()
        .map(|plan| plan.argv.clone())
        .or(params.command_argv)
        .unwrap_or_default();
    let text = params.command.map(|command| command.into_string());
    let text = text.or_else(|| plan.as_ref().map(|plan| plan.command_text.clone()));
    let command = shown(text, &argv).ok_or_else(|| WireError::invalid("command is required"))?;
    let node = params.node_id.flatten().map(|node| node.parse::<DeviceId>());
    let node = node.transpose().map_err(|_| WireError::invalid("unknown nodeId"))?;
    let files = plan
        .as_ref()
        .and_then(|plan| plan.mutable_file_operand.clone().flatten())
        .and_then(|file| {
            let sha256 = *file.sha256.parse::<DeviceId>().ok()?.as_bytes();
            Some(atoll_protocol::plan::FileHash {
                path: file.path,
                sha256,
            })
        });
    let plan_json = plan.as_ref().and_then(|plan| Json::of(plan).ok());
    let question = Question {
        node,
        command,
        cwd: plan.and_then(|plan| plan.cwd).or(params.cwd.flatten()),
        argv,
        env_sha256: env_sha256(params.env.unwrap_or_default()),
        stdin_sha256: Sha256::digest([]).into(),
        files: files.into_iter().collect(),
        agent: params.agent_id.flatten().and_then(|agent| AgentId::new(agent).ok()),
        session: params
            .session_key
            .flatten()
            .and_then(|session| SessionKey::new(session).ok()),
        system_run_plan: plan_json,
        security: params.security.flatten().unwrap_or_else(|| "allowlist".to_owned()),
        ask: params.ask.flatten().unwrap_or_else(|| "on-miss".to_owned()),
        warning: params.warning_text.flatten(),
        offers_always: false,
    };
    let id = match params.id {
        Some(id) => approval_id(id.as_str())?,
        None => uuid::Uuid::new_v4().into(),
    };
    let requester = Requester::of(&ask.caller.principal);
    // Without a device only this very connection may use a yes for a node.
    let is_useless_later = question.node.is_some() && requester.device.is_none();
    Ok(NewApproval {
        id,
        question,
        is_bound: is_useless_later || params.bound_to_link.unwrap_or_default(),
        requester,
        lifetime_ms: params.timeout_ms.map(|timeout| timeout.value()),
    })
}

/// What a person reads before saying yes: the caller's text as far as it is that of the vector, else the vector's own.
fn shown(text: Option<String>, argv: &[String]) -> Option<String> {
    let text = text.filter(|text| !text.trim().is_empty());
    if argv.is_empty() {
        return text;
    }
    let is_its_own = |text: &String| words::is_text_of(argv, text);
    Some(text.filter(is_its_own).unwrap_or_else(|| words::text_of(argv)))
}

fn env_sha256(env: std::collections::BTreeMap<String, String>) -> [u8; 32] {
    crate::exec::env_sha256(&env.into_iter().collect::<Vec<_>>())
}

fn approval_id(text: &str) -> Result<ApprovalId, WireError> {
    ApprovalId::new(text).map_err(|_| ApprovalError::Unknown.to_wire())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_the_command_that_runs_and_not_what_its_caller_calls_it() {
        let argv = ["rm", "-rf", "/"].map(str::to_owned);
        let shown = |text: &str| shown(Some(text.to_owned()), &argv);
        assert_eq!(shown("rm -rf /").as_deref(), Some("rm -rf /"));
        assert_eq!(shown("ls").as_deref(), Some("rm -rf /"));
        assert_eq!(super::shown(None, &argv).as_deref(), Some("rm -rf /"));
        assert_eq!(super::shown(Some(" ".to_owned()), &[]), None);
    }
}
