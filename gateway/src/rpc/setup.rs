//! `device.invite`, `device.invite.revoke`, `device.pair.setupCode` and `device.pair.setupStatus`: places in the ring that are given
//! away beforehand, and the join links of those codes.

use atoll_pairing::access::{ChangeCode, MintCode};
use atoll_pairing::book::{CodeEnd, FreshCode, Gift, Minted, SetupCode, access_word};
use atoll_pairing::dial::Target;
use atoll_pairing::invitation::{ForeignInvitation, NativeInvitation};
use atoll_protocol::error::WireError;
use atoll_protocol::id::SetupId;
use atoll_protocol::method::Text;
use atoll_protocol::method::device::{Invite, SetupCodeAsk, SetupNamed};
use atoll_protocol::scope::{Role, Scope, Scopes};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::device::{device_id, role, scopes};
use super::{Answer, Ask, done};
use crate::addresses;
use crate::config::AuthMode;
use crate::house::House;

mod qr;

/// Addresses that a caller may name.
const ADDRESSES: usize = 8;

/// A link for a program of ours.
pub(super) async fn invite(house: &House, ask: Ask) -> Answer {
    let params: Invite = ask.read()?;
    let gift = gift(&params)?;
    let addresses = match params.addresses {
        None => addresses::of(house),
        Some(named) if named.is_empty() || named.len() > ADDRESSES => {
            return Err(WireError::invalid(format!("name 1 to {ADDRESSES} addresses")));
        }
        Some(named) => named.iter().map(target).collect::<Result<_, _>>()?,
    };
    let (role, commands) = (gift.role, gift.commands.clone());
    let minted = mint(house, &ask, gift, &addresses, false).await?;
    let invitation = NativeInvitation {
        gateway: house.identity.public_key(),
        addresses,
        code: minted.fresh.text,
    };
    let texts: Vec<String> = invitation.addresses.iter().map(ToString::to_string).collect();
    done(json!({
        "setupId": minted.code.id, "expiresAtMs": minted.code.expires_ms, "role": role, "commands": commands,
        "link": invitation.link().expose_secret(), "code": invitation.code.expose_secret(), "addresses": texts,
        "gateway": house.identity.device_id(),
        "tlsFingerprint": house.certificates.borrow().shown.fingerprint.to_string(),
    }))
}

fn gift(params: &Invite) -> Result<Gift, WireError> {
    let role = params.role.as_deref().map_or(Ok(Role::Node), role)?;
    let asked = params
        .scopes
        .as_ref()
        .map(|names| scopes(names.iter().map(|name| name.as_str())));
    let scopes = match (role, asked.transpose()?) {
        (Role::Node, Some(_)) => return Err(WireError::invalid("a node has commands and no scopes")),
        (Role::Node, None) => Scopes::none(),
        (Role::Operator, asked) => asked.unwrap_or_else(|| [Scope::Read, Scope::Write].into_iter().collect()),
    };
    let commands = params.commands.as_ref();
    Ok(Gift {
        role,
        scopes,
        commands: commands.map(|names| names.iter().map(|name| name.as_str().to_owned()).collect()),
        label: params.name.as_ref().map(|name| name.as_str().to_owned()),
        replaces: params.replaces.as_deref().map(device_id).transpose()?,
    })
}

fn target(text: &Text) -> Result<Target, WireError> {
    let target: Target = text
        .parse()
        .map_err(|error: atoll_pairing::dial::BadTarget| WireError::invalid(error.to_string()))?;
    // It would end the address where it stands in a link.
    if text.contains('&') {
        return Err(WireError::invalid("an address in a link holds no &"));
    }
    Ok(target)
}

async fn mint(house: &House, ask: &Ask, gift: Gift, addresses: &[Target], has_link: bool) -> Result<Minted, WireError> {
    let action = MintCode {
        gift,
        addresses: addresses.iter().map(ToString::to_string).collect(),
        has_link,
    };
    let granted = ask.decide(house, action)?;
    let by = granted.principal().label();
    let (id, fresh) = (SetupId::from(uuid::Uuid::new_v4()), FreshCode::new(crate::random()));
    let minted = house.book.change(move |book, now| {
        let mut minted = book.mint(&granted, id, fresh, now)?;
        let changes = std::mem::take(&mut minted.changes);
        Ok((minted, changes))
    });
    let minted = minted.await?;
    let gift = &minted.code.gift;
    let detail =
        json!({"role": gift.role, "commands": gift.commands, "scopes": gift.scopes, "replaces": gift.replaces});
    house
        .audit(by, "device.invite", minted.code.id.to_string(), detail)
        .await;
    Ok(minted)
}

/// Takes a code back.
pub(super) async fn revoke(house: &House, ask: Ask) -> Answer {
    let setup = setup_id(&ask)?;
    let granted = ask.decide(house, ChangeCode { setup: setup.clone() })?;
    let by = granted.principal().label();
    house
        .book
        .change(move |book, now| Ok(((), book.revoke_code(&granted, now)?)))
        .await?;
    house
        .audit(by, "device.invite.revoke", setup.to_string(), json!({}))
        .await;
    done(json!({"setupId": setup}))
}

fn setup_id(ask: &Ask) -> Result<SetupId, WireError> {
    let params: SetupNamed = ask.read()?;
    SetupId::new(params.setup_id.into_string()).map_err(|_| WireError::invalid("unknown setupId"))
}

/// OpenClaw's setup code, for its programs and for ours.
pub(super) async fn setup_code(house: &House, ask: Ask) -> Answer {
    let params: SetupCodeAsk = ask.read()?;
    if let Some(other) = params.bootstrap_profile.as_deref().filter(|profile| *profile != "node") {
        return Err(WireError::invalid(format!(
            "bootstrapProfile {other} is not supported here; setup codes are for nodes"
        )));
    }
    let named = params.public_url.as_ref().map(target).transpose()?;
    let source = if named.is_some() {
        "request.publicUrl"
    } else {
        "gateway.bind"
    };
    let addresses = named.clone().map_or_else(|| addresses::of(house), |url| vec![url]);
    let has_link = params.join_url == Some(true);
    let gift = Gift {
        role: Role::Node,
        scopes: Scopes::none(),
        commands: None,
        label: None,
        replaces: None,
    };
    let minted = mint(house, &ask, gift, &addresses, has_link).await?;
    // Behind a public address there may be another certificate than ours.
    let invitation = foreign(house, &minted.code, minted.fresh.text, named.is_none());
    let urls: Vec<String> = invitation.addresses.iter().map(ToString::to_string).collect();
    let mut reply = json!({
        "setupId": minted.code.id, "expiresAtMs": minted.code.expires_ms,
        "setupCode": invitation.setup_code().expose_secret(), "gatewayUrl": urls.first(), "auth": auth_word(house),
        "urlSource": source, "access": access_word(Role::Node),
    });
    if urls.len() > 1 {
        reply["gatewayUrls"] = json!(urls);
    }
    if params.include_qr == Some(true) {
        let drawn = qr::data_url(invitation.setup_code().expose_secret());
        reply["qrDataUrl"] = json!(drawn.map_err(|error| WireError::unavailable(error.to_string()))?);
    }
    if has_link {
        let base = urls
            .first()
            .map(|url| url.replacen("ws", "http", 1))
            .unwrap_or_default();
        reply["joinUrl"] = json!(format!("{base}/j/{}", minted.fresh.link.expose_secret()));
    }
    done(reply)
}

fn auth_word(house: &House) -> &'static str {
    match house.config().gateway.auth.effective() {
        AuthMode::Password => "password",
        AuthMode::Token | AuthMode::None | AuthMode::TrustedProxy => "token",
    }
}

fn foreign(house: &House, code: &SetupCode, text: SecretString, is_ours: bool) -> ForeignInvitation {
    let addresses: Vec<Target> = code
        .addresses
        .iter()
        .filter_map(|address| address.parse().ok())
        .collect();
    let has_tls = addresses
        .iter()
        .any(|address| matches!(address, Target::Tcp { tls: true, .. }));
    ForeignInvitation {
        addresses,
        code: text,
        certificate: (has_tls && is_ours).then(|| house.certificates.borrow().shown.fingerprint),
        expires_ms: code.expires_ms,
    }
}

/// What became of a code. An empty object while nobody came.
pub(super) async fn setup_status(house: &House, ask: Ask) -> Answer {
    let setup = setup_id(&ask)?;
    let reply = house.book.read(move |book, _| {
        let code = book.code(&setup)?;
        let Some(CodeEnd::Used { device, at_ms, .. }) = code.end.clone() else {
            return None;
        };
        let name = book.record(device).map(|record| record.display_name().to_owned());
        Some(json!({"completion": {
            "setupId": setup, "deviceId": device, "deviceName": name.unwrap_or_default(),
            "access": access_word(code.gift.role), "ts": at_ms,
        }}))
    });
    done(reply.await?.unwrap_or_else(|| json!({})))
}

/// What a join link answers, once.
pub(crate) async fn follow(house: &House, link: SecretString) -> Option<String> {
    let followed = house.book.change(move |book, now| {
        Ok(match book.follow_link(&link, now) {
            Some((text, code, changes)) => (Some((text, code)), changes),
            None => (None, Vec::new()),
        })
    });
    let (text, code) = followed.await.ok()??;
    house
        .audit(
            "join link".to_owned(),
            "device.invite.follow",
            code.id.to_string(),
            json!({}),
        )
        .await;
    // A link leads to this gateway, so it is our certificate that is seen there.
    Some(foreign(house, &code, text, true).json())
}
