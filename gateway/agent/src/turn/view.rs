//! The conversation as a model is shown it: every call with its result, and no more than fits the model's window. Never changes what
//! is stored.

use std::sync::Arc;

use crate::message::{Assistant, Media, Message, Part, ToolResult, User, View};

/// Tool results longer than this are shortened first, characters.
const LONG_RESULT: usize = 4_000;
/// What stays of a shortened result at either end, characters.
const KEPT_END: usize = 1_500;
/// Messages of the model at the end of the conversation whose results stay whole.
const RECENT: usize = 3;
/// Instead of an old result, when shortening was not enough.
const CLEARED: &str = "[Old tool result content cleared]";
/// Pictures that a model is shown again; older ones are told of.
const PICTURES: usize = 4;
/// Pixels that services count as one token.
const PIXELS_OF_TOKEN: usize = 750;
const LEFT_OUT: &str = "[Earlier messages of this conversation are left out here.]\n\n";
const NO_RESULT: &str = "No result: the turn ended before this call did.";

/// A rough size in tokens; every budget in this crate counts this way.
pub fn tokens(characters: usize) -> usize {
    characters.div_ceil(4)
}

/// Pairs calls with results, then fits the conversation into `budget` tokens: old tool results are shortened, then cleared, then the
/// oldest exchanges are left out. What follows the last message of a person always stays.
pub fn fitted(messages: &[Arc<Message>], budget: usize) -> Vec<Arc<Message>> {
    let mut view = paired(messages);
    for step in [shortened, cleared] {
        if size(&view) <= budget {
            return view;
        }
        let old = recent_from(&view);
        for message in &mut view[..old] {
            if let Some(smaller) = step(message) {
                *message = Arc::new(smaller);
            }
        }
    }
    without_oldest(view, budget)
}

/// Pictures as a model can have them: those that it cannot see and all but the newest are told of in words. What came with the last
/// words of a person is shown whole for as long as nothing newer has pictures.
pub fn with_pictures(messages: &[Arc<Message>], sees: bool) -> Vec<Arc<Message>> {
    let mut left = if sees { PICTURES.max(sent_last(messages)) } else { 0 };
    let why = if sees {
        "it was shown before and is not shown again"
    } else {
        "this model cannot see pictures"
    };
    let mut shown: Vec<_> = messages
        .iter()
        .rev()
        .map(|message| told(message, &mut left, why))
        .collect();
    shown.reverse();
    shown
}

/// Pictures that came with the last words of a person.
fn sent_last(messages: &[Arc<Message>]) -> usize {
    let last = messages
        .iter()
        .rev()
        .find(|message| matches!(&***message, Message::User(_)));
    last.map_or(0, |message| message.parts().iter().filter_map(view_of).count())
}

fn told(message: &Arc<Message>, left: &mut usize, why: &str) -> Arc<Message> {
    if !message.parts().iter().any(|part| view_of(part).is_some()) {
        return Arc::clone(message);
    }
    let mut content: Vec<_> = message
        .parts()
        .iter()
        .rev()
        .map(|part| match part.as_media().filter(|media| media.view.is_some()) {
            Some(_) if *left > 0 => {
                *left -= 1;
                part.clone()
            }
            Some(media) => Part::Text(not_shown(media, why)),
            None => part.clone(),
        })
        .collect();
    content.reverse();
    Arc::new(match &**message {
        Message::User(_) => Message::User(User { content }),
        Message::Assistant(said) => Message::Assistant(Assistant {
            content,
            ..said.clone()
        }),
        Message::ToolResult(result) => Message::ToolResult(ToolResult {
            content,
            ..result.clone()
        }),
    })
}

/// What stands in the place of a picture.
pub(crate) fn not_shown(media: &Media, why: &str) -> String {
    format!("\n[Picture {}: {why}.]", media.handle)
}

fn view_of(part: &Part) -> Option<&View> {
    part.as_media().and_then(|media| media.view.as_ref())
}

/// Each call directly followed by its one result: missing ones are made up, strays are dropped. Messages with nothing in them that a
/// model could be shown are dropped too.
pub fn paired(messages: &[Arc<Message>]) -> Vec<Arc<Message>> {
    let mut view = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        match &**message {
            Message::User(user) if shows(&user.content) => view.push(Arc::clone(message)),
            Message::Assistant(assistant) if shows(&assistant.content) => {
                view.push(Arc::clone(message));
                for call in assistant.calls() {
                    let result = result_of(&call.id, &messages[index + 1..]).map(Arc::clone);
                    view.push(result.unwrap_or_else(|| Arc::new(no_result(&call.id, &call.name))));
                }
            }
            Message::User(_) | Message::Assistant(_) | Message::ToolResult(_) => {}
        }
    }
    view
}

/// Ids are looked for up to the model's next message only: an imported conversation can use one twice.
fn result_of<'a>(call: &str, after: &'a [Arc<Message>]) -> Option<&'a Arc<Message>> {
    after
        .iter()
        .take_while(|message| !matches!(&***message, Message::Assistant(_)))
        .find(|message| matches!(&***message, Message::ToolResult(result) if result.call == call))
}

fn shows(parts: &[Part]) -> bool {
    parts.iter().any(|part| match part {
        Part::Text(text) => !text.trim().is_empty(),
        Part::ToolCall(_) => true,
        Part::Media(media) => media.view.is_some(),
        Part::Thinking(_) | Part::Other(_) => false,
    })
}

fn no_result(call: &str, tool: &str) -> Message {
    Message::ToolResult(ToolResult {
        call: call.to_owned(),
        tool: tool.to_owned(),
        content: vec![Part::Text(NO_RESULT.to_owned())],
        is_error: true,
        uncertain: false,
    })
}

/// Tokens of a conversation.
pub fn size(messages: &[Arc<Message>]) -> usize {
    tokens(messages.iter().map(|message| characters(message)).sum())
}

fn characters(message: &Message) -> usize {
    let sum: usize = message
        .parts()
        .iter()
        .map(|part| match part {
            Part::Text(text) => text.len(),
            Part::ToolCall(call) => call.name.len() + call.args.as_str().len() + 40,
            Part::Media(media) => media.view.as_ref().map_or(0, weight),
            Part::Thinking(_) | Part::Other(_) => 0,
        })
        .sum();
    sum + 16
}

/// A picture in characters, as the budget counts.
fn weight(view: &View) -> usize {
    let pixels = (view.width as usize).saturating_mul(view.height as usize);
    pixels.div_ceil(PIXELS_OF_TOKEN).saturating_mul(4)
}

/// Where the messages that stay whole begin.
fn recent_from(view: &[Arc<Message>]) -> usize {
    view.iter()
        .enumerate()
        .rev()
        .filter(|(_, message)| matches!(&***message, Message::Assistant(_)))
        .nth(RECENT - 1)
        .map_or(0, |(index, _)| index)
}

fn shortened(message: &Arc<Message>) -> Option<Message> {
    let Message::ToolResult(result) = &**message else {
        return None;
    };
    let text = result.text();
    let count = text.chars().count();
    if count <= LONG_RESULT {
        return None;
    }
    let head: String = text.chars().take(KEPT_END).collect();
    let tail: String = text.chars().skip(count - KEPT_END).collect();
    let left_out = count - 2 * KEPT_END;
    let text = format!("{head}\n[… {left_out} characters left out …]\n{tail}");
    let pictures = result.content.iter().filter(|part| view_of(part).is_some()).cloned();
    let content = std::iter::once(Part::Text(text)).chain(pictures).collect();
    Some(Message::ToolResult(ToolResult {
        content,
        ..result.clone()
    }))
}

fn cleared(message: &Arc<Message>) -> Option<Message> {
    match &**message {
        Message::ToolResult(result) => Some(with_text(result, CLEARED.to_owned())),
        Message::User(_) | Message::Assistant(_) => None,
    }
}

fn with_text(result: &ToolResult, text: String) -> Message {
    Message::ToolResult(ToolResult {
        content: vec![Part::Text(text)],
        ..result.clone()
    })
}

/// Leaves out whole exchanges from the front: a cut is only ever in front of a person's message, so no call loses its result.
fn without_oldest(view: Vec<Arc<Message>>, budget: usize) -> Vec<Arc<Message>> {
    let mut rest: usize = view.iter().map(|message| characters(message)).sum();
    let last_user = view
        .iter()
        .rposition(|message| matches!(&**message, Message::User(_)))
        .unwrap_or(0);
    let mut cut = 0;
    for (index, message) in view.iter().enumerate().take(last_user + 1) {
        if matches!(&**message, Message::User(_)) {
            cut = index;
            if tokens(rest) <= budget {
                break;
            }
        }
        rest -= characters(message);
    }
    if cut == 0 {
        return view;
    }
    let mut kept = view[cut..].to_vec();
    if let Message::User(user) = &*kept[0] {
        let mut content = vec![Part::Text(LEFT_OUT.to_owned())];
        content.extend(user.content.iter().cloned());
        kept[0] = Arc::new(Message::User(User { content }));
    }
    kept
}

#[cfg(test)]
mod tests;
