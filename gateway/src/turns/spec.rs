//! From a queued turn and the configuration of the moment to what the agent runs.

use std::sync::Arc;
use std::time::Duration;

use atoll_agent::driver::TurnSpec;
use atoll_agent::model::{Api, ModelConfig, ModelDeadlines, ModelRef};
use atoll_agent::port::ExecHost;
use atoll_agent::prompt::Identity;
use atoll_agent::tool::{ExecDefaults, ToolPolicy};
use atoll_agent::turn::TurnLimits;
use serde_json::Value;

use super::{Said, Source, Turns};
use crate::config::{self, Config, Provider};
use crate::journal::runs::RunRow;

/// A model whose window is not configured.
const CONTEXT_WINDOW: u64 = 200_000;

/// A model whose longest answer is not configured.
const MAX_TOKENS: u64 = 8_192;

impl Turns {
    /// The turn to run, or a sentence for the chat.
    pub(super) async fn spec(&self, row: &RunRow, source: &Source) -> Result<TurnSpec, String> {
        let config = self.config.current();
        let agent = config.agent(&row.new.agent).unwrap_or_else(|| config.default_agent());
        let said: Said = row
            .new
            .input
            .read()
            .map_err(|error| format!("The message cannot be read back: {error}"))?;
        let workspace = agent
            .workspace
            .clone()
            .or_else(|| config.agents.defaults.workspace.clone());
        let workspace = workspace.map_or_else(
            || self.state.workspace(&row.new.agent),
            |path| crate::state::expand(&path),
        );
        let is_direct = source
            .place()
            .is_none_or(|place| place.kind == atoll_channels::port::PeerKind::Direct);
        Ok(TurnSpec {
            run: row.new.run.clone(),
            agent: row.new.agent.clone(),
            session: row.new.session.clone(),
            models: models(&config, &asked_for(&said, &config, agent))?,
            deadline: said.limit.unwrap_or(Duration::from_secs(config.timeout_of(agent))),
            input: said.into_message(),
            direct: is_direct,
            owners: crate::cards::owner_ids(&config),
            workspace: Some(workspace),
            tools: tools(&config, agent),
            exec: exec(&config),
            identity: Identity {
                name: agent.identity.name.clone().or_else(|| agent.name.clone()),
                emoji: agent.identity.emoji.clone(),
                theme: agent.identity.theme.clone(),
            },
            facts: self.facts().await,
            limits: TurnLimits::default(),
        })
    }

    /// The time and the devices, for the prompt.
    async fn facts(&self) -> String {
        let nodes = self.exec.ring.rows().await;
        let lines: Vec<_> = nodes.iter().map(node_line).collect();
        let now = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M %Z").to_string();
        if lines.is_empty() {
            return format!("Time: {now}\nNodes: none");
        }
        format!("Time: {now}\nNodes:\n{}", lines.join("\n"))
    }
}

fn node_line(node: &Value) -> String {
    let text = |name: &str| node.get(name).and_then(Value::as_str).unwrap_or_default();
    let state = if node.get("connected") == Some(&Value::Bool(true)) {
        "connected"
    } else {
        "away"
    };
    let commands: Vec<_> = node
        .get("commands")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    format!(
        "- {} ({}, {state}): {}",
        text("displayName"),
        text("platform"),
        commands.join(" ")
    )
}

/// One model that was asked for answers alone: another one would not be what was asked.
fn asked_for(said: &Said, config: &Config, agent: &config::Agent) -> Vec<String> {
    said.model
        .as_ref()
        .map_or_else(|| config.models_of(agent), |model| vec![model.clone()])
}

/// The models of an agent in order, for a question of the house's own.
///
/// # Errors
/// One of them cannot be reached by configuration; names the key.
pub(crate) fn models_of(config: &Config, agent: &config::Agent) -> Result<Vec<Arc<ModelConfig>>, String> {
    models(config, &config.models_of(agent))
}

/// Whether a turn can ask this model.
///
/// # Errors
/// Why not, and which key would change that.
pub(crate) fn can_be_asked(config: &Config, name: &str) -> Result<(), String> {
    model(config, name).map(drop)
}

/// The models of a turn in order; one that cannot be reached by configuration is an error that names the key.
fn models(config: &Config, names: &[String]) -> Result<Vec<Arc<ModelConfig>>, String> {
    names.iter().map(|name| model(config, name).map(Arc::new)).collect()
}

fn model(config: &Config, name: &str) -> Result<ModelConfig, String> {
    let name: ModelRef = name
        .parse()
        .map_err(|error| format!("agents.defaults.model: {error}"))?;
    let provider = config.models.providers.get(&name.provider);
    let known = provider.and_then(|provider| provider.models.iter().find(|model| model.id == name.model));
    let number = |value: Option<u64>, default: u64| u32::try_from(value.unwrap_or(default)).unwrap_or(u32::MAX);
    Ok(ModelConfig {
        base_url: base_url(&name, provider)?,
        api_key: provider.and_then(|provider| provider.api_key.clone()),
        api: api(&name, provider)?,
        context_window: number(known.and_then(|model| model.context_window), CONTEXT_WINDOW),
        max_tokens: number(known.and_then(|model| model.max_tokens), MAX_TOKENS),
        sees: sees(&name, known),
        deadlines: ModelDeadlines::default(),
        name,
    })
}

/// As configured; of a model that is not listed, as those of its provider do nowadays.
fn sees(name: &ModelRef, known: Option<&config::Model>) -> bool {
    match known {
        Some(model) => model.input.iter().any(|kind| kind == "image"),
        None => matches!(name.provider.as_str(), "anthropic" | "openai"),
    }
}

fn base_url(name: &ModelRef, provider: Option<&Provider>) -> Result<String, String> {
    if let Some(url) = provider.and_then(|provider| provider.base_url.clone()) {
        return Ok(url);
    }
    match name.provider.as_str() {
        "anthropic" => Ok("https://api.anthropic.com".to_owned()),
        "openai" => Ok("https://api.openai.com/v1".to_owned()),
        other => Err(format!(
            "The model {name} cannot be reached: set models.providers.{other}.baseUrl."
        )),
    }
}

fn api(name: &ModelRef, provider: Option<&Provider>) -> Result<Api, String> {
    match (provider.and_then(|provider| provider.api), name.provider.as_str()) {
        (Some(config::Api::AnthropicMessages), _) | (None, "anthropic") => Ok(Api::AnthropicMessages),
        (Some(config::Api::OpenaiCompletions), _) | (None, "openai") => Ok(Api::OpenAiCompletions),
        (None, other) => Err(format!(
            "The model {name} cannot be spoken to: set models.providers.{other}.api to anthropic-messages or openai-completions."
        )),
    }
}

/// What an agent may use: denied by either list is denied.
fn tools(config: &Config, agent: &config::Agent) -> ToolPolicy {
    let deny = config.tools.deny.iter().chain(&agent.tools.deny).cloned().collect();
    ToolPolicy {
        allow: agent.tools.allow.clone().or_else(|| config.tools.allow.clone()),
        deny,
    }
}

fn exec(config: &Config) -> ExecDefaults {
    let exec = &config.tools.exec;
    let host = match exec.host {
        config::ExecHost::Node => ExecHost::Node(exec.node.clone()),
        config::ExecHost::Auto | config::ExecHost::Gateway => ExecHost::Gateway,
    };
    ExecDefaults { host, gateway: true }
}
