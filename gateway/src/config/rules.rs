//! What must hold between keys: who can reach the gateway without proof, whom a channel listens to, which agents exist. Pure.

use std::collections::HashSet;
use std::net::IpAddr;

use atoll_protocol::scope::Scope;
use secrecy::{ExposeSecret, SecretString};

use super::Problem;
use super::telegram::{Bot, BotToken, DmPolicy};
use super::tree::{Auth, AuthMode, Bind, Config, ExecMode, Gateway};

/// The shortest shared secret when others can reach the port, characters.
pub const TOKEN_CHARS: usize = 32;

/// Every rule that is broken.
pub(super) fn broken(config: &Config) -> Vec<Problem> {
    let mut problems = exposure(&config.gateway);
    problems.extend(agents(config));
    problems.extend(telegram(config));
    problems.extend(providers(config));
    problems
}

/// What is let through and does less than it says.
pub(super) fn half_supported(config: &Config) -> Vec<Problem> {
    let is_auto = config.tools.exec.mode == Some(ExecMode::Auto);
    let message = "auto asks a person, as ask does; no model answers for one here. Write ask to say so, or allowlist and full to be asked less";
    is_auto
        .then(|| Problem::new("tools.exec.mode", message))
        .into_iter()
        .collect()
}

/// Whether the address and the proof go together: nobody but this machine may get in unproven, and a secret that others can guess
/// at must be long. Call it again after a command-line option has changed the gateway's section.
pub fn exposure(gateway: &Gateway) -> Vec<Problem> {
    let mut problems = Vec::new();
    if gateway.bind == Bind::Custom && gateway.custom_bind_host.as_deref().and_then(bind_host).is_none() {
        let message = "must be an IP address, or localhost, when gateway.bind is custom";
        problems.push(Problem::new("gateway.customBindHost", message));
    }
    problems.extend(proof(gateway));
    for (index, proxy) in gateway.trusted_proxies.iter().enumerate() {
        if !is_network(proxy) {
            let message = "is not an IP address or network (10.0.0.0/8)";
            problems.push(Problem::new(format!("gateway.trustedProxies[{index}]"), message));
        }
    }
    if gateway.tls.cert_path.is_some() != gateway.tls.key_path.is_some() {
        problems.push(Problem::new("gateway.tls", "certPath and keyPath belong together"));
    }
    if gateway.tls.enabled && !gateway.tls.auto_generate && gateway.tls.cert_path.is_none() {
        let message = "is missing, and gateway.tls.autoGenerate is false; set it with keyPath, or allow it to be made";
        problems.push(Problem::new("gateway.tls.certPath", message));
    }
    problems
}

/// What is wrong with how clients prove themselves.
fn proof(gateway: &Gateway) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut broken = |key: &str, message: &str| problems.push(Problem::new(key, message));
    let reachable = is_reachable(gateway);
    let Auth {
        token,
        password,
        mode,
        trusted_proxy,
        rate_limit: _,
    } = &gateway.auth;
    if mode.is_none() && token.is_some() && password.is_some() {
        broken(
            "gateway.auth.mode",
            "must be written when both token and password are; allowed: token, password",
        );
    }
    match (gateway.auth.effective(), token) {
        (AuthMode::Token, None) if reachable => broken(
            "gateway.auth.token",
            "is missing, and gateway.bind lets others reach the port; set it, or set gateway.bind to loopback",
        ),
        (AuthMode::Token, Some(token)) if reachable && is_short(token) => broken(
            "gateway.auth.token",
            "must have 32 characters at least when others can reach the port",
        ),
        (AuthMode::Password, _) if password.is_none() => {
            broken("gateway.auth.password", "is missing, and gateway.auth.mode is password");
        }
        (AuthMode::None, _) if reachable => broken(
            "gateway.auth.mode",
            "none is allowed with gateway.bind loopback only; allowed here: token, password, trusted-proxy",
        ),
        (AuthMode::TrustedProxy, _) => {
            for scope in &trusted_proxy.device_auto_approve.scopes {
                if scope.parse::<Scope>().is_err() {
                    let known: Vec<_> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
                    let message = format!("{scope} is not a scope; allowed: {}", known.join(", "));
                    broken("gateway.auth.trustedProxy.deviceAutoApprove.scopes", &message);
                }
            }
            let because = "is missing, and gateway.auth.mode is trusted-proxy";
            if trusted_proxy.user_header.is_none() {
                broken("gateway.auth.trustedProxy.userHeader", because);
            }
            if gateway.trusted_proxies.is_empty() {
                broken("gateway.trustedProxies", because);
            }
        }
        (AuthMode::Token | AuthMode::Password | AuthMode::None, _) => {}
    }
    problems
}

/// Whether anybody but this machine can open the port.
pub fn is_reachable(gateway: &Gateway) -> bool {
    match gateway.bind {
        Bind::Loopback => false,
        Bind::Custom => !gateway
            .custom_bind_host
            .as_deref()
            .and_then(bind_host)
            .is_some_and(|host| host.is_loopback()),
        // Auto is every address in a container, so it must be safe everywhere.
        Bind::Lan | Bind::Tailnet | Bind::Auto => true,
    }
}

/// The address that `gateway.customBindHost` means.
pub fn bind_host(text: &str) -> Option<IpAddr> {
    if text == "localhost" {
        return Some(IpAddr::from([127, 0, 0, 1]));
    }
    text.trim_matches(['[', ']']).parse().ok()
}

fn is_short(secret: &SecretString) -> bool {
    secret.expose_secret().chars().count() < TOKEN_CHARS
}

fn is_network(text: &str) -> bool {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, bits.parse::<u8>().ok()),
        None => (text, Some(0)),
    };
    match (address.parse(), bits) {
        (Ok(IpAddr::V4(_)), Some(bits)) => bits <= 32,
        (Ok(IpAddr::V6(_)), Some(bits)) => bits <= 128,
        (Err(_), _) | (_, None) => false,
    }
}

fn agents(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen = HashSet::new();
    for agent in &config.agents.list {
        if !seen.insert(agent.id.as_str().to_ascii_lowercase()) {
            problems.push(Problem::new("agents", format!("has the agent {} twice", agent.id)));
        }
    }
    let defaults = config.agents.list.iter().filter(|agent| agent.default).count();
    if defaults > 1 {
        problems.push(Problem::new("agents", "has more than one agent with default: true"));
    }
    for (index, binding) in config.bindings.iter().enumerate() {
        if config.agent(&binding.agent_id).is_none() {
            let known: Vec<_> = config.agents.list.iter().map(|agent| agent.id.as_str()).collect();
            let message = format!(
                "names the agent {}, which does not exist; allowed: {}",
                binding.agent_id,
                known.join(", ")
            );
            problems.push(Problem::new(format!("bindings[{index}].agentId"), message));
        }
    }
    problems
}

fn providers(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let known = ["anthropic", "openai"];
    for (id, provider) in &config.models.providers {
        if provider.api.is_none() && !known.contains(&id.as_str()) {
            let message = "is missing; allowed: anthropic-messages, openai-completions";
            problems.push(Problem::new(format!("models.providers.{id}.api"), message));
        }
    }
    problems
}

fn telegram(config: &Config) -> Vec<Problem> {
    let Some(telegram) = &config.channels.telegram else {
        return Vec::new();
    };
    let bots = telegram.bots();
    let mut problems = Vec::new();
    if let Some(name) = telegram.written_default()
        && !bots.iter().any(|bot| bot.account == name)
    {
        let message = format!("names the account {name}, which does not exist");
        problems.push(Problem::new("channels.telegram.defaultAccount", message));
    }
    for bot in bots.iter().filter(|bot| bot.enabled) {
        let base = match bot.account.as_str() {
            "default" => "channels.telegram".to_owned(),
            name => format!("channels.telegram.accounts.{name}"),
        };
        problems.extend(
            access(bot)
                .into_iter()
                .map(|(key, message)| Problem::new(format!("{base}.{key}"), message)),
        );
    }
    problems
}

fn access(bot: &Bot) -> Vec<(&'static str, String)> {
    let mut broken = Vec::new();
    let everybody = bot.allow_from.iter().any(|id| id == "*");
    if matches!(bot.token, BotToken::Missing) {
        broken.push((
            "botToken",
            "is missing, and so is tokenFile; set one, or enabled: false".to_owned(),
        ));
    }
    match bot.dm_policy {
        DmPolicy::Open if !everybody => {
            broken.push((
                "dmPolicy",
                "open lets everybody in; say so with allowFrom: [\"*\"]".to_owned(),
            ));
        }
        DmPolicy::Allowlist if bot.allow_from.is_empty() => {
            broken.push((
                "allowFrom",
                "is empty, and dmPolicy allowlist lets in only who is on it".to_owned(),
            ));
        }
        DmPolicy::Open | DmPolicy::Allowlist | DmPolicy::Pairing | DmPolicy::Disabled => {}
    }
    for (key, ids) in [
        ("allowFrom", &bot.allow_from),
        ("groupAllowFrom", &bot.group_allow_from),
    ] {
        for id in ids.iter().filter(|id| *id != "*") {
            if let Some(message) = not_a_user(id) {
                broken.push((key, message));
            }
        }
    }
    for id in bot.groups.keys().filter(|id| *id != "*") {
        if id.parse::<i64>().is_err() {
            broken.push((
                "groups",
                format!("{id} is not a chat id; allowed: a number like -1001234567890, or *"),
            ));
        }
    }
    broken
}

/// What is wrong with the id of a person.
fn not_a_user(id: &str) -> Option<String> {
    let bare = ["telegram:", "tg:"]
        .iter()
        .find_map(|prefix| id.strip_prefix(prefix))
        .unwrap_or(id);
    match bare.parse::<i64>() {
        Ok(number) if number > 0 => None,
        Ok(_) => Some(format!("{id} is the id of a group; it belongs under groups")),
        Err(_) => Some(format!(
            "{id} is not a numeric user id; /whoami in a chat with the bot tells it"
        )),
    }
}

#[cfg(test)]
mod tests;
