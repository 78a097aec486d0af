//! One paired device: what was approved for it, and since when. Only approval makes one.

use std::collections::{BTreeMap, BTreeSet};

use atoll_protocol::capability::Surface;
use atoll_protocol::frame::ClientInfo;
use atoll_protocol::id::DeviceId;
use atoll_protocol::scope::{Role, Scopes};
use secrecy::SecretString;

use super::token::SecretHash;
use crate::access::commands::{NodeFacts, Platform};

/// Tokens that hold at once for one role. A hello that was lost on its way leaves the older one working; more: the
/// oldest stops working.
pub const TOKENS: usize = 4;

/// Everything that was approved for one device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceRecord {
    /// SHA-256 of its key.
    pub id: DeviceId,
    /// Its raw Ed25519 key.
    pub public_key: [u8; 32],
    /// The name that the owner gave it.
    pub label: Option<String>,
    /// What it said of itself when it was approved, names and version as of its last connect.
    pub client: ClientInfo,
    /// What was approved, by role. Never empty when made; revoking can empty it.
    pub roles: BTreeMap<Role, RoleGrant>,
    /// The commands that the owner approved.
    pub surface: Surface,
    /// Commands that the owner withdrew: declaring them asks for nothing.
    pub denied: BTreeSet<String>,
    /// Commands that the owner named for this very device: let through although dangerous or unknown to its platform.
    pub opened: BTreeSet<String>,
    /// When the surface was last approved, Unix milliseconds.
    pub surface_approved_ms: Option<u64>,
    /// When it was first approved, Unix milliseconds.
    pub created_ms: u64,
    /// When it was last approved, Unix milliseconds.
    pub approved_ms: u64,
    /// How it came in.
    pub approved_via: ApprovedVia,
    /// When it last connected, Unix milliseconds.
    pub last_seen_ms: Option<u64>,
    /// Where it last connected from; empty when it never did.
    pub last_address: String,
}

/// One role of a device.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleGrant {
    /// The most that it may hold in this role.
    pub scopes: Scopes,
    /// Counts the book's grants; one that was withdrawn never comes back.
    pub generation: u64,
    /// Tokens in force, newest last.
    pub tokens: Vec<TokenRecord>,
}

/// One device token, without its secret.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenRecord {
    /// Its hash.
    pub hash: SecretHash,
    /// When it was made, Unix milliseconds.
    pub created_ms: u64,
    /// When it was last used, Unix milliseconds.
    pub last_used_ms: Option<u64>,
}

/// How a device was approved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovedVia {
    /// A person said yes to its request.
    Owner,
    /// It brought a setup code.
    SetupCode,
    /// A trusted proxy vouched for its user.
    TrustedProxy,
}

impl ApprovedVia {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::SetupCode => "bootstrap",
            Self::TrustedProxy => "trusted-proxy",
        }
    }
}

impl DeviceRecord {
    /// What a person calls it.
    pub fn display_name(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.client.display_name)
    }

    /// The role's grant, if it has not been revoked.
    pub fn role(&self, role: Role) -> Option<&RoleGrant> {
        self.roles.get(&role)
    }

    /// Which of its roles accepts this token.
    pub fn accepts(&self, role: Role, token: &SecretString) -> bool {
        self.token(role, token).is_some()
    }

    pub(super) fn token(&self, role: Role, token: &SecretString) -> Option<usize> {
        let grant = self.role(role)?;
        grant.tokens.iter().position(|held| held.hash.matches(token))
    }

    /// The facts that a command on it is decided by.
    pub fn facts(&self, declared: Surface) -> NodeFacts {
        NodeFacts::new(&self.client, declared, self.surface.clone()).opening(self.opened.clone())
    }

    /// Whether this client is still the kind of machine that was approved. Only nodes are held to it, since the
    /// platform decides which commands they get.
    pub(super) fn is_same_machine(&self, role: Role, client: &ClientInfo) -> bool {
        match role {
            Role::Operator => true,
            Role::Node => {
                let now = Platform::of(&client.platform, &client.device_family);
                let then = Platform::of(&self.client.platform, &self.client.device_family);
                now == then && (client.id == crate::access::commands::NATIVE_CLIENT) == self.is_native()
            }
        }
    }

    fn is_native(&self) -> bool {
        self.client.id == crate::access::commands::NATIVE_CLIENT
    }
}
