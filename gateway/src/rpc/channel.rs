//! `channels.*` and `send`: how the chat accounts are, who wants to write to them, and messages without an agent.

use std::sync::Arc;

use atoll_channels::dm_code;
use atoll_channels::port::{AccountRef, Outbound, PeerKind, Place};
use atoll_channels::telegram::CHANNEL;
use atoll_pairing::access::Kind;
use atoll_protocol::error::WireError;
use atoll_protocol::method::channel::{
    ChannelSummary, ChannelsStatus, Send, SenderAccount, SenderApprove, SenderApproved, SenderLimits, SenderRequest,
    SenderRequests, Senders, Sent,
};
use serde_json::{Value, json};

use super::{Answer, Ask, done};
use crate::channels;
use crate::clock;
use crate::config::{Bot, BotToken, Change, Config, DEFAULT_ACCOUNT, DmPolicy};
use crate::house::House;
use crate::intake;
use crate::journal::inbox;
use crate::journal::outbox::{self, NewOutbound};
use crate::journal::senders::{self, CodeRow, SenderRow};
use crate::journal::{Durability, JournalError};

/// The channel's name for people.
const LABEL: &str = "Telegram";

/// The same, where there is room.
const DETAIL_LABEL: &str = "Telegram Bot";

/// Somebody who was let in hears this.
const WELCOME: &str = "My owner has approved you: you can write to me now.";

pub(super) async fn status(house: &Arc<House>, ask: Ask) -> Answer {
    let params: ChannelsStatus = ask.read()?;
    let config = house.config();
    let is_wanted = params.channel.as_deref().is_none_or(|channel| channel == CHANNEL);
    let Some(telegram) = config.channels.telegram.as_ref().filter(|_| is_wanted) else {
        return done(json!({
            "ts": clock::now_ms(), "channelOrder": [], "channelLabels": {}, "channelDetailLabels": {},
            "channelSystemImages": {}, "channelMeta": [], "channels": {}, "channelAccounts": {},
            "channelDefaultAccountId": {}, "statusIssues": [],
        }));
    };
    let mut accounts = Vec::new();
    for bot in channels::bots(&config) {
        accounts.push(account_row(house, &bot).await);
    }
    let has = |name: &str| {
        accounts
            .iter()
            .any(|account| account.get(name) == Some(&Value::Bool(true)))
    };
    let last_error = accounts.iter().find_map(|account| account.get("lastError")?.as_str());
    let summary = ChannelSummary {
        configured: has("configured"),
        running: has("running"),
        last_error: last_error.map(str::to_owned),
    };
    done(json!({
        "ts": clock::now_ms(), "channelOrder": [CHANNEL], "channelLabels": {CHANNEL: LABEL},
        "channelDetailLabels": {CHANNEL: DETAIL_LABEL}, "channelSystemImages": {},
        "channelMeta": [{"id": CHANNEL, "label": LABEL, "detailLabel": DETAIL_LABEL}],
        "channels": {CHANNEL: summary}, "channelAccounts": {CHANNEL: accounts},
        "channelDefaultAccountId": {CHANNEL: telegram.default_account_name()}, "statusIssues": [],
    }))
}

/// The channels of `health`: `{order, labels, channels}`.
pub(super) fn brief(house: &House) -> Value {
    let config = house.config();
    if config.channels.telegram.is_none() {
        return json!({"order": [], "labels": {}, "channels": {}});
    }
    let bots = channels::bots(&config);
    let is_configured = bots.iter().any(|bot| !matches!(bot.token, BotToken::Missing));
    let runs = |bot: &Bot| {
        house
            .channels
            .status(&channels::account(bot))
            .is_some_and(|status| status.running)
    };
    let summary = json!({"configured": is_configured, "running": bots.iter().any(runs)});
    json!({"order": [CHANNEL], "labels": {CHANNEL: LABEL}, "channels": {CHANNEL: summary}})
}

/// A row of `channelAccounts`, with the bot's own name and the platform's last answer, which clients of the dialect pass over.
async fn account_row(house: &House, bot: &Bot) -> Value {
    let account = channels::account(bot);
    let status = house.channels.status(&account).unwrap_or_default();
    let set_aside = house.journal.read(move |db| inbox::count_set_aside(db, &account)).await;
    let set_aside = set_aside.ok().filter(|count| *count > 0);
    let unread = set_aside.map(|count| format!("{count} messages could not be read and were set aside; see the log"));
    let token = match bot.token {
        BotToken::Given(_) => "config",
        BotToken::File(_) => "tokenFile",
        BotToken::Missing => "none",
    };
    let dm_policy = match bot.dm_policy {
        DmPolicy::Pairing => "pairing",
        DmPolicy::Allowlist => "allowlist",
        DmPolicy::Open => "open",
        DmPolicy::Disabled => "disabled",
    };
    let mut row = json!({
        "accountId": bot.account, "enabled": bot.enabled, "configured": !matches!(bot.token, BotToken::Missing),
        "running": status.running, "connected": status.connected, "mode": "polling", "dmPolicy": dm_policy,
        "allowFrom": bot.allow_from, "tokenSource": token,
    });
    let known = [
        ("name", bot.name.as_ref().map(|name| json!(name))),
        ("identity", status.identity.map(|identity| json!(identity))),
        ("lastOkAtMs", status.last_ok_at_ms.map(|at| json!(at))),
        ("lastConnectedAt", status.last_ok_at_ms.map(|at| json!(at))),
        ("lastError", status.last_error.or(unread).map(|error| json!(error))),
        ("messagesSetAside", set_aside.map(|count| json!(count))),
    ];
    for (name, value) in known {
        if let Some(value) = value {
            row[name] = value;
        }
    }
    row
}

pub(super) async fn send(house: &Arc<House>, ask: Ask) -> Answer {
    let params: Send = ask.read()?;
    let is_text = params.media_url.is_none() && params.media_urls.is_none() && params.buffer.is_none();
    let text = params.message.filter(|text| is_text && !text.trim().is_empty());
    let text = text.ok_or_else(|| WireError::invalid("send: this gateway sends texts only; give a message"))?;
    let is_telegram = params.channel.as_deref().is_none_or(|channel| channel == CHANNEL);
    if !is_telegram {
        return Err(WireError::invalid(format!(
            "send: unknown channel; this gateway has {CHANNEL}"
        )));
    }
    let account = account_named(&house.config(), params.account_id.as_deref());
    let place = place_of(account, &params.to, params.thread_id).ok_or_else(|| {
        WireError::invalid(format!(
            "send: \"{}\" is no numeric chat id, e.g. telegram:123456",
            params.to
        ))
    })?;
    if house.accounts.find(&place.account).await.is_none() {
        let name = &place.account.account;
        return Err(WireError::unavailable(format!(
            "send: the {CHANNEL} account \"{name}\" does not run; see channels.status"
        )));
    }
    let key = |part: usize| format!("send:{}:{part}", params.idempotency_key);
    let mut parts = intake::parts(&house.accounts, &place, None, &text, key).await;
    if let Some(NewOutbound {
        outbound: Outbound::Text { reply_to, .. },
        ..
    }) = parts.first_mut()
    {
        *reply_to = params.reply_to_id;
    }
    house.outbox.hand_in(parts).await.map_err(unstored)?;
    let by = ask.caller.principal.label();
    house
        .audit(
            by,
            "send",
            format!("{CHANNEL}:{}", place.chat),
            json!({"account": place.account.account}),
        )
        .await;
    done(Sent {
        run_id: params.idempotency_key.into_string(),
        channel: CHANNEL.to_owned(),
        message_id: None,
        chat_id: Some(place.chat),
    })
}

fn account_named(config: &Config, name: Option<&str>) -> AccountRef {
    let default = || {
        config
            .channels
            .telegram
            .as_ref()
            .map(|telegram| telegram.default_account_name())
    };
    let account = name
        .map(str::to_owned)
        .or_else(default)
        .unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned());
    AccountRef {
        channel: CHANNEL.to_owned(),
        account,
    }
}

/// `123`, `telegram:123`, `tg:123`, `telegram:group:-100`, `-100:topic:5`. Groups have negative ids.
fn place_of(account: AccountRef, to: &str, thread: Option<String>) -> Option<Place> {
    let mut parts = to.trim().split(':').peekable();
    parts.next_if(|part| matches!(*part, "telegram" | "tg"));
    parts.next_if(|part| matches!(*part, "group" | "direct" | "channel"));
    let chat = parts.next()?;
    let id: i64 = chat.parse().ok()?;
    let topic = match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => None,
        (Some("topic"), Some(topic), None) if topic.bytes().all(|byte| byte.is_ascii_digit()) => Some(topic.to_owned()),
        (Some(_), ..) => return None,
    };
    let kind = if id < 0 { PeerKind::Group } else { PeerKind::Direct };
    (id != 0).then(|| Place {
        account,
        kind,
        chat: id.to_string(),
        thread: topic.or(thread).filter(|topic| !topic.is_empty()),
    })
}

pub(super) async fn pairing_list(house: &Arc<House>, ask: Ask) -> Answer {
    let params: SenderRequests = ask.read()?;
    let channel = params.channel.map(|channel| channel.into_string());
    let pending = house
        .journal
        .read(move |db| senders::pending(db, channel.as_deref(), clock::now()));
    let pending = pending.await.map_err(unstored)?;
    let wanted = params.account_id.as_deref();
    let is_wanted = |account: &str| wanted.is_none_or(|wanted| wanted == account);
    let bots = channels::bots(&house.config());
    done(Senders {
        accounts: bots
            .iter()
            .filter(|bot| is_wanted(&bot.account))
            .filter_map(pairing_account)
            .collect(),
        requests: pending
            .iter()
            .filter(|row| is_wanted(&row.account.account))
            .map(request)
            .collect(),
        command_owner_configured: house.cards.has_somebody(),
        limits: SenderLimits {
            pending_per_account: u64::try_from(senders::PENDING_CODES).unwrap_or_default(),
            ttl_ms: u64::try_from(senders::CODE_TTL.as_millis()).unwrap_or_default(),
        },
    })
}

fn pairing_account(bot: &Bot) -> Option<SenderAccount> {
    (bot.enabled && bot.dm_policy == DmPolicy::Pairing).then(|| SenderAccount {
        channel: CHANNEL.to_owned(),
        channel_label: LABEL.to_owned(),
        account_id: bot.account.clone(),
        notify_supported: true,
        account_label: bot.name.clone(),
    })
}

fn request(row: &CodeRow) -> SenderRequest {
    let iso = |at: i64| {
        jiff::Timestamp::from_millisecond(at)
            .map(|at| at.to_string())
            .unwrap_or_default()
    };
    SenderRequest {
        request_id: row.code.clone(),
        channel: row.account.channel.clone(),
        channel_label: LABEL.to_owned(),
        account_id: row.account.account.clone(),
        sender_id: row.sender.clone(),
        sender_label: row.name.clone(),
        created_at: iso(row.created_at),
        last_seen_at: iso(row.created_at),
        expires_at: iso(row.expires_at),
        notify_supported: true,
        account_label: None,
        metadata: None,
    }
}

pub(super) async fn pairing_approve(house: &Arc<House>, ask: Ask) -> Answer {
    let params: SenderApprove = ask.read()?;
    let code = dm_code::typed(&params.request_id).ok_or_else(unknown_code)?;
    let (channel, account) = (params.channel.into_string(), params.account_id.into_string());
    let by = ask.caller.principal.label();
    let notify = params.notify.unwrap_or_default();
    let (approver, approved_code) = (by.clone(), code.clone());
    let approve = move |db: &rusqlite::Connection| {
        let now = clock::now();
        let row = senders::approve(db, &channel, Some(&account), &approved_code, &approver, now)?;
        if let Some(row) = row.as_ref().filter(|_| notify) {
            outbox::enqueue(db, &[welcome(row, &approved_code)], now)?;
        }
        Ok(row)
    };
    let row = house
        .journal
        .write(Durability::Durable, approve)
        .await
        .map_err(unstored)?
        .ok_or_else(unknown_code)?;
    house.outbox.wake();
    let who = format!("{}:{}", row.account.channel, row.sender);
    house
        .audit(
            by,
            "channels.pairing.approve",
            who,
            json!({"account": row.account.account}),
        )
        .await;
    let bootstrap = make_owner(house, &ask, &row, params.bootstrap_command_owner).await;
    done(SenderApproved {
        request_id: code,
        sender_id: row.sender,
        notification: if notify { "sent" } else { "not-requested" }.to_owned(),
        command_owner_bootstrap: bootstrap.to_owned(),
    })
}

fn unknown_code() -> WireError {
    WireError::invalid("no such pairing request waits; codes end after an hour, see `atoll pairing list`")
}

/// In a direct message the person's id is the chat's.
fn welcome(row: &SenderRow, code: &str) -> NewOutbound {
    let place = Place {
        account: row.account.clone(),
        kind: PeerKind::Direct,
        chat: row.sender.clone(),
        thread: None,
    };
    let outbound = Outbound::Text {
        text: WELCOME.to_owned(),
        reply_to: None,
    };
    NewOutbound {
        place,
        outbound,
        run: None,
        part: 0,
        key: format!("welcome:{code}:{}", row.approved_at),
    }
}

/// The first person whom the user of this machine lets in becomes the owner, where there is none. Nobody who comes over the network
/// can make an owner this way.
async fn make_owner(house: &House, ask: &Ask, row: &SenderRow, wanted: Option<bool>) -> &'static str {
    let is_local = matches!(ask.caller.principal.kind(), Kind::LocalOwner { .. });
    match wanted {
        Some(false) => return "not-requested",
        None if !is_local => return "not-requested",
        Some(true) if !is_local => return "unavailable",
        Some(true) | None => {}
    }
    if house.cards.has_somebody() || !house.config().commands.owner_allow_from.is_empty() {
        return "already-configured";
    }
    let owner = format!("{}:{}", row.account.channel, row.sender);
    let path = vec!["commands".to_owned(), "ownerAllowFrom".to_owned()];
    match house.config.change(Change::Set(path, json!([owner])), None).await {
        Ok(_) => {
            let by = ask.caller.principal.label();
            house
                .audit(
                    by,
                    "config.set",
                    "commands.ownerAllowFrom".to_owned(),
                    json!({"owner": owner}),
                )
                .await;
            "configured"
        }
        Err(error) => {
            tracing::error!(%error, owner, "the owner could not be written into the configuration");
            "unavailable"
        }
    }
}

fn unstored(error: JournalError) -> WireError {
    WireError::unavailable(error.to_string()).with_retry(error.is_retryable(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_number_and_never_a_name() {
        let account = || AccountRef {
            channel: CHANNEL.to_owned(),
            account: DEFAULT_ACCOUNT.to_owned(),
        };
        let parse = |to: &str| place_of(account(), to, None).map(|place| (place.kind, place.chat, place.thread));
        let direct = Some((PeerKind::Direct, "123".to_owned(), None));
        for to in ["123", "telegram:123", "tg:123", " telegram:direct:123 "] {
            assert_eq!(parse(to), direct, "{to}");
        }
        let topic = Some("5".to_owned());
        assert_eq!(
            parse("telegram:group:-100:topic:5"),
            Some((PeerKind::Group, "-100".to_owned(), topic))
        );
        for to in [
            "",
            "@ann",
            "telegram:",
            "telegram:ann",
            "0",
            "1:2",
            "1:topic:x",
            "whatsapp:1",
            "1:topic:5:6",
        ] {
            assert_eq!(parse(to), None, "{to}");
        }
    }
}
