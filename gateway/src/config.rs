//! The typed configuration: read from `atoll.json` with OpenClaw's keys, checked whole, changed without losing a comment. Owns the file's
//! meaning; never rewrites it except when told to.

mod check;
mod edit;
mod keys;
mod redact;
mod rules;
mod schema;
mod source;
mod store;
mod telegram;
mod text;
mod tree;

use std::fmt;
use std::path::{Path, PathBuf};

use atoll_protocol::id::AgentId;
use serde_json::{Map, Value};

pub use edit::{EditError, parse_path};
pub use redact::REDACTED;
pub use rules::{TOKEN_CHARS, bind_host, exposure, is_reachable};
pub use schema::{sample, schema};
pub use store::{Change, ChangeError, ConfigStore, Keeper, Loaded, check_file, edit_file};
pub use telegram::{Bot, BotToken, DEFAULT_ACCOUNT, DmPolicy, Group, GroupPolicy, Telegram};
pub use text::SyntaxError;
pub use tree::*;

/// One thing that is wrong, or only strange, with the configuration. Never holds a secret's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key (`gateway.port`), or the file where it is not about one key.
    pub key: String,
    /// What about it, with what is allowed.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

/// A configuration that cannot be used: everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The main file.
    pub path: PathBuf,
    /// All of it, at least one.
    pub errors: Vec<Problem>,
    /// What is only strange.
    pub warnings: Vec<Problem>,
}

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration {} has errors:", self.path.display())?;
        self.errors.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

/// Environment variables that stand over the file's keys, in the order in which they win.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("ATOLL_GATEWAY_TOKEN", "gateway.auth.token"),
    ("OPENCLAW_GATEWAY_TOKEN", "gateway.auth.token"),
    ("ATOLL_GATEWAY_PASSWORD", "gateway.auth.password"),
    ("OPENCLAW_GATEWAY_PASSWORD", "gateway.auth.password"),
    ("ATOLL_GATEWAY_PORT", "gateway.port"),
    ("OPENCLAW_GATEWAY_PORT", "gateway.port"),
    ("ATOLL_GATEWAY_BIND", "gateway.bind"),
    ("OPENCLAW_GATEWAY_BIND", "gateway.bind"),
];

/// A source of environment variables; tests bring their own.
pub type Env = dyn Fn(&str) -> Option<String> + Send + Sync;

/// The process's environment.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Reads, checks and types everything; a missing file gives the defaults.
pub(crate) fn load(path: &Path, env: &Env) -> Result<Loaded, Invalid> {
    interpret(path, source::read(path), env)
}

/// As [`load`], with another text in place of the main file's.
pub(crate) fn load_text(path: &Path, text: Option<String>, env: &Env) -> Result<Loaded, Invalid> {
    interpret(path, source::with_text(path, text), env)
}

fn interpret(path: &Path, source: Result<source::Source, Vec<Problem>>, env: &Env) -> Result<Loaded, Invalid> {
    let invalid = |errors, warnings| Invalid {
        path: path.to_owned(),
        errors,
        warnings,
    };
    let source = source.map_err(|errors| invalid(errors, Vec::new()))?;
    let mut value = source.tree.clone();
    let mut errors = source::expand(&mut value, env);
    errors.extend(take_environment(&mut value, env));
    let found = check::check(keys::tree(), &mut value, &source.tree);
    errors.extend(found.errors);
    check::fill(keys::tree(), &mut value);
    errors.extend(list_agents(&mut value));
    match serde_json::from_value::<Config>(value) {
        Ok(mut config) => {
            put_main_agent(&mut config);
            let sections: Vec<String> = errors.iter().map(|error| section(&error.key).to_owned()).collect();
            let broken = rules::broken(&config).into_iter();
            // A value that was taken out because it is wrong must not be called missing as well.
            errors.extend(broken.filter(|problem| !sections.iter().any(|done| done == section(&problem.key))));
            if errors.is_empty() {
                let warnings = [found.warnings, rules::half_supported(&config)].concat();
                return Ok(Loaded::new(config, source, warnings));
            }
        }
        Err(error) if errors.is_empty() => errors.push(Problem::new(path.display().to_string(), missing(&error))),
        Err(_) => {}
    }
    Err(invalid(errors, found.warnings))
}

fn section(key: &str) -> &str {
    key.split(['.', '[']).next().unwrap_or(key)
}

/// What the table lets through can only lack something. serde's text names the key and no value.
fn missing(error: &serde_json::Error) -> String {
    error.to_string()
}

/// Puts variables over keys. A port comes as text and must be made a number; everything else is checked like the file.
fn take_environment(value: &mut Value, env: &Env) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut taken: Vec<&str> = Vec::new();
    for (name, key) in ENVIRONMENT {
        let Some(text) = env(name).filter(|text| !text.is_empty() && !taken.contains(key)) else {
            continue;
        };
        taken.push(key);
        let parsed = match *key {
            "gateway.port" => text.parse::<u16>().ok().filter(|port| *port > 0).map(Value::from),
            "gateway.bind" => ["loopback", "lan", "tailnet", "custom", "auto"]
                .contains(&text.as_str())
                .then(|| Value::from(text)),
            _ => Some(Value::from(text)),
        };
        match parsed {
            Some(parsed) => {
                let over = key.rsplit('.').fold(parsed, |inner, part| {
                    Value::Object(Map::from_iter([(part.to_owned(), inner)]))
                });
                source::merge(value, over);
            }
            None => problems.push(Problem::new(*name, format!("is not a value for {key}"))),
        }
    }
    problems
}

/// Brings `agents.entries` behind `agents.list`, so that there is one list.
fn list_agents(value: &mut Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let Some(agents) = value.get_mut("agents").and_then(Value::as_object_mut) else {
        return problems;
    };
    let mut listed = match agents.shift_remove("list") {
        Some(Value::Array(items)) => items,
        Some(_) | None => Vec::new(),
    };
    if let Some(Value::Object(entries)) = agents.shift_remove("entries") {
        for (id, mut entry) in entries {
            if !check::is_agent_id(&id) {
                let message = format!("the name is not {}", check::wanted(keys::Kind::AgentId));
                problems.push(Problem::new(format!("agents.entries.{id}"), message));
            } else if let Some(members) = entry.as_object_mut() {
                members.insert("id".to_owned(), id.into());
                listed.push(entry);
            }
        }
    }
    agents.insert("list".to_owned(), Value::Array(listed));
    problems
}

fn put_main_agent(config: &mut Config) {
    if config.agents.list.is_empty() {
        config.agents.list.push(Agent {
            id: AgentId::new("main").expect("main is not empty and not long"),
            name: None,
            default: true,
            workspace: None,
            model: None,
            timeout_seconds: None,
            identity: Identity::default(),
            group_chat: AgentGroupChat::default(),
            tools: ToolPolicy::default(),
        });
    }
}

#[cfg(test)]
mod tests;
