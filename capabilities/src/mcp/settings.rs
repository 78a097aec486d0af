//! What the owner lists: `mcp.servers` in `node.json`, in the words of OpenClaw and of the programs people paste from; `mcpServers` is the
//! same. Never keeps a secret of its own: `${NAME}` is a variable of the node's environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::owned::{OWNERS_FILE, read_trusted};
use crate::system_run::environment;

/// Servers. More: the file cannot be used.
const SERVERS: usize = 32;

/// The longest name of one, bytes.
const NAME: usize = 64;

/// A server that can be started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) program: String,
    pub(super) args: Vec<String>,
    /// All that the server sees of variables.
    pub(super) env: BTreeMap<String, String>,
    pub(super) folder: PathBuf,
    filter: Filter,
}

impl Settings {
    /// Whether the owner allows this tool of it.
    pub(super) fn allows(&self, tool: &str) -> bool {
        let named = |patterns: &[glob::Pattern]| patterns.iter().any(|pattern| pattern.matches(tool));
        self.filter.only.as_deref().is_none_or(named) && !named(&self.filter.never)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Filter {
    only: Option<Vec<glob::Pattern>>,
    never: Vec<glob::Pattern>,
}

/// All servers; one that cannot be started has the reason.
pub(super) type Servers = BTreeMap<String, Result<Settings, String>>;

#[derive(Debug, Default, Deserialize)]
struct Document {
    #[serde(default)]
    mcp: Section,
    #[serde(default, rename = "mcpServers")]
    servers: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    #[serde(default)]
    servers: BTreeMap<String, Value>,
}

/// One server as it is written. A key that is not known is an error: it may be a rule with a typing error in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Written {
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(alias = "workingDirectory")]
    cwd: Option<String>,
    tools: Option<Vec<String>>,
    tool_filter: Option<ToolFilter>,
    enabled: Option<bool>,
    disabled: Option<bool>,
    url: Option<String>,
    #[serde(alias = "type")]
    transport: Option<String>,
    #[serde(rename = "headers")]
    _headers: Option<Value>,
    #[serde(rename = "description")]
    _description: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolFilter {
    include: Option<Vec<String>>,
    #[serde(default)]
    exclude: Vec<String>,
}

/// Reads the file. Waits for the disk.
///
/// # Errors
/// A sentence with the path, when it cannot be used as it is.
pub(super) fn load(state_dir: &Path) -> Result<Servers, String> {
    let path = state_dir.join(OWNERS_FILE);
    let broken = |why: String| format!("{} cannot be used: {why}", path.display());
    let text = read_trusted(&path).map_err(|error| broken(error.to_string()))?;
    let document: Document = match text {
        Some(text) => serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?,
        None => Document::default(),
    };
    let variable = |name: &str| std::env::var(name).ok();
    servers(document, state_dir, &variable).map_err(broken)
}

type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

fn servers(document: Document, state_dir: &Path, variable: Variable<'_>) -> Result<Servers, String> {
    let mut all = document.mcp.servers;
    for (name, server) in document.servers {
        if all.insert(name.clone(), server).is_some() {
            return Err(format!("the MCP server {name:?} is in mcp.servers and in mcpServers"));
        }
    }
    if all.len() > SERVERS {
        return Err(format!("it lists {} MCP servers; {SERVERS} are allowed", all.len()));
    }
    let mut servers = Servers::new();
    for (name, server) in all {
        if name.trim() != name || name.is_empty() || name.len() > NAME || name.contains(char::is_control) {
            return Err(format!(
                "the MCP server {name:?} needs a name of 1 to {NAME} plain characters"
            ));
        }
        match settings(server, state_dir, variable).transpose() {
            Some(settings) => drop(servers.insert(name, settings)),
            None => tracing::debug!(name, "an MCP server is switched off"),
        }
    }
    Ok(servers)
}

/// None: it is switched off.
fn settings(server: Value, state_dir: &Path, variable: Variable<'_>) -> Result<Option<Settings>, String> {
    let written: Written = serde_json::from_value(server).map_err(|error| error.to_string())?;
    if written.enabled == Some(false) || written.disabled == Some(true) {
        return Ok(None);
    }
    if written.url.is_some()
        || written
            .transport
            .as_deref()
            .is_some_and(|transport| transport != "stdio")
    {
        return Err(
            "only servers that are started by a command are supported, not those with a url; a program that \
                    passes its pipes on to a url (such as mcp-remote) can be such a command"
                .to_owned(),
        );
    }
    let fill = |place: &str, text: &str| filled(text, variable).map_err(|why| format!("{place}: {why}"));
    let program = written.command.as_deref().unwrap_or_default();
    let program = fill("command", program)?;
    if program.is_empty() {
        return Err("command is missing".to_owned());
    }
    let all = std::env::vars_os();
    let all = all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let mut env = environment::base(all);
    for (name, value) in &written.env {
        env.insert(name.clone(), fill(&format!("env.{name}"), value)?);
    }
    let folder = match &written.cwd {
        Some(cwd) => PathBuf::from(fill("cwd", cwd)?),
        None => env.get("HOME").map_or_else(|| state_dir.to_owned(), PathBuf::from),
    };
    let args = written.args.iter().map(|arg| fill("args", arg));
    Ok(Some(Settings {
        program,
        args: args.collect::<Result<_, _>>()?,
        folder,
        filter: filter(&written)?,
        env,
    }))
}

fn filter(written: &Written) -> Result<Filter, String> {
    let patterns = |list: &[String]| -> Result<Vec<_>, String> {
        let pattern = |text: &String| glob::Pattern::new(text).map_err(|error| format!("tools: {text:?}: {error}"));
        list.iter().map(pattern).collect()
    };
    let (include, exclude) = match (&written.tools, &written.tool_filter) {
        (Some(_), Some(_)) => return Err("tools and toolFilter say the same; keep one".to_owned()),
        (Some(tools), None) => (Some(tools), &[][..]),
        (None, Some(filter)) => (filter.include.as_ref(), &filter.exclude[..]),
        (None, None) => (None, &[][..]),
    };
    Ok(Filter {
        only: include.map(|list| patterns(list)).transpose()?,
        never: patterns(exclude)?,
    })
}

/// With `${NAME}` as the environment has it; `$${` is a `${` that stays.
fn filled(text: &str, variable: Variable<'_>) -> Result<String, String> {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some(start) = rest.find("${") {
        let before = &rest[..start];
        rest = &rest[start + 2..];
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            continue;
        }
        filled.push_str(before);
        let end = rest.find('}').ok_or("there is a ${ without its }")?;
        let name = &rest[..end];
        let value = variable(name).ok_or_else(|| {
            format!("the variable {name} is not set in the environment of atoll-node; set it where the node is started")
        })?;
        filled.push_str(&value);
        rest = &rest[end + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(document: Value) -> Result<Servers, String> {
        let document: Document = serde_json::from_value(document).map_err(|error| error.to_string())?;
        servers(document, Path::new("/state"), &|name| {
            (name == "TOKEN").then(|| "s3cret".to_owned())
        })
    }

    fn one(server: Value) -> Result<Settings, String> {
        let mut servers = read(json!({"mcp": {"servers": {"s": server}}}))?;
        servers.remove("s").ok_or("off")?
    }

    #[test]
    fn a_server_is_what_people_paste() {
        let server =
            one(json!({"command": "npx", "args": ["-y", "x"], "env": {"KEY": "a${TOKEN}b$${TOKEN}"}, "type": "stdio"}));
        let server = server.expect("can be started");
        assert_eq!((server.program.as_str(), server.args.len()), ("npx", 2));
        assert_eq!(server.env["KEY"], "as3cretb${TOKEN}");
        assert!(server.env.contains_key("PATH"));
        let pasted = read(json!({"mcpServers": {"s": {"command": "x"}}, "commands": {}})).expect("the same");
        assert!(pasted["s"].is_ok());
        for off in [
            json!({"command": "x", "disabled": true}),
            json!({"command": "x", "enabled": false}),
        ] {
            assert_eq!(one(off), Err("off".to_owned()));
        }
    }

    #[test]
    fn what_cannot_be_started_says_why_and_leaves_the_others() {
        for (server, word) in [
            (json!({}), "command is missing"),
            (json!({"command": "x", "env": {"K": "${GONE}"}}), "GONE"),
            (json!({"command": "x", "args": ["${TOKEN"]}), "without its }"),
            (json!({"url": "https://x.example/mcp"}), "url"),
            (json!({"command": "x", "transport": "sse"}), "url"),
            (json!({"command": "x", "tool": ["read"]}), "tool"),
            (json!({"command": "x", "tools": ["a"], "toolFilter": {}}), "toolFilter"),
            (json!({"command": "x", "tools": ["[a"]}), "tools"),
            (json!("x"), "invalid type"),
        ] {
            let why = one(server.clone()).expect_err("cannot");
            assert!(why.contains(word) && !why.contains("s3cret"), "{server}: {why}");
            let both = read(json!({"mcp": {"servers": {"bad": server, "good": {"command": "x"}}}})).expect("read");
            assert!(both["good"].is_ok());
        }
        for document in [
            json!({"mcp": {"servers": {"": {"command": "x"}}}}),
            json!({"mcp": {"servers": {"s": {"command": "x"}}}, "mcpServers": {"s": {"command": "x"}}}),
            json!({"mcp": {"server": {}}}),
        ] {
            assert!(read(document.clone()).is_err(), "{document}");
        }
    }

    #[test]
    fn the_owner_says_which_tools() {
        for (rules, allowed, denied) in [
            (json!({"tools": ["read_*", "search"]}), "read_file", "write_file"),
            (json!({"tools": []}), "", "read"),
            (
                json!({"toolFilter": {"include": ["*"], "exclude": ["delete*"]}}),
                "read",
                "delete_all",
            ),
            (json!({"toolFilter": {"exclude": ["delete*"]}}), "read", "delete_all"),
        ] {
            let mut server = rules.clone();
            server["command"] = json!("x");
            let server = one(server).expect("can be started");
            assert!(allowed.is_empty() || server.allows(allowed), "{rules}");
            assert!(!server.allows(denied), "{rules}");
        }
    }
}
