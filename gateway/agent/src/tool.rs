//! The tools of a turn: which are offered, what they take, and how their output is bounded. Owns no policy about commands and devices:
//! those are decided behind the ports.

mod edit;
mod exec;
mod nodes;
mod output;
mod published;
mod read;
pub(crate) mod untrusted;
pub mod workspace;
mod write;

use std::borrow::Cow;
use std::sync::Arc;

use atoll_protocol::json::Json;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use exec::ExecDefaults;

use crate::port::{Caller, Exec, NodeTools, Nodes, ToolReply};
use workspace::Workspace;

/// A tool, as a model is told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolDescriptor {
    /// Its name.
    pub name: Cow<'static, str>,
    /// What it is for; the first line is a summary.
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Value,
}

/// `tools.allow` and `tools.deny`: names, `group:*` names, or `*`. What is denied is not allowed by anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolPolicy {
    /// Only these; none means all.
    pub allow: Option<Vec<String>>,
    /// Never these.
    pub deny: Vec<String>,
}

impl ToolPolicy {
    /// Whether a tool may be used.
    pub fn permits(&self, tool: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|entry| names(entry, tool));
        !named(&self.deny) && self.allow.as_deref().is_none_or(named)
    }

    /// Whether a tool that a device publishes may be used: named itself, by the beginning of its name with a `*`, or as one of
    /// `group:nodes`. Whoever is denied `nodes` is denied all of them.
    pub fn permits_published(&self, tool: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|entry| published::names(entry, tool));
        let denies_nodes = self.deny.iter().any(|entry| names(entry, "nodes"));
        !denies_nodes && !named(&self.deny) && self.allow.as_deref().is_none_or(named)
    }
}

fn names(entry: &str, tool: &str) -> bool {
    let entry = entry.trim().to_ascii_lowercase();
    match entry.as_str() {
        "*" | "group:all" | "group:openclaw" => true,
        "group:fs" => matches!(tool, "read" | "write" | "edit"),
        "group:runtime" => tool == "exec",
        "group:nodes" => tool == "nodes",
        other => other == tool,
    }
}

/// Everything a turn's tools need.
#[derive(Clone)]
pub struct Toolbox {
    /// What may be used.
    pub policy: ToolPolicy,
    /// The agent's folder; without one there are no file tools.
    pub workspace: Option<Arc<Workspace>>,
    /// Commands.
    pub exec: Arc<dyn Exec>,
    /// Where commands go when the model does not say.
    pub exec_defaults: ExecDefaults,
    /// Devices.
    pub nodes: Arc<dyn Nodes>,
    /// What devices publish.
    pub node_tools: Arc<dyn NodeTools>,
}

impl Toolbox {
    /// What is permitted and usable now.
    pub fn offered(&self) -> Vec<ToolDescriptor> {
        let any_node = self.nodes.any();
        let mut tools = Vec::new();
        tools.extend(exec::descriptor(&self.exec_defaults, any_node));
        if any_node {
            tools.push(nodes::descriptor());
        }
        if self.workspace.is_some() {
            tools.extend([read::descriptor(), write::descriptor(), edit::descriptor()]);
        }
        tools.retain(|tool| self.policy.permits(&tool.name));
        let published = self.node_tools.offered();
        let permitted = published
            .iter()
            .filter(|tool| self.policy.permits_published(&tool.name));
        tools.extend(permitted.map(published::descriptor));
        tools
    }

    /// Runs a tool to its end. A tool that was offered once may be asked for later, so only the policy is checked here.
    pub async fn run(&self, caller: &Caller, name: &str, args: &Json) -> ToolReply {
        let is_published = published::is_name(name);
        let is_permitted = match is_published {
            true => self.policy.permits_published(name),
            false => self.policy.permits(name),
        };
        if !is_permitted {
            return ToolReply::error(format!("The tool {name:?} is not permitted here."));
        }
        let reply = match (name, &self.workspace) {
            _ if is_published => published::run(&*self.node_tools, caller, name, args).await,
            ("exec", _) => exec::run(&*self.exec, &self.exec_defaults, caller, args).await,
            ("nodes", _) => nodes::run(&*self.nodes, caller, args).await,
            ("read" | "write" | "edit", Some(workspace)) => file_tool(name, Arc::clone(workspace), args).await,
            _ => ToolReply::error(format!("There is no tool {name:?}.")),
        };
        output::bounded(reply, self.workspace.clone(), &caller.key.tool_call).await
    }
}

/// Disks can be slow, and the runtime's threads are for the network.
async fn file_tool(name: &str, workspace: Arc<Workspace>, args: &Json) -> ToolReply {
    let (name, args) = (name.to_owned(), args.clone());
    let done = tokio::task::spawn_blocking(move || match name.as_str() {
        "read" => read::run(&workspace, &args),
        "write" => write::run(&workspace, &args),
        _ => edit::run(&workspace, &args),
    });
    done.await
        .unwrap_or_else(|_| ToolReply::error("The tool broke. Nothing is known about its effect."))
}

/// Arguments as a type, or what is wrong with them.
fn arguments<T: DeserializeOwned>(args: &Json) -> Result<T, ToolReply> {
    args.read()
        .map_err(|error| ToolReply::error(format!("The arguments are not valid: {error}.")))
}

#[cfg(test)]
mod tests;
