//! The table of keys for people and programs: a JSON Schema, and a commented sample file. Makes nothing up that the table does not say.

use serde_json::{Map, Value, json};

use super::check::has_default;
use super::keys::{Kind, Node, tree};

/// A JSON Schema (2020-12) of the whole file: types, defaults, allowed values, sentences.
pub fn schema() -> Value {
    let mut schema = describe(tree());
    if let Some(members) = schema.as_object_mut() {
        members.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        members.insert("title".into(), "atoll.json".into());
    }
    schema
}

/// A commented file that says what holds when nothing is written. What has no default is commented out.
pub fn sample() -> String {
    let mut text = String::from("// Everything here is what holds anyway; keep only what you change.\n{\n");
    for line in members(tree(), false) {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str("}\n");
    text
}

fn describe(node: &Node) -> Value {
    let mut schema = match node.kind {
        Kind::Object(None) => object(node),
        Kind::Object(Some(_)) => json!({"anyOf": [{"type": "string"}, object(node)]}),
        Kind::Map => json!({"type": "object", "additionalProperties": entry(node)}),
        Kind::List => json!({"type": "array", "items": entry(node)}),
        Kind::Text => json!({"type": "string", "minLength": 1}),
        Kind::Secret => json!({"type": "string", "minLength": 1, "writeOnly": true}),
        Kind::Url => json!({"type": "string", "format": "uri"}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Int(low, high) => json!({"type": "integer", "minimum": low, "maximum": high}),
        Kind::Words(words) => json!({"type": "string", "enum": words}),
        Kind::Texts => json!({"type": "array", "items": {"type": "string"}}),
        Kind::Ids => json!({"type": "array", "items": {"type": ["string", "integer"]}}),
        Kind::Patterns => json!({"type": "array", "items": {"type": "string", "format": "regex"}}),
        Kind::AgentId => json!({"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"}),
    };
    if let Some(members) = schema.as_object_mut() {
        if !node.doc.is_empty() {
            members.insert("description".into(), node.doc.into());
        }
        if let Some(default) = default(node) {
            members.insert("default".into(), default);
        }
    }
    schema
}

fn object(node: &Node) -> Value {
    let properties: Map<String, Value> = node
        .children
        .iter()
        .map(|child| (child.name.clone(), describe(child)))
        .collect();
    let required: Vec<&str> = node
        .children
        .iter()
        .filter(|child| child.required)
        .map(|child| child.name.as_str())
        .collect();
    if required.is_empty() {
        json!({"type": "object", "properties": properties})
    } else {
        json!({"type": "object", "properties": properties, "required": required})
    }
}

fn entry(node: &Node) -> Value {
    node.entry().map_or(Value::Bool(true), describe)
}

fn default(node: &Node) -> Option<Value> {
    serde_json::from_str(node.default?).ok()
}

/// The lines of an object's members. Inside a part that is commented out, sentences stand behind the values.
fn members(node: &Node, inside_comment: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for child in &node.children {
        let written = !inside_comment && has_default(child);
        let mut body = member(child, written);
        if !written && !inside_comment {
            body.iter_mut().for_each(|line| *line = format!("// {line}"));
        }
        if !inside_comment {
            lines.push(format!("// {}", sentence(child)));
        }
        lines.extend(body);
    }
    lines
}

fn member(node: &Node, written: bool) -> Vec<String> {
    let name = if node.name == "*" {
        "\"<name>\""
    } else {
        node.name.as_str()
    };
    let block = |open: &str, inner: Vec<String>, close: &str| {
        let mut lines = vec![format!("{name}: {open}")];
        lines.extend(inner.into_iter().map(|line| format!("  {line}")));
        lines.push(format!("{close},"));
        lines
    };
    match (node.kind, node.entry()) {
        (Kind::Object(_), _) => block("{", members(node, !written), "}"),
        (Kind::List, Some(item)) if !written => block("[{", members(item, true), "}]"),
        (Kind::Map, Some(_)) if !written => block("{", members(node, true), "}"),
        _ if written => vec![format!("{name}: {},", node.default.unwrap_or("null"))],
        _ => vec![format!("{name}: {}, // {}", example(node.kind), sentence(node))],
    }
}

fn sentence(node: &Node) -> String {
    let doc = node.doc.trim_end_matches('.');
    match node.kind {
        Kind::Words(words) => format!("{doc}. One of: {}.", words.join(", ")),
        Kind::Int(low, high) => format!("{doc}. From {low} to {high}."),
        Kind::Text
        | Kind::Secret
        | Kind::Url
        | Kind::Bool
        | Kind::Texts
        | Kind::Ids
        | Kind::Patterns
        | Kind::AgentId
        | Kind::Object(_)
        | Kind::Map
        | Kind::List => format!("{doc}."),
    }
}

fn example(kind: Kind) -> String {
    match kind {
        Kind::Text => "\"…\"".to_owned(),
        Kind::Secret => "\"${NAME_OF_A_VARIABLE}\"".to_owned(),
        Kind::Url => "\"https://…\"".to_owned(),
        Kind::Bool => "true".to_owned(),
        Kind::Int(low, _) => low.to_string(),
        Kind::Words(words) => format!("\"{}\"", words.first().unwrap_or(&"…")),
        Kind::Texts | Kind::Patterns => "[\"…\"]".to_owned(),
        Kind::Ids => "[\"123\"]".to_owned(),
        Kind::AgentId => "\"main\"".to_owned(),
        Kind::Object(_) | Kind::Map => "{}".to_owned(),
        Kind::List => "[]".to_owned(),
    }
}
