//! `node.*`: what is in the ring, calls to it, and what nodes report.

use std::collections::BTreeMap;
use std::time::Duration;

use atoll_pairing::approval::plan::plan_of;
use atoll_pairing::approval::{Approval, Question, Requester, Spend};
use atoll_protocol::blob;
use atoll_protocol::dialect::denial;
use atoll_protocol::error::WireError;
use atoll_protocol::id::{ApprovalId, CallId, DeviceId};
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::method::node::{BlobForm, HostStats, NodeEvent, NodeInvoke, NodeNamed, NodeRename};
use atoll_protocol::scope::Scope;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Ask, device, done};
use crate::clock;
use crate::house::House;
use crate::hub::Broadcast;
use crate::media::as_base64;
use crate::ring::Call;

pub(super) async fn list(house: &House, _: Ask) -> Answer {
    done(json!({"ts": clock::now_ms(), "nodes": house.ring.rows().await}))
}

pub(super) async fn describe(house: &House, ask: Ask) -> Answer {
    let node = ask
        .read::<NodeNamed>()?
        .node_id
        .parse()
        .map_err(|_| denial::unknown_node())?;
    let mut row = house.ring.row(node).await.ok_or_else(denial::unknown_node)?;
    row["ts"] = json!(clock::now_ms());
    done(row)
}

pub(super) async fn rename(house: &House, ask: Ask) -> Answer {
    let params: NodeRename = ask.read()?;
    let node = params.node_id.parse().map_err(|_| denial::unknown_node())?;
    device::rename_device(house, &ask, node, params.display_name.as_str()).await?;
    done(json!({"nodeId": node, "displayName": params.display_name}))
}

pub(super) async fn invoke(house: &House, ask: Ask) -> Answer {
    let params: NodeInvoke = ask.read()?;
    let node: DeviceId = params
        .node_id
        .parse()
        .map_err(|_| denial::pairing_changed(denial::Interrupted::Invocation))?;
    let timeout = params.timeout_ms.map_or(limits::CALL_DEADLINE, Duration::from_millis);
    let command = params.command.into_string();
    let form = params.blobs.unwrap_or(BlobForm::Inline);
    let mut call = Call::new(node, command.clone(), params.params, timeout);
    call.idempotency_key = Some(params.idempotency_key.into_string());
    // Nobody else waits for it, so it ends with the link of whoever asked.
    call.cancel = ask.caller.gone.clone();
    if command == "system.run" {
        prepare_run(house, &ask, &mut call).await?;
    }
    let payload = house.ring.call(&ask.caller.principal, call).await?;
    let payload = hand_over(house, payload, form).await?;
    let text = payload.as_ref().map(Json::as_str);
    done(json!({"ok": true, "nodeId": node, "command": command, "payload": payload, "payloadJSON": text}))
}

/// Whoever knows nothing of blobs gets them in the result.
async fn hand_over(house: &House, payload: Option<Json>, form: BlobForm) -> Result<Option<Json>, WireError> {
    let is_plain = |payload: &Json| blob::handles(payload).is_empty();
    let Some(result) = payload
        .clone()
        .filter(|payload| form == BlobForm::Inline && !is_plain(payload))
    else {
        return Ok(payload);
    };
    let media = house.media.clone();
    let inlined = tokio::task::spawn_blocking(move || as_base64(&media, &result)).await;
    let failed =
        |error: tokio::task::JoinError| WireError::unavailable(format!("the blobs could not be read: {error}"));
    inlined.map_err(failed)?.map(Some)
}

/// Nobody can send "approved": either the gateway holds a yes for this very run, or the words are taken out.
async fn prepare_run(house: &House, ask: &Ask, call: &mut Call) -> Result<(), WireError> {
    let mut params = call.params.as_ref().map(Json::tree).unwrap_or_else(|| json!({}));
    let Some(fields) = params.as_object_mut() else {
        return Err(WireError::invalid(
            "invalid node.invoke params: at /params: must be object",
        ));
    };
    let claims = fields.remove("approved").is_some_and(|approved| approved == true);
    let decided = fields.remove("approvalDecision").is_some();
    fields.remove("approvalSource");
    let plan = fields.remove("systemRunPlan");
    if claims || decided {
        let run = fields.get("runId").and_then(Value::as_str).map(str::to_owned);
        let run = run.ok_or_else(|| guard("MISSING_RUN_ID", "an approved system.run names its approval in runId"))?;
        let used = spend(house, ask, call, &run).await?;
        let approved =
            plan_of(&used).ok_or_else(|| guard("APPROVAL_NODE_MISMATCH", "the approval is not for a node"))?;
        as_approved(fields, &used.question)?;
        call.plan = Some(house.identity.sign_plan(&approved));
    } else if let Some(plan) = plan {
        fields.insert("systemRunPlan".to_owned(), plan);
    }
    fields.entry("runId").or_insert_with(|| json!(call.id));
    call.params = Some(params.into());
    Ok(())
}

/// Puts what was approved in the place of what the caller says now, as a node of the dialect runs what it is told.
fn as_approved(fields: &mut serde_json::Map<String, Value>, question: &Question) -> Result<(), WireError> {
    let mismatch = |what| guard("APPROVAL_REQUEST_MISMATCH", what);
    let env = match fields.get("env") {
        None | Some(Value::Null) => BTreeMap::new(),
        Some(env) => {
            BTreeMap::<String, String>::deserialize(env).map_err(|_| mismatch("env must be an object of texts"))?
        }
    };
    let env: Vec<_> = env.into_iter().collect();
    if crate::exec::env_sha256(&env) != question.env_sha256 {
        return Err(mismatch("this env is not the one that was approved"));
    }
    let is_fed = |stdin: &Value| !stdin.is_null() && stdin != "";
    if fields.get("stdin").is_some_and(is_fed) {
        return Err(mismatch("this stdin is not the one that was approved"));
    }
    let stored = [
        ("command", Some(json!(question.argv))),
        ("rawCommand", None),
        ("cwd", question.cwd.as_ref().map(|cwd| json!(cwd))),
        ("agentId", question.agent.as_ref().map(|agent| json!(agent))),
        ("sessionKey", question.session.as_ref().map(|session| json!(session))),
        ("systemRunPlan", question.system_run_plan.as_ref().map(Json::tree)),
    ];
    for (name, value) in stored {
        match value {
            Some(value) => drop(fields.insert(name.to_owned(), value)),
            None => drop(fields.remove(name)),
        }
    }
    Ok(())
}

async fn spend(house: &House, ask: &Ask, call: &Call, run: &str) -> Result<Approval, WireError> {
    let id = ApprovalId::new(run).map_err(|_| guard("UNKNOWN_APPROVAL_ID", "there is no approval of this id"))?;
    let by = Requester::of(&ask.caller.principal);
    let spend = Spend {
        call: CallId::clone(&call.id),
        node: Some(call.node),
        by,
    };
    Ok(house.approvals.spend(id, spend).await?)
}

fn guard(code: &str, message: &str) -> WireError {
    WireError::invalid(message).with_details(&json!({"code": code}))
}

/// Answers of nodes are frames; one that arrives here came over a native link as a request and has no place.
pub(super) async fn result(_: &House, _: Ask) -> Answer {
    done(json!({"ok": true, "ignored": true}))
}

pub(super) async fn progress(_: &House, _: Ask) -> Answer {
    done(json!({"ok": true, "ignored": true}))
}

pub(super) async fn event(house: &House, ask: Ask) -> Answer {
    let params: NodeEvent = ask.read()?;
    let node = own_node(house, &ask).await?;
    let payload = match params.payload_json {
        Some(text) => Json::parse(&text).ok(),
        None => params.payload,
    };
    let event = params.event.into_string();
    if event != "node.host.stats" {
        return done(json!({"ok": true, "event": event, "handled": false, "reason": "unsupported_event"}));
    }
    let Some(stats) = payload.as_ref().and_then(|payload| payload.read::<HostStats>().ok()) else {
        return done(json!({"ok": true, "event": event, "handled": false, "reason": "invalid_payload"}));
    };
    let mut stats = serde_json::to_value(stats).unwrap_or_default();
    stats["updatedAtMs"] = json!(clock::now_ms());
    house.hub.host_stats(node, Json::from(&stats)).await;
    let payload = json!({"nodeId": node, "hostStats": stats});
    house
        .hub
        .broadcast(Broadcast::to_scope("node.hostStats", payload, Scope::Read))
        .await;
    done(json!({"ok": true, "event": event, "handled": true}))
}

/// Skills of nodes are not used yet; the list is taken note of so that nodes do not retry.
pub(super) async fn skills(house: &House, ask: Ask) -> Answer {
    let node = ask.caller.principal.device_id();
    let params: atoll_protocol::method::node::SkillsUpdate = ask.read()?;
    let _ = house;
    done(json!({"nodeId": node, "skills": params.skills}))
}

/// Tools of nodes are not used yet; the list is taken note of so that nodes do not retry.
pub(super) async fn plugin_tools(house: &House, ask: Ask) -> Answer {
    let node = ask.caller.principal.device_id();
    let params: atoll_protocol::method::node::PluginToolsUpdate = ask.read()?;
    let _ = house;
    done(json!({"nodeId": node, "tools": params.tools}))
}

pub(super) async fn runner_inventory(house: &House, ask: Ask) -> Answer {
    let node = own_node(house, &ask).await?;
    done(json!({"ok": true, "nodeId": node}))
}

/// The node that asks, once its surface is approved.
async fn own_node(house: &House, ask: &Ask) -> Result<DeviceId, WireError> {
    let changed = || denial::pairing_changed(denial::Interrupted::Dispatch);
    let node = ask.caller.principal.device_id().ok_or_else(changed)?;
    let live = house.ring.live(node).ok_or_else(changed)?;
    let is_pending = matches!(live.approval, atoll_pairing::book::SurfaceApproval::Pending(_));
    if is_pending { Err(changed()) } else { Ok(node) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question {
            node: None,
            command: "/bin/ls".to_owned(),
            argv: vec!["/bin/ls".to_owned()],
            cwd: Some("/tmp".to_owned()),
            env_sha256: crate::exec::env_sha256(&[("LANG".to_owned(), "C".to_owned())]),
            stdin_sha256: [0; 32],
            files: Vec::new(),
            agent: None,
            session: None,
            system_run_plan: Some(json!({"argv": ["/bin/ls"]}).into()),
            security: "allowlist".to_owned(),
            ask: "on-miss".to_owned(),
            warning: None,
            offers_always: false,
        }
    }

    #[test]
    fn what_was_approved_replaces_everything_that_the_caller_says_later() {
        let mut call = json!({
            "command": ["/bin/rm"], "rawCommand": "rm -rf /", "cwd": "/", "agentId": "x", "sessionKey": "y",
            "systemRunPlan": {"argv": ["/bin/rm"]}, "env": {"LANG": "C"}, "runId": "a1",
        });
        as_approved(call.as_object_mut().expect("an object"), &question()).expect("the same environment");
        let expected = json!({
            "command": ["/bin/ls"], "cwd": "/tmp", "systemRunPlan": {"argv": ["/bin/ls"]}, "env": {"LANG": "C"}, "runId": "a1",
        });
        assert_eq!(call, expected);
    }

    #[test]
    fn another_environment_or_input_was_not_approved() {
        for call in [
            json!({}),
            json!({"env": {"LANG": "C", "LD_PRELOAD": "/tmp/x"}}),
            json!({"env": {"LANG": 5}}),
            json!({"env": {"LANG": "C"}, "stdin": "x"}),
        ] {
            let mut changed = call.clone();
            let refused = as_approved(changed.as_object_mut().expect("an object"), &question());
            let code = refused.expect_err("not what was approved").detail_code();
            assert_eq!(code.as_deref(), Some("APPROVAL_REQUEST_MISMATCH"), "{call}");
        }
    }
}
