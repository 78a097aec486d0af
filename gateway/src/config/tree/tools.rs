//! `tools`: what agents may use.

use serde::Deserialize;

/// `tools`.
#[derive(Debug, Clone, Deserialize)]
pub struct Tools {
    /// Only these; none means all.
    pub allow: Option<Vec<String>>,
    /// Never these; wins.
    pub deny: Vec<String>,
    /// The tool that runs commands.
    pub exec: Exec,
    /// What a conversation may do once it has read what is not its owner's.
    pub untrusted: Untrusted,
}

/// `tools.untrusted`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Untrusted {
    /// A person is asked about commands on devices.
    Ask,
    /// The same as before.
    Off,
}

/// `tools.exec`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exec {
    /// Where commands run.
    pub host: ExecHost,
    /// The node for [`ExecHost::Node`], in the words of `docs/nodes.md`.
    pub node: Option<String>,
    /// As written; [`Exec::policy`] is what holds.
    pub mode: Option<ExecMode>,
    /// As written; [`Exec::policy`] is what holds.
    pub security: ExecSecurity,
    /// As written; [`Exec::policy`] is what holds.
    pub ask: ExecAsk,
    /// What runs when nobody answers.
    pub ask_fallback: ExecSecurity,
    /// How long a command may take whose caller says nothing, seconds.
    pub timeout_sec: u64,
}

impl Exec {
    /// What may run and when a person is asked.
    pub fn policy(&self) -> (ExecSecurity, ExecAsk) {
        match self.mode {
            None => (self.security, self.ask),
            Some(ExecMode::Deny) => (ExecSecurity::Deny, ExecAsk::Off),
            Some(ExecMode::Allowlist) => (ExecSecurity::Allowlist, ExecAsk::Off),
            Some(ExecMode::Ask | ExecMode::Auto) => (ExecSecurity::Allowlist, ExecAsk::OnMiss),
            Some(ExecMode::Full) => (ExecSecurity::Full, ExecAsk::Off),
        }
    }
}

/// `tools.exec.host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExecHost {
    /// The gateway.
    Auto,
    /// The gateway.
    Gateway,
    /// A node.
    Node,
}

/// `tools.exec.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExecMode {
    /// Nothing runs.
    Deny,
    /// What is on a list runs, nothing else.
    Allowlist,
    /// What is on a list runs, a person is asked for the rest.
    Ask,
    /// The same; in OpenClaw a model answers first.
    Auto,
    /// Everything runs.
    Full,
}

/// `tools.exec.security`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExecSecurity {
    /// Nothing.
    Deny,
    /// What is on a list.
    Allowlist,
    /// Anything.
    Full,
}

/// `tools.exec.ask`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExecAsk {
    /// Never.
    Off,
    /// For what is not on a list.
    OnMiss,
    /// Each time.
    Always,
}
