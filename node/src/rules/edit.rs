//! Changes of `node.json` by its owner's command line: only the entries of the commands that are named, in one step, and never a file that
//! cannot be read as it is.

use std::path::PathBuf;

use atoll_capabilities::owned::read_trusted;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::document::{Document, Entry, Rule, covers, is_mcp_tool, plain};
use crate::state::{StateError, replace};

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    /// A mistake in it, or somebody else can write it.
    #[error("{path} cannot be changed as it is: {reason}; repair it, then try again")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A typing error of the caller's.
    #[error("{name:?} is not a command of this device{nearest}; `atoll-node rules` lists them")]
    Unknown {
        /// What was typed.
        name: String,
        /// What may be meant.
        nearest: String,
    },
    /// The file system said no.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What to do with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// For ever.
    Always(Rule),
    /// For a time; then what was in force before.
    Until(Rule, Timestamp),
    /// As if nobody had ever written one.
    Unset,
}

/// Makes a change of each of `names` in the file at `path`.
///
/// # Errors
/// See [`EditError`]. Nothing has changed then.
pub(crate) fn edit(path: PathBuf, names: &[String], change: Change, now: Timestamp) -> Result<(), EditError> {
    let unreadable = |reason: String| EditError::Unreadable {
        path: path.clone(),
        reason,
    };
    let text = read_trusted(&path).map_err(|error| unreadable(error.to_string()))?;
    let mut tree: Value = match text {
        Some(text) => serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?,
        None => Value::Object(Map::new()),
    };
    // What the daemon could not use is not for a program to build on.
    let document = serde_json::from_value::<Document>(tree.clone()).map_err(|error| unreadable(error.to_string()))?;
    for name in names {
        apply(&mut tree, plain(name), change, now);
    }
    // Whoever denies a family means all of it, what has a rule of its own included.
    if let Change::Always(Rule::Deny) | Change::Until(Rule::Deny, _) = change {
        let inside = |one: &&str| names.iter().any(|name| plain(name) != *one && covers(plain(name), one));
        document
            .ruled()
            .filter(inside)
            .for_each(|one| apply(&mut tree, one, change, now));
    }
    let text = serde_json::to_string_pretty(&tree).map_err(|error| unreadable(error.to_string()))?;
    Ok(replace(&path, &(text + "\n"))?)
}

/// Changes one entry of a tree that is a document.
fn apply(tree: &mut Value, name: &str, change: Change, now: Timestamp) {
    let Some(tree) = tree.as_object_mut() else { return };
    let commands = tree
        .entry("commands")
        .or_insert_with(|| Value::Object(Map::new()))
        .as_object_mut();
    let Some(commands) = commands else { return };
    let key = commands.keys().find(|key| plain(key) == name).cloned();
    let before = key
        .as_ref()
        .and_then(|key| commands.get(key))
        .and_then(|entry| Entry::read(entry).ok());
    let entry = match change {
        Change::Always(rule) => Some(Entry::always(rule)),
        Change::Until(rule, until) => Some(Entry {
            rule,
            until: Some(until),
            then: before.and_then(|entry| entry.at(until.max(now)).cloned()).map(Box::new),
        }),
        Change::Unset => None,
    };
    let key = key.unwrap_or_else(|| name.to_owned());
    match entry {
        Some(entry) => drop(commands.insert(key, entry.json())),
        None => drop(commands.shift_remove(&key)),
    }
}

/// Refuses what is neither a command of this device nor a family of such.
///
/// # Errors
/// [`EditError::Unknown`] with the nearest of `known`.
pub(crate) fn check_names(names: &[String], known: &[String]) -> Result<(), EditError> {
    let strange = names.iter().find(|name| !is_known(plain(name), known));
    match strange {
        None => Ok(()),
        Some(name) => Err(EditError::Unknown {
            name: name.clone(),
            nearest: nearest(plain(name), known)
                .map(|nearest| format!("; is {nearest} meant?"))
                .unwrap_or_default(),
        }),
    }
}

/// Whether a name is one of these or of a family of them, or is a tool of an MCP server that is: which tools that has, only it knows.
pub(crate) fn is_known(name: &str, known: &[String]) -> bool {
    let is_in = |server: &str| is_mcp_tool(server) && covers(server, name);
    known.iter().any(|one| covers(name, one) || is_in(one))
}

/// The command or family that a wrong name is like.
pub(crate) fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let families = known
        .iter()
        .filter_map(|command| command.rsplit_once('.').map(|(family, _)| family));
    let all = known.iter().map(String::as_str).chain(families);
    let scored = all.map(|one| (strsim::damerau_levenshtein(name, one), one));
    let (distance, found) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= name.len() / 2).then_some(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("node.json");
        std::fs::write(&path, text).expect("room");
        private(&path);
        (folder, path)
    }

    fn private(path: &std::path::Path) {
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            std::fs::set_permissions(path, mode).expect("ours");
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn tree(path: &std::path::Path) -> Value {
        serde_json::from_str(&std::fs::read_to_string(path).expect("there")).expect("JSON")
    }

    #[test]
    fn only_its_own_part_changes_and_the_rest_stays_in_its_place() {
        let (_folder, path) = written(
            r#"{"x": {"z": 1, "a": [2]}, "commands": {"camera.*": "ask", "b.c": "deny"}, "camera": {"testPattern": true}}"#,
        );
        let two = names(&["camera", "system.run"]);
        edit(path.clone(), &two, Change::Always(Rule::Allow), at(0)).expect("changed");
        let text = std::fs::read_to_string(&path).expect("there");
        assert_eq!(
            tree(&path),
            json!({"x": {"z": 1, "a": [2]}, "commands": {"camera.*": "allow", "b.c": "deny", "system.run": "allow"},
                "camera": {"testPattern": true}})
        );
        let order = ["\"x\"", "\"z\"", "\"commands\"", "\"camera\":"].map(|word| text.find(word));
        assert!(order.is_sorted(), "{text}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        edit(path.clone(), &names(&["camera.*"]), Change::Unset, at(0)).expect("changed");
        assert_eq!(tree(&path)["commands"], json!({"b.c": "deny", "system.run": "allow"}));
    }

    #[test]
    fn a_rule_for_a_time_lies_on_what_outlives_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("node.json");
        let one = names(&["camera.snap"]);
        for change in [
            Change::Always(Rule::Ask),
            Change::Until(Rule::Allow, at(3600)),
            Change::Until(Rule::Deny, at(600)),
            // Longer than the one before, which would never be in force again.
            Change::Until(Rule::Allow, at(1200)),
        ] {
            edit(path.clone(), &one, change, at(0)).expect("changed");
        }
        let document: Document = serde_json::from_value(tree(&path)).expect("a document");
        for (second, rule) in [
            (0, Rule::Allow),
            (1200, Rule::Allow),
            (3599, Rule::Allow),
            (3600, Rule::Ask),
        ] {
            assert_eq!(document.rule("camera.snap", at(second)).rule, rule, "at {second}");
        }
        assert!(!tree(&path).to_string().contains("deny"), "{}", tree(&path));
    }

    #[test]
    fn who_denies_a_family_denies_all_of_it_and_who_allows_one_opens_nothing_that_is_denied_by_name() {
        let (_folder, path) =
            written(r#"{"commands": {"camera.snap": "allow", "camera.clip": "deny", "cameras": "allow"}}"#);
        edit(path.clone(), &names(&["camera"]), Change::Always(Rule::Allow), at(0)).expect("changed");
        let document = || serde_json::from_value::<Document>(tree(&path)).expect("a document");
        assert_eq!(document().rule("camera.clip", at(0)).rule, Rule::Deny);
        edit(
            path.clone(),
            &names(&["camera"]),
            Change::Until(Rule::Deny, at(60)),
            at(0),
        )
        .expect("changed");
        for (second, rule) in [(0, Rule::Deny), (60, Rule::Allow)] {
            assert_eq!(document().rule("camera.snap", at(second)).rule, rule);
            assert_eq!(document().rule("camera.list", at(second)).rule, rule);
        }
        assert_eq!(document().rule("cameras", at(0)).rule, Rule::Allow);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_left_as_it_is() {
        for text in [
            "{",
            "[]",
            r#"{"commands": {"camera.snap": "yes"}}"#,
            r#"{"commands": 3}"#,
            "// x\n{}",
        ] {
            let (_folder, path) = written(text);
            let refused = edit(path.clone(), &names(&["camera"]), Change::Always(Rule::Deny), at(0));
            let error = refused.expect_err("refused").to_string();
            assert!(error.contains("node.json") && error.contains("repair"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).expect("there"), text);
        }
    }

    #[test]
    fn a_wrong_name_is_refused_with_the_nearest() {
        let known = names(&["camera.snap", "camera.clip", "system.run"]);
        for good in ["camera", "camera.*", "camera.snap", "system.run", "system"] {
            assert!(check_names(&names(&[good]), &known).is_ok(), "{good}");
        }
        let with_servers = names(&["mcp.tools.call.v1", "mcp.files"]);
        for (name, is_one) in [
            ("mcp.files", true),
            ("mcp.files.list", true),
            ("mcp", true),
            ("mcp.fils.list", false),
            ("mcp.tools.call.v2", false),
        ] {
            assert_eq!(is_known(name, &with_servers), is_one, "{name}");
        }
        for (wrong, meant) in [
            ("camera.snp", "is camera.snap meant?"),
            ("camra", "is camera meant?"),
            ("camra.*", "is camera meant?"),
            ("system.runs", "is system.run meant?"),
        ] {
            let error = check_names(&names(&[wrong]), &known).expect_err("wrong").to_string();
            assert!(error.contains(meant), "{error}");
        }
        let error = check_names(&names(&["*"]), &known).expect_err("wrong").to_string();
        assert!(!error.contains("meant"), "{error}");
    }
}
