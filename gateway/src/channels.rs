//! The chat accounts: which run, with which settings, and how they are doing. Owns starting, restarting and stopping them as the
//! configuration changes. Never looks into what they bring.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_channels::port::{AccountRef, AccountStatus, Channel, Port};
use atoll_channels::telegram::{CHANNEL, Telegram, TelegramAccount, Timing};
use futures_util::FutureExt;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Bot, BotToken, Config};
use crate::house::House;
use crate::intake::Inlet;
use crate::state;

/// Before an account whose task ended by itself is started again.
const PAUSE: Duration = Duration::from_secs(5);

/// An account that is replaced has this long to end: two that read for one bot would take each other's messages.
const ENDING: Duration = Duration::from_secs(10);

/// How the accounts are doing, for whoever asks. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Channels {
    statuses: Arc<Mutex<HashMap<AccountRef, AccountStatus>>>,
    arrived: Arc<Notify>,
}

impl Channels {
    /// How an account was doing when it last said so; none for one that never ran.
    pub(crate) fn status(&self, account: &AccountRef) -> Option<AccountStatus> {
        self.lock().get(account).cloned()
    }

    /// The bot's own name, without `@`, once the platform has told it.
    pub(crate) fn username(&self, account: &AccountRef) -> Option<String> {
        username(self.lock().get(account)?.identity.as_deref()?).map(str::to_owned)
    }

    /// Notes how an account is doing.
    pub(crate) fn report(&self, account: &AccountRef, status: AccountStatus) {
        self.lock().insert(account.clone(), status);
    }

    /// Something new is stored.
    pub(crate) fn wake(&self) {
        self.arrived.notify_one();
    }

    /// Waits for the next [`Self::wake`]; one that came before counts.
    pub(crate) async fn arrival(&self) {
        self.arrived.notified().await;
    }

    fn forget(&self, account: &AccountRef) {
        self.lock().remove(account);
    }

    fn fail(&self, account: &AccountRef, error: String) {
        let status = AccountStatus {
            last_error: Some(error),
            ..AccountStatus::default()
        };
        self.report(account, status);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AccountRef, AccountStatus>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the configured accounts until stopped, each with the settings of the moment.
pub(crate) async fn run(house: Arc<House>, stop: CancellationToken) {
    let mut configs = house.config.subscribe();
    let mut keeper = Keeper {
        house,
        stop: stop.clone(),
        running: HashMap::new(),
    };
    loop {
        let config = configs.borrow_and_update().clone();
        keeper.follow(&config).await;
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = configs.changed() => if changed.is_err() { return },
        }
    }
}

/// The settings of an account, as far as a change means a new start. Holds a digest in place of the token.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Settings {
    token: [u8; 32],
    api_root: Option<String>,
    chunk_limit: usize,
}

struct Running {
    settings: Settings,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

struct Keeper {
    house: Arc<House>,
    stop: CancellationToken,
    running: HashMap<AccountRef, Running>,
}

impl Keeper {
    /// Stops what is gone or has changed, then starts what is new.
    async fn follow(&mut self, config: &Config) {
        let bots = bots(config);
        let mut wanted = HashMap::new();
        for bot in bots.iter().filter(|bot| bot.enabled) {
            let account = account(bot);
            match token(&bot.token).await {
                Ok(token) => drop(wanted.insert(account, (bot, settings(bot, &token), token))),
                Err(error) => {
                    tracing::error!(account = account.account, error, "a bot cannot be started");
                    self.house.channels.fail(&account, error);
                }
            }
        }
        let gone: Vec<_> = self
            .running
            .iter()
            .filter(|(account, running)| wanted.get(*account).is_none_or(|(_, new, _)| *new != running.settings))
            .map(|(account, _)| account.clone())
            .collect();
        for account in gone {
            self.end(&account).await;
            if !wanted.contains_key(&account) && !bots.iter().any(|bot| self::account(bot) == account) {
                self.house.channels.forget(&account);
            }
        }
        for (account, (bot, settings, token)) in wanted {
            if !self.running.contains_key(&account) {
                self.start(account, bot, settings, token).await;
            }
        }
    }

    async fn start(&mut self, account: AccountRef, bot: &Bot, settings: Settings, token: SecretString) {
        let telegram = Telegram::new(TelegramAccount {
            account: bot.account.clone(),
            token,
            api_root: bot.api_root.clone(),
            chunk_limit: Some(bot.text_chunk_limit),
            timing: Timing::default(),
            files: Arc::new(self.house.pictures.clone()),
        });
        let channel: Arc<dyn Channel> = match telegram {
            Ok(telegram) => Arc::new(telegram),
            Err(error) => {
                tracing::error!(account = account.account, %error, "a bot cannot be started");
                return self.house.channels.fail(&account, error.to_string());
            }
        };
        self.house.accounts.put(account.clone(), channel.clone()).await;
        let stop = self.stop.child_token();
        let inlet = Inlet {
            journal: self.house.journal.clone(),
            channels: self.house.channels.clone(),
        };
        let task = self
            .house
            .tasks
            .spawn(keep(channel, inlet, account.clone(), stop.clone()));
        self.running.insert(account, Running { settings, stop, task });
        // What waited for this account can go now.
        self.house.outbox.wake();
    }

    async fn end(&mut self, account: &AccountRef) {
        let Some(running) = self.running.remove(account) else {
            return;
        };
        running.stop.cancel();
        self.house.accounts.remove(account).await;
        let mut task = running.task;
        if tokio::time::timeout(ENDING, &mut task).await.is_err() {
            tracing::warn!(account = account.account, "a bot did not end in time and is cut off");
            task.abort();
        }
    }
}

/// Keeps one account running: neither a panic nor an early end is its last word.
async fn keep(channel: Arc<dyn Channel>, port: impl Port, account: AccountRef, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let ran = AssertUnwindSafe(channel.run(&port, stop.clone())).catch_unwind().await;
        if stop.is_cancelled() {
            return;
        }
        let error = if ran.is_err() {
            "its task panicked; see the log"
        } else {
            "its task ended by itself"
        };
        tracing::error!(account = account.account, error, "a channel is started again");
        port.status(
            &account,
            AccountStatus {
                last_error: Some(error.to_owned()),
                ..AccountStatus::default()
            },
        );
        stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
    }
}

/// Every bot of the configuration, the default one first.
pub(crate) fn bots(config: &Config) -> Vec<Bot> {
    config
        .channels
        .telegram
        .as_ref()
        .map(|telegram| telegram.bots())
        .unwrap_or_default()
}

/// What a bot's account is called everywhere else.
pub(crate) fn account(bot: &Bot) -> AccountRef {
    AccountRef {
        channel: CHANNEL.to_owned(),
        account: bot.account.clone(),
    }
}

async fn token(token: &BotToken) -> Result<SecretString, String> {
    let file = match token {
        BotToken::Given(token) => return Ok(token.clone()),
        BotToken::Missing => return Err("it has no token; set botToken or tokenFile".to_owned()),
        BotToken::File(file) => state::expand(file),
    };
    let shown = file.display().to_string();
    let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(file)).await;
    match text {
        Ok(Ok(text)) => Ok(SecretString::from(text.trim().to_owned())),
        Ok(Err(error)) => Err(format!("its tokenFile {shown} cannot be read: {error}")),
        Err(error) => Err(format!("its tokenFile {shown} was not read: {error}")),
    }
}

fn settings(bot: &Bot, token: &SecretString) -> Settings {
    Settings {
        token: Sha256::digest(token.expose_secret()).into(),
        api_root: bot.api_root.clone(),
        chunk_limit: bot.text_chunk_limit,
    }
}

/// Out of `@name (id)`.
fn username(identity: &str) -> Option<&str> {
    identity.strip_prefix('@')?.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bots_name_is_read_out_of_its_identity() {
        assert_eq!(username("@atoll_bot (42)"), Some("atoll_bot"));
        assert_eq!(username("@atoll_bot"), Some("atoll_bot"));
        assert_eq!(username("atoll_bot"), None);
        assert_eq!(username(""), None);
    }

    #[tokio::test]
    async fn a_token_file_is_read_without_its_line_end_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        std::fs::write(&path, "1:abc\n").expect("writes");
        let file = BotToken::File(path.display().to_string());
        assert_eq!(token(&file).await.expect("reads").expose_secret(), "1:abc");
        let absent = folder.path().join("absent").display().to_string();
        let error = token(&BotToken::File(absent.clone())).await.expect_err("is not there");
        assert!(error.contains(&absent), "{error}");
        assert!(token(&BotToken::Missing).await.is_err());
    }

    #[test]
    fn a_new_token_is_a_new_start_and_an_old_one_is_not() {
        let telegram: crate::config::Telegram =
            serde_json::from_value(serde_json::json!({"botToken": "1:a"})).expect("parses");
        let bot = &telegram.bots()[0];
        let of = |token: &str| settings(bot, &SecretString::from(token.to_owned()));
        assert_eq!(of("1:a"), of("1:a"));
        assert_ne!(of("1:a"), of("1:b"));
    }
}
