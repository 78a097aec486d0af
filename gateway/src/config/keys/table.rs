//! The rows of the table, section by section.

use super::{Key, Kind};

mod binding;
mod session;

use binding::BINDING;
use session::SESSION;

const fn key(path: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        path,
        kind,
        default: Some(default),
        doc,
    }
}

const fn optional(path: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        path,
        kind,
        default: None,
        doc,
    }
}

const OBJECT: Kind = Kind::Object(None);
const DM_SCOPES: Kind = Kind::Words(&["main", "per-peer", "per-channel-peer", "per-account-channel-peer"]);
const GROUP_SCOPES: Kind = Kind::Words(&["per-group", "main"]);
const RESETS: Kind = Kind::Words(&["none", "daily", "idle"]);
const HOUR: Kind = Kind::Int(0, 23);
const MINUTES: Kind = Kind::Int(1, 525_600);
const QUEUE_MODES: Kind = Kind::Words(&["steer", "followup", "collect", "interrupt"]);
const DEBOUNCE: Kind = Kind::Int(0, 60_000);
const LEVELS: Kind = Kind::Words(&["silent", "fatal", "error", "warn", "info", "debug", "trace"]);

const ROOT: &[Key] = &[
    optional("gateway", OBJECT, "Where the gateway listens and who gets in."),
    optional("agents", OBJECT, "Who answers."),
    optional(
        "agents.defaults",
        OBJECT,
        "What holds for every agent that does not say otherwise.",
    ),
    optional("agents.defaults.model", Kind::Object(Some("primary")), "The model."),
    optional("agents.defaults.model.primary", Kind::Text, "provider/model."),
    key(
        "agents.defaults.model.fallbacks",
        Kind::Texts,
        "[]",
        "Models to try when the first one fails.",
    ),
    optional(
        "agents.defaults.workspace",
        Kind::Text,
        "The folder the default agent works in.",
    ),
    key(
        "agents.defaults.timeoutSeconds",
        Kind::Int(1, 86_400),
        "600",
        "The longest turn.",
    ),
    optional(
        "agents.list",
        Kind::List,
        "The agents, in order. Without any there is one, main.",
    ),
    optional(
        "agents.entries",
        Kind::Map,
        "The agents by id; the other way to write agents.list.",
    ),
    optional(
        "bindings",
        Kind::List,
        "Which agent answers where. The most specific match wins.",
    ),
    optional("session", OBJECT, "Which messages share a conversation."),
    optional("models", OBJECT, "Where models are reached."),
    optional(
        "models.providers",
        Kind::Map,
        "Model providers by id, the part before the slash of a model.",
    ),
    optional("channels", OBJECT, "Chat channels."),
    optional("channels.telegram", OBJECT, "Telegram bots."),
    optional(
        "channels.telegram.accounts",
        Kind::Map,
        "More bots by name; each inherits what stands beside.",
    ),
    optional(
        "channels.telegram.defaultAccount",
        Kind::Text,
        "The bot that is meant when none is named.",
    ),
    optional("commands", OBJECT, "Direct commands and approvals in chats."),
    key(
        "commands.ownerAllowFrom",
        Kind::Ids,
        "[]",
        "Who may command and approve: 123 or telegram:123.",
    ),
    optional("approvals", OBJECT, "Questions to a person."),
    optional("approvals.exec", OBJECT, "Questions whether a command may run."),
    key(
        "approvals.exec.timeoutMs",
        Kind::Int(1_000, 86_400_000),
        "1800000",
        "How long a question waits, milliseconds; then it counts as no.",
    ),
    optional("tools", OBJECT, "What agents may use."),
    optional("tools.allow", Kind::Texts, "Only these tools; without it, all."),
    key("tools.deny", Kind::Texts, "[]", "Never these tools; wins over allow."),
    key(
        "tools.untrusted",
        Kind::Words(&["ask", "off"]),
        "\"ask\"",
        "After reading what is not the owner's.",
    ),
    optional("tools.exec", OBJECT, "The tool that runs commands."),
    key(
        "tools.exec.host",
        Kind::Words(&["auto", "gateway", "node"]),
        "\"auto\"",
        "Where commands run; auto: the gateway's own machine, as its user.",
    ),
    optional(
        "tools.exec.node",
        Kind::Text,
        "The node for host node: name, id or e.g. any,os=linux.",
    ),
    optional(
        "tools.exec.mode",
        Kind::Words(&["deny", "allowlist", "ask", "auto", "full"]),
        "security and ask in one word; wins over both. auto asks a person so far.",
    ),
    key(
        "tools.exec.security",
        Kind::Words(&["deny", "allowlist", "full"]),
        "\"allowlist\"",
        "What may run: nothing, what is on a list, anything.",
    ),
    key(
        "tools.exec.ask",
        Kind::Words(&["off", "on-miss", "always"]),
        "\"on-miss\"",
        "When a person is asked.",
    ),
    key(
        "tools.exec.askFallback",
        Kind::Words(&["deny", "allowlist", "full"]),
        "\"deny\"",
        "What runs when nobody answers: nothing, what is on the host's list, what the host lets run unasked.",
    ),
    key(
        "tools.exec.timeoutSec",
        Kind::Int(1, 86_400),
        "1800",
        "How long a command may take whose caller says nothing, seconds.",
    ),
    optional("messages", OBJECT, "How messages are read."),
    optional("messages.groupChat", OBJECT, "Messages in groups."),
    key(
        "messages.groupChat.mentionPatterns",
        Kind::Patterns,
        "[]",
        "Texts that address the agent in a group.",
    ),
    optional(
        "messages.queue",
        OBJECT,
        "Messages of a chat whose turn is still running.",
    ),
    key(
        "messages.queue.mode",
        QUEUE_MODES,
        "\"followup\"",
        "What becomes of them; steer: into the running turn; followup: a turn each; collect: one turn for all; interrupt: in its place.",
    ),
    key(
        "messages.queue.cap",
        Kind::Int(1, 64),
        "20",
        "How many may wait in one conversation.",
    ),
    key(
        "messages.queue.drop",
        Kind::Words(&["summarize", "old", "new"]),
        "\"summarize\"",
        "What goes beyond that: the oldest, its beginning kept for the agent; the oldest; the newest.",
    ),
    key(
        "messages.queue.debounceMs",
        DEBOUNCE,
        "500",
        "How long it must be quiet before collect takes what waits, milliseconds.",
    ),
    key(
        "messages.queue.byChannel",
        Kind::Map,
        "{}",
        "Another mode by channel: telegram: \"collect\".",
    ),
    optional("messages.queue.byChannel.*", QUEUE_MODES, "One channel's mode."),
    key(
        "messages.queue.debounceMsByChannel",
        Kind::Map,
        "{}",
        "Another debounceMs by channel.",
    ),
    optional("messages.queue.debounceMsByChannel.*", DEBOUNCE, "One channel's."),
    optional("discovery", OBJECT, "How others find this gateway."),
    optional("discovery.mdns", OBJECT, "Announcements in the local network."),
    optional(
        "discovery.mdns.mode",
        Kind::Words(&["off", "minimal", "full"]),
        "How much is announced. Without it: minimal where others can reach the port, off elsewhere and in containers.",
    ),
    optional("media", OBJECT, "Blobs that nodes and operators bring."),
    key(
        "media.maxMb",
        Kind::Int(1, 16 * 1024 * 1024),
        "4096",
        "All of them together, MiB. Beyond that those go that were not used for longest.",
    ),
    key("media.ttlHours", Kind::Int(1, 87_600), "168", "How long each is kept."),
    optional("logging", OBJECT, "What is written down."),
    key("logging.level", LEVELS, "\"info\"", "How much goes to the log file."),
    optional(
        "logging.consoleLevel",
        LEVELS,
        "How much goes to the terminal; without it, as to the file.",
    ),
    optional(
        "logging.file",
        Kind::Text,
        "The log file; without it, logs/atoll.log in the state folder.",
    ),
];

const GATEWAY: &[Key] = &[
    key("port", Kind::Int(1, 65_535), "18789", "The TCP and UDP port."),
    key(
        "bind",
        Kind::Words(&["loopback", "lan", "tailnet", "custom", "auto"]),
        "\"loopback\"",
        "Which addresses it listens on.",
    ),
    optional("customBindHost", Kind::Text, "The address for bind custom."),
    optional("auth", OBJECT, "What a client must show."),
    optional(
        "auth.mode",
        Kind::Words(&["token", "password", "none", "trusted-proxy"]),
        "How clients prove themselves.",
    ),
    optional(
        "auth.token",
        Kind::Secret,
        "The shared token; 32 characters at least when others can reach the port.",
    ),
    optional("auth.password", Kind::Secret, "The shared password."),
    optional("auth.rateLimit", OBJECT, "When an address that guesses is locked out."),
    key(
        "auth.rateLimit.maxAttempts",
        Kind::Int(1, 1_000),
        "10",
        "Failures that lock it.",
    ),
    key(
        "auth.rateLimit.windowMs",
        Kind::Int(1_000, 86_400_000),
        "60000",
        "The time over which they count.",
    ),
    key(
        "auth.rateLimit.lockoutMs",
        Kind::Int(1_000, 604_800_000),
        "300000",
        "How long it stays locked.",
    ),
    key(
        "auth.rateLimit.exemptLoopback",
        Kind::Bool,
        "true",
        "Whether this machine is not counted; browsers are.",
    ),
    optional(
        "auth.trustedProxy",
        OBJECT,
        "Who is let in when a proxy names the user.",
    ),
    optional(
        "auth.trustedProxy.userHeader",
        Kind::Text,
        "The header that names the user.",
    ),
    key(
        "auth.trustedProxy.requiredHeaders",
        Kind::Texts,
        "[]",
        "Headers that must be there too.",
    ),
    key(
        "auth.trustedProxy.allowUsers",
        Kind::Texts,
        "[]",
        "Users that are let in; empty: every user the proxy names.",
    ),
    key(
        "auth.trustedProxy.allowLoopback",
        Kind::Bool,
        "false",
        "Whether a proxy on this machine counts.",
    ),
    optional(
        "auth.trustedProxy.deviceAutoApprove",
        OBJECT,
        "Whether the proxy's users may bring new browsers in.",
    ),
    key(
        "auth.trustedProxy.deviceAutoApprove.enabled",
        Kind::Bool,
        "false",
        "Let them in without asking anybody; nodes are asked about all the same.",
    ),
    key(
        "auth.trustedProxy.deviceAutoApprove.scopes",
        Kind::Texts,
        "[\"operator.read\", \"operator.write\", \"operator.approvals\"]",
        "The most that such a browser gets.",
    ),
    key(
        "trustedProxies",
        Kind::Texts,
        "[]",
        "Addresses of proxies whose headers are believed.",
    ),
    key(
        "allowRealIpFallback",
        Kind::Bool,
        "false",
        "Whether their X-Real-IP counts where they send neither X-Forwarded-For nor Forwarded.",
    ),
    optional("controlUi", OBJECT, "The browser pages."),
    key(
        "controlUi.allowedOrigins",
        Kind::Texts,
        "[]",
        "Origins of pages that may connect.",
    ),
    optional("nodes", OBJECT, "What nodes may be asked for."),
    optional(
        "nodes.commands",
        OBJECT,
        "Commands beyond, and without, the usual ones of a platform.",
    ),
    key(
        "nodes.commands.allow",
        Kind::Texts,
        "[]",
        "Commands let through in addition, dangerous ones included.",
    ),
    key(
        "nodes.commands.deny",
        Kind::Texts,
        "[]",
        "Commands never let through; wins over allow.",
    ),
    optional("nodes.pluginTools", OBJECT, "Tools that nodes publish."),
    key(
        "nodes.pluginTools.enabled",
        Kind::Bool,
        "true",
        "Whether agents are offered them.",
    ),
    optional("tls", OBJECT, "Encryption of the port."),
    key(
        "tls.enabled",
        Kind::Bool,
        "false",
        "Whether WebSocket clients must use TLS.",
    ),
    key(
        "tls.autoGenerate",
        Kind::Bool,
        "true",
        "Make certPath and keyPath when they are missing.",
    ),
    optional(
        "tls.certPath",
        Kind::Text,
        "Your own certificate chain, PEM, instead of ours.",
    ),
    optional("tls.keyPath", Kind::Text, "Its key, PEM."),
];

const AGENT: &[Key] = &[
    optional("name", Kind::Text, "What people call it."),
    key(
        "default",
        Kind::Bool,
        "false",
        "Answers where no binding says otherwise.",
    ),
    optional("workspace", Kind::Text, "The folder it works in."),
    optional(
        "model",
        Kind::Object(Some("primary")),
        "Its model; a plain text has no fallbacks.",
    ),
    optional("model.primary", Kind::Text, "provider/model."),
    optional(
        "model.fallbacks",
        Kind::Texts,
        "Models to try when the first one fails.",
    ),
    optional("timeoutSeconds", Kind::Int(1, 86_400), "Its longest turn."),
    optional("identity", OBJECT, "How it presents itself."),
    optional("identity.name", Kind::Text, "Its name; addresses it in groups."),
    optional("identity.emoji", Kind::Text, "Its sign."),
    optional("identity.theme", Kind::Text, "Its manner."),
    optional("groupChat", OBJECT, "Messages in groups."),
    optional(
        "groupChat.mentionPatterns",
        Kind::Patterns,
        "Texts that address it; instead of messages.groupChat's.",
    ),
    optional("tools", OBJECT, "What it may use, on top of what tools says."),
    optional("tools.allow", Kind::Texts, "Only these tools."),
    key("tools.deny", Kind::Texts, "[]", "Never these tools."),
    optional("tools.nodes", OBJECT, "What it may do with nodes."),
    optional(
        "tools.nodes.commands",
        OBJECT,
        "Of what gateway.nodes.commands lets through.",
    ),
    optional("tools.nodes.commands.allow", Kind::Texts, "Only these commands."),
    key("tools.nodes.commands.deny", Kind::Texts, "[]", "Never these commands."),
];

const LISTED_AGENT: &[Key] = &[
    optional("", Kind::Object(Some("id")), "One agent."),
    optional("id", Kind::AgentId, "Its id."),
];

const NAMED_AGENT: &[Key] = &[optional("", OBJECT, "One agent.")];

const PROVIDER: &[Key] = &[
    optional("", OBJECT, "One provider."),
    optional("baseUrl", Kind::Url, "Where it is; without it, the provider's own."),
    optional("apiKey", Kind::Secret, "Its key."),
    optional(
        "api",
        Kind::Words(&["anthropic-messages", "openai-completions"]),
        "What it speaks.",
    ),
    key("models", Kind::List, "[]", "Its models; others can be named too."),
    optional("models.[]", Kind::Object(Some("id")), "One model."),
    optional("models.[].id", Kind::Text, "Its id."),
    optional("models.[].name", Kind::Text, "What people call it."),
    optional(
        "models.[].contextWindow",
        Kind::Int(1, 100_000_000),
        "Tokens it reads at most.",
    ),
    optional(
        "models.[].maxTokens",
        Kind::Int(1, 100_000_000),
        "Tokens it writes at most.",
    ),
    key("models.[].reasoning", Kind::Bool, "false", "Whether it thinks."),
    key(
        "models.[].input",
        Kind::Texts,
        "[\"text\"]",
        "What it reads: text, image.",
    ),
];

const TELEGRAM: &[Key] = &[
    optional("enabled", Kind::Bool, "Whether it runs; on when there is a token."),
    optional("name", Kind::Text, "What people call it."),
    optional("botToken", Kind::Secret, "The token from BotFather."),
    optional("tokenFile", Kind::Text, "A file that holds the token."),
    optional("apiRoot", Kind::Url, "Another Bot API server."),
    optional(
        "dmPolicy",
        Kind::Words(&["pairing", "allowlist", "open", "disabled"]),
        "Who may write directly; pairing.",
    ),
    optional(
        "allowFrom",
        Kind::Ids,
        "Numeric user ids that may write directly; * for everybody.",
    ),
    optional(
        "groupPolicy",
        Kind::Words(&["allowlist", "open", "disabled"]),
        "Which groups are heard; allowlist.",
    ),
    optional(
        "groupAllowFrom",
        Kind::Ids,
        "Who is heard in groups; without it, allowFrom.",
    ),
    optional("groups", Kind::Map, "Groups by chat id (negative); * for any."),
    optional("groups.*", OBJECT, "One group."),
    optional("groups.*.enabled", Kind::Bool, "Whether it is heard."),
    optional(
        "groups.*.requireMention",
        Kind::Bool,
        "Whether the bot must be addressed; true.",
    ),
    optional("groups.*.allowFrom", Kind::Ids, "Who is heard in it."),
    optional(
        "textChunkLimit",
        Kind::Int(100, 4096),
        "Characters of one message; 4000.",
    ),
];

const TELEGRAM_ACCOUNT: &[Key] = &[optional("", OBJECT, "One bot.")];

/// Where each section of the table stands.
pub(super) const MOUNTS: &[(&str, &[Key])] = &[
    ("", ROOT),
    ("gateway", GATEWAY),
    ("agents.list.[]", LISTED_AGENT),
    ("agents.list.[]", AGENT),
    ("agents.entries.*", NAMED_AGENT),
    ("agents.entries.*", AGENT),
    ("bindings.[]", BINDING),
    ("session", SESSION),
    ("models.providers.*", PROVIDER),
    ("channels.telegram", TELEGRAM),
    ("channels.telegram.accounts.*", TELEGRAM_ACCOUNT),
    ("channels.telegram.accounts.*", TELEGRAM),
];

/// Keys without which the object around them means nothing.
pub(super) const REQUIRED: &[&str] = &[
    "agents.list.[].id",
    "bindings.[].agentId",
    "session.sendPolicy.rules.[].action",
    "models.providers.*.models.[].id",
];
