//! A written tree against the table: unknown keys warn, wrong values are errors, and all of them are told at once. Makes short forms
//! long and puts the defaults in, so that reading the result into types cannot fail. Pure.

use serde_json::{Map, Value};

use super::Problem;
use super::keys::{self, Kind, Node};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Wrong values; they were taken out of the tree.
    pub errors: Vec<Problem>,
    /// Unknown and not yet supported keys.
    pub warnings: Vec<Problem>,
}

/// Checks a whole tree in place. `shown` is the same tree before `${…}` was replaced: errors quote from it, so that no value of the
/// environment is shown.
pub(super) fn check(root: &Node, value: &mut Value, shown: &Value) -> Found {
    let mut check = Check {
        root,
        shown,
        found: Found::default(),
    };
    if !check.keep(root, value, &mut Vec::new()) {
        *value = Value::Object(Map::new());
    }
    check.found
}

/// Puts the defaults of everything that is not written in, below every object that exists or always exists.
pub(super) fn fill(node: &Node, value: &mut Value) {
    match value {
        Value::Object(members) => {
            for child in node.children.iter().filter(|child| child.name != "*") {
                fill_member(child, members);
            }
            if let Some(entry) = node.entry() {
                let free = |name: &str| !node.children.iter().any(|child| child.name == name);
                let values = members.iter_mut().filter(|(name, _)| free(name));
                values.for_each(|(_, value)| fill(entry, value));
            }
        }
        Value::Array(items) => {
            if let Some(entry) = node.entry() {
                items.iter_mut().for_each(|item| fill(entry, item));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn fill_member(child: &Node, members: &mut Map<String, Value>) {
    if !members.contains_key(&child.name) {
        let default = match (child.default, child.kind) {
            (Some(default), _) => serde_json::from_str(default).ok(),
            // An object that has a default somewhere below it always exists; an optional choice (a model, a peer) does not.
            (None, Kind::Object(_)) if has_default(child) => Some(Value::Object(Map::new())),
            (None, _) => None,
        };
        if let Some(default) = default {
            members.insert(child.name.clone(), default);
        }
    }
    if let Some(value) = members.get_mut(&child.name) {
        fill(child, value);
    }
}

/// Whether something holds when nothing is written.
pub(super) fn has_default(node: &Node) -> bool {
    let object = node.kind == Kind::Object(None) && !matches!(node.name.as_str(), "*" | "[]");
    node.default.is_some() || (object && node.children.iter().any(has_default))
}

struct Check<'a> {
    root: &'a Node,
    shown: &'a Value,
    found: Found,
}

impl Check<'_> {
    /// Checks a value; false when it must not stay.
    fn keep(&mut self, node: &Node, value: &mut Value, path: &mut Vec<String>) -> bool {
        if let (Kind::Object(Some(name)), Value::String(text)) = (node.kind, &*value) {
            // A plain text says all there is to say, so what it leaves out is not inherited.
            let mut long = Map::from_iter([(name.to_owned(), Value::from(text.clone()))]);
            if name == "primary" {
                long.insert("fallbacks".to_owned(), Value::Array(Vec::new()));
            }
            *value = Value::Object(long);
        }
        match (node.kind, &mut *value) {
            (Kind::Object(_) | Kind::Map, Value::Object(members)) => {
                self.members(node, members, path);
                self.is_complete(node, members, path)
            }
            (Kind::List, Value::Array(items)) => {
                self.items(node, items, path);
                true
            }
            _ => match scalar(node.kind, value) {
                Ok(()) => true,
                Err(wanted) => {
                    self.wrong(node.kind, path, &wanted);
                    false
                }
            },
        }
    }

    fn members(&mut self, node: &Node, members: &mut Map<String, Value>, path: &mut Vec<String>) {
        let names: Vec<String> = members.keys().cloned().collect();
        for name in names {
            path.push(name.clone());
            let stays = match (node.child(&name), members.get_mut(&name)) {
                (Some(child), Some(value)) => self.keep(child, value, path),
                (None, _) | (_, None) => {
                    self.unknown(node, &name, path);
                    false
                }
            };
            if !stays {
                members.shift_remove(&name);
            }
            path.pop();
        }
    }

    /// Whether everything required is there; what was there and wrong has been told already.
    fn is_complete(&mut self, node: &Node, members: &Map<String, Value>, path: &[String]) -> bool {
        let missing = |child: &&Node| child.required && !members.contains_key(&child.name);
        let mut complete = true;
        for child in node.children.iter().filter(missing) {
            complete = false;
            let place = [path, std::slice::from_ref(&child.name)].concat();
            if lookup(self.shown, &place).is_none() {
                self.found.errors.push(Problem::new(dotted(&place), "is missing"));
            }
        }
        complete
    }

    fn items(&mut self, node: &Node, items: &mut Vec<Value>, path: &mut Vec<String>) {
        let Some(entry) = node.entry() else { return };
        let mut kept = Vec::with_capacity(items.len());
        for (index, mut item) in items.drain(..).enumerate() {
            path.push(index.to_string());
            if self.keep(entry, &mut item, path) {
                kept.push(item);
            }
            path.pop();
        }
        *items = kept;
    }

    fn wrong(&mut self, kind: Kind, path: &[String], wanted: &str) {
        let shown = lookup(self.shown, path).filter(|_| kind != Kind::Secret);
        let shown = shown.map_or_else(|| "this value".to_owned(), show);
        let message = format!("{shown} is not {wanted}");
        self.found.errors.push(Problem::new(dotted(path), message));
    }

    fn unknown(&mut self, node: &Node, name: &str, path: &[String]) {
        let message = if node.not_yet.iter().any(|known| known == name) {
            match keys::instead(path) {
                Some(instead) => format!("has no effect here: {instead}"),
                None => "is not supported yet and has no effect".to_owned(),
            }
        } else if let Some(near) = nearest(node, name) {
            let mut meant = path.to_vec();
            meant.pop();
            meant.push(near.to_owned());
            format!("is not a known key and has no effect; did you mean {}?", dotted(&meant))
        } else if let Some(place) = elsewhere(self.root, name) {
            format!("is not a known key and has no effect; did you mean {place}?")
        } else {
            "is not a known key and has no effect".to_owned()
        };
        self.found.warnings.push(Problem::new(dotted(path), message));
    }
}

/// Whether a value is of its kind; if not, what it should be, in words. Numbers that stand for ids become texts.
fn scalar(kind: Kind, value: &mut Value) -> Result<(), String> {
    let good = match (kind, &mut *value) {
        (Kind::Text | Kind::Secret, Value::String(text)) => !text.trim().is_empty(),
        (Kind::Url, Value::String(text)) => is_url(text),
        (Kind::Bool, Value::Bool(_)) => true,
        (Kind::Int(low, high), Value::Number(number)) => {
            // JSON5 has one kind of number: 600.0 and 6e2 are whole as well.
            let whole = number.as_u64().or_else(|| whole(number.as_f64()?));
            match whole.filter(|whole| (low..=high).contains(whole)) {
                Some(whole) => {
                    *value = whole.into();
                    true
                }
                None => false,
            }
        }
        (Kind::Words(words), Value::String(text)) => words.contains(&text.as_str()),
        (Kind::Texts, Value::Array(items)) => items.iter().all(is_text),
        (Kind::Ids, Value::Array(items)) => items.iter_mut().all(make_id),
        (Kind::Patterns, Value::Array(items)) => items.iter().all(|item| {
            item.as_str()
                .is_some_and(|pattern| regex_lite::Regex::new(pattern).is_ok())
        }),
        (Kind::AgentId, Value::String(text)) => is_agent_id(text),
        _ => false,
    };
    if good { Ok(()) } else { Err(wanted(kind)) }
}

fn whole(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as u64)
}

fn is_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !text.contains(char::is_whitespace))
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty())
}

fn make_id(value: &mut Value) -> bool {
    if let Some(number) = value.as_i64() {
        *value = number.to_string().into();
    }
    is_text(value)
}

/// An agent's id names folders and stands in session keys, so it is short and plain.
pub(super) fn is_agent_id(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=64).contains(&text.len()) && text.chars().all(plain) && !text.starts_with(['-', '_'])
}

/// What a value of the kind looks like, in words.
pub(super) fn wanted(kind: Kind) -> String {
    match kind {
        Kind::Text => "a text with something in it".to_owned(),
        Kind::Secret => {
            "a text with something in it, best written as \"${NAME}\" of an environment variable".to_owned()
        }
        Kind::Url => "an address; allowed: http://… or https://…".to_owned(),
        Kind::Bool => "a yes or no; allowed: true, false".to_owned(),
        Kind::Int(low, high) => format!("a whole number in range; allowed: {low} to {high}"),
        Kind::Words(words) => format!("a word known here; allowed: {}", words.join(", ")),
        Kind::Texts => "a list of texts; allowed: [\"…\", …]".to_owned(),
        Kind::Ids => "a list of ids; allowed: [\"…\", 123, …]".to_owned(),
        Kind::Patterns => "a list of regular expressions; allowed: [\"…\", …]".to_owned(),
        Kind::AgentId => {
            "an agent's id; allowed: 1 to 64 letters, digits, - and _, beginning with a letter or digit".to_owned()
        }
        Kind::Object(None) | Kind::Map => "an object; allowed: {…}".to_owned(),
        Kind::Object(Some(name)) => format!("an object or a text; allowed: {{{name}: …}} or \"…\""),
        Kind::List => "a list; allowed: […]".to_owned(),
    }
}

fn lookup<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, part| match value {
        Value::Object(members) => members.get(part),
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}

fn show(value: &Value) -> String {
    let text = match value {
        // What is in it may be anything, a secret in the wrong place too.
        Value::Object(_) => return "an object".to_owned(),
        Value::Array(_) => return "this list".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    };
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

/// The path in the form that people write.
pub(super) fn dotted(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        if part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty() {
            text.push_str(&format!("[{part}]"));
            continue;
        }
        if !text.is_empty() {
            text.push('.');
        }
        match part.contains(['.', '[', '"']) {
            true => text.push_str(&format!("\"{part}\"")),
            false => text.push_str(part),
        }
    }
    text
}

fn nearest<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    let names = node.children.iter().map(|child| child.name.as_str());
    let near = names.map(|known| {
        (
            strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase()),
            known,
        )
    });
    let (distance, known) = near.min()?;
    (distance <= 1 + known.len() / 4).then_some(known)
}

/// Where else a key of this name stands: the place nearest to the top.
fn elsewhere(root: &Node, name: &str) -> Option<String> {
    let mut places = Vec::new();
    collect(root, name, "", &mut places);
    places.into_iter().min_by_key(|place| place.matches('.').count())
}

fn collect(node: &Node, name: &str, path: &str, places: &mut Vec<String>) {
    for child in &node.children {
        let path = match (path, child.name.as_str()) {
            ("", name) => name.to_owned(),
            (path, "[]") => format!("{path}[0]"),
            (path, "*") => format!("{path}.<name>"),
            (path, name) => format!("{path}.{name}"),
        };
        collect(child, name, &path, places);
        if child.name == name {
            places.push(path);
        }
    }
}
