//! The typed tree that the rest of the gateway reads. Its shape follows the keys; its defaults come from the table. Decides nothing
//! but what follows from the keys alone.

mod agents;
mod gateway;
mod queue;
mod send;
mod tools;

use std::collections::BTreeMap;

use atoll_channels::port::PeerKind;
use atoll_protocol::id::AgentId;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

use super::telegram::Telegram;

pub use agents::*;
pub use gateway::*;
pub use queue::*;
pub use send::*;
pub use tools::*;

/// Everything.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// Where the gateway listens and who gets in.
    pub gateway: Gateway,
    /// Who answers.
    pub agents: Agents,
    /// Which agent answers where.
    #[serde(default)]
    pub bindings: Vec<Binding>,
    /// Which messages share a conversation.
    pub session: Session,
    /// Where models are reached.
    #[serde(default)]
    pub models: Models,
    /// Chat channels.
    #[serde(default)]
    pub channels: Channels,
    /// Direct commands and approvals in chats.
    pub commands: Commands,
    /// Questions to a person.
    pub approvals: Approvals,
    /// What agents may use.
    pub tools: Tools,
    /// How messages are read.
    pub messages: Messages,
    /// How others find this gateway.
    #[serde(default)]
    pub discovery: Discovery,
    /// Blobs that nodes and operators bring.
    pub media: MediaStore,
    /// What is written down.
    pub logging: Logging,
}

/// One entry of `bindings`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// Who answers.
    pub agent_id: AgentId,
    /// When.
    #[serde(rename = "match", default)]
    pub when: Match,
    /// Instead of [`Session`]'s.
    #[serde(default)]
    pub session: BindingSession,
}

/// Conditions, all of which must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// The channel.
    pub channel: Option<String>,
    /// The account: none is the default one, `*` any.
    pub account_id: Option<String>,
    /// The chat.
    pub peer: Option<MatchPeer>,
    /// The Discord server.
    pub guild_id: Option<String>,
    /// The Slack or Teams team.
    pub team_id: Option<String>,
    /// One of these roles.
    pub roles: Option<Vec<String>>,
}

/// The chat of a [`Match`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MatchPeer {
    /// Its kind; none is any.
    pub kind: Option<MatchKind>,
    /// Its id, `*` for any.
    pub id: Option<String>,
}

/// A kind of chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatchKind {
    /// One person; also written `dm`.
    #[serde(alias = "dm")]
    Direct,
    /// Several people.
    Group,
    /// A broadcast channel or room.
    Channel,
}

impl From<PeerKind> for MatchKind {
    fn from(kind: PeerKind) -> Self {
        match kind {
            PeerKind::Direct => Self::Direct,
            PeerKind::Group => Self::Group,
            PeerKind::Channel => Self::Channel,
        }
    }
}

/// `session` of a binding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BindingSession {
    /// Instead of [`Session::dm_scope`].
    pub dm_scope: Option<DmScope>,
    /// Instead of [`Session::group_scope`].
    pub group_scope: Option<GroupScope>,
}

/// `session`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// One conversation for all, or not.
    pub scope: SessionScope,
    /// Which direct messages share a conversation.
    pub dm_scope: DmScope,
    /// Whether groups have conversations of their own.
    pub group_scope: GroupScope,
    /// One person on several channels.
    pub identity_links: BTreeMap<String, Vec<String>>,
    /// When a conversation begins anew by itself.
    pub reset: Reset,
    /// Instead of that, by what kind of conversation it is.
    #[serde(default)]
    pub reset_by_type: ResetByType,
    /// Instead of both, by channel.
    pub reset_by_channel: BTreeMap<String, ResetChange>,
    /// Words that begin a conversation anew.
    pub reset_triggers: Vec<String>,
    /// Where an agent may answer.
    #[serde(default)]
    pub send_policy: SendPolicy,
}

/// `session.scope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionScope {
    /// As the other two scopes say.
    PerSender,
    /// One for everything.
    Global,
}

/// `session.dmScope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DmScope {
    /// All of an agent's.
    Main,
    /// Those of one person.
    PerPeer,
    /// Those of one person on one channel.
    PerChannelPeer,
    /// Those of one person with one account.
    PerAccountChannelPeer,
}

/// `session.groupScope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupScope {
    /// Each its own.
    PerGroup,
    /// All in the agent's main one.
    Main,
}

/// `session.reset`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reset {
    /// Never, each day, or after silence.
    pub mode: ResetMode,
    /// The hour for daily.
    pub at_hour: u8,
    /// The silence for idle.
    pub idle_minutes: u32,
}

/// `session.resetByType`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ResetByType {
    /// One person.
    pub direct: Option<ResetChange>,
    /// Several people.
    pub group: Option<ResetChange>,
    /// A topic or thread.
    pub thread: Option<ResetChange>,
}

/// What differs from `session.reset`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResetChange {
    /// Instead of [`Reset::mode`].
    pub mode: Option<ResetMode>,
    /// Instead of [`Reset::at_hour`].
    pub at_hour: Option<u8>,
    /// Instead of [`Reset::idle_minutes`].
    pub idle_minutes: Option<u32>,
}

/// `session.reset.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResetMode {
    /// Never.
    None,
    /// Each day.
    Daily,
    /// After silence.
    Idle,
}

/// `models`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Models {
    /// By id.
    #[serde(default)]
    pub providers: BTreeMap<String, Provider>,
}

/// One model provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// Where it is; none means the provider's own.
    pub base_url: Option<String>,
    /// Its key.
    #[serde(default, deserialize_with = "secret")]
    pub api_key: Option<SecretString>,
    /// What it speaks; none follows from the id.
    pub api: Option<Api>,
    /// Its models.
    pub models: Vec<Model>,
}

/// A language of model servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// Anthropic Messages.
    AnthropicMessages,
    /// OpenAI Chat Completions.
    OpenaiCompletions,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: Option<String>,
    /// Tokens it reads at most.
    pub context_window: Option<u64>,
    /// Tokens it writes at most.
    pub max_tokens: Option<u64>,
    /// Whether it thinks.
    pub reasoning: bool,
    /// What it reads.
    pub input: Vec<String>,
}

/// `channels`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Channels {
    /// Telegram bots.
    pub telegram: Option<Telegram>,
}

/// `commands`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Commands {
    /// Who may command and approve.
    pub owner_allow_from: Vec<String>,
}

/// `approvals`.
#[derive(Debug, Clone, Deserialize)]
pub struct Approvals {
    /// Questions whether a command may run.
    pub exec: ExecApprovals,
}

/// `approvals.exec`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecApprovals {
    /// How long a question waits, milliseconds.
    pub timeout_ms: u64,
}

/// `messages`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Messages {
    /// Messages in groups.
    pub group_chat: GroupChat,
    /// Messages of a chat whose turn is still running.
    pub queue: Queue,
}

/// `messages.groupChat`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupChat {
    /// Texts that address the agent.
    pub mention_patterns: Vec<String>,
}

/// `discovery`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Discovery {
    /// Announcements in the local network.
    #[serde(default)]
    pub mdns: Mdns,
}

/// `media`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MediaStore {
    /// MiB in all.
    pub max_mb: u64,
    /// Hours.
    pub ttl_hours: u64,
}

/// `discovery.mdns`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Mdns {
    /// How much is announced; none: little where others can reach the port, nothing elsewhere and in containers.
    pub mode: Option<MdnsMode>,
}

/// `discovery.mdns.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MdnsMode {
    /// Nothing.
    Off,
    /// What others need to find it: name, port, key.
    Minimal,
    /// Where its program lies and SSH listens, too.
    Full,
}

/// `logging`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Logging {
    /// How much goes to the log file.
    pub level: Level,
    /// How much goes to the terminal; none: as to the file.
    pub console_level: Option<Level>,
    /// The log file; none: in the state folder.
    pub file: Option<String>,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Nothing.
    Silent,
    /// As error.
    Fatal,
    /// What failed.
    Error,
    /// What may fail.
    Warn,
    /// What happened.
    Info,
    /// How it happened.
    Debug,
    /// Everything.
    Trace,
}

impl Config {
    /// The agent that answers where no binding says otherwise: the one marked so, else `main`, else the first.
    pub fn default_agent(&self) -> &Agent {
        let list = &self.agents.list;
        list.iter()
            .find(|agent| agent.default)
            .or_else(|| list.iter().find(|agent| agent.id.as_str() == "main"))
            .or_else(|| list.first())
            .expect("loading puts an agent in when none is written")
    }

    /// An agent by its id.
    pub fn agent(&self, id: &AgentId) -> Option<&Agent> {
        self.agents.list.iter().find(|agent| agent.id == *id)
    }

    /// The models that an agent tries, in order; empty when none is configured.
    pub fn models_of(&self, agent: &Agent) -> Vec<String> {
        let defaults = self.agents.defaults.model.clone().unwrap_or_default();
        let own = agent.model.clone().unwrap_or_default();
        let Some(primary) = own.primary.or(defaults.primary) else {
            return Vec::new();
        };
        let fallbacks = own.fallbacks.or(defaults.fallbacks).unwrap_or_default();
        let mut models = vec![primary];
        for model in fallbacks {
            if !models.contains(&model) {
                models.push(model);
            }
        }
        models
    }

    /// The longest turn of an agent, seconds.
    pub fn timeout_of(&self, agent: &Agent) -> u64 {
        agent.timeout_seconds.unwrap_or(self.agents.defaults.timeout_seconds)
    }

    /// Texts that address an agent in a group: its own patterns, else those for all.
    pub fn mention_patterns_of<'a>(&'a self, agent: &'a Agent) -> &'a [String] {
        let own = agent.group_chat.mention_patterns.as_deref();
        own.unwrap_or(&self.messages.group_chat.mention_patterns)
    }
}

/// Reads a text that must never be shown.
pub(in crate::config) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}
