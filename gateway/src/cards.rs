//! Questions in chats: a card with buttons for every owner, and its end when the question has one.

use atoll_channels::port::{AccountRef, Outbound, PeerKind, Place};
use atoll_pairing::approval::{Approval, Ended, State};
use atoll_protocol::id::{ApprovalId, DeviceId, RunId};

use crate::book::Book;
use crate::clock;
use crate::command::{self, card};
use crate::config::{Config, ConfigStore};
use crate::deliver::Outbox;
use crate::journal::outbox::{self, NewOutbound};
use crate::journal::runs;
use crate::journal::{Durability, Journal, JournalError};
use crate::turns::Source;

/// Puts questions into chats.
#[derive(Clone)]
pub(crate) struct Cards {
    config: ConfigStore,
    book: Book,
    journal: Journal,
    outbox: Outbox,
}

impl Cards {
    /// Cards through this outbox.
    pub(crate) fn new(config: ConfigStore, book: Book, journal: Journal, outbox: Outbox) -> Self {
        Self {
            config,
            book,
            journal,
            outbox,
        }
    }

    /// Whether anybody could be asked in a chat.
    pub(crate) fn has_somebody(&self) -> bool {
        !owners(&self.config.current()).is_empty()
    }

    /// Shows the question, or how it ended.
    pub(crate) async fn show(&self, approval: &Approval) {
        let shown = if approval.is_pending() {
            self.ask(approval).await
        } else {
            self.close(approval).await
        };
        if let Err(error) = shown {
            tracing::error!(approval = %approval.id, %error, "a question could not be put into the chats");
        }
    }

    async fn ask(&self, approval: &Approval) -> Result<(), JournalError> {
        let words = self.words(approval).await;
        let outbound = card::card(&words.question(approval));
        let cards: Vec<_> = owners(&self.config.current())
            .into_iter()
            .map(|place| NewOutbound {
                key: key(&approval.id, &place),
                outbound: outbound.clone(),
                place,
                run: None,
                part: 0,
            })
            .collect();
        if cards.is_empty() {
            Ok(())
        } else {
            self.outbox.hand_in(cards).await
        }
    }

    async fn words(&self, approval: &Approval) -> Words {
        let node = match approval.question.node {
            Some(node) => self.name(node).await,
            None => "the gateway".to_owned(),
        };
        Words::of(approval, node)
    }

    /// What the owner calls a node.
    async fn name(&self, node: DeviceId) -> String {
        let record = self.book.read(move |book, _| book.record(node).cloned()).await;
        let record = record.ok().flatten();
        record.map_or_else(|| node.short(), |record| record.display_name().to_owned())
    }

    /// Puts the outcome in the place of every card; one that was not sent yet never is.
    async fn close(&self, approval: &Approval) -> Result<(), JournalError> {
        let keys: Vec<_> = owners(&self.config.current())
            .iter()
            .map(|place| key(&approval.id, place))
            .collect();
        let look = move |db: &rusqlite::Connection| {
            let mut open = Vec::new();
            for key in keys {
                if !outbox::is_ended(db, &key)? {
                    open.push(key);
                }
            }
            Ok(open)
        };
        let open = self.journal.read(look).await?;
        if open.is_empty() {
            return Ok(());
        }
        let words = self.words(approval).await;
        let text = card::settled(&words.question(approval), outcome(approval));
        let end = move |db: &rusqlite::Connection| {
            open.iter()
                .try_for_each(|key| outbox::end(db, key, &text, clock::now()))
        };
        self.journal.write(Durability::Durable, end).await?;
        self.outbox.wake();
        Ok(())
    }

    /// Somebody pressed a button of this message about a question that has an end. Where it is not the message that we know of, the
    /// platform's answer to sending it was lost and the card was sent again: then the end is put here as well.
    pub(crate) async fn end_there(&self, approval: &Approval, place: &Place, message: &str) {
        let words = self.words(approval).await;
        let text = card::settled(&words.question(approval), outcome(approval));
        let (key, place, message) = (key(&approval.id, place), place.clone(), message.to_owned());
        let end = move |db: &rusqlite::Connection| {
            let row = outbox::by_key(db, &key)?;
            let known = row.and_then(|row| row.receipt).and_then(|receipt| receipt.message);
            if known.as_ref() == Some(&message) {
                return Ok(());
            }
            let edit = NewOutbound {
                place,
                key: format!("{key}:at:{message}"),
                outbound: Outbound::Edit { message, text },
                run: None,
                part: 0,
            };
            outbox::enqueue(db, &[edit], clock::now()).map(drop)
        };
        match self.journal.write(Durability::Durable, end).await {
            Ok(()) => self.outbox.wake(),
            Err(error) => tracing::error!(approval = %approval.id, %error, "an old card could not be ended"),
        }
    }

    /// The beginnings of the keys of cards that wait to be sent; [`is_card_of`] tells whose they are.
    pub(crate) async fn unsent(&self) -> Result<Vec<String>, JournalError> {
        self.journal.read(|db| outbox::open_keys(db, CARD)).await
    }

    /// Says in the chat of a turn that nobody may answer its question, and what to do about it; once a turn.
    pub(crate) async fn say_nobody(&self, run: &RunId) {
        let wanted = run.clone();
        let row = self.journal.read(move |db| runs::find(db, &wanted)).await;
        let source = row.ok().flatten().and_then(|row| row.new.origin.read::<Source>().ok());
        let Some(place) = source.as_ref().and_then(Source::place) else {
            return;
        };
        let notice = NewOutbound {
            place: place.clone(),
            outbound: Outbound::Text {
                text: format!("⛔ A command was not run: {NOBODY}"),
                reply_to: None,
            },
            run: None,
            part: 0,
            key: format!("nobody:{run}"),
        };
        if let Err(error) = self.outbox.hand_in(vec![notice]).await {
            tracing::error!(%run, %error, "a chat could not be told that nobody may approve");
        }
    }
}

/// What the keys of cards begin with.
const CARD: &str = "card:";

/// Why a question has no answer, and what to do about it.
pub(crate) const NOBODY: &str = "nobody may approve it: commands.ownerAllowFrom names no one. On the gateway, run `atoll config \
    set commands.ownerAllowFrom '[\"telegram:<your id>\"]'` (send /whoami to the bot for your id), then ask again.";

/// Whether this is the key of a card about that question.
pub(crate) fn is_card_of(key: &str, approval: &ApprovalId) -> bool {
    key.strip_prefix(CARD)
        .and_then(|rest| rest.strip_prefix(approval.as_str()))
        .is_some_and(|rest| rest.starts_with(':'))
}

fn key(approval: &ApprovalId, place: &Place) -> String {
    format!("{CARD}{approval}:{}:{}", place.account.channel, place.chat)
}

/// The words of a card that are not the question's own.
struct Words {
    node: String,
    command: String,
    cwd: String,
    asked_by: String,
    expires: String,
}

impl Words {
    fn of(approval: &Approval, node: String) -> Self {
        let question = &approval.question;
        let minutes = approval
            .expires_ms
            .saturating_sub(clock::now_ms())
            .div_ceil(60_000)
            .max(1);
        Self {
            node,
            command: command::words::join_words(&question.argv),
            cwd: question.cwd.clone().unwrap_or_default(),
            asked_by: match (&question.agent, &question.session) {
                (Some(agent), Some(session)) => format!("agent {agent} in {session}"),
                (Some(agent), None) => format!("agent {agent}"),
                (None, _) => "an operator".to_owned(),
            },
            expires: format!("in {minutes} minute{}", if minutes == 1 { "" } else { "s" }),
        }
    }

    fn question<'a>(&'a self, approval: &'a Approval) -> card::Question<'a> {
        card::Question {
            approval: &approval.id,
            node: &self.node,
            command: &self.command,
            cwd: &self.cwd,
            asked_by: &self.asked_by,
            why: approval.question.warning.as_deref(),
            may_always: approval.question.offers_always,
            expires: &self.expires,
        }
    }
}

fn outcome(approval: &Approval) -> card::Outcome<'_> {
    match &approval.state {
        State::Allowed(answer) | State::Denied(answer) | State::Used { answer, .. } => {
            card::Outcome::Answered(answer.decision, &answer.by)
        }
        State::Expired {
            reason: Ended::Withdrawn,
            ..
        } => card::Outcome::Cancelled,
        State::Expired {
            reason: Ended::NoRoute, ..
        } => card::Outcome::Nobody,
        State::Pending | State::Expired { .. } => card::Outcome::Expired,
    }
}

/// The ids of the owners, as their platform has them.
pub(crate) fn owner_ids(config: &Config) -> Vec<String> {
    owners(config).into_iter().map(|place| place.chat).collect()
}

/// The owners' own chats with the bot. Their ids are chat ids there.
fn owners(config: &Config) -> Vec<Place> {
    let Some(telegram) = &config.channels.telegram else {
        return Vec::new();
    };
    let mut bots = telegram.bots();
    let account = AccountRef {
        channel: "telegram".to_owned(),
        account: telegram.default_account(&bots),
    };
    bots.retain(|bot| bot.enabled);
    let bot = bots.iter().find(|bot| bot.account == account.account).or(bots.first());
    let named = &config.commands.owner_allow_from;
    let listed: Vec<String> = match (named.is_empty(), bot) {
        (false, _) => named.clone(),
        (true, Some(bot)) if bot.allow_from.len() == 1 => bot.allow_from.clone(),
        (true, Some(_) | None) => Vec::new(),
    };
    let account = bot.map_or(account.clone(), |bot| AccountRef {
        account: bot.account.clone(),
        ..account
    });
    listed
        .iter()
        .map(|entry| entry.strip_prefix("telegram:").unwrap_or(entry))
        .filter(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
        .map(|id| Place {
            account: account.clone(),
            kind: PeerKind::Direct,
            chat: id.to_owned(),
            thread: None,
        })
        .collect()
}
