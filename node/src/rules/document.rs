//! What the sections of `node.json` mean that say which commands run: the most specific entry wins. Pure; the time is a parameter.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use atoll_protocol::plugin_tool::MCP_CALL;
use jiff::{Timestamp, Zoned};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::limits::Rate;
use super::quiet::Quiet;

/// Families whose commands run only where the owner's file says so.
const CLOSED: [&str; 6] = ["camera", "canvas", "screen", "location", "clipboard", "audio"];

/// The family of the command that calls tools of MCP servers, and of those in rules.
const MCP_FAMILY: &str = "mcp";

/// Rules that lie under one another for a time. More: the file is refused.
const DEPTH: usize = 8;

/// What the owner says of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It runs.
    Allow,
    /// Somebody at the device says each time.
    Ask,
    /// It does not run.
    Deny,
}

impl Rule {
    /// The word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ask => "ask",
            Self::Deny => "deny",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Allow, Self::Ask, Self::Deny];
        let found = all.into_iter().find(|rule| rule.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no rule; a rule is allow, ask or deny"))
    }
}

/// A rule, for ever or until a time after which the one under it is in force again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) rule: Rule,
    pub(crate) until: Option<Timestamp>,
    /// None: as if there were no entry.
    pub(crate) then: Option<Box<Entry>>,
}

impl Entry {
    /// For ever.
    pub(crate) fn always(rule: Rule) -> Self {
        Self {
            rule,
            until: None,
            then: None,
        }
    }

    /// As it is written.
    pub(crate) fn json(&self) -> Value {
        let Some(until) = self.until else {
            return json!(self.rule.as_str());
        };
        let mut value = json!({"rule": self.rule.as_str(), "until": until.to_string()});
        if let Some(then) = &self.then {
            value["then"] = then.json();
        }
        value
    }

    /// Reads what [`Self::json`] writes, and what people do.
    pub(crate) fn read(value: &Value) -> Result<Self, String> {
        Self::read_within(value, DEPTH)
    }

    fn read_within(value: &Value, depth: usize) -> Result<Self, String> {
        if let Some(rule) = value.as_str() {
            return Ok(Self::always(rule.parse()?));
        }
        let fields = value
            .as_object()
            .ok_or_else(|| format!("{value} is no rule; a rule is allow, ask or deny"))?;
        let known = |name: &&String| ["rule", "until", "then"].contains(&name.as_str());
        if let Some(strange) = fields.keys().find(|name| !known(name)) {
            return Err(format!(
                "{strange:?} is not known; a rule for a time has rule, until and then"
            ));
        }
        if depth == 0 {
            return Err(format!("more than {DEPTH} rules lie under one another"));
        }
        let text = |name: &str| {
            let text = value[name].as_str();
            text.ok_or_else(|| format!("a rule for a time needs {name:?}: {value}"))
        };
        let until = text("until")?;
        let until = until
            .parse()
            .map_err(|_| format!("{until:?} is no time; one looks like 2027-01-31T18:00:00Z"))?;
        let then = fields.get("then").map(|then| Self::read_within(then, depth - 1));
        Ok(Self {
            rule: text("rule")?.parse()?,
            until: Some(until),
            then: then.transpose()?.map(Box::new),
        })
    }

    /// The one that counts now.
    pub(crate) fn at(&self, now: Timestamp) -> Option<&Self> {
        match self.until {
            Some(until) if until <= now => self.then.as_deref()?.at(now),
            Some(_) | None => Some(self),
        }
    }
}

/// The sections of the file that are read here; the others belong to capabilities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    commands: BTreeMap<String, Entry>,
    limits: BTreeMap<String, Rate>,
    quiet: Option<Quiet>,
    /// Whether the device shows when a closed family is used.
    pub(crate) shows_use: bool,
}

impl Default for Document {
    fn default() -> Self {
        Self {
            commands: BTreeMap::new(),
            limits: BTreeMap::new(),
            quiet: None,
            shows_use: true,
        }
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&Map::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Document {
    fn read(written: &Map<String, Value>) -> Result<Self, String> {
        let quiet = written.get("quiet").map(Quiet::read).transpose();
        let shows_use = written.get("showUse").map_or(Ok(true), |value| {
            value
                .as_bool()
                .ok_or_else(|| format!("showUse: must be true or false, not {value}"))
        });
        Ok(Self {
            commands: named(written, "commands", Entry::read)?,
            limits: named(written, "limits", |rate| rate.as_str().unwrap_or_default().parse())?,
            quiet: quiet.map_err(|why| format!("quiet: {why}"))?,
            shows_use: shows_use?,
        })
    }
}

/// A section that says something for each of some commands and families.
fn named<T>(
    written: &Map<String, Value>,
    section: &str,
    read: impl Fn(&Value) -> Result<T, String>,
) -> Result<BTreeMap<String, T>, String> {
    let mut found = BTreeMap::new();
    let Some(written) = written.get(section) else {
        return Ok(found);
    };
    let written = written
        .as_object()
        .ok_or_else(|| format!("{section}: must be an object"))?;
    for (name, value) in written {
        let value = read(value).map_err(|why| format!("{section}.{name}: {why}"))?;
        if found.insert(plain(name).to_owned(), value).is_some() {
            return Err(format!("{section} names {} twice", plain(name)));
        }
    }
    Ok(found)
}

/// Which rule counts, and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InForce {
    pub(crate) rule: Rule,
    /// The entry's name; none where nobody wrote anything and the default counts.
    pub(crate) from: Option<String>,
    pub(crate) until: Option<Timestamp>,
}

impl Document {
    /// The rule for a command: its own, else that of the nearest family above it, else the default. What denies all tools of MCP servers
    /// denies each.
    pub(crate) fn rule(&self, command: &str, now: Timestamp) -> InForce {
        if is_mcp_tool(command) {
            let all = self.rule(MCP_CALL, now);
            if all.rule == Rule::Deny {
                return all;
            }
        }
        for name in names(command) {
            let entry = self.commands.get(name).and_then(|entry| entry.at(now));
            if let Some(entry) = entry {
                return InForce {
                    rule: entry.rule,
                    from: Some(name.to_owned()),
                    until: entry.until,
                };
            }
        }
        InForce {
            rule: if is_closed(command) { Rule::Deny } else { Rule::Allow },
            from: None,
            until: None,
        }
    }

    /// When the next rule ends that is in force now.
    pub(crate) fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        let in_force = self.commands.values().filter_map(|entry| entry.at(now));
        in_force.filter_map(|entry| entry.until).min()
    }

    /// All rates that count a command.
    pub(crate) fn rates(&self, command: &str) -> Vec<(String, Rate)> {
        let rate = |name: &str| Some((name.to_owned(), *self.limits.get(name)?));
        names(command).filter_map(rate).collect()
    }

    /// Why a command rests at this hour, while it does.
    pub(crate) fn rest(&self, command: &str, now: impl FnOnce() -> Zoned) -> Option<String> {
        let quiet = self.quiet.as_ref().filter(|quiet| quiet.is_for(command))?;
        quiet.refusal(command, &now())
    }

    /// When a command that does not rest begins to.
    pub(crate) fn next_rest(&self, command: &str, now: impl FnOnce() -> Zoned) -> Option<Timestamp> {
        let quiet = self.quiet.as_ref().filter(|quiet| quiet.is_for(command))?;
        Some(quiet.beginning(&now()).timestamp())
    }

    /// The names that have a rule.
    pub(crate) fn ruled(&self) -> impl Iterator<Item = &str> {
        self.commands.keys().map(String::as_str)
    }

    /// All names that its owner wrote.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let quiet = self.quiet.iter().flat_map(Quiet::names);
        self.ruled().chain(self.limits.keys().map(String::as_str)).chain(quiet)
    }
}

/// `camera.*` is another way to write `camera`.
pub(crate) fn plain(name: &str) -> &str {
    name.strip_suffix(".*").unwrap_or(name)
}

/// Whether a command is in a family, or the command itself is meant.
pub(crate) fn covers(name: &str, command: &str) -> bool {
    names(command).any(|own| own == name)
}

/// The name that a tool of an MCP server has in rules.
pub(crate) fn mcp_tool(server: &str, tool: &str) -> String {
    format!("{MCP_FAMILY}.{server}.{tool}")
}

/// Whether a name in rules is that of a tool of an MCP server, or of such a server.
pub(crate) fn is_mcp_tool(name: &str) -> bool {
    let is_inside = families(name).skip(1).any(|family| family == MCP_FAMILY);
    is_inside && families(MCP_CALL).all(|family| family != name)
}

/// A command and the families that it is in, nearest first. A tool of an MCP server is called by a command, which is then one of these.
fn names(command: &str) -> impl Iterator<Item = &str> {
    let call = is_mcp_tool(command).then(|| families(MCP_CALL));
    let is_tool = call.is_some();
    let own = families(command).take_while(move |name| !is_tool || families(MCP_CALL).all(|family| family != *name));
    own.chain(call.into_iter().flatten())
}

fn families(command: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(command), |name| name.rsplit_once('.').map(|(family, _)| family))
}

/// Whether a command looks, listens or tells where one is.
pub(crate) fn is_closed(command: &str) -> bool {
    CLOSED.iter().any(|family| covers(family, command))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn document(value: Value) -> Document {
        serde_json::from_value(value).expect("a document")
    }

    #[test]
    fn the_most_specific_entry_wins_and_the_default_is_closed_where_one_is_seen_or_heard() {
        let mixed = json!({"commands": {
            "camera": "ask", "camera.snap": "allow", "audio.*": "deny", "mcp": "ask", "mcp.files": "deny", "mcp.files.list": "allow",
        }});
        let tools = |all: &str, files: &str| json!({"commands": {"mcp.tools.call.v1": all, "mcp.files": files}});
        for (written, command, rule, from) in [
            (json!({}), "camera.snap", Rule::Deny, None),
            (json!({}), "screen.record", Rule::Deny, None),
            (json!({}), "location.get", Rule::Deny, None),
            (json!({}), "clipboard.read", Rule::Deny, None),
            (json!({}), "audio.record", Rule::Deny, None),
            (json!({}), "audio.play", Rule::Deny, None),
            (json!({}), "system.notify", Rule::Allow, None),
            (json!({}), "cameras.snap", Rule::Allow, None),
            (mixed.clone(), "camera.snap", Rule::Allow, Some("camera.snap")),
            (mixed.clone(), "camera.clip", Rule::Ask, Some("camera")),
            (mixed.clone(), "audio.play", Rule::Deny, Some("audio")),
            (mixed.clone(), "mcp.mail.send", Rule::Ask, Some("mcp")),
            (mixed.clone(), "mcp.files.read", Rule::Deny, Some("mcp.files")),
            (mixed.clone(), "mcp.files.list", Rule::Allow, Some("mcp.files.list")),
            (mixed.clone(), "mcp.tools.call.v1", Rule::Ask, Some("mcp")),
            (mixed, "mcpx.a", Rule::Allow, None),
            (json!({}), "mcp.files.list", Rule::Allow, None),
            (
                tools("ask", "allow"),
                "mcp.mail.send",
                Rule::Ask,
                Some("mcp.tools.call.v1"),
            ),
            (tools("ask", "allow"), "mcp.files.list", Rule::Allow, Some("mcp.files")),
            (
                tools("deny", "allow"),
                "mcp.files.list",
                Rule::Deny,
                Some("mcp.tools.call.v1"),
            ),
            (tools("allow", "deny"), "mcp.files.list", Rule::Deny, Some("mcp.files")),
            (
                tools("allow", "deny"),
                "mcp.tools.call.v1",
                Rule::Allow,
                Some("mcp.tools.call.v1"),
            ),
        ] {
            let found = document(written.clone()).rule(command, at(0));
            assert_eq!((found.rule, found.from.as_deref()), (rule, from), "{written} {command}");
        }
    }

    #[test]
    fn a_rule_for_a_time_gives_way_to_the_one_under_it() {
        let document = document(json!({"commands": {
            "camera": "deny",
            "camera.snap": {"rule": "allow", "until": "1970-01-01T00:01:40Z", "then":
                {"rule": "ask", "until": "1970-01-01T00:03:20Z"}},
        }}));
        for (second, rule, from) in [
            (0, Rule::Allow, "camera.snap"),
            (99, Rule::Allow, "camera.snap"),
            (100, Rule::Ask, "camera.snap"),
            (199, Rule::Ask, "camera.snap"),
            (200, Rule::Deny, "camera"),
        ] {
            let found = document.rule("camera.snap", at(second));
            assert_eq!((found.rule, found.from.as_deref()), (rule, Some(from)), "at {second}");
        }
        assert_eq!(document.next_end(at(0)), Some(at(100)));
        assert_eq!(document.next_end(at(100)), Some(at(200)));
        assert_eq!(document.next_end(at(200)), None);
    }

    #[test]
    fn a_wrong_entry_is_named_with_what_is_possible() {
        for (entry, words) in [
            (
                json!("yes"),
                vec!["commands.camera.snap", "\"yes\"", "allow, ask or deny"],
            ),
            (json!(true), vec!["true", "allow, ask or deny"]),
            (json!({"rule": "allow"}), vec!["needs \"until\""]),
            (json!({"rule": "allow", "until": "soon"}), vec!["\"soon\" is no time"]),
            (json!({"rule": "allow", "untill": "x"}), vec!["\"untill\" is not known"]),
        ] {
            let written = json!({"commands": {"camera.snap": entry}});
            let error = serde_json::from_value::<Document>(written)
                .expect_err("wrong")
                .to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        let twice = json!({"commands": {"camera": "allow", "camera.*": "deny"}});
        let error = serde_json::from_value::<Document>(twice)
            .expect_err("wrong")
            .to_string();
        assert!(error.contains("camera twice"), "{error}");
        for (document, words) in [
            (json!({"limits": {"camera": "10"}}), "limits.camera: \"10\" is no rate"),
            (json!({"quiet": {"from": "22:00"}}), "quiet: to"),
            (json!({"showUse": "no"}), "showUse: must be true or false"),
        ] {
            let error = serde_json::from_value::<Document>(document)
                .expect_err("wrong")
                .to_string();
            assert!(error.contains(words), "{error}");
        }
        let deep = (0..=DEPTH).fold(
            json!("deny"),
            |then, _| json!({"rule": "ask", "until": "2027-01-31T18:00:00Z", "then": then}),
        );
        assert!(Entry::read(&deep).is_err(), "too deep");
    }
}
