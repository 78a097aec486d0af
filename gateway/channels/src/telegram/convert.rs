//! Telegram's updates as [`Inbound`]. Pure. Identity is the numeric id and nothing else: who speaks in the name of a
//! chat is that chat, and forwarded text is marked, so that it can be no command of the person who forwarded it.

use teloxide::types::{
    CallbackQuery, Chat, MaybeInaccessibleMessage, Message, MessageEntityKind, MessageEntityRef, Update, UpdateKind,
    User,
};

use crate::port::{AccountRef, Content, Inbound, PeerKind, Place, Sender};

/// How much of a quoted text is kept, characters.
const QUOTED_CHARS: usize = 1024;

/// The bot, as `getMe` names it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub(super) struct Identity {
    /// The numeric id.
    pub(super) id: u64,
    /// The name that people mention, without `@`.
    #[serde(default)]
    pub(super) username: String,
}

/// What an update says to us; none when it is of no interest.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "Telegram adds kinds; those we do not name say nothing to us"
)]
pub(super) fn inbound(account: &AccountRef, me: &Identity, update: Update, now_ms: u64) -> Option<Inbound> {
    let id = format!("update:{}:{}", me.id, update.id.0);
    match update.kind {
        UpdateKind::Message(message) => from_message(account, me, id, &message),
        UpdateKind::CallbackQuery(click) => from_click(account, id, click, now_ms),
        _ => None,
    }
}

fn from_message(account: &AccountRef, me: &Identity, id: String, message: &Message) -> Option<Inbound> {
    let written = message.text().or_else(|| message.caption()).unwrap_or_default();
    let text = [forward_note(message), media_note(message), Some(written)]
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("\n");
    if text.is_empty() {
        return None;
    }
    Some(Inbound {
        id,
        place: place(account, &message.chat, thread(message)),
        sender: sender(message)?,
        content: Content::Message {
            text,
            message: message.id.0.to_string(),
            mentions_bot: mentions(me, message),
            quoted: quoted(message),
        },
        sent_at_ms: u64::try_from(message.date.timestamp_millis()).unwrap_or_default(),
    })
}

fn from_click(account: &AccountRef, id: String, click: CallbackQuery, now_ms: u64) -> Option<Inbound> {
    let (data, card) = (click.data?, click.message?);
    let thread = match &card {
        MaybeInaccessibleMessage::Regular(message) => thread(message),
        MaybeInaccessibleMessage::Inaccessible(_) => None,
    };
    Some(Inbound {
        id,
        place: place(account, card.chat(), thread),
        sender: person(&click.from),
        content: Content::Click {
            data,
            message: card.id().0.to_string(),
            click: click.id.0,
        },
        sent_at_ms: now_ms,
    })
}

fn place(account: &AccountRef, chat: &Chat, thread: Option<String>) -> Place {
    let kind = if chat.is_private() {
        PeerKind::Direct
    } else if chat.is_channel() {
        PeerKind::Channel
    } else {
        PeerKind::Group
    };
    Place {
        account: account.clone(),
        kind,
        chat: chat.id.0.to_string(),
        thread,
    }
}

/// Only topics are threads of ours: outside forums a thread id is merely the root of a chain of replies.
fn thread(message: &Message) -> Option<String> {
    let thread = message.thread_id.filter(|_| message.is_topic_message)?;
    Some(thread.0.0.to_string())
}

/// Where somebody speaks as a chat (an anonymous administrator, a linked channel), `from` is a stand-in that many share.
fn sender(message: &Message) -> Option<Sender> {
    match &message.sender_chat {
        Some(chat) => Some(Sender {
            id: chat.id.0.to_string(),
            name: chat.title().unwrap_or_default().to_owned(),
            is_bot: false,
        }),
        None => message.from.as_ref().map(person),
    }
}

fn person(user: &User) -> Sender {
    Sender {
        id: user.id.0.to_string(),
        name: user.full_name(),
        is_bot: user.is_bot,
    }
}

fn forward_note(message: &Message) -> Option<&'static str> {
    message.forward_origin().map(|_| "[forwarded]")
}

fn media_note(message: &Message) -> Option<&'static str> {
    let notes = [
        (message.photo().is_some(), "[photo]"),
        (message.voice().is_some(), "[voice message]"),
        (message.audio().is_some(), "[audio]"),
        (message.video().is_some(), "[video]"),
        (message.video_note().is_some(), "[video note]"),
        // An animation carries a document of the same file, for clients that know no animations.
        (message.animation().is_some(), "[animation]"),
        (message.document().is_some(), "[file]"),
        (message.sticker().is_some(), "[sticker]"),
        // A venue carries its location.
        (message.venue().is_some(), "[venue]"),
        (message.location().is_some(), "[location]"),
        (message.contact().is_some(), "[contact]"),
        (message.poll().is_some(), "[poll]"),
    ];
    notes.into_iter().find(|(there, _)| *there).map(|(_, note)| note)
}

fn quoted(message: &Message) -> Option<String> {
    let replied = message
        .reply_to_message()
        .and_then(|replied| replied.text().or_else(|| replied.caption()));
    let text = message.quote().map(|quote| quote.text.as_str()).or(replied)?;
    Some(text.chars().take(QUOTED_CHARS).collect())
}

fn mentions(me: &Identity, message: &Message) -> bool {
    let entities = message
        .parse_entities()
        .or_else(|| message.parse_caption_entities())
        .unwrap_or_default();
    entities.iter().any(|entity| names_bot(me, entity)) || replies_to_bot(me, message)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "Telegram adds kinds; those we do not name say nothing to us"
)]
fn names_bot(me: &Identity, entity: &MessageEntityRef<'_>) -> bool {
    let is_me = |name: &str| !me.username.is_empty() && name.eq_ignore_ascii_case(&me.username);
    match entity.kind() {
        MessageEntityKind::Mention => entity.text().strip_prefix('@').is_some_and(is_me),
        MessageEntityKind::BotCommand => entity.text().split_once('@').is_some_and(|(_, name)| is_me(name)),
        MessageEntityKind::TextMention { user } => user.id.0 == me.id,
        _ => false,
    }
}

/// The first message of a topic counts as replied to by every other; it is not what somebody answered.
fn replies_to_bot(me: &Identity, message: &Message) -> bool {
    message.reply_to_message().is_some_and(|replied| {
        let by_bot = replied.from.as_ref().is_some_and(|user| user.id.0 == me.id);
        by_bot && replied.forum_topic_created().is_none()
    })
}

#[cfg(test)]
mod tests;
