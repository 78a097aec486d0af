//! Which agent answers a message and in which session: bindings by how specific they are, then the session's key. Pure. A binding chooses
//! the agent only; it never lets anybody in.

use atoll_channels::port::{PeerKind, Place};
use atoll_protocol::hex;
use atoll_protocol::id::{AgentId, SessionKey};
use sha2::{Digest, Sha256};

use crate::config::{
    Binding, Config, DEFAULT_ACCOUNT, DmScope, GroupScope, Match, MatchKind, MatchPeer, Session, SessionScope,
};

/// What is known of a message's origin.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// Where it was written.
    pub place: &'a Place,
    /// Who wrote it: the platform's immutable id.
    pub sender: &'a str,
    /// The chat that the place is a thread of, on platforms where a thread is a chat of its own.
    pub parent: Option<&'a str>,
    /// The Discord server.
    pub guild: Option<&'a str>,
    /// The Slack or Teams team.
    pub team: Option<&'a str>,
    /// The sender's roles in the server.
    pub roles: &'a [String],
}

impl<'a> Origin<'a> {
    /// An origin of which no more is known than the place and the sender.
    pub fn of(place: &'a Place, sender: &'a str) -> Self {
        Self {
            place,
            sender,
            parent: None,
            guild: None,
            team: None,
            roles: &[],
        }
    }

    /// The id that stands for the chat in bindings and keys: in a direct one, the person.
    fn peer(&self) -> &'a str {
        match self.place.kind {
            PeerKind::Direct => self.sender,
            PeerKind::Group | PeerKind::Channel => &self.place.chat,
        }
    }
}

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Who answers.
    pub agent: AgentId,
    /// In which conversation.
    pub session: SessionKey,
    /// Under which key tools and sandboxes are judged: a direct message that shares the main session is still not local.
    pub policy: SessionKey,
    /// Which binding decided (its index); none: the default agent.
    pub binding: Option<usize>,
}

/// How closely a binding fits; the smaller the closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Peer,
    ParentPeer,
    AnyPeer,
    GuildAndRoles,
    Guild,
    Team,
    Account,
    Channel,
}

/// Decides. The closest binding wins, among equals the first in the configuration.
pub fn route(config: &Config, origin: &Origin<'_>) -> Route {
    let default_account = default_account(config, &origin.place.account.channel);
    let fits = config.bindings.iter().enumerate().filter_map(|(index, binding)| {
        let fit = fit(&binding.when, origin, &default_account)?;
        Some((fit, index, binding))
    });
    let best = fits.min_by_key(|(fit, index, _)| (*fit, *index));
    let agent = best.map_or_else(|| &config.default_agent().id, |(_, _, binding)| &binding.agent_id);
    let is_default = *agent == config.default_agent().id;
    let binding = best.map(|(_, _, binding)| binding);
    Route {
        agent: agent.clone(),
        session: session_key(&config.session, binding, agent, is_default, origin),
        policy: policy_key(&config.session, agent, origin),
        binding: best.map(|(_, index, _)| index),
    }
}

/// The account of a channel that is meant when none is named.
fn default_account(config: &Config, channel: &str) -> String {
    match (channel, &config.channels.telegram) {
        ("telegram", Some(telegram)) => telegram.default_account_name(),
        _ => DEFAULT_ACCOUNT.to_owned(),
    }
}

/// How closely the conditions fit; none when one of them does not hold.
fn fit(when: &Match, origin: &Origin<'_>, default_account: &str) -> Option<Fit> {
    let account = &origin.place.account;
    let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
    let any_account = when.account_id.as_deref() == Some("*");
    let account_holds = any_account || account.account == when.account_id.as_deref().unwrap_or(default_account);
    let channel_holds = when
        .channel
        .as_deref()
        .is_none_or(|channel| channel == "*" || channel == account.channel);
    let roles_hold = when
        .roles
        .as_ref()
        .is_none_or(|wanted| wanted.iter().any(|role| origin.roles.contains(role)));
    if !(account_holds
        && channel_holds
        && roles_hold
        && is(&when.guild_id, origin.guild)
        && is(&when.team_id, origin.team))
    {
        return None;
    }
    if let Some(peer) = &when.peer {
        return peer_fit(peer, origin);
    }
    Some(match (&when.guild_id, &when.roles, &when.team_id) {
        (Some(_), Some(_), _) => Fit::GuildAndRoles,
        (Some(_), None, _) => Fit::Guild,
        (None, _, Some(_)) => Fit::Team,
        (None, _, None) if any_account => Fit::Channel,
        (None, _, None) => Fit::Account,
    })
}

fn peer_fit(wanted: &MatchPeer, origin: &Origin<'_>) -> Option<Fit> {
    let kind = MatchKind::from(origin.place.kind);
    if wanted.kind.is_some_and(|wanted| wanted != kind) {
        return None;
    }
    let peer = origin.peer();
    let id = match wanted.id.as_deref() {
        None | Some("*") => return Some(Fit::AnyPeer),
        Some(id) => id,
    };
    let Some(thread) = &origin.place.thread else {
        return match origin.parent {
            _ if id == peer => Some(Fit::Peer),
            Some(parent) if id == parent => Some(Fit::ParentPeer),
            Some(_) | None => None,
        };
    };
    if id == format!("{peer}{}", thread_suffix(origin.place, thread)) {
        return Some(Fit::Peer);
    }
    (id == peer || origin.parent == Some(id)).then_some(Fit::ParentPeer)
}

/// How a topic or thread is written behind its chat.
fn thread_suffix(place: &Place, thread: &str) -> String {
    match (place.account.channel.as_str(), place.kind) {
        ("telegram", PeerKind::Group | PeerKind::Channel) => format!(":topic:{thread}"),
        _ => format!(":thread:{thread}"),
    }
}

fn session_key(
    session: &Session,
    binding: Option<&Binding>,
    agent: &AgentId,
    is_default: bool,
    origin: &Origin<'_>,
) -> SessionKey {
    if session.scope == SessionScope::Global {
        // Every agent has its own; only the default one's can do without a name.
        return if is_default {
            key("global")
        } else {
            key(&format!("agent:{agent}:global"))
        };
    }
    let own = binding.map(|binding| binding.session).unwrap_or_default();
    let chat = match origin.place.kind {
        PeerKind::Direct => direct(session, own.dm_scope.unwrap_or(session.dm_scope), origin),
        PeerKind::Group | PeerKind::Channel => match own.group_scope.unwrap_or(session.group_scope) {
            GroupScope::PerGroup => room(origin),
            GroupScope::Main => return key(&format!("agent:{agent}:main")),
        },
    };
    let thread = origin.place.thread.as_deref();
    let suffix = thread
        .map(|thread| thread_suffix(origin.place, thread))
        .unwrap_or_default();
    key(&format!("agent:{agent}:{chat}{suffix}"))
}

fn policy_key(session: &Session, agent: &AgentId, origin: &Origin<'_>) -> SessionKey {
    let chat = match origin.place.kind {
        PeerKind::Direct => direct(session, DmScope::PerAccountChannelPeer, origin),
        PeerKind::Group | PeerKind::Channel => room(origin),
    };
    key(&format!("agent:{agent}:{chat}"))
}

fn direct(session: &Session, scope: DmScope, origin: &Origin<'_>) -> String {
    let account = &origin.place.account;
    let peer = person(session, &account.channel, origin.sender);
    match scope {
        DmScope::Main => "main".to_owned(),
        DmScope::PerPeer => format!("direct:{peer}"),
        DmScope::PerChannelPeer => format!("{}:direct:{peer}", account.channel),
        DmScope::PerAccountChannelPeer => format!("{}:{}:direct:{peer}", account.channel, account.account),
    }
}

fn room(origin: &Origin<'_>) -> String {
    let Place {
        account, kind, chat, ..
    } = origin.place;
    let kind = match kind {
        PeerKind::Group => "group",
        PeerKind::Channel | PeerKind::Direct => "channel",
    };
    format!("{}:{kind}:{chat}", account.channel)
}

/// The person's one name where the configuration links several ids. Only an id with its channel counts: the same number on another
/// platform is somebody else.
fn person<'a>(session: &'a Session, channel: &str, sender: &'a str) -> &'a str {
    let scoped = format!("{channel}:{sender}");
    let linked = session.identity_links.iter().find(|(_, ids)| ids.contains(&scoped));
    linked.map_or(sender, |(name, _)| name)
}

/// A key as text; one that would be too long is told by its hash instead.
fn key(text: &str) -> SessionKey {
    SessionKey::new(text).unwrap_or_else(|_| {
        let digest = Sha256::digest(text.as_bytes());
        let hex = hex::encode(&digest);
        let agent = text
            .split(':')
            .nth(1)
            .filter(|agent| agent.len() <= 64)
            .unwrap_or("main");
        SessionKey::new(format!("agent:{agent}:long:{hex}"))
            .expect("an agent's id and a hash are shorter than an id may be")
    })
}

/// A key as a person or a client may write it, in the form used here: `main` is the default agent's main session, `dm` is `direct`,
/// and `agent:main:telegram:default:user123` lacks its `direct`. None when it is empty or too long.
pub fn canonical(text: &str, default_agent: &AgentId) -> Option<SessionKey> {
    let text = text.trim();
    if text == "main" {
        return Some(key(&format!("agent:{default_agent}:main")));
    }
    let mut parts: Vec<&str> = text.split(':').collect();
    if parts.first() == Some(&"agent") && parts.len() >= 4 {
        for part in parts.iter_mut().skip(2).take(3) {
            if *part == "dm" {
                *part = "direct";
                break;
            }
        }
        let kinds = ["direct", "group", "channel"];
        let own = ["direct", "subagent", "acp", "cron", "hook", "main", "global", "long"];
        if parts.len() == 5 && !own.contains(&parts[2]) && !kinds.contains(&parts[3]) {
            parts.insert(4, "direct");
        }
    }
    SessionKey::new(parts.join(":")).ok()
}

/// The agent that a session belongs to; none for keys that name no agent (`global`, `cron:…`).
pub fn agent_of(session: &SessionKey) -> Option<AgentId> {
    let rest = session.as_str().strip_prefix("agent:")?;
    AgentId::new(rest.split(':').next()?).ok()
}

#[cfg(test)]
mod tests;
