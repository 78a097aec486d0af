//! The transaction in which a stored message becomes what it becomes. Only statements; what they lead to is [`super::follow`]'s.

use std::sync::Arc;

use atoll_channels::dm_code;
use atoll_channels::gate::{self, Gate, Known, Reason};
use atoll_channels::port::{Content, Outbound, Place, Sender};
use atoll_pairing::access::Principal;
use atoll_protocol::json::Json;
use rusqlite::Connection;
use serde::Serialize;
use serde_json::json;

use super::rules::Rule;
use super::{run_of, words};
use crate::command::{self, Anew, Command, Usage, card};
use crate::direct::Asker;
use crate::journal::audit::{self, Entry};
use crate::journal::inbox::{self, InboxRow, InboxState, Unreadable};
use crate::journal::outbox::{self, NewOutbound};
use crate::journal::runs::{self, NewRun};
use crate::journal::senders::{self, Asked};
use crate::journal::{JournalError, in_savepoint};
use crate::lane::Job;
use crate::turns::{Said, Source};

/// How often a code is drawn again that somebody else has.
const DRAWS: usize = 3;

/// One message with everything that decides about it.
pub(super) struct Item {
    pub(super) row: InboxRow,
    /// None: its account is not configured.
    pub(super) rule: Option<Rule>,
    /// The bot's own name.
    pub(super) username: Option<String>,
}

/// What is to be done once the transaction holds.
pub(super) enum Step {
    /// A turn was queued.
    Run(Job, Source),
    /// A turn was queued with which its conversation begins anew.
    Anew(Job),
    /// A direct command was typed.
    Command(Box<Typed>),
    /// A button was pressed.
    Click(Box<Click>),
}

/// A direct command.
pub(super) struct Typed {
    pub(super) row: i64,
    pub(super) asker: Asker,
    pub(super) parsed: Result<Command, Usage>,
    pub(super) place: Place,
    pub(super) message: String,
}

/// A button that was pressed.
pub(super) struct Click {
    pub(super) row: i64,
    pub(super) principal: Arc<Principal>,
    pub(super) data: String,
    pub(super) click: String,
    /// The message with the button.
    pub(super) message: String,
    pub(super) place: Place,
}

/// Takes a batch, in order. One that cannot be read, or breaks what is done with it, is set aside visibly and holds up no other.
pub(super) fn take_all(
    db: &Connection,
    items: Vec<Result<Item, Unreadable>>,
    now: i64,
) -> Result<Vec<Step>, JournalError> {
    let mut steps = Vec::with_capacity(items.len());
    for item in items {
        let unreadable = match item {
            Ok(item) => {
                let id = item.row.id;
                match in_savepoint(db, |db| take(db, item, now)) {
                    Ok(step) => {
                        steps.extend(step);
                        continue;
                    }
                    Err(error) if error.is_about_data() => Unreadable {
                        id,
                        reason: error.to_string(),
                    },
                    Err(error) => return Err(error),
                }
            }
            Err(unreadable) => unreadable,
        };
        tracing::error!(
            row = unreadable.id,
            reason = unreadable.reason,
            "a message was set aside"
        );
        inbox::set_aside(db, &unreadable, now)?;
    }
    Ok(steps)
}

fn take(db: &Connection, item: Item, now: i64) -> Result<Option<Step>, JournalError> {
    let Item { row, rule, username } = item;
    let Some(rule) = rule else {
        inbox::settle(
            db,
            row.id,
            InboxState::Ignored,
            Some("its account is not configured"),
            now,
        )?;
        return Ok(None);
    };
    let account = &row.inbound.place.account;
    let paired = senders::is_allowed(db, account, &row.inbound.sender.id)?;
    let known = Known {
        paired,
        bot_username: username.as_deref(),
    };
    match gate::decide(&rule.policy, &row.inbound, &known) {
        Gate::Ignore(reason) => ignore(db, &row, reason, now).map(|()| None),
        Gate::Pair => pair(db, &row, now).map(|()| None),
        Gate::Admit { sender_is_owner, .. } => admit(db, row, &rule, sender_is_owner, username.as_deref(), now),
    }
}

/// Drops it. Whoever pressed a button is told, since the platform shows a press as waiting until somebody answers.
fn ignore(db: &Connection, row: &InboxRow, reason: Reason, now: i64) -> Result<(), JournalError> {
    inbox::settle(db, row.id, InboxState::Ignored, Some(&reason.to_string()), now)?;
    match &row.inbound.content {
        Content::Click { click, data, .. } => {
            note_press(db, row, data, reason, now)?;
            let answer = click_answer(row.id, &row.inbound.place, click, "You may not answer this.");
            outbox::enqueue(db, &[answer], now).map(drop)
        }
        Content::Message { .. } => Ok(()),
    }
}

/// A button that was pressed by somebody who may not even write here: mostly the answer to a question.
fn note_press(db: &Connection, row: &InboxRow, data: &str, reason: Reason, now: i64) -> Result<(), JournalError> {
    let (account, why) = (&row.inbound.place.account, reason.to_string());
    let (action, target, detail) = match card::read_button(data) {
        Some((id, decision)) => {
            let detail = json!({"decision": decision.as_str(), "why": why});
            ("exec.approval.resolve", id.to_string(), detail)
        }
        None => (
            "channels.button",
            format!("{}:{}", account.channel, account.account),
            json!({"why": why}),
        ),
    };
    let entry = Entry {
        actor: format!("{}:{}", account.channel, row.inbound.sender.id),
        action: action.to_owned(),
        target,
        outcome: "denied".to_owned(),
        detail: detail.into(),
    };
    audit::append(db, &entry, now)
}

/// A stranger who was given a code; neither the code nor what was written is kept.
fn note_stranger(db: &Connection, row: &InboxRow, now: i64) -> Result<(), JournalError> {
    let account = &row.inbound.place.account;
    let entry = Entry {
        actor: format!("{}:{}", account.channel, row.inbound.sender.id),
        action: "channels.pairing.request".to_owned(),
        target: format!("{}:{}", account.channel, account.account),
        outcome: "pending".to_owned(),
        detail: json!({}).into(),
    };
    audit::append(db, &entry, now)
}

/// A stranger gets one code per request, and what was written is not kept.
fn pair(db: &Connection, row: &InboxRow, now: i64) -> Result<(), JournalError> {
    inbox::drop_text(db, row.id)?;
    inbox::settle(
        db,
        row.id,
        InboxState::Ignored,
        Some("an unknown sender; a code was asked for"),
        now,
    )?;
    let Asked::New(code) = draw(db, row, now)? else {
        return Ok(());
    };
    note_stranger(db, row, now)?;
    let inbound = &row.inbound;
    tracing::info!(
        channel = inbound.place.account.channel,
        account = inbound.place.account.account,
        sender = inbound.sender.id,
        "somebody new asks to write to the bot; see `atoll pairing list`"
    );
    let text = dm_code::reply(&inbound.place.account.channel, &inbound.sender.id, &code);
    let reply = NewOutbound {
        place: inbound.place.clone(),
        outbound: Outbound::Text { text, reply_to: None },
        run: None,
        part: 0,
        key: key(row.id, 0),
    };
    outbox::enqueue(db, &[reply], now).map(drop)
}

fn draw(db: &Connection, row: &InboxRow, now: i64) -> Result<Asked, JournalError> {
    let inbound = &row.inbound;
    let mut draws = 1;
    loop {
        let code = dm_code::code(crate::random());
        match senders::ask(db, &inbound.place.account, &inbound.sender, &code, now) {
            Err(error) if error.is_conflict() && draws < DRAWS => draws += 1,
            asked => return asked,
        }
    }
}

fn admit(
    db: &Connection,
    row: InboxRow,
    rule: &Rule,
    owner: bool,
    username: Option<&str>,
    now: i64,
) -> Result<Option<Step>, JournalError> {
    let InboxRow { id: row, inbound, .. } = row;
    let (place, sender) = (inbound.place, inbound.sender);
    let (text, message, quoted) = match inbound.content {
        Content::Click { data, click, message } => {
            let principal = principal(&place, &sender, owner);
            return Ok(Some(Step::Click(Box::new(Click {
                row,
                principal,
                data,
                click,
                message,
                place,
            }))));
        }
        Content::Message {
            text, message, quoted, ..
        } => (text, message, quoted),
    };
    let anew = command::anew(&text, &rule.triggers, username);
    let parsed = typed(&text, anew, username);
    if let Some(parsed) = parsed {
        let asker = Asker {
            principal: principal(&place, &sender, owner),
            session: rule.route.session.clone(),
            run: run_of(row),
        };
        return Ok(Some(Step::Command(Box::new(Typed {
            row,
            asker,
            parsed,
            place,
            message,
        }))));
    }
    let spoken = anew.map_or(&*text, |anew| anew.rest);
    let said = Said {
        anew: anew.map(|anew| anew.reason.to_owned()),
        ..Said::of(words::agent_text(place.kind, &sender, spoken, quoted.as_deref()))
    };
    let source = Source::Chat {
        place,
        message: Some(message),
        sender: Some(sender.id),
    };
    queue(db, row, rule, source, &said, now)
}

/// The direct command in a text, if it is one. Only what is configured begins a conversation anew; with more behind it, it is none.
fn typed(text: &str, anew: Option<Anew<'_>>, username: Option<&str>) -> Option<Result<Command, Usage>> {
    match anew {
        Some(Anew {
            rest: "",
            reason: "reset",
        }) => Some(Ok(Command::Reset)),
        Some(Anew { rest: "", .. }) => Some(Ok(Command::New)),
        Some(_) => None,
        None => command::parse(text, username).filter(|parsed| !matches!(parsed, Ok(Command::New | Command::Reset))),
    }
}

fn principal(place: &Place, sender: &Sender, owner: bool) -> Arc<Principal> {
    let account = &place.account;
    Arc::new(Principal::sender(
        &*account.channel,
        &*account.account,
        &*sender.id,
        owner,
    ))
}

fn queue(
    db: &Connection,
    row: i64,
    rule: &Rule,
    source: Source,
    said: &Said,
    now: i64,
) -> Result<Option<Step>, JournalError> {
    let new = NewRun {
        run: run_of(row),
        session: rule.route.session.clone(),
        agent: rule.route.agent.clone(),
        inbox: Some(row),
        origin: stored(&source)?,
        input: stored(said)?,
    };
    if !runs::queue(db, &new, now)? {
        // Its turn is there already, and the row was not moved along with it.
        inbox::settle(db, row, InboxState::Failed, Some("its turn was queued before"), now)?;
        return Ok(None);
    }
    let job = Job {
        run: new.run,
        session: new.session,
    };
    Ok(Some(if said.anew.is_some() {
        Step::Anew(job)
    } else {
        Step::Run(job, source)
    }))
}

fn stored<T: Serialize>(value: &T) -> Result<Json, JournalError> {
    Json::of(value).map_err(|error| JournalError::Value(error.to_string()))
}

/// The answer to a press of a button.
pub(super) fn click_answer(row: i64, place: &Place, click: &str, text: &str) -> NewOutbound {
    NewOutbound {
        place: place.clone(),
        outbound: Outbound::ClickAnswer {
            click: click.to_owned(),
            text: text.to_owned(),
        },
        run: None,
        part: 0,
        key: key(row, 0),
    }
}

/// Names a part of the answer to a message for ever.
pub(super) fn key(row: i64, part: usize) -> String {
    format!("in:{row}:{part}")
}

#[cfg(test)]
mod tests;
