//! Who acts, what it wants to do, and the one place that says whether it may.
//!
//! Owns [`Principal`], [`Granted`] and [`decide`]. Nothing else makes a `Granted`, so a handler that takes one cannot be
//! reached without a decision. Never looks at what a peer declared about itself: rights come from the book, from the
//! channel's owner list or from the operating system.

use std::collections::BTreeMap;
use std::sync::Arc;

use atoll_protocol::dialect::denial;
use atoll_protocol::error::{ErrorCode, WireError};
use atoll_protocol::id::{AgentId, DeviceId, SessionKey};
use atoll_protocol::scope::{Role, Scope, Scopes};

mod action;
pub mod commands;
mod recorded;

pub use action::{
    ApprovePairing, ChangeCode, ChangeCommands, ChangeDevice, Door, InvokeCommand, Method, MintCode, PairingView,
    RejectPairing, ResolveApproval, RotateToken,
};
use commands::{CommandDenied, CommandPolicy, Narrowing};
pub use recorded::Recorded;

/// Somebody who acts, and the rights it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    kind: Kind,
    role: Role,
    scopes: Scopes,
    generation: u64,
    connection: Option<Box<str>>,
}

/// What vouches for a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A paired device that holds its key.
    Device(DeviceId),
    /// An operator's program without a device, on this machine, with the shared secret.
    SharedSecret,
    /// The user who runs the gateway, over the Unix socket.
    LocalOwner {
        /// The peer's user id, as the operating system tells it.
        uid: u32,
    },
    /// A user that a trusted proxy vouches for.
    Proxy {
        /// The name in the proxy's header.
        user: String,
    },
    /// An agent in the middle of a turn. Never answers for a person.
    Agent {
        /// The agent.
        agent: AgentId,
        /// The session it works in.
        session: SessionKey,
    },
    /// Somebody who writes in a chat channel.
    Sender {
        /// The channel, e.g. `telegram`.
        channel: String,
        /// The bot's account.
        account: String,
        /// The platform's own immutable id of the person.
        id: String,
        /// On the owner list of the configuration.
        owner: bool,
    },
}

impl Principal {
    pub(crate) fn device(id: DeviceId, role: Role, scopes: Scopes, generation: u64) -> Self {
        Self {
            generation,
            ..Self::of(Kind::Device(id), role, scopes)
        }
    }

    pub(crate) fn shared_secret(scopes: Scopes) -> Self {
        Self::of(Kind::SharedSecret, Role::Operator, scopes)
    }

    pub(crate) fn local_owner(uid: u32, scopes: Scopes) -> Self {
        Self::of(Kind::LocalOwner { uid }, Role::Operator, scopes)
    }

    pub(crate) fn proxy(user: String, scopes: Scopes) -> Self {
        Self::of(Kind::Proxy { user }, Role::Operator, scopes)
    }

    /// An agent: it may read and act, never approve, pair or administer.
    pub fn agent(agent: AgentId, session: SessionKey) -> Self {
        let scopes = [Scope::Read, Scope::Write].into_iter().collect();
        Self::of(Kind::Agent { agent, session }, Role::Operator, scopes)
    }

    /// Somebody in a chat. An owner may act and answer approvals; anybody else holds no right of its own.
    pub fn sender(channel: impl Into<String>, account: impl Into<String>, id: impl Into<String>, owner: bool) -> Self {
        let kind = Kind::Sender {
            channel: channel.into(),
            account: account.into(),
            id: id.into(),
            owner,
        };
        let scopes = if owner {
            [Scope::Read, Scope::Write, Scope::Approvals, Scope::Questions]
                .into_iter()
                .collect()
        } else {
            Scopes::none()
        };
        Self::of(kind, Role::Operator, scopes)
    }

    fn of(kind: Kind, role: Role, scopes: Scopes) -> Self {
        Self {
            kind,
            role,
            scopes,
            generation: 0,
            connection: None,
        }
    }

    /// Remembers the connection that it speaks through.
    #[must_use]
    pub fn with_connection(mut self, connection: impl Into<Box<str>>) -> Self {
        self.connection = Some(connection.into());
        self
    }

    /// What vouches for it.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The role in force.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The scopes in force.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// The generation of the role's grant in the book; 0 where there is no device.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The connection that it speaks through, where there is one.
    pub fn connection(&self) -> Option<&str> {
        self.connection.as_deref()
    }

    /// Its device, where there is one.
    pub fn device_id(&self) -> Option<DeviceId> {
        match &self.kind {
            Kind::Device(id) => Some(*id),
            Kind::SharedSecret
            | Kind::LocalOwner { .. }
            | Kind::Proxy { .. }
            | Kind::Agent { .. }
            | Kind::Sender { .. } => None,
        }
    }

    /// Whether it is a program that must never answer for a person.
    pub fn is_agent(&self) -> bool {
        matches!(self.kind, Kind::Agent { .. })
    }

    /// Whether it is the owner writing in a chat.
    pub fn is_owner_in_chat(&self) -> bool {
        matches!(self.kind, Kind::Sender { owner: true, .. })
    }

    /// One word or phrase for audit lines and `resolvedBy`; holds no secret.
    pub fn label(&self) -> String {
        match &self.kind {
            Kind::Device(id) => id.to_string(),
            Kind::SharedSecret => "shared-secret".to_owned(),
            Kind::LocalOwner { uid } => format!("uid:{uid}"),
            Kind::Proxy { user } => format!("proxy:{user}"),
            Kind::Agent { agent, .. } => format!("agent:{agent}"),
            Kind::Sender { channel, id, .. } => format!("{channel}:{id}"),
        }
    }
}

/// The owner's settings that decisions depend on.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// `gateway.nodes.commands`.
    pub commands: CommandPolicy,
    /// What was taken from agents; those that are not named have everything.
    pub agents: BTreeMap<AgentId, Narrowing>,
}

/// What an action demands of whoever wants it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// This role; none: either.
    pub role: Option<Role>,
    /// Every one of these scopes.
    pub all: Scopes,
    /// At least one of these scopes, unless the set is empty.
    pub any: Scopes,
    /// This device needs no scope, since the action is about itself.
    pub own_device: Option<DeviceId>,
    /// Only somebody who can answer for a person: no agent.
    pub person: bool,
}

/// Something that needs permission.
pub trait Action {
    /// What it demands of the principal.
    fn needs(&self) -> Needs;

    /// What it demands of the owner's settings, after the principal was found fit.
    ///
    /// # Errors
    /// The settings forbid it to everybody, or to this agent.
    fn permitted(&self, _by: &Principal, _policy: &Policy) -> Result<(), Denied> {
        Ok(())
    }
}

/// An action that was decided for somebody. Made by [`decide`] alone.
#[must_use = "a decision is there to be acted upon"]
#[derive(Debug)]
pub struct Granted<A> {
    action: A,
    principal: Arc<Principal>,
    at_ms: u64,
}

impl<A> Granted<A> {
    /// What may be done.
    pub fn action(&self) -> &A {
        &self.action
    }

    /// What may be done, for keeps.
    pub fn into_action(self) -> A {
        self.action
    }

    /// For whom.
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// When it was decided, Unix milliseconds; for the audit.
    pub fn decided_at_ms(&self) -> u64 {
        self.at_ms
    }
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Wrong kind of peer.
    #[error("unauthorized role: {0}")]
    Role(Role),
    /// A right is missing.
    #[error("missing scope: {missing}")]
    Scope {
        /// The first one missing.
        missing: Scope,
        /// All that the action needs.
        required: Vec<Scope>,
    },
    /// An agent wanted to answer for a person.
    #[error("an agent cannot answer for a person")]
    Agent,
    /// The node's command is not let through.
    #[error(transparent)]
    Command(#[from] CommandDenied),
}

impl Denied {
    /// The error as it crosses the wire.
    pub fn to_wire(&self) -> WireError {
        match self {
            Self::Role(role) => denial::unauthorized_role(*role),
            Self::Scope { missing, required } => denial::missing_scope(*missing, required),
            Self::Agent => WireError::new(ErrorCode::Forbidden, self.to_string()),
            Self::Command(denied) => denied.to_wire(),
        }
    }
}

impl From<Denied> for WireError {
    fn from(denied: Denied) -> Self {
        denied.to_wire()
    }
}

/// The one decision: may `principal` do `action` under `policy`?
///
/// # Errors
/// [`Denied`], in the order role, agent, scopes, settings.
pub fn decide<A: Action>(
    principal: &Arc<Principal>,
    action: A,
    policy: &Policy,
    now_ms: u64,
) -> Result<Granted<A>, Denied> {
    check_principal(principal, &action.needs())?;
    action.permitted(principal, policy)?;
    Ok(Granted {
        action,
        principal: Arc::clone(principal),
        at_ms: now_ms,
    })
}

fn check_principal(principal: &Principal, needs: &Needs) -> Result<(), Denied> {
    if needs.role.is_some_and(|role| role != principal.role) {
        return Err(Denied::Role(principal.role));
    }
    if needs.person && principal.is_agent() {
        return Err(Denied::Agent);
    }
    let own = needs.own_device.is_some() && needs.own_device == principal.device_id();
    if own {
        return Ok(());
    }
    check_scopes(&principal.scopes, needs)
}

fn check_scopes(held: &Scopes, needs: &Needs) -> Result<(), Denied> {
    if let Some(missing) = needs.all.iter().find(|scope| !held.give(*scope)) {
        return Err(Denied::Scope {
            missing,
            required: needs.all.iter().collect(),
        });
    }
    match needs.any.iter().next() {
        Some(first) if !needs.any.iter().any(|scope| held.give(scope)) => Err(Denied::Scope {
            missing: first,
            required: needs.any.iter().collect(),
        }),
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn operator(scopes: &[Scope]) -> Arc<Principal> {
        Arc::new(Principal::shared_secret(scopes.iter().copied().collect()))
    }

    fn node() -> Arc<Principal> {
        let id = DeviceId::from_digest([7; 32]);
        Arc::new(Principal::device(id, Role::Node, Scopes::none(), 1))
    }

    fn wire_of<A: Action + std::fmt::Debug>(principal: &Arc<Principal>, action: A) -> WireError {
        decide(principal, action, &Policy::default(), 0)
            .expect_err("denied")
            .to_wire()
    }

    #[test]
    fn a_missing_scope_is_named_in_the_words_that_clients_rely_on() {
        let error = wire_of(&operator(&[Scope::Read]), Method::operator("node.invoke", Scope::Write));
        assert_eq!(error.code, ErrorCode::Forbidden);
        assert_eq!(error.message, "missing scope: operator.write");
        assert_eq!(
            error.details.expect("details").tree(),
            json!({"code": "MISSING_SCOPE", "missingScope": "operator.write", "requiredScopes": ["operator.write"]})
        );
    }

    #[test]
    fn each_role_keeps_to_its_own_methods() {
        let error = wire_of(&node(), Method::operator("node.list", Scope::Read));
        assert_eq!(
            (error.code, error.message.as_str()),
            (ErrorCode::InvalidRequest, "unauthorized role: node")
        );
        let error = wire_of(&operator(&[Scope::Admin]), Method::node("node.event"));
        assert_eq!(error.message, "unauthorized role: operator");
        let error = wire_of(&node(), Method::unknown("no.such.method"));
        assert_eq!(error.message, "unauthorized role: node");
    }

    #[test]
    fn an_unknown_method_is_shown_to_administrators_only() {
        let error = wire_of(&operator(&[Scope::Write]), Method::unknown("no.such.method"));
        assert_eq!(error.message, "missing scope: operator.admin");
        let granted = decide(
            &operator(&[Scope::Admin]),
            Method::unknown("no.such.method"),
            &Policy::default(),
            5,
        )
        .expect("an administrator sees it");
        assert_eq!(granted.decided_at_ms(), 5);
        assert_eq!(granted.action().name, "no.such.method");
    }

    #[test]
    fn health_asks_for_nothing() {
        for principal in [operator(&[]), node()] {
            assert!(decide(&principal, Method::open("health"), &Policy::default(), 0).is_ok());
        }
    }

    #[test]
    fn an_agent_never_answers_an_approval_nor_pairs_nor_administers() {
        let agent = Arc::new(Principal::agent(
            AgentId::new("main").expect("an id"),
            SessionKey::new("agent:main:main").expect("a key"),
        ));
        let id = atoll_protocol::id::ApprovalId::new("a1").expect("an id");
        assert_eq!(
            decide(&agent, ResolveApproval { id }, &Policy::default(), 0).expect_err("denied"),
            Denied::Agent
        );
        for scope in [Scope::Admin, Scope::Pairing, Scope::Approvals, Scope::TalkSecrets] {
            assert!(!agent.scopes().give(scope), "{scope}");
        }
    }

    #[test]
    fn a_stranger_in_a_chat_holds_nothing() {
        let stranger = Principal::sender("telegram", "main", "42", false);
        assert!(stranger.scopes().is_empty());
        assert!(
            Principal::sender("telegram", "main", "1", true)
                .scopes()
                .give(Scope::Approvals)
        );
    }

    proptest! {
        #[test]
        fn what_is_granted_was_held(held in any_scopes(), needed in any_scopes()) {
            let principal = Arc::new(Principal::shared_secret(held.clone()));
            let action = Method { name: "x".into(), role: Some(Role::Operator), scopes: needed.clone() };
            let granted = decide(&principal, action, &Policy::default(), 0).is_ok();
            prop_assert_eq!(granted, held.cover(&needed));
        }
    }

    fn any_scopes() -> impl Strategy<Value = Scopes> {
        proptest::collection::vec(proptest::sample::select(Scope::ALL), 0..5).prop_map(|all| all.into_iter().collect())
    }
}
