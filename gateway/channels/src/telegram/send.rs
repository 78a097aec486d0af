//! Doing one thing at Telegram, once, and saying what is certain afterwards.
//!
//! | what happened | a message | an edit, an answer to a click |
//! |---|---|---|
//! | no connection (DNS, TCP, TLS) | retry | retry |
//! | 429 | retry after what Telegram asks | the same |
//! | 401, 404 (token) | retry in a minute: the owner can mend it | the same |
//! | 400, 403 | refused | refused; `message is not modified` is success |
//! | sent, then a timeout, a lost connection, a 5xx or an unreadable answer | **uncertain** | retry: doing it twice is doing it once |
//!
//! Telegram has no idempotency key and says nothing of what a 5xx has done, so a message that ends so is never sent
//! again. HTML that Telegram cannot parse is sent again as the plain text it was made from.

use std::time::{Duration, Instant};

use serde::Deserialize;
use teloxide::payloads::{
    AnswerCallbackQuery, AnswerCallbackQuerySetters, EditMessageText, EditMessageTextSetters, SendChatAction,
    SendChatActionSetters, SendMessage, SendMessageSetters,
};
use teloxide::types::{
    CallbackQueryId, ChatAction, ChatId, InlineKeyboardButton, InlineKeyboardMarkup, MessageId, ParseMode,
    ReplyParameters, ThreadId,
};

use super::api::{self, Failure};
use super::file::File;
use super::{Telegram, to_html};
use crate::port::{Button, Outbound, Place, Receipt, SendError};
use crate::split::prefix_within;

/// When nothing was reached, the next try makes sense after this.
const UNREACHABLE_RETRY: Duration = Duration::from_secs(2);
/// A rejected token is mended by its owner or not at all.
const TOKEN_RETRY: Duration = Duration::from_secs(60);
/// What a button may carry, bytes.
const MAX_BUTTON_DATA: usize = 64;
/// What a notice may hold, UTF-16 units.
const MAX_NOTICE: usize = 200;
/// How long a `typing` may take; it is shown again in a few seconds anyway.
const TYPING_DEADLINE: Duration = Duration::from_secs(5);

/// The part of a sent message that we need; anything else in it may be newer than we are.
#[derive(Deserialize)]
pub(super) struct Sent {
    pub(super) message_id: i64,
}

/// Anything.
#[derive(Deserialize)]
struct Done {}

/// Where, in Telegram's own types.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) chat: ChatId,
    pub(super) thread: Option<ThreadId>,
}

impl Target {
    fn of(place: &Place) -> Result<Self, SendError> {
        let chat = place.chat.parse().map(ChatId);
        let chat = chat.map_err(|_| SendError::Refused(format!("{:?} is not a Telegram chat id", place.chat)))?;
        let thread = place.thread.as_deref().map(message_id).transpose()?.map(ThreadId);
        Ok(Self { chat, thread })
    }
}

/// How a text goes out.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Form {
    Html,
    Plain,
}

impl Telegram {
    /// [`crate::port::Channel::send`].
    pub(super) async fn deliver(&self, place: &Place, outbound: &Outbound) -> Result<Receipt, SendError> {
        match outbound {
            Outbound::Text { text, reply_to } => {
                let reply_to = reply_to.as_deref().map(message_id).transpose()?;
                self.message(Target::of(place)?, text, reply_to, None).await
            }
            Outbound::Card { text, buttons } => {
                let keyboard = keyboard(buttons)?;
                self.message(Target::of(place)?, text, None, Some(keyboard)).await
            }
            Outbound::File {
                handle,
                name,
                mime,
                caption,
                reply_to,
            } => {
                let reply_to = reply_to.as_deref().map(message_id).transpose()?;
                let file = File {
                    handle,
                    name,
                    mime,
                    caption,
                    reply_to,
                };
                self.send_file(Target::of(place)?, file).await
            }
            Outbound::Edit { message, text } => self.edit(Target::of(place)?, message_id(message)?, text).await,
            Outbound::ClickAnswer { click, text } => self.answer(click, text).await,
        }
    }

    /// [`crate::port::Channel::typing`].
    pub(super) async fn show_typing(&self, place: &Place) {
        let Ok(target) = Target::of(place) else { return };
        let mut action = SendChatAction::new(target.chat, ChatAction::Typing);
        if let Some(thread) = target.thread {
            action = action.message_thread_id(thread);
        }
        if let Err(failure) = api::call::<_, bool>(&self.sender, &action, TYPING_DEADLINE).await {
            tracing::debug!(account = %self.account.account, %failure, "typing was not shown");
        }
    }

    async fn message(
        &self,
        mut target: Target,
        text: &str,
        reply_to: Option<MessageId>,
        keyboard: Option<InlineKeyboardMarkup>,
    ) -> Result<Receipt, SendError> {
        self.pause(target.chat).await?;
        let mut form = Form::Html;
        let mut moved = false;
        loop {
            let request = message_request(target, text, form, reply_to, keyboard.clone());
            match api::call::<_, Sent>(&self.sender, &request, self.timing.request).await {
                Ok(sent) => return Ok(receipt(Some(sent.message_id.to_string()))),
                Err(Failure::Refused(reason)) if form == Form::Html && is_about_html(&reason) => form = Form::Plain,
                Err(Failure::Moved(chat)) if !moved => {
                    target.chat = ChatId(chat);
                    moved = true;
                }
                Err(failure) => return Err(after_message(failure)),
            }
        }
    }

    async fn edit(&self, target: Target, message: MessageId, text: &str) -> Result<Receipt, SendError> {
        self.pause(target.chat).await?;
        let mut form = Form::Html;
        loop {
            let request = edit_request(target.chat, message, text, form);
            match api::call::<_, Done>(&self.sender, &request, self.timing.request).await {
                Ok(Done {}) => break,
                Err(Failure::Refused(reason)) if reason.contains("message is not modified") => break,
                Err(Failure::Refused(reason)) if form == Form::Html && is_about_html(&reason) => form = Form::Plain,
                Err(failure) => return Err(after_repeatable(failure)),
            }
        }
        Ok(receipt(Some(message.0.to_string())))
    }

    async fn answer(&self, click: &str, text: &str) -> Result<Receipt, SendError> {
        let id = CallbackQueryId(click.to_owned());
        let request = AnswerCallbackQuery::new(id).text(prefix_within(text, MAX_NOTICE));
        let answered = api::call::<_, bool>(&self.sender, &request, self.timing.request).await;
        answered.map(|_| receipt(None)).map_err(after_repeatable)
    }

    pub(super) async fn pause(&self, chat: ChatId) -> Result<(), SendError> {
        match self.pacer.reserve(chat.0, Instant::now(), self.timing.pace) {
            Ok(wait) if wait.is_zero() => Ok(()),
            Ok(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Err(wait) => Err(retry(wait, "messages to this chat are paced".to_owned())),
        }
    }
}

fn message_request(
    target: Target,
    text: &str,
    form: Form,
    reply_to: Option<MessageId>,
    keyboard: Option<InlineKeyboardMarkup>,
) -> SendMessage {
    let mut request = match form {
        Form::Html => SendMessage::new(target.chat, to_html(text)).parse_mode(ParseMode::Html),
        Form::Plain => SendMessage::new(target.chat, text),
    };
    request.message_thread_id = target.thread;
    if let Some(message) = reply_to {
        // The message may be gone by now; the answer is worth more than the arrow to it.
        request = request.reply_parameters(ReplyParameters::new(message).allow_sending_without_reply());
    }
    match keyboard {
        Some(keyboard) => request.reply_markup(keyboard),
        None => request,
    }
}

/// Without a keyboard of its own an edit removes the buttons.
fn edit_request(chat: ChatId, message: MessageId, text: &str, form: Form) -> EditMessageText {
    match form {
        Form::Html => EditMessageText::new(chat, message, to_html(text)).parse_mode(ParseMode::Html),
        Form::Plain => EditMessageText::new(chat, message, text),
    }
}

fn keyboard(rows: &[Vec<Button>]) -> Result<InlineKeyboardMarkup, SendError> {
    if let Some(button) = rows
        .iter()
        .flatten()
        .find(|b| b.data.is_empty() || b.data.len() > MAX_BUTTON_DATA)
    {
        let reason = format!(
            "the button {:?} carries {} bytes, not 1 to 64",
            button.label,
            button.data.len()
        );
        return Err(SendError::Refused(reason));
    }
    let row = |row: &Vec<Button>| -> Vec<InlineKeyboardButton> {
        row.iter()
            .map(|button| InlineKeyboardButton::callback(&button.label, &button.data))
            .collect()
    };
    Ok(InlineKeyboardMarkup::new(rows.iter().map(row)))
}

fn message_id(text: &str) -> Result<MessageId, SendError> {
    text.parse()
        .map(MessageId)
        .map_err(|_| SendError::Refused(format!("{text:?} is not a Telegram message id")))
}

/// Markdown that renders to nothing (an empty fence) is shown as it was written, like HTML that does not parse.
pub(super) fn is_about_html(reason: &str) -> bool {
    reason.contains("can't parse entities") || reason.contains("text is empty")
}

pub(super) fn receipt(message: Option<String>) -> Receipt {
    Receipt { message }
}

pub(super) fn retry(after: Duration, reason: String) -> SendError {
    SendError::Retry {
        after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
        reason,
    }
}

pub(super) fn after_message(failure: Failure) -> SendError {
    let reason = failure.to_string();
    match failure {
        Failure::Unreachable(_) => retry(UNREACHABLE_RETRY, reason),
        Failure::FloodWait(wait) => retry(wait, reason),
        Failure::Unauthorized(_) => retry(TOKEN_RETRY, reason),
        Failure::NoAnswer(_) => SendError::Uncertain(reason),
        Failure::Conflict(_) | Failure::Moved(_) | Failure::Refused(_) => SendError::Refused(reason),
    }
}

fn after_repeatable(failure: Failure) -> SendError {
    match after_message(failure) {
        SendError::Uncertain(reason) => retry(UNREACHABLE_RETRY, reason),
        certain @ (SendError::Retry { .. } | SendError::Refused(_)) => certain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_have_been_done_is_uncertain_and_only_for_messages() {
        let lost = || Failure::NoAnswer("reset".into());
        assert!(matches!(after_message(lost()), SendError::Uncertain(_)));
        assert!(matches!(after_repeatable(lost()), SendError::Retry { .. }));
        let flood = after_message(Failure::FloodWait(Duration::from_secs(7)));
        assert!(matches!(flood, SendError::Retry { after_ms: 7000, .. }));
        assert!(matches!(
            after_message(Failure::Unreachable("dns".into())),
            SendError::Retry { .. }
        ));
        assert!(matches!(
            after_message(Failure::Unauthorized("401".into())),
            SendError::Retry { .. }
        ));
        assert!(matches!(
            after_message(Failure::Refused("400".into())),
            SendError::Refused(_)
        ));
    }

    #[test]
    fn a_button_that_telegram_would_refuse_is_refused_before_it_is_asked() {
        let row = |data: &str| {
            vec![vec![Button {
                label: "Go".into(),
                data: data.into(),
            }]]
        };
        assert!(keyboard(&row(&"x".repeat(64))).is_ok());
        assert!(matches!(keyboard(&row(&"x".repeat(65))), Err(SendError::Refused(_))));
        assert!(matches!(keyboard(&row("")), Err(SendError::Refused(_))));
    }
}
