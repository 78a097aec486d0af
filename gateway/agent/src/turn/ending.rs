//! How a turn ends, and the words for it. A function of the turn's own messages, so that a resumed turn ends with the same words.

use std::sync::Arc;

use crate::message::{Assistant, Media, Message, Part, StopReason, ToolResult, Usage};
use crate::model::error::ModelError;

/// A whole reply of this word, in any case, is not delivered.
pub(super) const NO_REPLY: &str = "NO_REPLY";

/// What the model is told of a call that was left undone for something that the person said.
pub(super) const INTERRUPTED: &str = "Not run: the person said something meanwhile, which follows.";

pub(super) const NO_MODEL: &str = "No model is configured. Set agents.defaults.model.primary to \"provider/model\" and \
    models.providers.<provider>.apiKey in atoll.json (atoll config set does both). Direct commands such as /help work without a model.";

/// Pictures and files of a turn that go with its answer. More: the newest.
const MEDIA: usize = 10;

/// The end of a turn.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnEnd {
    /// What came of it.
    pub outcome: Outcome,
    /// What its tools gave to be shown, oldest first.
    pub media: Vec<Media>,
    /// All requests to models together.
    pub usage: Usage,
    /// Messages of the model.
    pub rounds: u32,
    /// The model that spoke last, as `provider/model`.
    pub model: Option<String>,
}

/// What came of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An answer.
    Answer {
        /// For the chat.
        text: String,
    },
    /// Nothing is to be said.
    Silent,
    /// No answer.
    Failed {
        /// For the chat: what, why, and the next step.
        message: String,
    },
    /// Stopped by a person.
    Aborted {
        /// For the chat.
        message: String,
    },
    /// Any end after a tool whose effect is unknown.
    Uncertain {
        /// For the chat; says so already.
        text: String,
        /// The tools.
        tools: Vec<String>,
    },
}

impl Outcome {
    /// What to say in the chat.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Answer { text } | Self::Uncertain { text, .. } => Some(text),
            Self::Failed { message } | Self::Aborted { message } => Some(message),
            Self::Silent => None,
        }
    }
}

/// Why a turn ends without an answer of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    Aborted,
    Deadline,
    Failed(String),
}

impl Why {
    pub(super) fn message(&self) -> String {
        match self {
            Self::Aborted => "Stopped.".to_owned(),
            Self::Deadline => "Stopped: the time for this turn is over. Ask again, or in smaller steps.".to_owned(),
            Self::Failed(message) => message.clone(),
        }
    }

    pub(super) fn skipped(&self) -> &'static str {
        match self {
            Self::Aborted => "Not run: the turn was stopped.",
            Self::Deadline => "Not run: the time for this turn was over.",
            Self::Failed(_) => "Not run: the turn failed.",
        }
    }

    pub(super) fn stop_reason(&self) -> StopReason {
        match self {
            Self::Aborted => StopReason::Aborted,
            Self::Deadline | Self::Failed(_) => StopReason::Error,
        }
    }
}

/// The outcome that a turn's own messages tell.
pub(super) fn outcome(own: &[Arc<Message>], direct: bool) -> Outcome {
    let plain = match own.last().map(|last| &**last) {
        Some(Message::Assistant(last)) => last_word(last, own, direct),
        Some(Message::User(_) | Message::ToolResult(_)) | None => Outcome::Silent,
    };
    let tools = uncertain_tools(own);
    if tools.is_empty() {
        return plain;
    }
    let note = format!(
        "⚠️ It is uncertain whether this took effect: {}. Check before you try it again.",
        tools.join(", ")
    );
    let text = match plain.text() {
        Some(said) => format!("{said}\n\n{note}"),
        None => note,
    };
    Outcome::Uncertain { text, tools }
}

fn last_word(last: &Assistant, own: &[Arc<Message>], direct: bool) -> Outcome {
    let message = last.error.clone().unwrap_or_default();
    match last.stop {
        StopReason::Aborted => Outcome::Aborted { message },
        StopReason::Error => Outcome::Failed { message },
        StopReason::Stop | StopReason::ToolUse => answer(last.text().trim(), own, direct),
        StopReason::Length => match answer(last.text().trim(), own, direct) {
            Outcome::Answer { text } => Outcome::Answer {
                text: format!("{text}\n\n[Cut here: the model reached its output limit.]"),
            },
            other
            @ (Outcome::Silent | Outcome::Failed { .. } | Outcome::Aborted { .. } | Outcome::Uncertain { .. }) => other,
        },
    }
}

fn answer(said: &str, own: &[Arc<Message>], direct: bool) -> Outcome {
    if !said.is_empty() && !said.eq_ignore_ascii_case(NO_REPLY) {
        return Outcome::Answer { text: said.to_owned() };
    }
    if let Some(failure) = last_failure(own) {
        let text = failure.text();
        let line = text
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or("no reason given");
        let line: String = line.chars().take(300).collect();
        return Outcome::Answer {
            text: format!("⚠️ {} failed: {line}", failure.tool),
        };
    }
    if direct {
        return Outcome::Answer {
            text: "Done. I have nothing to add.".to_owned(),
        };
    }
    Outcome::Silent
}

/// The pictures and files that the turn's tools gave, each once.
pub(super) fn media(own: &[Arc<Message>]) -> Vec<Media> {
    let mut all: Vec<Media> = Vec::new();
    let results = own.iter().filter_map(|message| as_result(message));
    for media in results.flat_map(|result| &result.content).filter_map(Part::as_media) {
        if !all.iter().any(|known| known.handle == media.handle) {
            all.push(media.clone());
        }
    }
    all.split_off(all.len().saturating_sub(MEDIA))
}

/// The last tool result of the turn, if it is a failure.
pub(super) fn last_failure(own: &[Arc<Message>]) -> Option<&ToolResult> {
    own.iter()
        .rev()
        .find_map(|message| as_result(message))
        .filter(|result| result.is_error)
}

fn uncertain_tools(own: &[Arc<Message>]) -> Vec<String> {
    let mut tools: Vec<String> = Vec::new();
    for result in own.iter().filter_map(|message| as_result(message)) {
        if result.uncertain && !tools.contains(&result.tool) {
            tools.push(result.tool.clone());
        }
    }
    tools
}

fn as_result(message: &Message) -> Option<&ToolResult> {
    match message {
        Message::ToolResult(result) => Some(result),
        Message::User(_) | Message::Assistant(_) => None,
    }
}

pub(super) fn too_many_rounds(rounds: u32) -> String {
    format!("Stopped: the model used {rounds} steps and did not come to an end. Ask again, or in smaller steps.")
}

pub(super) fn repeated_call(tool: &str) -> String {
    format!("Stopped: the model kept making the same call of {tool}. Ask again in other words.")
}

pub(super) fn no_such_tool(name: &str, offered: &[String]) -> String {
    if offered.is_empty() {
        return format!("There is no tool {name:?}; no tools are available now.");
    }
    format!("There is no tool {name:?}. Available now: {}.", offered.join(", "))
}

/// What to say when no model of the chain gave an answer.
pub(super) fn models_failed(models: &[String], failures: &[(usize, ModelError)]) -> String {
    let Some((_, last)) = failures.last() else {
        return NO_MODEL.to_owned();
    };
    let mut text = if let [(model, error)] = failures {
        format!("The model {} gave no answer: {error}.", name(models, *model))
    } else {
        let mut text = "No model gave an answer:".to_owned();
        for (model, error) in failures {
            text.push_str(&format!("\n- {}: {error}", name(models, *model)));
        }
        text.push('\n');
        text
    };
    text.push_str(if text.ends_with('\n') { "" } else { " " });
    text.push_str(last.next_step());
    text
}

fn name(models: &[String], index: usize) -> &str {
    models.get(index).map_or("?", String::as_str)
}
