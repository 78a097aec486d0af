//! Questions as `exec.approval.*` shows them (reference §11). Never shows the environment, only its hash.

use atoll_protocol::hex;
use serde_json::{Map, Value, json};

use super::{Approval, ApprovalChange, Decision, Question, State};

/// A row of `exec.approval.list`.
pub fn entry(approval: &Approval) -> Value {
    json!({
        "id": approval.id,
        "request": request(&approval.question),
        "createdAtMs": approval.created_ms,
        "expiresAtMs": approval.expires_ms,
    })
}

/// The reply of `exec.approval.get`.
pub fn detail(approval: &Approval) -> Value {
    let question = &approval.question;
    json!({
        "id": approval.id,
        "commandText": question.command,
        "commandPreview": null,
        "allowedDecisions": allowed(question),
        "host": host(question),
        "nodeId": question.node,
        "agentId": question.agent,
        "expiresAtMs": approval.expires_ms,
    })
}

/// `approval` in the replies of `approval.get` and `approval.resolve`.
pub fn snapshot(approval: &Approval) -> Value {
    let question = &approval.question;
    let mut row = json!({
        "id": approval.id,
        // Where OpenClaw's page would show it.
        "urlPath": format!("/approve/{}", approval.id),
        "createdAtMs": approval.created_ms,
        "expiresAtMs": approval.expires_ms,
        "presentation": {
            "kind": "exec",
            "commandText": question.command,
            "commandPreview": null,
            "warningText": question.warning,
            "host": host(question),
            "nodeId": question.node,
            "agentId": question.agent,
            "allowedDecisions": allowed(question),
        },
    });
    let (status, reason) = match &approval.state {
        State::Pending => {
            row["status"] = json!("pending");
            if let Some(session) = &question.session {
                row["sourceSessionKey"] = json!(session);
            }
            return row;
        }
        State::Allowed(_) | State::Used { .. } => ("allowed", "user"),
        State::Denied(_) => ("denied", "user"),
        State::Expired { reason, .. } => reason.in_snapshot(),
    };
    row["status"] = json!(status);
    row["reason"] = json!(reason);
    if let Some(decision) = approval.decision() {
        row["decision"] = json!(decision.as_str());
    }
    if question.agent.is_some() || question.session.is_some() {
        row["source"] = json!({"agentId": question.agent, "sessionKey": question.session});
    }
    match &approval.state {
        State::Allowed(answer) | State::Denied(answer) | State::Used { answer, .. } => {
            row["resolvedAtMs"] = json!(answer.at_ms);
            row["resolver"] = json!({"kind": "device", "id": answer.by});
        }
        State::Expired { at_ms, .. } => {
            row["resolvedAtMs"] = json!(at_ms);
            row["resolver"] = json!({"kind": "system"});
        }
        State::Pending => {}
    }
    row
}

/// The first reply of `exec.approval.request` with `twoPhase`.
pub fn accepted(approval: &Approval) -> Value {
    json!({
        "status": "accepted",
        "id": approval.id,
        "deliveryRoute": "approval-client",
        "createdAtMs": approval.created_ms,
        "expiresAtMs": approval.expires_ms,
    })
}

/// The reply of `exec.approval.waitDecision`, and the last one of `exec.approval.request`; `decision` is null without
/// an answer.
pub fn outcome(approval: &Approval) -> Value {
    let reason = match &approval.state {
        State::Pending => Value::Null,
        State::Allowed(_) | State::Denied(_) | State::Used { .. } => json!("user"),
        State::Expired { reason, .. } => json!(reason.as_str()),
    };
    json!({
        "id": approval.id,
        "decision": approval.decision().map(Decision::as_str),
        "terminalReason": reason,
        "createdAtMs": approval.created_ms,
        "expiresAtMs": approval.expires_ms,
    })
}

pub(super) fn requested(approval: &Approval) -> ApprovalChange {
    let payload = json!({
        "approvalKind": "exec",
        "id": approval.id,
        "request": request(&approval.question),
        "createdAtMs": approval.created_ms,
        "expiresAtMs": approval.expires_ms,
    });
    ApprovalChange::Event {
        id: approval.id.clone(),
        name: "exec.approval.requested",
        payload: payload.into(),
    }
}

pub(super) fn resolved(approval: &Approval, now_ms: u64) -> ApprovalChange {
    let by = match &approval.state {
        State::Allowed(answer) | State::Denied(answer) | State::Used { answer, .. } => Some(answer.by.as_str()),
        State::Pending | State::Expired { .. } => None,
    };
    let payload = json!({
        "id": approval.id,
        "decision": approval.decision().unwrap_or(Decision::Deny).as_str(),
        "resolvedBy": by,
        "ts": now_ms,
        "request": request(&approval.question),
    });
    ApprovalChange::Event {
        id: approval.id.clone(),
        name: "exec.approval.resolved",
        payload: payload.into(),
    }
}

fn request(question: &Question) -> Value {
    let mut row = Map::new();
    row.insert("command".into(), json!(question.command));
    row.insert("commandArgv".into(), json!(question.argv));
    row.insert("cwd".into(), json!(question.cwd));
    row.insert("nodeId".into(), json!(question.node));
    row.insert("host".into(), json!(host(question)));
    row.insert("security".into(), json!(question.security));
    row.insert("ask".into(), json!(question.ask));
    row.insert("agentId".into(), json!(question.agent));
    row.insert("sessionKey".into(), json!(question.session));
    if let Some(warning) = &question.warning {
        row.insert("warningText".into(), json!(warning));
    }
    row.insert(
        "systemRunBinding".into(),
        json!({
            "argv": question.argv,
            "cwd": question.cwd,
            "agentId": question.agent,
            "sessionKey": question.session,
            "envHash": hex::encode(&question.env_sha256),
        }),
    );
    if let Some(plan) = &question.system_run_plan {
        row.insert("systemRunPlan".into(), plan.tree());
    }
    row.insert("allowedDecisions".into(), json!(allowed(question)));
    row.into()
}

fn allowed(question: &Question) -> Vec<&'static str> {
    let always = question.offers_always.then_some(Decision::AllowAlways);
    [Some(Decision::AllowOnce), always, Some(Decision::Deny)]
        .into_iter()
        .flatten()
        .map(Decision::as_str)
        .collect()
}

fn host(question: &Question) -> &'static str {
    if question.node.is_some() { "node" } else { "gateway" }
}
