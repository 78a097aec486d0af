//! What a power cut took from the end of a transcript, put back from the journal, which has the question and the answer of every turn that
//! ended. Calls of tools and their results are not there, and do not come back.

use std::sync::Arc;

use atoll_agent::message::{Assistant, Message, Part};
use atoll_agent::transcript::{AppendError, Transcript};

use crate::intake::is_command;
use crate::journal::runs::{RunRow, RunState};
use crate::turns::Said;

/// So many of the latest turns of a session are looked at: more than one conversation ends within [`super::LAG`].
pub(super) const LATEST: u32 = 16;

/// Appends the turns that ended well and began after everything that is there; gives how many. Nobody else appends yet.
pub(super) fn restore(transcript: &Transcript, newest_first: &[RunRow]) -> Result<usize, AppendError> {
    let last = transcript.facts().last_activity_at.unwrap_or_default();
    let there = transcript.history();
    let is_there = |row: &RunRow| there.iter().any(|entry| entry.run.as_ref() == Some(&row.new.run));
    let mut restored = 0;
    let missing = |row: &&RunRow| is_missing(row, last) && !is_there(row);
    for row in newest_first.iter().rev().filter(missing) {
        let Ok(said) = row.new.input.read::<Said>() else {
            continue;
        };
        let writer = transcript.writer(&row.new.run);
        writer.append(Arc::new(Message::User(said.into_message())))?;
        if let Some(text) = &row.final_text {
            let answer = Assistant {
                content: vec![Part::Text(text.clone())],
                ..Assistant::default()
            };
            writer.append(Arc::new(Message::Assistant(answer)))?;
        }
        restored += 1;
    }
    Ok(restored)
}

/// A turn appends its question after it was marked as begun, so whatever it appended is younger than that.
fn is_missing(row: &RunRow, last: i64) -> bool {
    let was_answered = row.state == RunState::Done && row.error.is_none() && !is_command(&row.new.input);
    was_answered && row.started_at.is_some_and(|started| started > last)
}
