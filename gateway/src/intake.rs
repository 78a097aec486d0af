//! From what arrived to what is done about it. Owns the order in which stored messages are taken, and the one transaction in which each
//! becomes a turn, a reply or nothing. Never lets anybody in by itself: [`atoll_channels::gate`] decides.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_agent::turn::Outcome;
use atoll_channels::port::{AccountRef, AccountStatus, Inbound, Port, PortError};
use atoll_protocol::id::RunId;
use atoll_protocol::json::Json;
use tokio_util::sync::CancellationToken;

use crate::channels::Channels;
use crate::clock;
use crate::config::Config;
use crate::house::House;
use crate::journal::inbox::{self, InboxRow, Unreadable};
use crate::journal::runs::{self, RunRow};
use crate::journal::{Durability, Journal, JournalError};
use crate::turns::{self, Source};

mod follow;
mod rules;
mod take;
mod words;

pub(crate) use follow::parts;
use rules::Rules;
use take::Item;

/// Messages of one transaction.
const BATCH: u32 = 256;

/// How long to wait when the journal refused.
const AFTER_TROUBLE: Duration = Duration::from_secs(1);

/// What the ids of turns begin with that answer a stored message; no operator's turn may.
const RUN_PREFIX: &str = "in-";

/// What a channel sees of the house.
pub(crate) struct Inlet {
    /// Where it is stored.
    pub(crate) journal: Journal,
    /// Who is told that something came, and how the account does.
    pub(crate) channels: Channels,
}

#[async_trait]
impl Port for Inlet {
    async fn cursor(&self, account: &AccountRef) -> Result<Option<String>, PortError> {
        let account = account.clone();
        self.journal
            .read(move |db| inbox::cursor(db, &account))
            .await
            .map_err(refused)
    }

    async fn commit(&self, account: &AccountRef, cursor: &str, arrived: Vec<Inbound>) -> Result<(), PortError> {
        let (account, cursor) = (account.clone(), cursor.to_owned());
        let commit = move |db: &rusqlite::Connection| inbox::commit(db, &account, &cursor, &arrived, clock::now());
        let new = self.journal.write(Durability::Durable, commit).await.map_err(refused)?;
        if !new.is_empty() {
            self.channels.wake();
        }
        Ok(())
    }

    fn status(&self, account: &AccountRef, status: AccountStatus) {
        self.channels.report(account, status);
    }
}

fn refused(error: JournalError) -> PortError {
    PortError(error.to_string())
}

/// The turn that answers a stored message: always the same one, so that a crash in between never makes two.
fn run_of(row: i64) -> RunId {
    RunId::new(format!("{RUN_PREFIX}{row}")).expect("a prefix and a number are a short id")
}

/// Whether this id is kept for turns that answer stored messages.
pub(crate) fn is_reserved(run: &str) -> bool {
    run.starts_with(RUN_PREFIX)
}

/// Puts the turns that an earlier start left unfinished on their lanes again; gives how many. Once, before [`run`].
pub(crate) async fn recover(house: &House) -> Result<usize, JournalError> {
    let rows = house.journal.read(runs::unfinished).await?;
    for row in &rows {
        if is_command(&row.new.input) {
            give_up(house, row).await;
        } else {
            let source = row.new.origin.read().unwrap_or(Source::Operator);
            follow::put(house, turns::job(row), &source).await;
        }
    }
    Ok(rows.len())
}

/// The input of a turn that was a direct command at an operator's prompt: it must never reach a model.
pub(crate) fn command_input(text: &str) -> Json {
    Json::from(serde_json::json!({"text": text, "command": true}))
}

/// Whether it is that.
pub(crate) fn is_command(input: &Json) -> bool {
    input.tree().get("command").is_some_and(|command| command == true)
}

/// Whoever typed it is gone, and so is the right it was typed with.
async fn give_up(house: &House, row: &RunRow) {
    let text =
        "Uncertain: the gateway was restarted while this command was being worked on. It will not be tried again.";
    let outcome = Outcome::Uncertain {
        text: text.to_owned(),
        tools: vec!["direct command".to_owned()],
    };
    house.turns.end_unstarted(&row.new.run, outcome, Vec::new()).await;
}

/// Takes what is stored, in the order of its arrival, until stopped. Begins with what an earlier start left.
pub(crate) async fn run(house: Arc<House>, stop: CancellationToken) {
    let mut desk = Desk {
        house,
        after: 0,
        rules: Rules::default(),
    };
    while !stop.is_cancelled() {
        let pause = match desk.round().await {
            Ok(0) => None,
            Ok(_) => continue,
            Err(error) => {
                tracing::error!(%error, "what arrived cannot be taken yet");
                Some(AFTER_TROUBLE)
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = wait(&desk.house.channels, pause) => {}
        }
    }
}

async fn wait(channels: &Channels, pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => channels.arrival().await,
    }
}

struct Desk {
    house: Arc<House>,
    /// Everything up to this row was taken by this start.
    after: i64,
    rules: Rules,
}

impl Desk {
    /// Takes the next batch; gives how many there were.
    async fn round(&mut self) -> Result<usize, JournalError> {
        let after = self.after;
        let rows = self
            .house
            .journal
            .read(move |db| inbox::received(db, after, BATCH))
            .await?;
        let number = |row: &Result<InboxRow, Unreadable>| row.as_ref().map_or_else(|row| row.id, |row| row.id);
        let Some(last) = rows.last().map(number) else {
            return Ok(0);
        };
        let count = rows.len();
        let config = self.house.config();
        let items = rows
            .into_iter()
            .map(|row| row.map(|row| self.item(&config, row)))
            .collect();
        let take = move |db: &rusqlite::Connection| take::take_all(db, items, clock::now());
        // After a power cut the message, which is durable, is taken once more; what is to be sent for it waits for its own claim.
        let steps = self.house.journal.write(Durability::Lazy, take).await?;
        self.after = last;
        self.house.outbox.wake();
        for step in steps {
            follow::follow(&self.house, step).await;
        }
        Ok(count)
    }

    fn item(&mut self, config: &Arc<Config>, row: InboxRow) -> Item {
        Item {
            rule: self.rules.of(config, &row.inbound),
            username: self.house.channels.username(&row.inbound.place.account),
            row,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turn_of_a_message_is_always_the_same_and_no_operators() {
        assert_eq!(run_of(7), run_of(7));
        assert!(is_reserved(run_of(7).as_str()));
        assert!(!is_reserved("7"));
    }

    #[test]
    fn a_typed_command_is_told_from_what_is_for_a_model() {
        assert!(is_command(&command_input("/status")));
        let said = turns::Said::of("/status");
        assert!(!is_command(&Json::of(&said).expect("serialises")));
        assert_eq!(command_input("/x").read::<turns::Said>().expect("reads").text, "/x");
    }
}
