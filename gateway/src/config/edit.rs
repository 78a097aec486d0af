//! Changes of single values in a JSON5 text: comments, order and every byte beside the change stay. Pure text in, text out.

use std::ops::Range;

use serde_json::Value;

use super::text::{Item, Member, Shape, SyntaxError, Tree, scan, trivia_on_line};

/// Why a change cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text is no JSON5.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// The path is empty or has an empty part.
    #[error("{0:?} is not a key; write it like gateway.port or agents.list[0].model")]
    Path(String),
    /// A part of the path names something inside a value that has no inside.
    #[error("{0} is neither an object nor a list, so nothing in it can be set")]
    NotAContainer(String),
    /// The list has no such place.
    #[error("{key} has {len} entries, so there is no [{index}]")]
    NoSuchItem {
        /// The list.
        key: String,
        /// How many it has.
        len: usize,
        /// Which one was asked for.
        index: String,
    },
}

/// Splits `a.b[0]."c.d"` (also `a.b.0`) into its parts.
///
/// # Errors
/// [`EditError::Path`].
pub fn parse_path(path: &str) -> Result<Vec<String>, EditError> {
    let bad = || EditError::Path(path.to_owned());
    let mut parts = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (part, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted.split_once('"').ok_or_else(bad)?
        } else if let Some(index) = rest.strip_prefix('[') {
            index.split_once(']').ok_or_else(bad)?
        } else {
            rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()))
        };
        if part.is_empty() {
            return Err(bad());
        }
        parts.push(part.to_owned());
        rest = match after.strip_prefix('.') {
            Some("") => return Err(bad()),
            Some(after) => after,
            None if after.is_empty() || after.starts_with('[') => after,
            None => return Err(bad()),
        };
    }
    if parts.is_empty() {
        return Err(bad());
    }
    Ok(parts)
}

/// The text with the value at the path put in or replaced. Objects on the way are made; a list takes an existing index or the one
/// behind its last.
///
/// # Errors
/// See [`EditError`].
pub(super) fn set(text: &str, path: &[String], value: &Value) -> Result<String, EditError> {
    check_path(path)?;
    let Some(root) = scan(text)? else {
        let separator = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        let made = render(&nest(path, value.clone()), "");
        return Ok(format!("{text}{separator}{made}\n"));
    };
    let mut tree = &root;
    for (depth, part) in path.iter().enumerate() {
        let next = match &tree.shape {
            Shape::Object(members) => members
                .iter()
                .rfind(|member| member.name == *part)
                .map(|found| &found.value),
            Shape::Array(items) => item(items, path, depth)?,
            Shape::Scalar => return Err(EditError::NotAContainer(path[..depth].join("."))),
        };
        match next {
            Some(next) => tree = next,
            None => {
                let value = nest(&path[depth + 1..], value.clone());
                return Ok(insert(text, tree, part, &value));
            }
        }
    }
    Ok(replace(
        text,
        tree.span.clone(),
        &render(value, indent_at(text, tree.span.start)),
    ))
}

/// The text without the member or item at the path; the same text when there is none.
///
/// # Errors
/// See [`EditError`].
pub(super) fn unset(text: &str, path: &[String]) -> Result<String, EditError> {
    check_path(path)?;
    let Some(root) = scan(text)? else {
        return Ok(text.to_owned());
    };
    let Some((last, parents)) = path.split_last() else {
        return Ok(text.to_owned());
    };
    let mut tree = &root;
    for (depth, part) in parents.iter().enumerate() {
        let next = match &tree.shape {
            Shape::Object(members) => members
                .iter()
                .rfind(|member| member.name == *part)
                .map(|found| &found.value),
            Shape::Array(items) => item(items, path, depth)?,
            Shape::Scalar => None,
        };
        let Some(next) = next else {
            return Ok(text.to_owned());
        };
        tree = next;
    }
    let entries: Vec<Entry> = match &tree.shape {
        Shape::Object(members) => members.iter().map(Entry::from).collect(),
        Shape::Array(items) => items.iter().map(Entry::from).collect(),
        Shape::Scalar => return Ok(text.to_owned()),
    };
    let names = |entry: &Entry| entry.name.as_deref() == Some(last.as_str());
    if let Shape::Array(_) = tree.shape {
        let index = last.parse().ok().filter(|index| *index < entries.len());
        return Ok(index.map_or_else(|| text.to_owned(), |index| remove(text, &entries, index)));
    }
    match entries.iter().rposition(names) {
        // A name that occurs twice must go twice, or removing the last would bring the first to light.
        Some(index) => unset(&remove(text, &entries, index), path),
        None => Ok(text.to_owned()),
    }
}

/// Whether an object stands at the path.
///
/// # Errors
/// [`EditError::Syntax`].
pub(super) fn is_object(text: &str, path: &[String]) -> Result<bool, EditError> {
    let Some(root) = scan(text)? else {
        return Ok(false);
    };
    let mut tree = &root;
    for part in path {
        let Shape::Object(members) = &tree.shape else {
            return Ok(false);
        };
        match members.iter().rfind(|member| member.name == *part) {
            Some(member) => tree = &member.value,
            None => return Ok(false),
        }
    }
    Ok(matches!(tree.shape, Shape::Object(_)))
}

fn check_path(path: &[String]) -> Result<(), EditError> {
    if path.is_empty() || path.iter().any(String::is_empty) {
        return Err(EditError::Path(path.join(".")));
    }
    Ok(())
}

/// The item that the path's part names; none is the place behind the last.
fn item<'a>(items: &'a [Item], path: &[String], depth: usize) -> Result<Option<&'a Tree>, EditError> {
    match path[depth].parse::<usize>() {
        Ok(index) if index <= items.len() => Ok(items.get(index).map(|item| &item.value)),
        _ => Err(EditError::NoSuchItem {
            key: path[..depth].join("."),
            len: items.len(),
            index: path[depth].clone(),
        }),
    }
}

fn nest(path: &[String], value: Value) -> Value {
    path.iter().rev().fold(value, |inner, part| {
        Value::Object(serde_json::Map::from_iter([(part.clone(), inner)]))
    })
}

/// What removal needs to know of a member or an item.
struct Entry {
    name: Option<String>,
    start: usize,
    end: usize,
    comma: Option<usize>,
}

impl From<&Member> for Entry {
    fn from(member: &Member) -> Self {
        Self {
            name: Some(member.name.clone()),
            start: member.start,
            end: member.value.span.end,
            comma: member.comma,
        }
    }
}

impl From<&Item> for Entry {
    fn from(item: &Item) -> Self {
        Self {
            name: None,
            start: item.value.span.start,
            end: item.value.span.end,
            comma: item.comma,
        }
    }
}

fn insert(text: &str, container: &Tree, part: &str, value: &Value) -> String {
    let (last, prefix) = match &container.shape {
        Shape::Object(members) => (members.last().map(Entry::from), format!("{}: ", quote_name(part))),
        Shape::Array(items) => (items.last().map(Entry::from), String::new()),
        Shape::Scalar => (None, String::new()),
    };
    let outer = indent_at(text, container.span.start);
    let Some(last) = last else {
        let inner = format!("{outer}  ");
        let entry = format!("\n{inner}{prefix}{}\n{outer}", render(value, &inner));
        return replace(text, container.span.start + 1..container.span.start + 1, &entry);
    };
    let (line_end, has_comment) = trivia_on_line(text, last.comma.map_or(last.end, |comma| comma + 1));
    let inside = &text[container.span.start..last.start];
    let breaks = has_comment || inside.contains('\n');
    let inner = if inside.contains('\n') {
        indent_at(text, last.start).to_owned()
    } else {
        format!("{outer}  ")
    };
    let separator = if breaks { format!("\n{inner}") } else { " ".to_owned() };
    let trailing = if last.comma.is_some() { "," } else { "" };
    let at = if breaks {
        line_end
    } else {
        last.comma.map_or(last.end, |comma| comma + 1)
    };
    let entry = format!("{separator}{prefix}{}{trailing}", render(value, &inner));
    let text = replace(text, at..at, &entry);
    match last.comma {
        Some(_) => text,
        None => replace(&text, last.end..last.end, ","),
    }
}

fn remove(text: &str, entries: &[Entry], index: usize) -> String {
    let entry = &entries[index];
    let end = entry.comma.map_or(entry.end, |comma| comma + 1);
    let line_start = text[..entry.start].rfind('\n').map_or(0, |at| at + 1);
    let alone_before = text[line_start..entry.start].trim().is_empty() && line_start > 0;
    let (line_end, _) = trivia_on_line(text, end);
    let rest_of_line = &text[end..line_end];
    let alone_after = rest_of_line.trim().is_empty() && text[line_end..].starts_with(['\n', '\r']);
    let range = if alone_before && alone_after {
        // The whole line goes, with the line end before it.
        let start = line_start - 1;
        let start = if text[..start].ends_with('\r') {
            start - 1
        } else {
            start
        };
        start..line_end
    } else {
        let blanks = rest_of_line.len() - rest_of_line.trim_start_matches([' ', '\t']).len();
        entry.start..end + if index + 1 < entries.len() { blanks } else { 0 }
    };
    let text = replace(text, range, "");
    match index.checked_sub(1).map(|before| entries[before].comma) {
        // Without a comma behind it, it was the last; then the one before must lose its own.
        Some(Some(comma)) if entry.comma.is_none() => replace(&text, comma..comma + 1, ""),
        Some(_) | None => text,
    }
}

fn replace(text: &str, range: Range<usize>, with: &str) -> String {
    let mut text = text.to_owned();
    text.replace_range(range, with);
    text
}

/// The blanks that the line of a byte begins with.
fn indent_at(text: &str, offset: usize) -> &str {
    let line = &text[text[..offset].rfind('\n').map_or(0, |at| at + 1)..];
    &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
}

/// Pretty JSON whose later lines are indented like the first.
fn render(value: &Value, indent: &str) -> String {
    let flat = match value {
        Value::Array(items) => items.iter().all(|item| !item.is_object() && !item.is_array()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        Value::Object(_) => false,
    };
    if flat {
        return value.to_string();
    }
    format!("{value:#}").replace('\n', &format!("\n{indent}"))
}

fn quote_name(name: &str) -> String {
    let bare = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    if bare && !name.starts_with(|c: char| c.is_ascii_digit()) {
        name.to_owned()
    } else {
        Value::from(name).to_string()
    }
}

#[cfg(test)]
mod tests;
