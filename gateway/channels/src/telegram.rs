//! Telegram: one bot account, by long polling. teloxide gives the types, the requests and the connection; the update
//! loop is ours (`receive`), since an update may only be acknowledged once it is stored, and so is the reading of
//! answers (`api`), since teloxide sleeps ten seconds on every 5xx and hides what decides about a retry.
//!
//! Not read: edited messages (what was said first counts), channel posts, membership changes. Media arrives as a note
//! such as `[photo]` beside its caption.

mod api;
mod convert;
mod file;
mod form;
mod pace;
mod receive;
mod render;
mod send;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use teloxide::Bot;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::port::{AccountRef, Channel, Files, Outbound, Place, Port, Receipt, SendError};
use crate::split::split;

pub use render::to_html;

/// The channel's name in [`AccountRef::channel`].
pub const CHANNEL: &str = "telegram";
/// Part size when the configuration says none (`textChunkLimit`), UTF-16 units.
pub const DEFAULT_CHUNK: usize = 4000;
/// What Telegram takes at most, UTF-16 units.
pub const MAX_TEXT: usize = 4096;

/// One bot, as configured.
pub struct TelegramAccount {
    /// The account's key in the configuration, e.g. `default`.
    pub account: String,
    /// The bot's token, as @BotFather gave it.
    pub token: SecretString,
    /// Where the Bot API is, when not at api.telegram.org (`apiRoot`).
    pub api_root: Option<String>,
    /// Part size, UTF-16 units (`textChunkLimit`); at most [`MAX_TEXT`].
    pub chunk_limit: Option<usize>,
    /// Waits; the default is right outside tests.
    pub timing: Timing,
    /// Where the bytes of files are.
    pub files: Arc<dyn Files>,
}

/// How long things may take.
#[derive(Debug, Clone)]
pub struct Timing {
    /// How long Telegram may hold a `getUpdates` that has nothing to say.
    pub long_poll: Duration,
    /// What a `getUpdates` may take beyond that.
    pub poll_grace: Duration,
    /// What any other request may take.
    pub request: Duration,
    /// The longest wait for our own pace inside a send. A longer one is handed back: what waits outside is known not to be sent
    /// when the process dies.
    pub pace: Duration,
    /// The first wait after an outage; each further one is about twice as long.
    pub backoff_first: Duration,
    /// The longest wait after an outage.
    pub backoff_cap: Duration,
    /// Between two tries with a token that Telegram rejects.
    pub rejected_token: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            long_poll: Duration::from_secs(30),
            poll_grace: Duration::from_secs(10),
            request: Duration::from_secs(20),
            pace: Duration::ZERO,
            backoff_first: Duration::from_secs(1),
            backoff_cap: Duration::from_secs(30),
            rejected_token: Duration::from_secs(60),
        }
    }
}

/// Why an account cannot be started at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TelegramError {
    /// Not what @BotFather gives out.
    #[error("the bot token is not of the form 123456:ABC-def")]
    TokenShape,
    /// `apiRoot` is no `http` or `https` address.
    #[error("apiRoot {0:?} is not an http or https address")]
    ApiRoot(String),
    /// No HTTP client could be made.
    #[error("no HTTP client: {0}")]
    Client(String),
}

/// A running or runnable bot account.
pub struct Telegram {
    account: AccountRef,
    token: SecretString,
    api_root: Option<String>,
    chunk_limit: usize,
    timing: Timing,
    sender: Bot,
    pacer: pace::Pacer,
    files: Arc<dyn Files>,
    uploads: Semaphore,
}

impl Telegram {
    /// Checks what can be checked without asking Telegram.
    ///
    /// # Errors
    /// A token or address that cannot be right.
    pub fn new(account: TelegramAccount) -> Result<Self, TelegramError> {
        let sender = api::bot(&account.token, account.api_root.as_deref())?;
        Ok(Self {
            account: AccountRef {
                channel: CHANNEL.to_owned(),
                account: account.account,
            },
            token: account.token,
            api_root: account.api_root,
            chunk_limit: account.chunk_limit.unwrap_or(DEFAULT_CHUNK).min(MAX_TEXT),
            timing: account.timing,
            sender,
            pacer: pace::Pacer::default(),
            files: account.files,
            uploads: Semaphore::new(1),
        })
    }

    /// A client with connections of its own.
    fn fresh_bot(&self) -> Result<Bot, TelegramError> {
        api::bot(&self.token, self.api_root.as_deref())
    }
}

#[async_trait]
impl Channel for Telegram {
    async fn run(&self, port: &dyn Port, stop: CancellationToken) {
        receive::run(self, port, &stop).await;
    }

    async fn send(&self, place: &Place, outbound: &Outbound) -> Result<Receipt, SendError> {
        self.deliver(place, outbound).await
    }

    async fn typing(&self, place: &Place) {
        self.show_typing(place).await;
    }

    fn split(&self, text: &str) -> Vec<String> {
        split(text, self.chunk_limit)
    }
}

/// Whether this has the shape of a bot token: digits, a colon, and letters that need no escaping in an address.
fn is_token(token: &SecretString) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    token.expose_secret().split_once(':').is_some_and(|(id, secret)| {
        !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()) && !secret.is_empty() && secret.chars().all(safe)
    })
}
