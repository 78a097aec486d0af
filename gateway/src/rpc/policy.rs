//! `exec.approvals.*`: the file that says what may run on the gateway's own machine, and the one on a node. The node owns its own and
//! decides what may change in it; here it only passes through.

use atoll_pairing::access::Door;
use atoll_protocol::calls::Failure;
use atoll_protocol::dialect::denial;
use atoll_protocol::error::{CallError, WireError};
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::method::NoParams;
use atoll_protocol::method::approval::{NodePolicyNamed, NodePolicySet, PolicySet};
use serde_json::json;

use super::{Answer, Ask, Reply};
use crate::house::House;
use crate::ring::{Call, CallRefused};

pub(super) async fn here(house: &House, ask: Ask) -> Answer {
    let _: NoParams = ask.read()?;
    of_this_machine(house, "system.execApprovals.get", json!({})).await
}

pub(super) async fn change_here(house: &House, ask: Ask) -> Answer {
    let params: PolicySet = ask.read()?;
    let mut change = json!({"file": params.file});
    if let Some(base) = params.base_hash {
        change["baseHash"] = json!(base);
    }
    let reply = of_this_machine(house, "system.execApprovals.set", change).await;
    let (by, target) = (ask.granted.principal().label(), "gateway".to_owned());
    match &reply {
        Ok(_) => house.audit(by, "exec.approvals.set", target, json!({})).await,
        Err(refusal) => {
            let refusal = &refusal.message;
            house
                .audit_refused(by, "exec.approvals.set", target, refusal, json!({}))
                .await;
        }
    }
    reply
}

async fn of_this_machine(house: &House, command: &str, params: serde_json::Value) -> Answer {
    let answer = house.exec.here.policy_file(command, params.into()).await?;
    let answer = answer.ok_or_else(|| WireError::unavailable(format!("nothing answered {command}")))?;
    Ok(Reply::Done(answer))
}

pub(super) async fn of_node(house: &House, ask: Ask) -> Answer {
    let params: NodePolicyNamed = ask.read()?;
    pass(
        house,
        &ask,
        params.node_id.as_str(),
        "system.execApprovals.get",
        json!({}),
    )
    .await
}

pub(super) async fn change_node(house: &House, ask: Ask) -> Answer {
    let params: NodePolicySet = ask.read()?;
    let mut change = json!({"file": params.file});
    if let Some(base) = params.base_hash {
        change["baseHash"] = json!(base);
    }
    let node = params.node_id.as_str();
    let reply = pass(house, &ask, node, "system.execApprovals.set", change).await?;
    let by = ask.granted.principal().label();
    house
        .audit(by, "exec.approvals.node.set", node.to_owned(), json!({}))
        .await;
    Ok(reply)
}

async fn pass(house: &House, ask: &Ask, node: &str, command: &str, params: serde_json::Value) -> Answer {
    let node = node.parse().map_err(|_| absent())?;
    let call = Call {
        door: Door::ApprovalsFile,
        ..Call::new(node, command, Some(Json::from(params)), limits::CALL_DEADLINE)
    };
    let answer = house
        .ring
        .call(&ask.caller.principal, &call)
        .await
        .map_err(|refused| match refused {
            CallRefused::Unknown | CallRefused::Away | CallRefused::Failed(Failure::NotConnected) => absent(),
            CallRefused::Denied(_) | CallRefused::Failed(_) | CallRefused::Journal(_) => refused.into(),
        })?;
    let answer = answer.ok_or_else(|| WireError::unavailable(format!("the node answered nothing to {command}")))?;
    Ok(Reply::Done(answer))
}

/// The node is not there to be asked, whether anybody knows it or not.
fn absent() -> WireError {
    denial::node_unasked(&CallError::new("NOT_CONNECTED", "node not connected"))
}
