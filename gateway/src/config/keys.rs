//! THE table of keys: what may be written, what it means, what it is when nothing is written. Checks, suggestions, the schema and the
//! sample are all made from it; nothing else lists a key.

mod not_yet;
mod table;

use std::sync::OnceLock;

use not_yet::{INSTEAD, NOT_YET, TELEGRAM_NOT_YET};
use table::{MOUNTS, REQUIRED};

/// What a value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Any text that is not empty.
    Text,
    /// A text that is never shown.
    Secret,
    /// `http://…` or `https://…`.
    Url,
    /// `true` or `false`.
    Bool,
    /// A whole number between two, both included.
    Int(u64, u64),
    /// One of these words.
    Words(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A list of texts or whole numbers, read as texts.
    Ids,
    /// A list of regular expressions.
    Patterns,
    /// An agent's id: letters, digits, `-`, `_`.
    AgentId,
    /// An object with the keys below it; where a name is given, a plain text stands for an object with this one key.
    Object(Option<&'static str>),
    /// An object whose keys are free.
    Map,
    /// A list of what is below it.
    List,
}

/// One key. `*` stands for any name of a map, `[]` for any entry of a list.
#[derive(Debug)]
pub(super) struct Key {
    /// Relative to where its section is mounted.
    pub path: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What it is when nothing is written, as JSON.
    pub default: Option<&'static str>,
    /// One sentence.
    pub doc: &'static str,
}

/// One key with everything below it.
#[derive(Debug)]
pub(super) struct Node {
    /// Its last part.
    pub name: String,
    /// What it may be.
    pub kind: Kind,
    /// What it is when nothing is written, as JSON.
    pub default: Option<&'static str>,
    /// One sentence.
    pub doc: &'static str,
    /// Whether the object around it means nothing without it.
    pub required: bool,
    /// What is below it, in the order of the table; a map's or list's entries are under `*` and `[]`.
    pub children: Vec<Node>,
    /// Names below it that mean nothing here yet.
    pub not_yet: Vec<String>,
}

impl Node {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Object(None),
            default: None,
            doc: "",
            required: false,
            children: Vec::new(),
            not_yet: Vec::new(),
        }
    }

    /// What is below it under this name, or under any.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        let exact = self.children.iter().find(|child| child.name == name);
        exact.or_else(|| self.entry())
    }

    /// What every entry of this map or list is.
    pub(super) fn entry(&self) -> Option<&Self> {
        self.children
            .iter()
            .find(|child| matches!(child.name.as_str(), "*" | "[]"))
    }

    fn grow(&mut self, path: &str) -> &mut Self {
        path.split('.')
            .filter(|part| !part.is_empty())
            .fold(self, |node, part| {
                let at = node.children.iter().position(|child| child.name == part);
                let at = at.unwrap_or_else(|| {
                    node.children.push(Self::new(part));
                    node.children.len() - 1
                });
                &mut node.children[at]
            })
    }
}

/// What to do in the place of a key without effect, where that is known.
pub(super) fn instead(path: &[String]) -> Option<&'static str> {
    let fits = |pattern: &str| {
        let parts: Vec<_> = pattern.split('.').collect();
        let fits = |(part, name): (&&str, &String)| *part == "*" || *part == name.as_str();
        parts.len() == path.len() && parts.iter().zip(path).all(fits)
    };
    INSTEAD
        .iter()
        .find(|(pattern, _)| fits(pattern))
        .map(|(_, instead)| *instead)
}

/// The table as a tree.
pub(super) fn tree() -> &'static Node {
    static TREE: OnceLock<Node> = OnceLock::new();
    TREE.get_or_init(build)
}

fn build() -> Node {
    let mut root = Node::new("");
    for (mount, keys) in MOUNTS {
        for key in *keys {
            let node = root.grow(mount).grow(key.path);
            (node.kind, node.default, node.doc) = (key.kind, key.default, key.doc);
        }
    }
    for path in REQUIRED {
        root.grow(path).required = true;
    }
    for path in NOT_YET.iter().flat_map(|line| line.split(' ')) {
        plant_not_yet(&mut root, path);
    }
    for mount in ["channels.telegram", "channels.telegram.accounts.*"] {
        for path in TELEGRAM_NOT_YET.iter().flat_map(|line| line.split(' ')) {
            plant_not_yet(root.grow(mount), path);
        }
    }
    root
}

fn plant_not_yet(root: &mut Node, path: &str) {
    let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
    root.grow(parent).not_yet.push(name.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(node: &Node, path: &str, seen: &mut dyn FnMut(&Node, &str)) {
        seen(node, path);
        for child in &node.children {
            visit(child, format!("{path}.{}", child.name).trim_start_matches('.'), seen);
        }
    }

    #[test]
    fn every_key_says_what_it_is_and_every_default_is_json() {
        visit(tree(), "", &mut |node, path| {
            assert!(path.is_empty() || !node.doc.is_empty(), "{path} has no sentence");
            if let Some(default) = node.default {
                serde_json::from_str::<serde_json::Value>(default).unwrap_or_else(|error| panic!("{path}: {error}"));
            }
            let container = matches!(node.kind, Kind::Object(_) | Kind::Map | Kind::List);
            assert_eq!(container, !node.children.is_empty(), "{path}");
            for name in &node.not_yet {
                assert!(container, "{path}");
                assert!(
                    node.children.iter().all(|child| child.name != *name),
                    "{path}.{name} is both"
                );
            }
        });
    }
}
