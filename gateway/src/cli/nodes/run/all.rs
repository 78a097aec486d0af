//! The same command on many nodes, some at a time, and a table of how it went.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::ask::Manner;
use super::call::{Place, Running, Wish, stopped};
use super::{Stop, described, ended};
use crate::cli::client::Client;
use crate::cli::output::{self, text};
use crate::cli::{CliError, Reach};
use crate::select::Candidate;

/// Nodes that run it at the same time.
const AT_ONCE: usize = 8;

struct Ran {
    place: Place,
    time: Duration,
    result: Result<Value, CliError>,
}

/// Runs it on each; an error when it did not go well on all of them.
pub(super) async fn run(reach: &Reach, nodes: Vec<Candidate>, wish: &Wish, stop: &Stop) -> Result<(), CliError> {
    if nodes.is_empty() {
        return Err(CliError::Usage("no node that is meant runs programs".to_owned()));
    }
    let running = stream::iter(&nodes).map(|node| one(reach, node, wish, stop));
    let ran: Vec<_> = running.buffered(AT_ONCE).collect().await;
    if reach.json {
        output::json(&json!({"results": ran.iter().map(Ran::json).collect::<Vec<_>>()}))?;
    } else {
        let rows: Vec<_> = ran.iter().map(Ran::row).collect();
        output::table(&["NODE", "EXIT", "TIME", "LAST LINE"], &rows)?;
    }
    match ran.iter().filter(|ran| !ran.is_well()).count() {
        0 => Ok(()),
        count => Err(CliError::Failed {
            message: format!("it did not go well on {count} of {}", ran.len()),
            code: 1,
        }),
    }
}

async fn one(reach: &Reach, node: &Candidate, wish: &Wish, stop: &Stop) -> Ran {
    let place = Place::of(node);
    let began = Instant::now();
    let result = async {
        if stop.is_asked() {
            return Err(stopped());
        }
        if !node.connected {
            return Err(CliError::Unreachable("away".to_owned()));
        }
        let mut running = Running {
            client: Client::connect(reach).await?,
            place: &place,
            wish,
            stop,
            output: None,
        };
        running.until_its_end(reach, Manner::Notice).await
    }
    .await;
    Ran {
        place,
        time: began.elapsed(),
        result,
    }
}

impl Ran {
    fn is_well(&self) -> bool {
        self.result.as_ref().is_ok_and(|result| ended(result).is_ok())
    }

    /// The code that the program alone would have ended this one with; none when it did not run.
    fn code(&self) -> Option<u8> {
        match ended(self.result.as_ref().ok()?) {
            Ok(()) => Some(0),
            Err(CliError::Failed { code, .. }) => Some(code),
            Err(_) => None,
        }
    }

    fn row(&self) -> Vec<String> {
        let last = match &self.result {
            Ok(result) => last_line(result),
            Err(error) => first_line(&error.to_string()),
        };
        vec![
            cut(&self.place.name),
            self.code().map_or_else(|| "-".to_owned(), |code| code.to_string()),
            format!("{:.1}s", self.time.as_secs_f64()),
            last,
        ]
    }

    fn json(&self) -> Value {
        let mut shown = match &self.result {
            Ok(result) => {
                let mut shown = described(&self.place, result);
                shown["lastLine"] = json!(last_line(result));
                shown
            }
            Err(error) => json!({"nodeId": self.place.id, "node": self.place.name, "error": error.to_string()}),
        };
        shown["code"] = json!(self.code());
        shown["timeMs"] = json!(u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX));
        shown
    }
}

/// So that the other columns stay where they are seen.
fn cut(name: &str) -> String {
    name.chars().take(24).collect()
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// What it said last; of what went wrong first, where it said so.
fn last_line(result: &Value) -> String {
    let last = |field| {
        text(result, field)
            .lines()
            .rev()
            .map(str::trim_end)
            .find(|line| !line.is_empty())
    };
    let order = if ended(result).is_ok() {
        ["stdout", "stderr"]
    } else {
        ["stderr", "stdout"]
    };
    let line = order.into_iter().find_map(last);
    line.map_or_else(|| first_line(text(result, "error")), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_how_it_went_and_what_was_said_last() {
        let ran = |result| Ran {
            place: Place {
                id: "ab".to_owned(),
                name: "laptop".to_owned(),
            },
            time: Duration::from_millis(1_250),
            result,
        };
        for (result, expected) in [
            (
                Ok(json!({"exitCode": 0, "stdout": "a\nb\n\n", "stderr": "c"})),
                ["laptop", "0", "1.2s", "b"],
            ),
            (
                Ok(json!({"exitCode": 2, "stdout": "a\n", "stderr": "c\n"})),
                ["laptop", "2", "1.2s", "c"],
            ),
            (
                Ok(json!({"error": "nothing of that name\nx"})),
                ["laptop", "127", "1.2s", "nothing of that name"],
            ),
            (
                Err(CliError::Unreachable("away".to_owned())),
                ["laptop", "-", "1.2s", "away"],
            ),
        ] {
            assert_eq!(ran(result).row(), expected);
        }
    }
}
