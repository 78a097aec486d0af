//! Takes secrets out of a written tree so that it can be shown, and puts them back into one that comes back. What the table does not know
//! counts as secret: a token under a misspelt key is still a token.

use serde_json::Value;

use super::check::dotted;
use super::edit::{self, EditError};
use super::keys::{Kind, Node, tree};

/// Stands in the place of a secret. Written back, it means the secret that was there.
pub const REDACTED: &str = "__OPENCLAW_REDACTED__";

/// The tree without its secrets. A mere reference to the environment is none.
pub(super) fn redacted(value: &Value) -> Value {
    let mut shown = value.clone();
    hide(Some(tree()), &mut shown);
    shown
}

/// The text of a file without its secrets, everything else as it stands.
///
/// # Errors
/// The text is no JSON5.
pub(super) fn redacted_text(text: &str, value: &Value) -> Result<String, EditError> {
    let mut places = Vec::new();
    find(&redacted(value), &mut Vec::new(), &mut places);
    places
        .iter()
        .try_fold(text.to_owned(), |text, path| edit::set(&text, path, &REDACTED.into()))
}

/// The text with every placeholder replaced by what the old tree has in its place.
///
/// # Errors
/// The key of a placeholder that stands where nothing was.
pub(super) fn restore(text: &str, new: &Value, old: &Value) -> Result<Result<String, EditError>, String> {
    let mut places = Vec::new();
    find(new, &mut Vec::new(), &mut places);
    let mut text = text.to_owned();
    for path in places {
        let secret = path.iter().try_fold(old, |value, part| match value {
            Value::Object(members) => members.get(part),
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        });
        let secret = secret.ok_or_else(|| dotted(&path))?;
        text = match edit::set(&text, &path, secret) {
            Ok(text) => text,
            Err(error) => return Ok(Err(error)),
        };
    }
    Ok(Ok(text))
}

fn hide(node: Option<&Node>, value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                hide(node.and_then(|node| node.child(name)), value);
            }
        }
        Value::Array(items) => {
            // A list of plain values is described by its own kind, a list of objects by its entry.
            let entry = node.and_then(|node| node.entry().or(Some(node)));
            items.iter_mut().for_each(|item| hide(entry, item));
        }
        Value::String(text) => {
            let secret = node.is_none_or(|node| node.kind == Kind::Secret);
            if secret && !is_reference(text) {
                *text = REDACTED.to_owned();
            }
        }
        Value::Number(_) if node.is_none() => *value = REDACTED.into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_reference(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

fn find(value: &Value, path: &mut Vec<String>, places: &mut Vec<Vec<String>>) {
    let mut inside = |name: String, value: &Value| {
        path.push(name);
        find(value, path, places);
        path.pop();
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| inside(name.clone(), value)),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, value)| inside(index.to_string(), value));
        }
        Value::String(text) if text == REDACTED => places.push(path.clone()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
