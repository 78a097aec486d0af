//! The outbox's way out: takes what is due, gives it to its channel once, and writes down how that went. Owns the order of sends within a
//! place. Never decides what is said.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use atoll_channels::port::{AccountRef, Channel, Outbound, SendError};
use futures_util::FutureExt;
use rusqlite::Connection;
use tokio::sync::{Notify, RwLock};
use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::journal::outbox::{self, NewOutbound, OutboxRow, Settlement};
use crate::journal::{Durability, Journal, JournalError};

/// Sends that are under way at once, over all accounts.
const AT_ONCE: usize = 64;

/// Of those, for one account: a platform that answers slowly must not hold up the others.
const AT_ONCE_OF_ACCOUNT: usize = 16;

/// One send has this long; then nobody knows.
const SEND_DEADLINE: Duration = Duration::from_secs(60);

/// One with bytes has this long.
const UPLOAD_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// The longest pause between two tries.
const LONGEST_PAUSE_MS: u64 = 5 * 60 * 1000;

/// What could not be sent for this long is given up, visibly.
const GIVE_UP_MS: i64 = 24 * 60 * 60 * 1000;

/// How often to look again after the journal refused.
const AFTER_TROUBLE: Duration = Duration::from_secs(1);

/// Marks rows that tell about another row, which never get such a row themselves.
const NOTICE: &str = "uncertain:";

/// The accounts that can send now. Shared: the configuration's reload replaces entries.
#[derive(Clone, Default)]
pub(crate) struct Accounts(Arc<RwLock<HashMap<AccountRef, Arc<dyn Channel>>>>);

impl Accounts {
    /// Adds or replaces one.
    pub(crate) async fn put(&self, account: AccountRef, channel: Arc<dyn Channel>) {
        self.0.write().await.insert(account, channel);
    }

    /// Removes one.
    pub(crate) async fn remove(&self, account: &AccountRef) {
        self.0.write().await.remove(account);
    }

    /// One of them.
    pub(crate) async fn find(&self, account: &AccountRef) -> Option<Arc<dyn Channel>> {
        self.0.read().await.get(account).cloned()
    }
}

/// The door to the outbox: hand in inside the transaction that makes the text true, then [`Outbox::wake`].
#[derive(Clone)]
pub(crate) struct Outbox {
    journal: Journal,
    accounts: Accounts,
    wake: Arc<Notify>,
}

impl Outbox {
    /// An outbox over this journal.
    pub(crate) fn new(journal: Journal, accounts: Accounts) -> Self {
        Self {
            journal,
            accounts,
            wake: Arc::default(),
        }
    }

    /// Something new is due.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Hands in what belongs to no other change.
    pub(crate) async fn hand_in(&self, items: Vec<NewOutbound>) -> Result<(), JournalError> {
        self.journal
            .write(Durability::Durable, move |db| outbox::enqueue(db, &items, clock::now()))
            .await?;
        self.wake();
        Ok(())
    }

    /// How many wait or are being sent.
    pub(crate) async fn waiting(&self) -> Option<u64> {
        self.journal.read(outbox::open_count).await.ok()
    }

    /// Settles what was being sent when the process ended. Once, before [`Self::run`].
    pub(crate) async fn recover(&self) -> Result<usize, JournalError> {
        self.journal
            .write(Durability::Durable, |db| {
                let rows = outbox::recover(db, clock::now())?;
                let notices: Vec<_> = rows.iter().filter_map(notice).collect();
                outbox::enqueue(db, &notices, clock::now())?;
                Ok(rows.len())
            })
            .await
    }

    /// Sends until stopped; what is under way then is finished first.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut sends = JoinSet::new();
        let mut busy = Busy::default();
        while !stop.is_cancelled() {
            let pause = match self.claim_due(&busy).await {
                Ok((rows, pause)) => {
                    for row in rows {
                        let account = row.item.place.account.clone();
                        let send = sends.spawn(self.clone().send(row, stop.clone()));
                        busy.0.insert(send.id(), account);
                    }
                    pause
                }
                Err(error) => {
                    tracing::error!(%error, "cannot read the outbox");
                    Some(AFTER_TROUBLE)
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(sent) = sends.join_next_with_id() => {
                    busy.0.remove(&sent.map_or_else(|error| error.id(), |(id, ())| id));
                }
                () = self.wake.notified() => {}
                () = sleep(pause) => {}
            }
        }
        while sends.join_next().await.is_some() {}
    }

    /// Claims as many rows as there is room for, and says when to look again if nothing else happens.
    async fn claim_due(&self, busy: &Busy) -> Result<(Vec<OutboxRow>, Option<Duration>), JournalError> {
        let room = AT_ONCE.saturating_sub(busy.0.len());
        let (limit, full) = (u32::try_from(room).unwrap_or(u32::MAX), busy.full());
        let look = move |db: &Connection| {
            let now = clock::now();
            Ok((outbox::due(db, now, limit, &full)?, outbox::next_due(db, &full)?))
        };
        let (mut due, next) = self.journal.read(look).await?;
        if due.is_empty() {
            return Ok((Vec::new(), next.map(|at| pause_until(at, room))));
        }
        let mut taken = busy.counts();
        due.retain(|row| {
            let count = taken.entry(row.item.place.account.clone()).or_default();
            *count += 1;
            *count <= AT_ONCE_OF_ACCOUNT
        });
        let claim = move |db: &Connection| {
            due.iter()
                .filter_map(|row| outbox::claim(db, row.id, clock::now()).transpose())
                .collect()
        };
        Ok((
            self.journal.write(Durability::Durable, claim).await?,
            Some(Duration::ZERO),
        ))
    }

    async fn send(self, row: OutboxRow, stop: CancellationToken) {
        let result = match self.accounts.find(&row.item.place.account).await {
            Some(channel) => send_once(&*channel, &row).await,
            None => Err(SendError::Retry {
                // Just after the start it may not be there yet; later the pauses grow by themselves.
                after_ms: 0,
                reason: "this account is not configured".to_owned(),
            }),
        };
        let settlement = settlement(&row, result);
        let id = row.id;
        let notice = match &settlement {
            Settlement::Uncertain(_) => notice(&row),
            Settlement::Refused(reason) => refusal(&row, reason),
            Settlement::Sent(_) | Settlement::Retry { .. } => None,
        };
        let settle = move |db: &Connection| {
            outbox::settle(db, id, &settlement, clock::now())?;
            outbox::enqueue(db, notice.as_slice(), clock::now()).map(drop)
        };
        // Until this holds, nothing more goes to the same place.
        let written = self
            .journal
            .insist(Durability::Lazy, "the outcome of a send", &stop, settle);
        if let Err(error) = written.await {
            tracing::error!(id, %error, "a send could not be written down; the next start takes it up");
        }
        self.wake();
    }
}

/// The sends under way, each with its account.
#[derive(Default)]
struct Busy(HashMap<task::Id, AccountRef>);

impl Busy {
    fn counts(&self) -> HashMap<AccountRef, usize> {
        let mut counts = HashMap::new();
        for account in self.0.values() {
            *counts.entry(account.clone()).or_default() += 1;
        }
        counts
    }

    /// Accounts that have no room.
    fn full(&self) -> Vec<AccountRef> {
        let counts = self.counts().into_iter();
        counts
            .filter_map(|(account, count)| (count >= AT_ONCE_OF_ACCOUNT).then_some(account))
            .collect()
    }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

fn pause_until(at: i64, room: usize) -> Duration {
    let wait = u64::try_from(at.saturating_sub(clock::now())).unwrap_or_default();
    // With no room a finished send wakes the loop.
    if room == 0 {
        AFTER_TROUBLE
    } else {
        Duration::from_millis(wait.max(1))
    }
}

async fn send_once(channel: &dyn Channel, row: &OutboxRow) -> Result<atoll_channels::port::Receipt, SendError> {
    let sending = AssertUnwindSafe(channel.send(&row.item.place, &row.item.outbound)).catch_unwind();
    let deadline = match row.item.outbound {
        Outbound::File { .. } => UPLOAD_DEADLINE,
        Outbound::Text { .. } | Outbound::Card { .. } | Outbound::Edit { .. } | Outbound::ClickAnswer { .. } => {
            SEND_DEADLINE
        }
    };
    match tokio::time::timeout(deadline, sending).await {
        Ok(Ok(result)) => result,
        // It would hold up everything for the same place if it stayed under way.
        Ok(Err(_)) => Err(SendError::Uncertain("the channel panicked".to_owned())),
        Err(_) => Err(SendError::Uncertain("the platform did not answer in time".to_owned())),
    }
}

fn settlement(row: &OutboxRow, result: Result<atoll_channels::port::Receipt, SendError>) -> Settlement {
    let now = clock::now();
    match result {
        Ok(receipt) => Settlement::Sent(receipt),
        Err(SendError::Retry { reason, .. }) if now.saturating_sub(row.created_at) > GIVE_UP_MS => {
            Settlement::Refused(format!("given up after 24 hours: {reason}"))
        }
        Err(SendError::Retry { after_ms, reason }) => {
            let pause = after_ms
                .max(backoff_ms(row.attempts))
                .min(LONGEST_PAUSE_MS.max(after_ms));
            Settlement::Retry {
                not_before: now.saturating_add_unsigned(pause),
                error: reason,
            }
        }
        Err(SendError::Refused(reason)) => Settlement::Refused(reason),
        Err(SendError::Uncertain(reason)) if outbox::is_repeatable(&row.item.outbound) => Settlement::Retry {
            not_before: now.saturating_add_unsigned(backoff_ms(row.attempts)),
            error: reason,
        },
        Err(SendError::Uncertain(reason)) => Settlement::Uncertain(reason),
    }
}

fn backoff_ms(attempts: u32) -> u64 {
    500_u64.saturating_mul(1 << attempts.min(12)).min(LONGEST_PAUSE_MS)
}

/// What the person is told when nobody knows whether a message arrived.
fn notice(row: &OutboxRow) -> Option<NewOutbound> {
    let text = match &row.item.outbound {
        Outbound::Text { text, .. } | Outbound::Card { text, .. } => {
            let first_words = text.chars().take(60).collect::<String>();
            format!("⚠️ Uncertain: a message of mine may not have arrived. It began: {first_words}")
        }
        Outbound::File { name, .. } => {
            format!("⚠️ Uncertain: {name} may not have arrived. It is not sent again by itself.")
        }
        Outbound::Edit { .. } | Outbound::ClickAnswer { .. } => return None,
    };
    about(row, text)
}

/// What the person is told who waits for a picture that cannot be sent.
fn refusal(row: &OutboxRow, reason: &str) -> Option<NewOutbound> {
    match &row.item.outbound {
        Outbound::File { name, .. } => about(row, format!("⚠️ {name} could not be sent: {reason}.")),
        Outbound::Text { .. } | Outbound::Card { .. } | Outbound::Edit { .. } | Outbound::ClickAnswer { .. } => None,
    }
}

fn about(row: &OutboxRow, text: String) -> Option<NewOutbound> {
    (!row.item.key.starts_with(NOTICE)).then(|| NewOutbound {
        place: row.item.place.clone(),
        outbound: Outbound::Text { text, reply_to: None },
        run: row.item.run.clone(),
        part: 0,
        key: format!("{NOTICE}{}", row.id),
    })
}

#[cfg(test)]
mod tests;
