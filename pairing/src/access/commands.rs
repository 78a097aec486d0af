//! Which commands of a node a gateway lets through: by platform, by what the owner approved, by the owner's lists.
//!
//! The tables are OpenClaw's (reference §13), so that its nodes and clients see what they expect; the only additions are `NATIVE`,
//! four in `DANGEROUS` and what the owner opened on one device. Never decides who may call: that is [`super::decide`].

use std::collections::BTreeSet;

use atoll_protocol::capability::Surface;
use atoll_protocol::dialect::denial;
pub use atoll_protocol::dialect::denial::CommandBar;
use atoll_protocol::error::WireError;
use atoll_protocol::frame::ClientInfo;
use atoll_protocol::scope::{Scope, Scopes};
use serde_json::json;

/// `client.id` of this project's own node.
pub const NATIVE_CLIENT: &str = "atoll-node";

/// The system of a node, as far as the policy tells systems apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Platform {
    /// iPhone, iPad.
    Ios,
    /// Apple Watch.
    Watchos,
    /// Android.
    Android,
    /// macOS.
    Macos,
    /// Windows.
    Windows,
    /// Linux.
    Linux,
    /// Anything else, or a platform and a family that contradict each other.
    Unknown,
}

/// Platform, its exact name, its label's first word, the families that go with it.
const PLATFORMS: &[(Platform, &str, &str, &[&str])] = &[
    (Platform::Watchos, "watchos", "watchos ", &["watch", "apple watch"]),
    (Platform::Ios, "ios", "ios ", &["iphone", "ipad", "ios"]),
    (Platform::Ios, "ios", "ipados ", &["ipad"]),
    (Platform::Android, "android", "android ", &["android"]),
    (Platform::Macos, "macos", "macos ", &["mac"]),
    (Platform::Windows, "windows", "windows ", &["windows"]),
    (Platform::Linux, "linux", "", &["linux"]),
];

impl Platform {
    /// Reads the two claims of a client together. An empty family goes with an exact platform name.
    pub fn of(platform: &str, family: &str) -> Self {
        let platform = platform.trim().to_ascii_lowercase();
        let family = family.trim().to_ascii_lowercase();
        let fits = |families: &[&str]| families.contains(&family.as_str());
        PLATFORMS
            .iter()
            .find(|(_, name, label, families)| {
                if platform.is_empty() {
                    fits(families)
                } else if platform == *name {
                    family.is_empty() || fits(families)
                } else {
                    !label.is_empty() && platform.starts_with(label) && fits(families)
                }
            })
            .map_or(Self::Unknown, |(found, ..)| *found)
    }

    fn defaults(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Linux => &[DESKTOP_HOST, DESKTOP, PLACE],
            Self::Macos => &[DESKTOP_HOST, DESKTOP, PLACE, DEVICE, PERSONAL, MACOS],
            Self::Windows => &[DESKTOP_HOST, DESKTOP, PLACE, DEVICE],
            Self::Android => &[NOTIFY, PLACE, DEVICE, PERSONAL, ANDROID],
            Self::Ios => &[NOTIFY, PLACE, DEVICE, PERSONAL, IOS],
            Self::Watchos => &[NOTIFY, DEVICE],
            Self::Unknown => &[NOTIFY, PLACE],
        }
    }
}

/// What turns a computer into a host for commands: allowed only where the owner's approval names it.
const DESKTOP_HOST: &[&str] = &[
    "system.run.prepare",
    "system.run",
    "system.which",
    "system.execApprovals.get",
    "system.execApprovals.set",
    "fs.listDir",
    "terminal.upload",
    "browser.proxy",
    "browser.proxy.upload.v1",
    "mcp.tools.call.v1",
    "agent.cli.claude.run.v1",
    "screen.snapshot",
    "desktop.stream",
];
const DESKTOP: &[&str] = &["system.notify", "computer.act", "ollama.chat", "ollama.models"];
const NOTIFY: &[&str] = &["system.notify"];
const PLACE: &[&str] = &["camera.list", "location.get"];
const DEVICE: &[&str] = &["device.info", "device.status"];
const PERSONAL: &[&str] = &[
    "contacts.search",
    "calendar.events",
    "reminders.list",
    "photos.latest",
    "motion.activity",
    "motion.pedometer",
];
const MACOS: &[&str] = &[
    "camera.ptz.status",
    "device.apps",
    "canvas.present",
    "canvas.hide",
    "canvas.navigate",
];
const ANDROID: &[&str] = &[
    "notifications.list",
    "notifications.actions",
    "device.permissions",
    "device.health",
    "device.apps",
    "callLog.search",
    "mobile.ui.observe",
    "mobile.ui.act",
];
const IOS: &[&str] = &["watch.status", "watch.notify"];
const TALK: &[&str] = &["talk.ptt.start", "talk.ptt.stop", "talk.ptt.cancel", "talk.ptt.once"];

/// Beyond OpenClaw's tables, for this project's own nodes on every platform: facts about the machine and its screens, and what the node's
/// owner opened on the node itself.
const NATIVE: &[&str] = &[
    "audio.play",
    "audio.speak",
    "canvas.hide",
    "canvas.navigate",
    "canvas.present",
    "clipboard.write",
    "device.health",
    "device.info",
    "device.status",
    "screen.list",
    "file.fetch",
    "file.stat",
    "file.write",
    "dir.list",
];

/// May be declared and approved; running them needs the owner's `allow` too. `audio.record`, `camera.stream`, `canvas.eval`,
/// `canvas.snapshot`, `clipboard.read` and `screen.stream` are ours, and of the same kind.
const DANGEROUS: &[&str] = &[
    "audio.record",
    "canvas.eval",
    "canvas.snapshot",
    "camera.snap",
    "camera.clip",
    "camera.stream",
    "camera.ptz.control",
    "clipboard.read",
    "screen.record",
    "screen.stream",
    "contacts.add",
    "calendar.add",
    "reminders.add",
    "sms.send",
    "sms.search",
    "health.summary",
];

/// Capabilities that mean nothing without a command of theirs.
const HOLLOW_CAPS: &[&str] = &["camera", "screen", "location", "computer"];

/// Commands whose approval hands over the machine.
const RUNS_THINGS: &[&str] = &[
    "system.run",
    "system.run.prepare",
    "system.which",
    "system.execApprovals.get",
    "system.execApprovals.set",
    "browser.proxy",
    "browser.proxy.upload.v1",
    "mcp.tools.call.v1",
    "agent.cli.claude.run.v1",
    "terminal.upload",
    "computer.act",
    "mobile.ui.act",
];

/// What the decision needs to know of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// The pinned platform.
    pub platform: Platform,
    /// The platform in the node's own words, for error texts.
    pub platform_text: String,
    /// It is this project's own node.
    pub native: bool,
    /// What it declares on its present link.
    pub declared: Surface,
    /// What the owner approved.
    pub approved: Surface,
    /// Commands that the owner named for this very device: let through although dangerous or unknown to the tables.
    pub opened: BTreeSet<String>,
}

impl NodeFacts {
    /// Puts together what the record pinned and what the link declares.
    pub fn new(client: &ClientInfo, declared: Surface, approved: Surface) -> Self {
        Self {
            platform: Platform::of(&client.platform, &client.device_family),
            platform_text: client.platform.clone(),
            native: client.id == NATIVE_CLIENT,
            declared,
            approved,
            opened: BTreeSet::new(),
        }
    }

    /// With the commands that the owner opened on this device.
    #[must_use]
    pub fn opening(mut self, opened: BTreeSet<String>) -> Self {
        self.opened = opened;
        self
    }

    /// Declared and approved: what is in force.
    pub fn in_force(&self) -> Surface {
        self.declared.within(&self.approved)
    }
}

/// `gateway.nodes.commands`: names that the owner adds to and takes from the defaults. `deny` wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandPolicy {
    /// Let through although dangerous or unknown to the tables.
    pub allow: Vec<String>,
    /// Never let through.
    pub deny: Vec<String>,
}

impl CommandPolicy {
    /// May this command run on this node now?
    ///
    /// # Errors
    /// [`CommandDenied`], in the order that OpenClaw finds them: allowlist first, then the node's declaration.
    pub fn check(&self, facts: &NodeFacts, command: &str) -> Result<(), CommandDenied> {
        let refuse = |bar| CommandDenied::NotAllowed {
            command: command.to_owned(),
            platform: facts.platform_text.clone(),
            bar,
        };
        let listed = self.allows(command)
            || facts.opened.contains(command)
            || (in_tables(facts.platform, facts.native, &facts.declared, command)
                && (!DESKTOP_HOST.contains(&command) || facts.approved.offers(command)));
        if is_private(command) || names(&self.deny, command) || !listed {
            let waits = DANGEROUS.contains(&command) && !names(&self.deny, command);
            return Err(refuse(if waits {
                CommandBar::NotOptedIn
            } else {
                CommandBar::NotAllowlisted
            }));
        }
        if facts.declared.commands.is_empty() {
            return Err(refuse(CommandBar::NothingDeclared));
        }
        if !facts.declared.offers(command) || !facts.approved.offers(command) {
            return Err(refuse(CommandBar::NotDeclared));
        }
        Ok(())
    }

    /// What may be called on this node now.
    #[must_use]
    pub fn usable(&self, facts: &NodeFacts) -> Surface {
        let mut surface = facts.in_force();
        surface.commands.retain(|command| self.check(facts, command).is_ok());
        let commands = &surface.commands;
        surface.caps.retain(|cap| is_filled(cap, commands));
        surface
    }

    /// The part of a declaration that its platform may offer at all: what a person is asked to approve.
    ///
    /// Dangerous commands stay in it, since their approval alone does not make them run. A capability goes when all its
    /// commands were withheld. `opened` are the commands that the owner named for this very device.
    #[must_use]
    pub fn offerable(&self, client: &ClientInfo, declared: &Surface, opened: &BTreeSet<String>) -> Surface {
        let platform = Platform::of(&client.platform, &client.device_family);
        let native = client.id == NATIVE_CLIENT;
        let commands: Vec<String> = declared
            .commands
            .iter()
            .filter(|command| !is_private(command) && !names(&self.deny, command))
            .filter(|command| {
                self.allows(command)
                    || opened.contains(*command)
                    || DANGEROUS.contains(&command.as_str())
                    || in_tables(platform, native, declared, command)
            })
            .cloned()
            .collect();
        let caps = declared
            .caps
            .iter()
            .filter(|cap| is_filled(cap, &commands))
            .cloned()
            .collect();
        Surface {
            caps,
            commands,
            permissions: declared.permissions.clone(),
        }
        .sorted()
    }

    fn allows(&self, command: &str) -> bool {
        names(&self.allow, command)
    }
}

/// `tools.nodes.commands` of one agent: takes from what [`CommandPolicy`] lets through, and never adds to it. `deny` wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Narrowing {
    /// Only these; none: all.
    pub allow: Option<Vec<String>>,
    /// Never these.
    pub deny: Vec<String>,
}

impl Narrowing {
    /// Whether it takes nothing away.
    pub fn is_open(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }

    /// May the agent use this command?
    ///
    /// # Errors
    /// [`CommandDenied::Agent`].
    pub fn check(&self, command: &str) -> Result<(), CommandDenied> {
        let is_allowed = self.allow.as_deref().is_none_or(|allow| names(allow, command));
        if is_allowed && !names(&self.deny, command) {
            return Ok(());
        }
        Err(CommandDenied::Agent(command.to_owned()))
    }
}

/// The scopes that approving this surface takes.
pub fn required_to_approve(surface: &Surface) -> Scopes {
    let runs_things = surface
        .commands
        .iter()
        .any(|command| RUNS_THINGS.contains(&command.as_str()));
    let second = if runs_things {
        Some(Scope::Admin)
    } else {
        (!surface.commands.is_empty()).then_some(Scope::Write)
    };
    [Some(Scope::Pairing), second].into_iter().flatten().collect()
}

/// Whether letting a command through on such a device takes a word of the owner beyond the approval of its surface.
pub(crate) fn is_opened_by_name(client: &ClientInfo, command: &str) -> bool {
    let platform = Platform::of(&client.platform, &client.device_family);
    !in_tables(platform, client.id == NATIVE_CLIENT, &Surface::default(), command)
}

fn is_filled(cap: &str, commands: &[String]) -> bool {
    !HOLLOW_CAPS.contains(&cap) || commands.iter().any(|command| belongs(command, cap))
}

fn in_tables(platform: Platform, native: bool, declared: &Surface, command: &str) -> bool {
    platform.defaults().iter().any(|table| table.contains(&command))
        || (native && NATIVE.contains(&command))
        // Termux makes a phone a host like any other.
        || (native && platform == Platform::Android && DESKTOP_HOST.contains(&command))
        || (TALK.contains(&command) && talks(declared))
}

fn talks(declared: &Surface) -> bool {
    declared.caps.iter().any(|cap| cap == "talk") || declared.commands.iter().any(|command| belongs(command, "talk"))
}

fn belongs(command: &str, cap: &str) -> bool {
    command.strip_prefix(cap).is_some_and(|rest| rest.starts_with('.'))
}

/// Between a gateway and its own workers; no list opens it.
fn is_private(command: &str) -> bool {
    belongs(command, "worker")
}

fn names(list: &[String], command: &str) -> bool {
    list.iter().any(|name| name.trim() == command)
}

/// A command was withheld.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandDenied {
    /// By policy or by the node's surface.
    #[error("node command not allowed: {command} on {platform}")]
    NotAllowed {
        /// The command.
        command: String,
        /// The platform as the node spells it.
        platform: String,
        /// Why.
        bar: CommandBar,
    },
    /// The approvals file is not for `node.invoke`.
    #[error("node.invoke does not allow system.execApprovals.*; use exec.approvals.node.*")]
    ApprovalsFile(String),
    /// The approvals file's door leads nowhere else.
    #[error("{0} is not about the approvals file")]
    WrongDoor(String),
    /// The owner took it from this agent.
    #[error("this agent may not use {0} (tools.nodes.commands of the agent)")]
    Agent(String),
}

impl CommandDenied {
    /// The error as it crosses the wire.
    pub fn to_wire(&self) -> WireError {
        match self {
            Self::NotAllowed { command, platform, bar } => denial::command_not_allowed(command, platform, *bar),
            Self::ApprovalsFile(command) | Self::WrongDoor(command) | Self::Agent(command) => {
                WireError::invalid(self.to_string()).with_details(&json!({"command": command}))
            }
        }
    }
}

#[cfg(test)]
mod tests;
