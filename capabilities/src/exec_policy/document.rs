//! The owner's document `exec-approvals.json`, in OpenClaw's shape, with closed defaults. Owns its types and what they mean for one agent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::argument_regex;

/// What may run at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Security {
    /// Nothing.
    Deny,
    /// What the allowlist covers.
    Allowlist,
    /// Everything.
    Full,
}

/// When a person is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Never.
    Off,
    /// When the allowlist does not cover it.
    OnMiss,
    /// Before every command.
    Always,
}

/// The settings of one agent, or of all that have none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// What may run at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// When a person is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<Ask>,
    /// What runs when nobody answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask_fallback: Option<Security>,
    /// OpenClaw's; read, kept, and gives no right here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_allow_skills: Option<bool>,
    /// What runs without asking.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowlist: Vec<Rule>,
    /// Keys of other versions, kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One entry of an allowlist.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// A glob over the program's real path, or a bare name as found through `PATH`.
    pub pattern: String,
    /// A regular expression over all arguments joined by spaces, or a digest of folder and arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arg_pattern: Option<String>,
    /// Id, source, last use and keys of other versions, kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// Always 1.
    pub version: u32,
    /// For agents without settings of their own.
    #[serde(default)]
    pub defaults: Settings,
    /// By agent; `*` stands for every agent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<String, Settings>,
    /// Keys of other versions, kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Default for Document {
    /// What holds without a file: a short allowlist of nothing, ask for the rest, no when nobody answers.
    fn default() -> Self {
        Self {
            version: 1,
            defaults: Settings::default(),
            agents: BTreeMap::new(),
            other: Map::new(),
        }
    }
}

/// The settings in force for one agent.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// What may run at all.
    pub security: Security,
    /// When a person is asked.
    pub ask: Ask,
    /// What runs when nobody answers.
    pub ask_fallback: Security,
    /// OpenClaw's; shown, and gives no right.
    pub auto_allow_skills: bool,
    /// What runs without asking.
    #[serde(rename = "allowlistRules")]
    pub rules: Vec<Rule>,
}

impl Policy {
    /// Whether a command that had to ask may run without an answer.
    pub(crate) fn runs_unanswered(&self, listed: bool) -> bool {
        match self.ask_fallback.min(self.security) {
            Security::Deny => false,
            Security::Allowlist => listed,
            Security::Full => true,
        }
    }
}

/// Text that is not a usable document.
#[derive(Debug, thiserror::Error)]
pub enum BadDocument {
    /// Not JSON of this shape.
    #[error("it does not parse: {0}")]
    Shape(#[from] serde_json::Error),
    /// Of another version.
    #[error("its version is {0}; this program knows version 1")]
    Version(u32),
    /// A pattern that can never be what its author meant.
    #[error("the allowlist of {agent} has a bad {key}: {text:?}")]
    Pattern {
        /// The agent.
        agent: String,
        /// `pattern` or `argPattern`.
        key: &'static str,
        /// The pattern.
        text: String,
    },
}

impl Document {
    /// Reads and checks text.
    ///
    /// # Errors
    /// See [`BadDocument`].
    pub fn parse(text: &str) -> Result<Self, BadDocument> {
        let document: Self = serde_json::from_str(text)?;
        document.check()?;
        Ok(document)
    }

    /// Checks what a type cannot say.
    ///
    /// # Errors
    /// See [`BadDocument`].
    pub fn check(&self) -> Result<(), BadDocument> {
        if self.version != 1 {
            return Err(BadDocument::Version(self.version));
        }
        let named = self.agents.iter().map(|(name, settings)| (name.as_str(), settings));
        for (agent, settings) in named.chain([("defaults", &self.defaults)]) {
            for rule in &settings.allowlist {
                check_rule(agent, rule)?;
            }
        }
        Ok(())
    }

    /// What holds for an agent: its own settings, else those of `*`, else the defaults, else the closed ones. Allowlists of
    /// `*` and of the agent add up.
    pub fn policy(&self, agent: &str) -> Policy {
        let own = self.agents.get(agent);
        let all = self.agents.get("*");
        let layers = || own.into_iter().chain(all).chain([&self.defaults]);
        Policy {
            security: layers().find_map(|layer| layer.security).unwrap_or(Security::Allowlist),
            ask: layers().find_map(|layer| layer.ask).unwrap_or(Ask::OnMiss),
            ask_fallback: layers().find_map(|layer| layer.ask_fallback).unwrap_or(Security::Deny),
            auto_allow_skills: layers().find_map(|layer| layer.auto_allow_skills).unwrap_or(false),
            rules: layers().flat_map(|layer| &layer.allowlist).cloned().collect(),
        }
    }
}

fn check_rule(agent: &str, rule: &Rule) -> Result<(), BadDocument> {
    let bad = |key, text: &str| BadDocument::Pattern {
        agent: agent.to_owned(),
        key,
        text: text.to_owned(),
    };
    if rule.pattern.is_empty() || glob::Pattern::new(&rule.pattern).is_err() && rule.pattern != "[" {
        return Err(bad("pattern", &rule.pattern));
    }
    match &rule.arg_pattern {
        Some(pattern) if argument_regex(pattern).is_err() => Err(bad("argPattern", pattern)),
        _ => Ok(()),
    }
}
