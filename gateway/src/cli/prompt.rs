//! The prompt: lines typed become messages or answers to what waits for a yes; what the agent says is printed. The decisions are pure
//! ([`Desk`]); around them is one loop over lines, events and Ctrl-C.

use std::collections::VecDeque;
use std::io::{BufRead, IsTerminal};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::CliError;
use super::client::{Client, Event};
use super::conversation::{self, ending};
use super::output::{self, text};

#[cfg(test)]
mod tests;

/// Messages that wait for the turn before them. More: no line is read until one is sent, unless an approval is open; then a further
/// message is refused in words.
const WAITING: usize = 64;

/// Lines between the reading thread and the loop. More: they stay with the terminal.
const LINES: usize = 16;

/// Talks until the input ends or the person leaves.
pub(super) async fn talk(client: &mut Client, session: &str) -> Result<(), CliError> {
    let mut lines = read_lines();
    let mut desk = Desk::default();
    let is_terminal = std::io::stdin().is_terminal();
    loop {
        if is_terminal && desk.is_idle() {
            output::aside("> ");
        }
        let acts = tokio::select! {
            biased;
            event = client.event() => desk.event(&event?),
            _ = tokio::signal::ctrl_c() => desk.interrupt(),
            line = lines.recv(), if desk.wants_lines() => desk.line(line),
        };
        let mut acts = VecDeque::from(acts);
        while let Some(act) = acts.pop_front() {
            if act == Act::Leave {
                return Ok(());
            }
            acts.extend(perform(client, session, &mut desk, act).await?);
        }
    }
}

/// A thread of its own, as reading a terminal cannot be called off; it ends with the process.
fn read_lines() -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel(LINES);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if send.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Does one thing, which may be followed by more. A refusal is shown and the prompt goes on; without a gateway it cannot.
async fn perform(client: &mut Client, session: &str, desk: &mut Desk, act: Act) -> Result<Vec<Act>, CliError> {
    let done = match act {
        Act::Show(line) => output::line(line),
        Act::Leave => Ok(()),
        Act::Abort { run } => conversation::abort(client, session, &run).await,
        Act::Answer { id, decision } => client
            .call("exec.approval.resolve", json!({"id": id, "decision": decision}))
            .await
            .map(drop),
        Act::Send(message) => match conversation::start(client, session, &message).await {
            Ok(run) => {
                desk.started(run);
                Ok(())
            }
            Err(error) => Err(error),
        },
    };
    match done {
        Err(error @ (CliError::Failed { .. } | CliError::Refused(_))) => {
            output::line(format!("! {error}"))?;
            Ok(desk.not_started())
        }
        Err(error @ (CliError::Usage(_) | CliError::Unreachable(_) | CliError::Local(_))) => Err(error),
        Ok(()) => Ok(Vec::new()),
    }
}

/// What the loop is to do.
#[derive(Debug, Clone, PartialEq)]
enum Act {
    /// Print this.
    Show(String),
    /// Say this to the agent.
    Send(String),
    /// Answer an approval.
    Answer { id: String, decision: &'static str },
    /// Stop this turn.
    Abort { run: String },
    /// End the prompt.
    Leave,
}

/// A command that waits for a yes or no.
#[derive(Debug)]
struct Question {
    id: String,
    command: String,
    offers_always: bool,
}

/// The turn that is under way.
#[derive(Debug, Default)]
enum Turn {
    #[default]
    None,
    /// The message is on its way; its run has no name yet.
    Sent,
    Running(String),
}

/// What is on the desk: one turn, the messages after it, the questions that are open.
#[derive(Debug, Default)]
struct Desk {
    turn: Turn,
    waiting: VecDeque<String>,
    questions: Vec<Question>,
    is_leaving: bool,
}

impl Desk {
    /// Nothing is under way and nothing is asked.
    fn is_idle(&self) -> bool {
        matches!(self.turn, Turn::None) && self.waiting.is_empty() && self.questions.is_empty()
    }

    fn wants_lines(&self) -> bool {
        !self.is_leaving && (self.waiting.len() < WAITING || !self.questions.is_empty())
    }

    /// A line came, or the input is over: then what is under way is finished first.
    fn line(&mut self, line: Option<String>) -> Vec<Act> {
        let Some(line) = line else {
            self.is_leaving = true;
            return self.next();
        };
        let line = line.trim();
        if line.is_empty() {
            return Vec::new();
        }
        if matches!(line, "exit" | "quit" | "/quit" | "/exit") {
            return vec![Act::Leave];
        }
        if let Some(question) = self.questions.first()
            && let Some(decision) = answer(line)
        {
            return self.answer(question.id.clone(), question.offers_always, decision);
        }
        if self.waiting.len() >= WAITING {
            return vec![Act::Show(format!(
                "! {WAITING} messages wait already; this one is not kept"
            ))];
        }
        self.waiting.push_back(line.to_owned());
        self.next()
    }

    fn answer(&mut self, id: String, offers_always: bool, decision: &'static str) -> Vec<Act> {
        if decision == "allow-always" && !offers_always {
            return vec![Act::Show("this one can only be allowed once: y or n".to_owned())];
        }
        self.questions.remove(0);
        let mut acts = vec![Act::Answer { id, decision }];
        acts.extend(self.questions.first().map(|next| Act::Show(next.words())));
        acts
    }

    fn event(&mut self, event: &Event) -> Vec<Act> {
        let payload = &event.payload;
        match event.name.as_str() {
            "chat" => self.chat(payload),
            "exec.approval.requested" => self.asked(payload),
            "exec.approval.resolved" => {
                let Some(place) = self
                    .questions
                    .iter()
                    .position(|question| question.id == text(payload, "id"))
                else {
                    return Vec::new();
                };
                self.questions.remove(place);
                let told = Act::Show(format!(
                    "answered elsewhere, or too late: {}",
                    text(payload, "decision")
                ));
                let next = self.questions.first().filter(|_| place == 0);
                std::iter::once(told)
                    .chain(next.map(|next| Act::Show(next.words())))
                    .collect()
            }
            "shutdown" => vec![Act::Show("! the gateway is ending".to_owned())],
            _ => Vec::new(),
        }
    }

    fn chat(&mut self, payload: &Value) -> Vec<Act> {
        if !matches!(&self.turn, Turn::Running(run) if run == text(payload, "runId")) {
            return Vec::new();
        }
        let Some(end) = ending(payload) else { return Vec::new() };
        self.turn = Turn::None;
        let said = end.unwrap_or_else(|error| format!("! {error}"));
        let mut acts = vec![Act::Show(said)];
        acts.extend(self.next());
        acts
    }

    fn asked(&mut self, payload: &Value) -> Vec<Act> {
        let question = Question::of(payload);
        if self.questions.iter().any(|open| open.id == question.id) {
            return Vec::new();
        }
        let words = question.words();
        self.questions.push(question);
        if self.questions.len() == 1 {
            vec![Act::Show(words)]
        } else {
            Vec::new()
        }
    }

    /// Ctrl-C stops the turn that runs; without one it ends the prompt.
    fn interrupt(&self) -> Vec<Act> {
        match &self.turn {
            Turn::Running(run) => vec![Act::Abort { run: run.clone() }],
            Turn::None | Turn::Sent => vec![Act::Leave],
        }
    }

    fn started(&mut self, run: String) {
        self.turn = Turn::Running(run);
    }

    /// Something was refused; when it was the message on its way, the one after it is due.
    fn not_started(&mut self) -> Vec<Act> {
        if !matches!(self.turn, Turn::Sent) {
            return Vec::new();
        }
        self.turn = Turn::None;
        self.next()
    }

    /// The message that is due, or the end when the input is over and everything is said.
    fn next(&mut self) -> Vec<Act> {
        if !matches!(self.turn, Turn::None) {
            return Vec::new();
        }
        match self.waiting.pop_front() {
            Some(message) => {
                self.turn = Turn::Sent;
                vec![Act::Send(message)]
            }
            None if self.is_leaving => vec![Act::Leave],
            None => Vec::new(),
        }
    }
}

impl Question {
    fn of(payload: &Value) -> Self {
        let request = payload.get("request").unwrap_or(&Value::Null);
        let offered = output::list(request, "allowedDecisions");
        Self {
            id: text(payload, "id").to_owned(),
            command: conversation::wish(payload),
            offers_always: offered.iter().any(|decision| decision == "allow-always"),
        }
    }

    fn words(&self) -> String {
        let always = if self.offers_always { ", a = always" } else { "" };
        format!("? {}\n  y = once{always}, n = no", self.command)
    }
}

fn answer(line: &str) -> Option<&'static str> {
    match line.to_ascii_lowercase().as_str() {
        "y" | "yes" => Some("allow-once"),
        "a" | "always" => Some("allow-always"),
        "n" | "no" => Some("deny"),
        _ => None,
    }
}
