//! The update loop of one account: ask, store, and only then ask for what comes after, which is Telegram's
//! acknowledgement. Owns waiting and reporting; never gives up, never acknowledges what [`Port::commit`] refused.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::value::RawValue;
use teloxide::Bot;
use teloxide::payloads::{GetMe, GetUpdates, GetUpdatesSetters};
use teloxide::types::{AllowedUpdate, Update, UpdateKind};
use tokio_util::sync::CancellationToken;

use super::Telegram;
use super::api::{self, Failure};
use super::convert::{self, Identity};
use crate::port::{AccountStatus, Inbound, Port, PortError};

/// Updates of one answer; each answer is one transaction.
const BATCH: u8 = 100;
/// A proxy that does not hold requests answers at once with nothing; it is asked this often at most.
const EMPTY_ROUND: Duration = Duration::from_millis(200);
/// Doublings after which the wait no longer grows on its own; the cap is reached long before.
const MAX_DOUBLINGS: u32 = 16;

/// Receives until stopped. Stopping in the middle of a request or a commit is safe: what was stored is skipped when it
/// comes again, what was not stored comes again.
pub(super) async fn run(telegram: &Telegram, port: &dyn Port, stop: &CancellationToken) {
    let mut poller = Poller {
        telegram,
        port,
        bot: telegram.sender.clone(),
        status: AccountStatus {
            running: true,
            ..AccountStatus::default()
        },
        failures: 0,
    };
    poller.report();
    stop.run_until_cancelled(poller.receive()).await;
    poller.status.running = false;
    poller.status.connected = false;
    poller.report();
}

struct Poller<'a> {
    telegram: &'a Telegram,
    port: &'a dyn Port,
    bot: Bot,
    status: AccountStatus,
    failures: u32,
}

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Telegram(#[from] Failure),
    #[error(transparent)]
    Port(#[from] PortError),
}

impl Poller<'_> {
    async fn receive(&mut self) {
        let me = self.identify().await;
        let mut next = self.resume(&me).await;
        loop {
            match self.round(&me, next).await {
                Ok(after) => next = after,
                Err(trouble) => self.recover(&trouble).await,
            }
        }
    }

    async fn identify(&mut self) -> Identity {
        loop {
            match api::call(&self.bot, &GetMe::new(), self.telegram.timing.request).await {
                Ok(me) => return self.introduce(me),
                Err(failure) => self.recover(&failure.into()).await,
            }
        }
    }

    fn introduce(&mut self, me: Identity) -> Identity {
        self.status.identity = Some(format!("@{} ({})", me.username, me.id));
        self.succeeded();
        me
    }

    async fn resume(&mut self, me: &Identity) -> Option<i32> {
        loop {
            match self.port.cursor(&self.telegram.account).await {
                Ok(stored) => return stored.and_then(|cursor| offset_of(&cursor, me)),
                Err(refused) => self.recover(&refused.into()).await,
            }
        }
    }

    /// Asks for updates from `next` on, stores them, and says where to go on.
    async fn round(&mut self, me: &Identity, next: Option<i32>) -> Result<Option<i32>, Trouble> {
        let timing = &self.telegram.timing;
        let request = request(next, timing.long_poll);
        let asked = Instant::now();
        let updates: Vec<Box<RawValue>> = api::call(&self.bot, &request, timing.long_poll + timing.poll_grace).await?;
        self.succeeded();
        if updates.is_empty() {
            tokio::time::sleep(EMPTY_ROUND.saturating_sub(asked.elapsed())).await;
            return Ok(next);
        }
        let last = updates.iter().filter_map(|update| update_id(update)).next_back();
        let last = last.ok_or_else(|| Failure::NoAnswer("updates without an id".to_owned()))?;
        let after = last.wrapping_add(1);
        let now_ms = now_ms();
        let arrived = updates
            .iter()
            .filter_map(|update| self.read(me, update, now_ms))
            .collect();
        let cursor = format!("{}:{after}", me.id);
        self.port.commit(&self.telegram.account, &cursor, arrived).await?;
        Ok(Some(after))
    }

    fn read(&self, me: &Identity, update: &RawValue, now_ms: u64) -> Option<Inbound> {
        let number = update_id(update);
        match serde_json::from_str::<Update>(update.get()) {
            Ok(Update {
                kind: UpdateKind::Error(_),
                ..
            })
            | Err(_) => {
                tracing::warn!(account = %self.telegram.account.account, ?number, "skipped an update of unknown shape");
                None
            }
            Ok(update) => convert::inbound(&self.telegram.account, me, update, now_ms),
        }
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        self.status.connected = true;
        self.status.last_ok_at_ms = Some(now_ms());
        self.status.last_error = None;
        self.report();
    }

    /// Reports, waits, and starts again on a connection that has not failed yet.
    async fn recover(&mut self, trouble: &Trouble) {
        self.status.connected = matches!(trouble, Trouble::Port(_));
        self.status.last_error = Some(trouble.to_string());
        self.report();
        tracing::warn!(account = %self.telegram.account.account, %trouble, "receiving failed");
        self.failures = self.failures.saturating_add(1);
        if let Ok(fresh) = self.telegram.fresh_bot() {
            self.bot = fresh;
        }
        tokio::time::sleep(self.wait_after(trouble)).await;
    }

    fn wait_after(&self, trouble: &Trouble) -> Duration {
        let timing = &self.telegram.timing;
        match trouble {
            Trouble::Telegram(Failure::FloodWait(wait)) => *wait,
            Trouble::Telegram(Failure::Unauthorized(_)) => timing.rejected_token,
            Trouble::Telegram(
                Failure::Unreachable(_)
                | Failure::NoAnswer(_)
                | Failure::Conflict(_)
                | Failure::Moved(_)
                | Failure::Refused(_),
            )
            | Trouble::Port(_) => backoff(timing.backoff_first, timing.backoff_cap, self.failures, jitter()),
        }
    }

    fn report(&self) {
        self.port.status(&self.telegram.account, self.status.clone());
    }
}

fn request(next: Option<i32>, long_poll: Duration) -> GetUpdates {
    let request = GetUpdates::new()
        .limit(BATCH)
        .timeout(u32::try_from(long_poll.as_secs()).unwrap_or(u32::MAX))
        .allowed_updates([AllowedUpdate::Message, AllowedUpdate::CallbackQuery]);
    match next {
        Some(offset) => request.offset(offset),
        None => request,
    }
}

fn update_id(update: &RawValue) -> Option<i32> {
    #[derive(Deserialize)]
    struct Numbered {
        update_id: i32,
    }
    let numbered: Numbered = serde_json::from_str(update.get()).ok()?;
    Some(numbered.update_id)
}

/// The place in a stored cursor, `<bot id>:<offset>`; another bot's cursor means nothing to this one.
fn offset_of(cursor: &str, me: &Identity) -> Option<i32> {
    let (bot, offset) = cursor.split_once(':')?;
    (bot.parse() == Ok(me.id)).then(|| offset.parse().ok())?
}

/// Between half and all of `first` doubled for each failure, at most `cap`.
fn backoff(first: Duration, cap: Duration, failures: u32, jitter: u8) -> Duration {
    let doublings = failures.saturating_sub(1).min(MAX_DOUBLINGS);
    let whole = first.saturating_mul(1 << doublings).min(cap);
    whole / 2 + (whole / 2) * u32::from(jitter) / 255
}

fn jitter() -> u8 {
    let mut byte = [0x80];
    // Without randomness the middle is as good a wait as any.
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_to_its_cap_and_is_jittered_by_half() {
        let (first, cap) = (Duration::from_secs(1), Duration::from_secs(30));
        let check = |failures, jitter, ms| {
            let wait = backoff(first, cap, failures, jitter);
            assert_eq!(wait, Duration::from_millis(ms), "{failures} {jitter}");
        };
        check(1, 0, 500);
        check(1, 255, 1000);
        check(3, 255, 4000);
        check(6, 255, 30_000);
        check(u32::MAX, 0, 15_000);
    }

    #[test]
    fn a_cursor_of_another_bot_is_not_used() {
        let me = Identity {
            id: 7,
            username: "atoll_bot".into(),
        };
        let check = |cursor: &str, expected| assert_eq!(offset_of(cursor, &me), expected, "{cursor}");
        check("7:43", Some(43));
        check("8:43", None);
        check("43", None);
        check("7:", None);
        check("7:x", None);
    }
}
