//! What an index of sessions says about one of them; counted while reading, so that the index can be made anew at any time.

use super::record::{Body, Entry};
use crate::message::{Message, Usage};

/// Counts and times of a transcript.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// All records but the header.
    pub records: u64,
    /// Messages since the latest reset.
    pub messages: u64,
    /// Resets so far.
    pub resets: u64,
    /// What the models' services counted since the latest reset.
    pub usage: Usage,
    /// Tokens of the latest request and its answer: how full the model's window is.
    pub context_tokens: u64,
    /// The first record since the latest reset, milliseconds since 1970.
    pub started_at: Option<i64>,
    /// The latest message or reset, milliseconds since 1970.
    pub last_activity_at: Option<i64>,
    /// The latest model since the latest reset, as `provider/model`.
    pub model: Option<String>,
    /// The beginning of the first thing a person said since the latest reset.
    pub title: Option<String>,
}

/// Characters of a title.
const TITLE: usize = 80;

impl Facts {
    pub(super) fn count(&mut self, entry: &Entry) {
        self.records += 1;
        match &entry.body {
            Body::Message(message) => self.message(message, entry.at),
            Body::Reset { .. } => {
                *self = Self {
                    records: self.records,
                    resets: self.resets + 1,
                    started_at: Some(entry.at),
                    last_activity_at: Some(entry.at),
                    ..Self::default()
                };
            }
            Body::Compaction { .. } | Body::Other(_) => {}
        }
        self.started_at.get_or_insert(entry.at);
    }

    /// Records before the latest reset are not read; only how many they are, and how many resets among them.
    pub(super) fn pass_over(&mut self, records: usize, resets: usize) {
        self.records += records as u64;
        self.resets += resets as u64;
    }

    fn message(&mut self, message: &Message, at: i64) {
        self.messages += 1;
        self.last_activity_at = Some(at);
        match message {
            Message::User(user) => {
                let said = crate::message::joined_text(&user.content);
                self.title
                    .get_or_insert_with(|| said.trim().chars().take(TITLE).collect());
            }
            Message::Assistant(assistant) => {
                self.usage.add(assistant.usage);
                if assistant.usage.total() > 0 {
                    self.context_tokens = assistant.usage.total();
                }
                if !assistant.model.is_empty() {
                    self.model = Some(format!("{}/{}", assistant.provider, assistant.model));
                }
            }
            Message::ToolResult(_) => {}
        }
    }
}
