//! What Telegram knows: chats, messages, updates, clicks; and what each method does to it. Pure: no socket, no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

use super::html;

mod file;

pub use file::SentFile;

/// A person with an account there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The numeric id, above 0.
    pub id: i64,
    /// The name shown.
    pub name: String,
}

impl Person {
    /// Somebody.
    pub fn new(id: i64, name: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
        }
    }

    fn json(&self) -> Value {
        json!({"id": self.id, "is_bot": false, "first_name": self.name})
    }
}

/// A message that somebody writes.
#[derive(Debug, Clone, Default)]
pub struct Post {
    text: String,
    topic: Option<i64>,
    reply_to: Option<i64>,
    forwarded: bool,
}

impl Post {
    /// Text.
    pub fn text(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            ..Self::default()
        }
    }

    /// In a topic of a group.
    #[must_use]
    pub fn in_topic(mut self, topic: i64) -> Self {
        self.topic = Some(topic);
        self
    }

    /// As a reply to a message of the same chat.
    #[must_use]
    pub fn replying_to(mut self, message: i64) -> Self {
        self.reply_to = Some(message);
        self
    }

    /// Somebody else wrote it; it is forwarded.
    #[must_use]
    pub fn forwarded(mut self) -> Self {
        self.forwarded = true;
        self
    }
}

/// A message of the bot, as it is shown now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub message: i64,
    /// What a reader sees.
    pub text: String,
    /// What the bot sent.
    pub source: String,
    /// Whether it was sent with a parse mode.
    pub html: bool,
    /// Rows of label and data.
    pub buttons: Vec<Vec<(String, String)>>,
    /// The message it replies to.
    pub reply_to: Option<i64>,
    /// The topic it is in.
    pub topic: Option<i64>,
    /// How often it was edited.
    pub edits: u32,
    /// The photo, video or file that it shows; its text is the caption then.
    pub file: Option<SentFile>,
}

/// The bot's answer to a click.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClickAnswer {
    /// The click.
    pub click: String,
    /// The notice shown.
    pub text: String,
}

/// Why a method refuses.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: u16,
    description: String,
    parameters: Option<Value>,
}

impl Refusal {
    pub(super) fn new(code: u16, description: &str) -> Self {
        Self {
            code,
            description: description.to_owned(),
            parameters: None,
        }
    }

    pub(super) fn bad(reason: &str) -> Self {
        Self::new(400, &format!("Bad Request: {reason}"))
    }

    pub(super) fn flood(seconds: u32) -> Self {
        Self {
            parameters: Some(json!({"retry_after": seconds})),
            ..Self::new(429, &format!("Too Many Requests: retry after {seconds}"))
        }
    }

    pub(super) fn moved(chat: i64) -> Self {
        Self {
            parameters: Some(json!({"migrate_to_chat_id": chat})),
            ..Self::bad("group chat was upgraded to a supergroup chat")
        }
    }

    pub(super) fn body(&self) -> Value {
        let mut body = json!({"ok": false, "error_code": self.code, "description": self.description});
        if let Some(parameters) = &self.parameters {
            body["parameters"] = parameters.clone();
        }
        body
    }
}

const USERNAME: &str = "atoll_test_bot";
/// 1 January 2026; every message is a second later than the one before.
const FIRST_DATE: i64 = 1_767_225_600;

#[derive(Default)]
struct Chat {
    group: bool,
    topics: BTreeSet<i64>,
    blocked: bool,
    last_message: i64,
    /// Every message there, as JSON; the bot's also in `sent`.
    messages: BTreeMap<i64, Value>,
    sent: BTreeMap<i64, Sent>,
}

/// All of it.
pub(super) struct World {
    bot: i64,
    chats: BTreeMap<i64, Chat>,
    updates: VecDeque<(i64, Value)>,
    last_update: i64,
    date: i64,
    open_clicks: BTreeSet<String>,
    last_click: u64,
    answers: Vec<ClickAnswer>,
}

impl World {
    pub(super) fn new(bot: i64) -> Self {
        Self {
            bot,
            chats: BTreeMap::new(),
            updates: VecDeque::new(),
            last_update: 1000,
            date: FIRST_DATE,
            open_clicks: BTreeSet::new(),
            last_click: 0,
            answers: Vec::new(),
        }
    }

    pub(super) fn meet(&mut self, person: &Person) {
        self.chats.entry(person.id).or_default();
    }

    pub(super) fn add_group(&mut self, chat: i64, topics: &[i64]) {
        let chat = self.chats.entry(chat).or_default();
        chat.group = true;
        chat.topics.extend(topics);
    }

    pub(super) fn block(&mut self, chat: i64) {
        self.chats.entry(chat).or_default().blocked = true;
    }

    pub(super) fn push(&mut self, mut update: Value) -> i64 {
        self.last_update += 1;
        if let Some(click) = update["callback_query"]["id"].as_str() {
            self.open_clicks.insert(click.to_owned());
        }
        update["update_id"] = json!(self.last_update);
        self.updates.push_back((self.last_update, update));
        self.last_update
    }

    pub(super) fn post(&mut self, person: &Person, chat: i64, post: Post) -> i64 {
        if chat == person.id {
            self.meet(person);
        }
        let mut message = self.blank_message(chat, person.json());
        message["text"] = json!(post.text);
        let entities = entities(&post.text);
        if !entities.is_empty() {
            message["entities"] = json!(entities);
        }
        if let Some(topic) = post.topic {
            message["message_thread_id"] = json!(topic);
            message["is_topic_message"] = json!(true);
        }
        if let Some(replied) = post.reply_to {
            message["reply_to_message"] = self.chats[&chat].messages[&replied].clone();
        }
        if post.forwarded {
            message["forward_origin"] =
                json!({"type": "hidden_user", "sender_user_name": "Somebody", "date": FIRST_DATE});
        }
        let id = self.keep(chat, &message);
        self.push(json!({"message": message}));
        id
    }

    pub(super) fn click(&mut self, person: &Person, chat: i64, message: i64, data: &str) -> String {
        let shown = self
            .chats
            .get(&chat)
            .and_then(|chat| chat.sent.get(&message))
            .expect("a message of the bot");
        let there = shown.buttons.iter().flatten().any(|(_, carried)| carried == data);
        assert!(there, "no button with {data:?} in {shown:#?}");
        let card = self.chats[&chat].messages[&message].clone();
        self.last_click += 1;
        let id = format!("click-{}", self.last_click);
        self.push(json!({"callback_query": {
            "id": id, "from": person.json(), "message": card, "chat_instance": "1", "data": data,
        }}));
        id
    }

    pub(super) fn expire_clicks(&mut self) {
        self.open_clicks.clear();
    }

    pub(super) fn sent(&self, chat: i64) -> Vec<Sent> {
        let sent = self.chats.get(&chat).map(|chat| chat.sent.values().cloned());
        sent.into_iter().flatten().collect()
    }

    pub(super) fn click_answers(&self) -> Vec<ClickAnswer> {
        self.answers.clone()
    }

    pub(super) fn unconfirmed(&self) -> usize {
        self.updates.len()
    }

    /// Forgets what is before the offset and gives what is there, of the kinds asked for.
    pub(super) fn updates(&mut self, offset: i64, limit: usize, allowed: &Value) -> Vec<Value> {
        self.updates.retain(|(id, _)| offset <= 0 || *id >= offset);
        let wanted = |update: &Value| match allowed.as_array() {
            Some(kinds) if !kinds.is_empty() => kinds
                .iter()
                .any(|kind| kind.as_str().is_some_and(|k| update.get(k).is_some())),
            _ => true,
        };
        self.updates.retain(|(_, update)| wanted(update));
        self.updates
            .iter()
            .take(limit)
            .map(|(_, update)| update.clone())
            .collect()
    }

    /// Every method but `getUpdates`, which waits.
    pub(super) fn perform(&mut self, method: &str, parameters: &Value) -> Result<Value, Refusal> {
        match method {
            "getme" => Ok(self.me()),
            "sendmessage" => self.send_message(parameters),
            "editmessagetext" => self.edit_message(parameters),
            "answercallbackquery" => self.answer_click(parameters),
            "sendchataction" => self.chat_action(parameters),
            "deletewebhook" => Ok(json!(true)),
            "getwebhookinfo" => {
                Ok(json!({"url": "", "has_custom_certificate": false, "pending_update_count": self.updates.len()}))
            }
            _ => Err(Refusal::new(404, "Not Found")),
        }
    }

    fn me(&self) -> Value {
        json!({
            "id": self.bot, "is_bot": true, "first_name": "Atoll", "username": USERNAME, "can_join_groups": true,
            "can_read_all_group_messages": false, "supports_inline_queries": false, "has_main_web_app": false,
        })
    }

    fn send_message(&mut self, parameters: &Value) -> Result<Value, Refusal> {
        let shown = text_of(parameters)?;
        self.show(parameters, shown, None)
    }

    /// Puts a message into its chat.
    fn show(
        &mut self,
        parameters: &Value,
        (source, text, html): (String, String, bool),
        file: Option<SentFile>,
    ) -> Result<Value, Refusal> {
        let (id, chat) = self.writable(parameters)?;
        let topic = parameters["message_thread_id"].as_i64();
        if topic.is_some_and(|topic| !chat.topics.contains(&topic)) {
            return Err(Refusal::bad("message thread not found"));
        }
        let reply = &parameters["reply_parameters"];
        let reply_to = reply["message_id"].as_i64();
        let replied = reply_to.and_then(|replied| chat.messages.get(&replied)).cloned();
        if reply_to.is_some() && replied.is_none() && reply["allow_sending_without_reply"] != json!(true) {
            return Err(Refusal::bad("message to be replied not found"));
        }
        let buttons = buttons_of(&parameters["reply_markup"])?;
        let mut message = self.blank_message(id, self.me());
        match &file {
            Some(file) => file.describe(&mut message, &text),
            None => message["text"] = json!(text),
        }
        if !buttons.is_empty() {
            message["reply_markup"] = parameters["reply_markup"].clone();
        }
        if let Some(topic) = topic {
            message["message_thread_id"] = json!(topic);
            message["is_topic_message"] = json!(true);
        }
        let number = self.keep(id, &message);
        let sent = Sent {
            message: number,
            text,
            source,
            html,
            buttons,
            reply_to: replied.and(reply_to),
            topic,
            edits: 0,
            file,
        };
        self.chats.entry(id).or_default().sent.insert(number, sent);
        Ok(message)
    }

    fn edit_message(&mut self, parameters: &Value) -> Result<Value, Refusal> {
        let (id, _) = self.writable(parameters)?;
        let (source, text, html) = text_of(parameters)?;
        let buttons = buttons_of(&parameters["reply_markup"])?;
        let chat = self.chats.entry(id).or_default();
        let number = parameters["message_id"]
            .as_i64()
            .ok_or_else(|| Refusal::bad("message identifier is not specified"))?;
        let missing = || Refusal::bad("message to edit not found");
        let message = chat.messages.get_mut(&number).ok_or_else(missing)?;
        let Some(sent) = chat.sent.get_mut(&number) else {
            return Err(Refusal::bad("message can't be edited"));
        };
        if (&sent.source, sent.html, &sent.buttons) == (&source, html, &buttons) {
            return Err(Refusal::bad(
                "message is not modified: specified new message content and reply markup are exactly the same \
                 as a current content and reply markup of the message",
            ));
        }
        message["text"] = json!(text);
        message["reply_markup"] = parameters["reply_markup"].clone();
        if buttons.is_empty() {
            message
                .as_object_mut()
                .expect("a message is an object")
                .remove("reply_markup");
        }
        (sent.text, sent.source, sent.html, sent.buttons) = (text, source, html, buttons);
        sent.edits += 1;
        Ok(message.clone())
    }

    fn answer_click(&mut self, parameters: &Value) -> Result<Value, Refusal> {
        let click = parameters["callback_query_id"].as_str().unwrap_or_default();
        let text = parameters["text"].as_str().unwrap_or_default();
        if text.encode_utf16().count() > 200 {
            return Err(Refusal::bad("MESSAGE_TOO_LONG"));
        }
        if !self.open_clicks.remove(click) {
            return Err(Refusal::bad(
                "query is too old and response timeout expired or query ID is invalid",
            ));
        }
        self.answers.push(ClickAnswer {
            click: click.to_owned(),
            text: text.to_owned(),
        });
        Ok(json!(true))
    }

    fn chat_action(&mut self, parameters: &Value) -> Result<Value, Refusal> {
        self.writable(parameters)?;
        match parameters["action"].as_str() {
            Some("typing") => Ok(json!(true)),
            _ => Err(Refusal::bad("wrong parameter action in request")),
        }
    }

    fn writable(&self, parameters: &Value) -> Result<(i64, &Chat), Refusal> {
        let id = match &parameters["chat_id"] {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => return Err(Refusal::bad("chat_id is empty")),
        };
        let found = id.and_then(|id| Some((id, self.chats.get(&id)?)));
        let (id, chat) = found.ok_or_else(|| Refusal::bad("chat not found"))?;
        match (chat.blocked, chat.group) {
            (false, _) => Ok((id, chat)),
            (true, false) => Err(Refusal::new(403, "Forbidden: bot was blocked by the user")),
            (true, true) => Err(Refusal::new(403, "Forbidden: bot was kicked from the supergroup chat")),
        }
    }

    fn blank_message(&mut self, id: i64, from: Value) -> Value {
        self.date += 1;
        let chat = self.chats.get(&id).expect("a chat that the bot is in");
        let place = match (chat.group, chat.topics.is_empty()) {
            (false, _) => json!({"id": id, "type": "private", "first_name": "Somebody"}),
            (true, true) => json!({"id": id, "type": "supergroup", "title": "A group"}),
            (true, false) => json!({"id": id, "type": "supergroup", "title": "A group", "is_forum": true}),
        };
        json!({"message_id": chat.last_message + 1, "date": self.date, "chat": place, "from": from})
    }

    fn keep(&mut self, chat: i64, message: &Value) -> i64 {
        let chat = self.chats.entry(chat).or_default();
        chat.last_message += 1;
        chat.messages.insert(chat.last_message, message.clone());
        chat.last_message
    }
}

/// The source, what is shown of it, and whether it was marked up.
fn text_of(parameters: &Value) -> Result<(String, String, bool), Refusal> {
    let source = parameters["text"].as_str().unwrap_or_default();
    let (shown, html) = match parameters["parse_mode"].as_str() {
        None | Some("") => (source.to_owned(), false),
        Some("HTML") => {
            let shown =
                html::visible(source).map_err(|error| Refusal::bad(&format!("can't parse entities: {error}")))?;
            (shown, true)
        }
        Some(_) => return Err(Refusal::bad("unsupported parse_mode")),
    };
    let shown = shown.trim().to_owned();
    match shown.encode_utf16().count() {
        0 => Err(Refusal::bad("message text is empty")),
        1..=4096 => Ok((source.to_owned(), shown, html)),
        _ => Err(Refusal::bad("message is too long")),
    }
}

fn buttons_of(markup: &Value) -> Result<Vec<Vec<(String, String)>>, Refusal> {
    let rows = markup["inline_keyboard"].as_array().cloned().unwrap_or_default();
    let button = |button: &Value| {
        let label = button["text"].as_str().filter(|label| !label.is_empty());
        let label = label
            .ok_or_else(|| Refusal::bad("can't parse inline keyboard button: Field \"text\" must be of type String"))?;
        match button["callback_data"].as_str() {
            Some(data) if (1..=64).contains(&data.len()) => Ok((label.to_owned(), data.to_owned())),
            Some(_) => Err(Refusal::bad("BUTTON_DATA_INVALID")),
            None => Err(Refusal::bad(
                "can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard",
            )),
        }
    };
    rows.iter()
        .map(|row| row.as_array().into_iter().flatten().map(button).collect())
        .collect()
}

/// The mentions and commands that Telegram finds in a text.
fn entities(text: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut offset = 0;
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end().trim_end_matches(['.', ',', ':', '!', '?']);
        let name = |rest: &str| {
            !rest.is_empty()
                && rest
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '@'))
        };
        let kind = match bare.split_at_checked(1) {
            Some(("@", rest)) if name(rest) => Some("mention"),
            Some(("/", rest)) if name(rest) => Some("bot_command"),
            _ => None,
        };
        if let Some(kind) = kind {
            found.push(json!({"type": kind, "offset": offset, "length": bare.encode_utf16().count()}));
        }
        offset += word.encode_utf16().count();
    }
    found
}
