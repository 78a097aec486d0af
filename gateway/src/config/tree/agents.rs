//! `agents`: who answers.

use atoll_protocol::id::AgentId;
use serde::Deserialize;

/// `agents`.
#[derive(Debug, Clone, Deserialize)]
pub struct Agents {
    /// What holds for every agent that does not say otherwise.
    pub defaults: AgentDefaults,
    /// The agents, in order; `agents.entries` come after those of `agents.list`. Never empty.
    #[serde(default)]
    pub list: Vec<Agent>,
}

/// `agents.defaults`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentDefaults {
    /// The model.
    pub model: Option<ModelChoice>,
    /// The folder the default agent works in.
    pub workspace: Option<String>,
    /// The longest turn.
    pub timeout_seconds: u64,
}

/// One agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// What people call it.
    pub name: Option<String>,
    /// Answers where no binding says otherwise.
    pub default: bool,
    /// The folder it works in.
    pub workspace: Option<String>,
    /// Its model.
    pub model: Option<ModelChoice>,
    /// Its longest turn.
    pub timeout_seconds: Option<u64>,
    /// How it presents itself.
    #[serde(default)]
    pub identity: Identity,
    /// Messages in groups.
    #[serde(default)]
    pub group_chat: AgentGroupChat,
    /// What it may use, on top of [`super::Tools`].
    pub tools: ToolPolicy,
}

/// A model and what to try when it fails.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ModelChoice {
    /// `provider/model`.
    pub primary: Option<String>,
    /// In order; none means those of the defaults.
    pub fallbacks: Option<Vec<String>>,
}

/// `identity` of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Identity {
    /// Its name; addresses it in groups.
    pub name: Option<String>,
    /// Its sign.
    pub emoji: Option<String>,
    /// Its manner.
    pub theme: Option<String>,
}

/// `groupChat` of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentGroupChat {
    /// Texts that address it.
    pub mention_patterns: Option<Vec<String>>,
}

/// Which tools.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ToolPolicy {
    /// Only these; none means all.
    pub allow: Option<Vec<String>>,
    /// Never these; wins.
    pub deny: Vec<String>,
    /// The tool `nodes`, and commands on nodes in general.
    #[serde(default)]
    pub nodes: AgentNodes,
}

/// `tools.nodes` of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct AgentNodes {
    /// What it may use of what `gateway.nodes.commands` lets through.
    #[serde(default)]
    pub commands: AgentCommands,
}

/// `tools.nodes.commands` of an agent; `deny` wins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct AgentCommands {
    /// Only these; none means all.
    pub allow: Option<Vec<String>>,
    /// Never these.
    #[serde(default)]
    pub deny: Vec<String>,
}
