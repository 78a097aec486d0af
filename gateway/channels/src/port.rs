//! The trait every channel implements, and what it needs from the house.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// Which bot of which platform, e.g. `telegram` / `default`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AccountRef {
    /// The channel, e.g. `telegram`.
    pub channel: String,
    /// The account, e.g. `default`.
    pub account: String,
}

/// What kind of place a message was written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerKind {
    /// One person.
    Direct,
    /// Several people.
    Group,
    /// A broadcast channel.
    Channel,
}

/// Where to answer: enough to send there again after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The bot.
    pub account: AccountRef,
    /// The kind of chat.
    pub kind: PeerKind,
    /// The platform's immutable chat id.
    pub chat: String,
    /// Topic or thread in it.
    pub thread: Option<String>,
}

/// Who wrote. Only `id` is ever compared; names are for people.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sender {
    /// The platform's immutable user id.
    pub id: String,
    /// What the platform shows.
    pub name: String,
    /// A bot.
    pub is_bot: bool,
}

/// One thing that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inbound {
    /// Unique for the account for ever, e.g. `update:123`; a second one with the same id is the same thing again.
    pub id: String,
    /// Where.
    pub place: Place,
    /// Who.
    pub sender: Sender,
    /// What.
    pub content: Content,
    /// When the platform says it was written, Unix milliseconds.
    pub sent_at_ms: u64,
}

/// What arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// Text.
    Message {
        /// The text as written.
        text: String,
        /// The platform's id of the message in its chat.
        message: String,
        /// The bot was addressed by name, reply or command.
        mentions_bot: bool,
        /// Text of the message replied to; never to be trusted.
        quoted: Option<String>,
    },
    /// A button of a card was pressed.
    Click {
        /// What the button carries.
        data: String,
        /// The message with the buttons.
        message: String,
        /// The platform's id of this click, to be answered once.
        click: String,
    },
}

/// One thing to do at the platform. Texts are at most the channel's limit: [`Channel::split`] was applied before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outbound {
    /// A text.
    Text {
        /// Markdown; the channel renders it, and sends it plain where the platform refuses the rendering.
        text: String,
        /// The message it answers.
        reply_to: Option<String>,
    },
    /// A text with buttons in rows.
    Card {
        /// Markdown.
        text: String,
        /// Rows of buttons.
        buttons: Vec<Vec<Button>>,
    },
    /// A photo, a video or a file, as its media type says.
    File {
        /// Names its bytes in the house's media store; they are read when it is sent.
        handle: String,
        /// A file name.
        name: String,
        /// Media type.
        mime: String,
        /// Markdown beside it; may be empty.
        caption: String,
        /// The message it answers.
        reply_to: Option<String>,
    },
    /// Replaces a text that was sent, and removes its buttons.
    Edit {
        /// The platform's id of the message.
        message: String,
        /// Markdown.
        text: String,
    },
    /// Answers a click with a short notice that only the clicker sees.
    ClickAnswer {
        /// The platform's id of the click.
        click: String,
        /// The notice.
        text: String,
    },
}

/// A button.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Button {
    /// What it shows.
    pub label: String,
    /// What it sends back, at most 64 bytes.
    pub data: String,
}

/// What the platform said to a send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The platform's id of the message, where it made one.
    pub message: Option<String>,
}

/// Why a send did not succeed; the kind alone decides what happens next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Certainly not sent; try again, not before so many milliseconds.
    #[error("not sent, retry in {after_ms} ms: {reason}")]
    Retry {
        /// How long to wait.
        after_ms: u64,
        /// For the log and for `channels status`.
        reason: String,
    },
    /// Certainly not sent, and never will be (chat gone, bot blocked).
    #[error("not sent: {0}")]
    Refused(String),
    /// Nobody knows whether it was sent; it must not be sent again.
    #[error("perhaps sent: {0}")]
    Uncertain(String),
}

/// How an account is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountStatus {
    /// Its task runs.
    pub running: bool,
    /// The platform answered lately.
    pub connected: bool,
    /// The bot's name there.
    pub identity: Option<String>,
    /// The last time the platform answered, Unix milliseconds.
    pub last_ok_at_ms: Option<u64>,
    /// The last error, in words.
    pub last_error: Option<String>,
}

/// The house, as a channel sees it.
#[async_trait]
pub trait Port: Send + Sync {
    /// Where this account stopped reading, as [`Port::commit`] last stored it.
    async fn cursor(&self, account: &AccountRef) -> Result<Option<String>, PortError>;

    /// Stores what arrived *and* the new cursor in one transaction. Only after this may the platform be told.
    /// An [`Inbound::id`] that is stored already is skipped silently.
    async fn commit(&self, account: &AccountRef, cursor: &str, arrived: Vec<Inbound>) -> Result<(), PortError>;

    /// Reports how the account is doing.
    fn status(&self, account: &AccountRef, status: AccountStatus);
}

/// The house's media store, as a channel that sends files sees it.
#[async_trait]
pub trait Files: Send + Sync {
    /// All bytes behind a handle, if there are no more than `limit`.
    async fn read(&self, handle: &str, limit: u64) -> Result<Vec<u8>, FileError>;
}

/// Why there are no bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// The store has let go of them.
    #[error("it is not in the media store any more (media.ttlHours, media.maxMb)")]
    Gone,
    /// So many bytes.
    #[error("it has {0} bytes, which is more than can be sent")]
    TooLarge(u64),
    /// The disk; perhaps later.
    #[error("the media store failed: {0}")]
    Failed(String),
}

/// The house could not store it; the channel tries again and must not acknowledge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal refused: {0}")]
pub struct PortError(pub String);

/// One account of one platform.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Receives until stopped; survives every outage by itself and reports each through [`Port::status`].
    async fn run(&self, port: &dyn Port, stop: CancellationToken);

    /// Does one thing at the platform, once.
    async fn send(&self, place: &Place, outbound: &Outbound) -> Result<Receipt, SendError>;

    /// Shows that an answer is being written. Best effort.
    async fn typing(&self, place: &Place);

    /// Cuts a long text into parts that can be sent one by one.
    fn split(&self, text: &str) -> Vec<String>;
}
