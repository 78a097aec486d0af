//! The rules for one message: who may speak there, and which agent would answer in which session. Out of the configuration alone; kept
//! until that changes, since messages come faster than settings do.

use std::collections::HashMap;
use std::sync::Arc;

use atoll_channels::gate::{self, GatePolicy, GroupRule};
use atoll_channels::port::{AccountRef, Inbound};
use atoll_protocol::id::AgentId;

use crate::channels;
use crate::config::{Agent, Bot, Config, DmPolicy, Group, GroupPolicy};
use crate::route::{self, Origin, Route};

/// Rules that were made from one configuration.
#[derive(Default)]
pub(super) struct Rules {
    config: Option<Arc<Config>>,
    bots: HashMap<AccountRef, Bot>,
    policies: HashMap<(AccountRef, AgentId), Arc<GatePolicy>>,
}

/// What holds for one message.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// Who may speak.
    pub(super) policy: Arc<GatePolicy>,
    /// Who would answer.
    pub(super) route: Route,
    /// `session.resetTriggers`.
    pub(super) triggers: Arc<[String]>,
}

impl Rules {
    /// The rule for a message; none when its account is not configured, or switched off.
    pub(super) fn of(&mut self, config: &Arc<Config>, inbound: &Inbound) -> Option<Rule> {
        self.renew(config);
        let account = &inbound.place.account;
        let bot = self.bots.get(account)?;
        let route = route::route(config, &Origin::of(&inbound.place, &inbound.sender.id));
        let agent = config.agent(&route.agent).unwrap_or_else(|| config.default_agent());
        let policy = self.policies.entry((account.clone(), agent.id.clone()));
        let policy = policy
            .or_insert_with(|| Arc::new(policy_of(config, bot, agent)))
            .clone();
        Some(Rule {
            policy,
            route,
            triggers: config.session.reset_triggers.clone().into(),
        })
    }

    fn renew(&mut self, config: &Arc<Config>) {
        if self.config.as_ref().is_some_and(|known| Arc::ptr_eq(known, config)) {
            return;
        }
        self.config = Some(config.clone());
        self.policies.clear();
        let bots = channels::bots(config).into_iter().filter(|bot| bot.enabled);
        self.bots = bots.map(|bot| (channels::account(&bot), bot)).collect();
    }
}

fn policy_of(config: &Config, bot: &Bot, agent: &Agent) -> GatePolicy {
    // A bot inherits its whole list for groups too. The gate does that itself, without the `*` that was meant for direct messages.
    let is_inherited = bot.group_allow_from == bot.allow_from;
    GatePolicy {
        dm_policy: match bot.dm_policy {
            DmPolicy::Pairing => gate::DmPolicy::Pairing,
            DmPolicy::Allowlist => gate::DmPolicy::Allowlist,
            DmPolicy::Open => gate::DmPolicy::Open,
            DmPolicy::Disabled => gate::DmPolicy::Disabled,
        },
        allow_from: bot.allow_from.clone(),
        group_policy: match bot.group_policy {
            GroupPolicy::Allowlist => gate::GroupPolicy::Allowlist,
            GroupPolicy::Open => gate::GroupPolicy::Open,
            GroupPolicy::Disabled => gate::GroupPolicy::Disabled,
        },
        groups: bot
            .groups
            .iter()
            .map(|(chat, group)| (chat.clone(), group_rule(group)))
            .collect(),
        group_allow_from: if is_inherited {
            Vec::new()
        } else {
            bot.group_allow_from.clone()
        },
        mention_patterns: mention_patterns(config, agent),
        owner_allow_from: config.commands.owner_allow_from.clone(),
    }
}

fn group_rule(group: &Group) -> GroupRule {
    GroupRule {
        enabled: group.enabled.unwrap_or(true),
        require_mention: group.require_mention,
        allow_from: group.allow_from.clone(),
    }
}

/// The agent's patterns, or its name where there are none. A pattern that cannot be used is told and passed over.
fn mention_patterns(config: &Config, agent: &Agent) -> Vec<regex_lite::Regex> {
    let written = config.mention_patterns_of(agent);
    let named = agent
        .identity
        .name
        .iter()
        .map(|name| format!(r"\b@?{}\b", regex_lite::escape(name)));
    let patterns: Vec<String> = if written.is_empty() {
        named.collect()
    } else {
        written.to_vec()
    };
    let compile = |pattern| match gate::mention_patterns(std::slice::from_ref(pattern)) {
        Ok(compiled) => compiled,
        Err(error) => {
            tracing::warn!(agent = %agent.id, %error, "a mention pattern is passed over");
            Vec::new()
        }
    };
    patterns.iter().flat_map(compile).collect()
}
