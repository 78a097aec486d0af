//! Turns that end without having run: nobody has room for them, somebody stopped them while they waited, or they were a direct command.

use atoll_agent::turn::Outcome;
use atoll_protocol::id::RunId;

use super::{Ended, Turns, error_of, state_of};
use crate::aside::do_or_set_aside;
use crate::clock;
use crate::journal::outbox::NewOutbound;
use crate::journal::runs::{self, RunEnd, RunRow};
use crate::watch::Broadcaster;

impl Turns {
    /// Ends a turn that no lane runs, with what is to be sent for it, and tells those who watch or wait. One that has an end keeps it.
    pub(crate) async fn end_unstarted(&self, run: &RunId, outcome: Outcome, answer: Vec<NewOutbound>) {
        let wanted = run.clone();
        let row = match self.journal.read(move |db| runs::find(db, &wanted)).await {
            Ok(Some(row)) if !row.state.is_end() => row,
            Ok(_) => return,
            Err(error) => return tracing::error!(%run, %error, "a turn cannot be read; the next start takes it up"),
        };
        do_or_set_aside(&self.tasks, self.clone().end(row, outcome, answer)).await;
    }

    async fn end(self, row: RunRow, outcome: Outcome, answer: Vec<NewOutbound>) {
        let run = row.new.run;
        let text = outcome.text().map(str::to_owned);
        let end = RunEnd {
            state: state_of(&outcome),
            error: error_of(&outcome),
            final_text: text.clone(),
        };
        if !self.store_end(&run, &end, answer).await {
            return;
        }
        self.outbox.wake();
        Broadcaster::new(self.hub.clone(), row.new.agent).ended(&run, &row.new.session, &outcome);
        let ended = Ended {
            state: end.state,
            text,
            started_at: row.started_at,
            ended_at: clock::now(),
        };
        self.waiting.tell(&run, &ended);
    }
}
