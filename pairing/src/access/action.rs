//! The actions that are decided. Each says what it needs; none of them does anything.

use std::borrow::Cow;
use std::sync::Arc;

use atoll_protocol::id::{ApprovalId, DeviceId, PairingId, SetupId};
use atoll_protocol::scope::{Role, Scope, Scopes};

use super::commands::{CommandDenied, NodeFacts};
use super::{Action, Denied, Kind, Needs, Policy, Principal};
use crate::book::Gift;
use crate::digits::Digits;

/// Calling a method of the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// Its name.
    pub name: Cow<'static, str>,
    /// The role it is for; none: either.
    pub role: Option<Role>,
    /// The scopes it needs, every one.
    pub scopes: Scopes,
}

impl Method {
    /// For operators with this scope.
    pub fn operator(name: impl Into<Cow<'static, str>>, scope: Scope) -> Self {
        Self::new(name, Some(Role::Operator), [scope].into_iter().collect())
    }

    /// For nodes.
    pub fn node(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, Some(Role::Node), Scopes::none())
    }

    /// For everybody who is connected.
    pub fn open(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, None, Scopes::none())
    }

    /// A name that no method has: only an administrator learns so.
    pub fn unknown(name: impl Into<Cow<'static, str>>) -> Self {
        Self::operator(name, Scope::Admin)
    }

    fn new(name: impl Into<Cow<'static, str>>, role: Option<Role>, scopes: Scopes) -> Self {
        Self {
            name: name.into(),
            role,
            scopes,
        }
    }
}

impl Action for Method {
    fn needs(&self) -> Needs {
        Needs {
            role: self.role,
            all: self.scopes.clone(),
            ..Needs::default()
        }
    }
}

/// Running a command on a node.
#[derive(Debug, Clone)]
pub struct InvokeCommand {
    /// The node.
    pub node: DeviceId,
    /// The command, e.g. `system.run`.
    pub command: String,
    /// What is known of the node at this moment.
    pub facts: Arc<NodeFacts>,
    /// The way that the call came in.
    pub door: Door,
}

/// The ways to a node's commands. The approvals file has a door of its own, so that no invoke can rewrite it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `node.invoke`, a tool or a direct command.
    Invoke,
    /// `exec.approvals.node.get` and `.set`.
    ApprovalsFile,
}

const ADMIN_COMMANDS: &[&str] = &[
    "browser.proxy",
    "browser.proxy.upload.v1",
    "fs.listDir",
    "terminal.upload",
];

impl Action for InvokeCommand {
    fn needs(&self) -> Needs {
        let scope = match self.door {
            Door::ApprovalsFile => Scope::Admin,
            Door::Invoke if ADMIN_COMMANDS.contains(&self.command.as_str()) => Scope::Admin,
            Door::Invoke => Scope::Write,
        };
        operator(scope)
    }

    fn permitted(&self, by: &Principal, policy: &Policy) -> Result<(), Denied> {
        let about_approvals = self.command.starts_with("system.execApprovals.");
        match self.door {
            Door::Invoke if about_approvals => return Err(CommandDenied::ApprovalsFile(self.command.clone()).into()),
            Door::ApprovalsFile if !about_approvals => {
                return Err(CommandDenied::WrongDoor(self.command.clone()).into());
            }
            Door::Invoke | Door::ApprovalsFile => policy.commands.check(&self.facts, &self.command)?,
        }
        match by.kind() {
            Kind::Agent { agent, .. } => policy
                .agents
                .get(agent)
                .map_or(Ok(()), |narrowing| Ok(narrowing.check(&self.command)?)),
            Kind::Device(_)
            | Kind::SharedSecret
            | Kind::LocalOwner { .. }
            | Kind::Proxy { .. }
            | Kind::Sender { .. } => Ok(()),
        }
    }
}

/// Which of OpenClaw's two views of a pairing request the caller used. It decides the words of a refusal, nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairingView {
    /// `device.pair.*`.
    Device,
    /// `node.pair.*`.
    Node,
}

/// Saying yes to a pairing request. The book compares the caller's rights with what is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovePairing {
    /// The request.
    pub request: PairingId,
    /// How it was named.
    pub view: PairingView,
    /// The digits that the device shows, when the caller typed them.
    pub code: Option<Digits>,
}

impl Action for ApprovePairing {
    fn needs(&self) -> Needs {
        person(Scope::Pairing)
    }
}

/// Saying no to a pairing request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectPairing {
    /// The request.
    pub request: PairingId,
}

impl Action for RejectPairing {
    fn needs(&self) -> Needs {
        person(Scope::Pairing)
    }
}

/// Giving a place away beforehand. The book compares the caller's rights with what is given.
#[derive(Debug, Clone, PartialEq)]
pub struct MintCode {
    /// What the code gives.
    pub gift: Gift,
    /// Where the gateway is, for whoever follows the join link.
    pub addresses: Vec<String>,
    /// It has a join link.
    pub has_link: bool,
}

impl Action for MintCode {
    fn needs(&self) -> Needs {
        person(Scope::Pairing)
    }
}

/// Taking a setup code back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeCode {
    /// Which.
    pub setup: SetupId,
}

impl Action for ChangeCode {
    fn needs(&self) -> Needs {
        person(Scope::Pairing)
    }
}

/// A new device token, with at most the scopes that the record and the caller hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotateToken {
    /// Whose.
    pub device: DeviceId,
    /// For which role.
    pub role: Role,
    /// With these scopes; none: as before.
    pub scopes: Option<Scopes>,
}

impl Action for RotateToken {
    fn needs(&self) -> Needs {
        about(self.device)
    }
}

/// Removing, renaming or revoking a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeDevice {
    /// Which.
    pub device: DeviceId,
}

impl Action for ChangeDevice {
    fn needs(&self) -> Needs {
        about(self.device)
    }
}

/// Approving and withdrawing commands of a paired node. The book compares the caller's rights with what is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeCommands {
    /// Which.
    pub device: DeviceId,
    /// Commands to approve.
    pub allow: Vec<String>,
    /// Commands to withdraw.
    pub deny: Vec<String>,
}

impl Action for ChangeCommands {
    fn needs(&self) -> Needs {
        person(Scope::Pairing)
    }
}

/// Answering an exec approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolveApproval {
    /// Which.
    pub id: ApprovalId,
}

impl Action for ResolveApproval {
    fn needs(&self) -> Needs {
        person(Scope::Approvals)
    }
}

fn operator(scope: Scope) -> Needs {
    Needs {
        role: Some(Role::Operator),
        all: [scope].into_iter().collect(),
        ..Needs::default()
    }
}

fn person(scope: Scope) -> Needs {
    Needs {
        person: true,
        ..operator(scope)
    }
}

fn about(device: DeviceId) -> Needs {
    Needs {
        own_device: Some(device),
        ..person(Scope::Pairing)
    }
}
