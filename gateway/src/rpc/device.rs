//! `device.*` and `node.pair.*`: two views of the one book.

use std::collections::HashMap;

use atoll_pairing::access::{ApprovePairing, ChangeCommands, ChangeDevice, PairingView, RejectPairing, RotateToken};
use atoll_pairing::book::{Answered, Approved, BookError, FreshToken, WRONG_CODES, WrongCode, rows};
use atoll_pairing::digits::Digits;
use atoll_protocol::dialect::denial;
use atoll_protocol::error::WireError;
use atoll_protocol::id::{DeviceId, PairingId};
use atoll_protocol::method::device::{
    CommandsChange, DeviceRemove, DeviceRename, PairingApproval, PairingRequest, TokenRevoke, TokenRotate,
};
use atoll_protocol::method::node::NodeNamed;
use atoll_protocol::method::{NoParams, Text};
use atoll_protocol::scope::{Role, Scope, Scopes};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{Answer, Ask, done};
use crate::clock;
use crate::house::House;
use crate::hub::LiveDevice;

pub(super) async fn list(house: &House, ask: Ask) -> Answer {
    let _: NoParams = ask.read()?;
    let live = house.hub.devices().await;
    let live: HashMap<DeviceId, LiveDevice> = live.into_iter().map(|link| (link.device, link)).collect();
    let reply = house.book.read(move |book, now| {
        book.device_list(now, |device| {
            let link = live.get(&device);
            rows::Presence {
                connected: link.is_some(),
                connected_ms: link.map(|link| link.connected_at_ms),
                disconnected_ms: None,
                pipe: link.map(|link| link.pipe).unwrap_or_default(),
            }
        })
    });
    done(reply.await?)
}

pub(super) async fn node_list(house: &House, ask: Ask) -> Answer {
    let _: NoParams = ask.read()?;
    done(house.book.read(|book, now| book.node_list(now)).await?)
}

pub(super) async fn approve(house: &House, ask: Ask) -> Answer {
    approve_as(house, &ask, PairingView::Device).await
}

pub(super) async fn node_approve(house: &House, ask: Ask) -> Answer {
    approve_as(house, &ask, PairingView::Node).await
}

async fn approve_as(house: &House, ask: &Ask, view: PairingView) -> Answer {
    let params: PairingApproval = ask.read()?;
    let request = pairing_id(params.request_id)?;
    let code = params.code.map(|code| code.parse::<Digits>()).transpose();
    let code = code.map_err(|error| WireError::invalid(error.to_string()))?;
    let granted = ask.decide(house, ApprovePairing { request, view, code })?;
    let by = granted.principal().label();
    let answered = house.book.change(move |book, now| {
        let mut answered = book.approve(&granted, now)?;
        let changes = match &mut answered {
            Answered::Approved(approved) => std::mem::take(&mut approved.changes),
            Answered::WrongCode(wrong) => std::mem::take(&mut wrong.changes),
        };
        Ok((answered, changes))
    });
    let approved = match answered.await? {
        Answered::Approved(approved) => approved,
        Answered::WrongCode(wrong) => return Err(wrong_code(house, by, &wrong).await),
    };
    let Approved { request, record, .. } = *approved;
    let detail = json!({
        "requestId": request.id, "commands": record.surface.commands, "compared": code.is_some(),
    });
    house.audit(by, "device.approve", record.id.to_string(), detail).await;
    match view {
        PairingView::Device => done(json!({"requestId": request.id, "device": rows::device(&record, None)})),
        PairingView::Node => done(json!({"requestId": request.id, "node": rows::node(&record)})),
    }
}

async fn wrong_code(house: &House, by: String, wrong: &WrongCode) -> WireError {
    let detail = json!({"requestId": wrong.request, "triesLeft": wrong.left});
    house
        .audit(by, "device.approve.wrong-code", wrong.device.to_string(), detail)
        .await;
    let message = if wrong.left == 0 {
        format!("the device shows another code; after {WRONG_CODES} wrong ones its request was refused")
    } else {
        "the device shows another code; if you typed it right, somebody is between the device and this gateway: reject it".to_owned()
    };
    WireError::invalid(message).with_details(&json!({"code": "PAIRING_CODE_MISMATCH", "triesLeft": wrong.left}))
}

pub(super) async fn reject(house: &House, ask: Ask) -> Answer {
    let (request, device) = reject_request(house, &ask).await?;
    done(json!({"requestId": request, "deviceId": device}))
}

pub(super) async fn node_reject(house: &House, ask: Ask) -> Answer {
    let (request, device) = reject_request(house, &ask).await?;
    done(json!({"requestId": request, "nodeId": device}))
}

async fn reject_request(house: &House, ask: &Ask) -> Result<(PairingId, DeviceId), WireError> {
    let request = request_id(ask)?;
    let granted = ask.decide(
        house,
        RejectPairing {
            request: request.clone(),
        },
    )?;
    let by = granted.principal().label();
    let rejected = house.book.change(move |book, now| book.reject(&granted, now)).await?;
    house
        .audit(
            by,
            "device.reject",
            rejected.device.id.to_string(),
            json!({"requestId": request}),
        )
        .await;
    Ok((request, rejected.device.id))
}

pub(super) async fn remove(house: &House, ask: Ask) -> Answer {
    let device = device_id(&ask.read::<DeviceRemove>()?.device_id)?;
    forget(house, &ask, device, None).await?;
    done(json!({"deviceId": device}))
}

pub(super) async fn node_remove(house: &House, ask: Ask) -> Answer {
    let node = ask.read::<NodeNamed>()?.node_id;
    let node = node.parse().map_err(|_| denial::unknown_node())?;
    let is_known = house.book.read(move |book, _| book.record(node).is_some()).await?;
    if !is_known {
        return Err(denial::unknown_node());
    }
    forget(house, &ask, node, Some(Role::Node)).await?;
    done(json!({"nodeId": node}))
}

async fn forget(house: &House, ask: &Ask, device: DeviceId, role: Option<Role>) -> Result<(), WireError> {
    let granted = ask.decide(house, ChangeDevice { device })?;
    let by = granted.principal().label();
    house
        .book
        .change(move |book, now| Ok(((), book.remove(&granted, role, now)?)))
        .await?;
    house.audit(by, "device.remove", device.to_string(), json!({})).await;
    Ok(())
}

pub(super) async fn rename(house: &House, ask: Ask) -> Answer {
    let params: DeviceRename = ask.read()?;
    if params.label.trim().is_empty() {
        return Err(WireError::invalid("label required"));
    }
    let device = device_id(&params.device_id)?;
    rename_device(house, &ask, device, params.label.as_str()).await?;
    done(json!({"deviceId": device, "label": params.label}))
}

/// Gives a device another name.
pub(super) async fn rename_device(house: &House, ask: &Ask, device: DeviceId, label: &str) -> Result<(), WireError> {
    let granted = ask.decide(house, ChangeDevice { device })?;
    let label = label.to_owned();
    house
        .book
        .change(move |book, _| Ok(((), book.rename(&granted, &label)?)))
        .await
}

pub(super) async fn rotate(house: &House, ask: Ask) -> Answer {
    let params: TokenRotate = ask.read()?;
    let names = params.scopes;
    let scopes = names
        .map(|names| scopes(names.iter().map(|name| name.as_str())))
        .transpose();
    let (Ok(device), Ok(role), Ok(scopes)) = (params.device_id.parse(), role(&params.role), scopes) else {
        return Err(BookError::RotationDenied.to_wire());
    };
    let granted = ask.decide(house, RotateToken { device, role, scopes })?;
    let (by, fresh) = (granted.principal().label(), FreshToken(crate::random()));
    let rotated = house.book.change(move |book, now| {
        let mut rotated = book.rotate(&granted, &fresh, now)?;
        let changes = std::mem::take(&mut rotated.changes);
        Ok((rotated, changes))
    });
    let rotated = rotated.await?;
    house
        .audit(by, "device.token.rotate", device.to_string(), json!({"role": role}))
        .await;
    let mut reply = json!({"deviceId": device, "role": role, "scopes": rotated.scopes, "rotatedAtMs": clock::now_ms()});
    match rotated.token {
        Some(token) => reply["token"] = json!(token.expose_secret()),
        None => reply["tokenDelivery"] = json!("withheld-cross-device"),
    }
    done(reply)
}

pub(super) async fn revoke(house: &House, ask: Ask) -> Answer {
    let params: TokenRevoke = ask.read()?;
    let (Ok(device), Ok(role)) = (params.device_id.parse(), role(&params.role)) else {
        return Err(BookError::RevocationDenied.to_wire());
    };
    let granted = ask.decide(house, ChangeDevice { device })?;
    let by = granted.principal().label();
    house
        .book
        .change(move |book, now| Ok(((), book.revoke(&granted, role, now)?)))
        .await?;
    house
        .audit(by, "device.token.revoke", device.to_string(), json!({"role": role}))
        .await;
    done(json!({"deviceId": device, "role": role, "revokedAtMs": clock::now_ms()}))
}

/// Approves and withdraws commands of a node; its live link knows within the same moment.
pub(super) async fn set_commands(house: &House, ask: Ask) -> Answer {
    let params: CommandsChange = ask.read()?;
    let device = device_id(&params.device_id)?;
    let names = |list: Option<Vec<Text>>| list.unwrap_or_default().into_iter().map(Text::into_string).collect();
    let (allow, deny): (Vec<String>, Vec<String>) = (names(params.allow), names(params.deny));
    let detail = json!({"allow": allow, "deny": deny});
    let granted = ask.decide(house, ChangeCommands { device, allow, deny })?;
    let by = granted.principal().label();
    let record = house
        .book
        .change(move |book, now| book.set_commands(&granted, now))
        .await?;
    house.audit(by, "device.commands", device.to_string(), detail).await;
    done(json!({"deviceId": device, "commands": record.surface.commands, "deniedCommands": record.denied}))
}

fn request_id(ask: &Ask) -> Result<PairingId, WireError> {
    pairing_id(ask.read::<PairingRequest>()?.request_id)
}

fn pairing_id(text: Text) -> Result<PairingId, WireError> {
    PairingId::new(text.into_string()).map_err(|_| WireError::invalid("unknown requestId"))
}

/// A device id out of parameters; anything else is no device that we know.
pub(super) fn device_id(text: &str) -> Result<DeviceId, WireError> {
    text.parse().map_err(|_| WireError::invalid("unknown deviceId"))
}

pub(super) fn role(text: &str) -> Result<Role, WireError> {
    match text {
        "operator" => Ok(Role::Operator),
        "node" => Ok(Role::Node),
        _ => Err(WireError::invalid("role is operator or node")),
    }
}

pub(super) fn scopes<'a>(names: impl Iterator<Item = &'a str>) -> Result<Scopes, WireError> {
    names
        .map(|name| {
            name.parse::<Scope>()
                .map_err(|_| WireError::invalid(format!("unknown scope: {name}")))
        })
        .collect()
}
