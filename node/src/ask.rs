//! Asks whoever is at the device whether a call may run: in every way that there is at once, and the first answer wins. Owns how long, how
//! many, and that nothing is left standing; how a person is reached, each `Way` knows.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_protocol::shown::one_line;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

pub(crate) mod board;
mod desktop;
mod terminal;
mod termux;

use board::Board;

/// How long a question waits at most. Later: it counts as no.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Questions that wait at once. More: the call is denied at once, and told why.
const QUESTIONS: usize = 8;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// Short, to be typed.
    pub(crate) id: String,
    /// The command.
    pub(crate) command: String,
    /// What it is about, in one line that is safe to show.
    pub(crate) about: String,
    /// Who wants it.
    pub(crate) gateway: String,
    /// How long it waits.
    pub(crate) patience: Duration,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} wants {}", self.gateway, self.command)?;
        match self.about.as_str() {
            "" => Ok(()),
            about => write!(f, " ({about})"),
        }
    }
}

/// A way to reach the person at the device.
#[async_trait]
pub(crate) trait Way: Send + Sync + fmt::Debug {
    /// What it is called where it is written down who answered.
    fn name(&self) -> &'static str;

    /// Resolves with an answer, if one comes this way. Dropping it takes the question back.
    async fn ask(&self, question: &Question) -> bool;

    /// Shows that something is being used.
    fn show(&self, what: &str);
}

/// The ways of this device. None: questions are answered by `atoll-node answer` alone.
#[derive(Debug, Clone, Default)]
pub struct Ways(Vec<Arc<dyn Way>>);

impl Ways {
    /// All that there are here: the desktop, Termux, and the terminal if the daemon was started in one.
    pub fn here(state_dir: &std::path::Path) -> Self {
        let desktop = desktop::Desktop::find().map(|way| Arc::new(way) as Arc<dyn Way>);
        let termux = termux::Termux::find(state_dir).map(|way| Arc::new(way) as Arc<dyn Way>);
        let terminal = terminal::Terminal::find().map(|way| Arc::new(way) as Arc<dyn Way>);
        Self([desktop, termux, terminal].into_iter().flatten().collect())
    }

    /// Shows in all of them that something is being used.
    pub(crate) fn show(&self, what: &str) {
        self.0.iter().for_each(|way| way.show(what));
    }
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Somebody said so, in that way.
    Given(bool, &'static str),
    /// Nobody said anything for as long as that.
    Nobody(Duration),
    /// [`QUESTIONS`] wait already.
    TooMany,
    /// It could not be asked.
    Failed(String),
}

/// The questions of this device.
#[derive(Debug)]
pub(crate) struct Asks {
    board: Board,
    ways: Ways,
    room: Semaphore,
}

impl Asks {
    /// None waits; what a daemon that was killed left standing is taken down by [`Board::clear`].
    pub(crate) fn new(board: Board, ways: Ways) -> Self {
        Self {
            board,
            ways,
            room: Semaphore::new(QUESTIONS),
        }
    }

    /// Where people see and answer them from elsewhere on the device.
    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    /// The ways.
    pub(crate) fn ways(&self) -> &Ways {
        &self.ways
    }

    /// Asks until somebody answers, but for no longer than `patience` and [`PATIENCE`]. Dropping it takes the question back.
    pub(crate) async fn ask(&self, command: &str, about: String, gateway: String, patience: Duration) -> Answer {
        let Ok(_room) = self.room.try_acquire() else {
            return Answer::TooMany;
        };
        let question = Question {
            id: board::new_id(),
            command: command.to_owned(),
            about,
            gateway,
            patience: patience.min(PATIENCE),
        };
        let posted = match self.board.post(&question) {
            Ok(posted) => posted,
            Err(error) => return Answer::Failed(error.to_string()),
        };
        let mut ways: FuturesUnordered<_> = self.ways.0.iter().map(|way| said(way.as_ref(), &question)).collect();
        let any = async {
            match ways.next().await {
                Some(said) => said,
                None => std::future::pending().await,
            }
        };
        let waiting = async {
            tokio::select! {
                biased;
                said = posted.answered() => (said, board::NAME),
                (said, way) = any => (said, way),
            }
        };
        let given = timeout(question.patience, waiting).await.ok();
        // Whoever answered on the board before it is taken down was first.
        match (posted.take_down(), given) {
            (Some(said), _) => Answer::Given(said, board::NAME),
            (None, Some((said, way))) => Answer::Given(said, way),
            (None, None) => Answer::Nobody(question.patience),
        }
    }
}

async fn said(way: &dyn Way, question: &Question) -> (bool, &'static str) {
    (way.ask(question).await, way.name())
}

/// Longest text of a call that is shown, characters.
const ABOUT: usize = 160;

/// What a person should see of a call's parameters: those that say what it is about, in one line without anything that a screen would obey.
pub(crate) fn about(params: Option<&atoll_protocol::json::Json>) -> String {
    const SHOWN: [&str; 8] = [
        "command",
        "path",
        "to",
        "deviceId",
        "facing",
        "durationMs",
        "title",
        "url",
    ];
    let Some(tree) = params.map(atoll_protocol::json::Json::tree) else {
        return String::new();
    };
    let parts = SHOWN.iter().filter_map(|name| match tree.get(name)? {
        serde_json::Value::String(text) => Some(format!("{name} {text}")),
        serde_json::Value::Array(words) => {
            let words: Vec<&str> = words.iter().filter_map(serde_json::Value::as_str).collect();
            Some(format!("{name} {}", words.join(" ")))
        }
        serde_json::Value::Number(number) => Some(format!("{name} {number}")),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Object(_) => None,
    });
    one_line(&parts.collect::<Vec<_>>().join(", "), ABOUT)
}

#[cfg(test)]
mod tests;
