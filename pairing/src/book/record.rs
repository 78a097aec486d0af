//! How a [`DeviceRecord`] and a [`SetupCode`] are stored: their serde twins, and the way back with every bound checked again.

use std::collections::{BTreeMap, BTreeSet};

use atoll_protocol::capability::Surface;
use atoll_protocol::frame::ClientInfo;
use atoll_protocol::id::{DeviceId, SetupId};
use atoll_protocol::scope::{Role, Scopes};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::code::{CodeEnd, Gift, SetupCode};
use super::device::{ApprovedVia, DeviceRecord, RoleGrant, TokenRecord};
use super::token::SecretHash;

/// A device record as it is stored. New fields get a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredDevice {
    id: DeviceId,
    public_key: [u8; 32],
    #[serde(default)]
    label: Option<String>,
    client: ClientInfo,
    roles: BTreeMap<Role, StoredRole>,
    surface: Surface,
    #[serde(default)]
    surface_approved_ms: Option<u64>,
    created_ms: u64,
    approved_ms: u64,
    by_setup_code: bool,
    #[serde(default)]
    by_proxy: bool,
    #[serde(default)]
    last_seen_ms: Option<u64>,
    #[serde(default)]
    denied: BTreeSet<String>,
    #[serde(default)]
    opened: BTreeSet<String>,
    #[serde(default)]
    last_address: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredRole {
    scopes: Scopes,
    generation: u64,
    tokens: Vec<StoredToken>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredToken {
    sha256: [u8; 32],
    created_ms: u64,
    #[serde(default)]
    last_used_ms: Option<u64>,
}

impl std::fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredToken")
            .field("created_ms", &self.created_ms)
            .finish_non_exhaustive()
    }
}

/// A stored record that contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored record of device {0:?} holds a key that is not its own")]
pub struct BadRecord(DeviceId);

impl From<&DeviceRecord> for StoredDevice {
    fn from(record: &DeviceRecord) -> Self {
        Self {
            id: record.id,
            public_key: record.public_key,
            label: record.label.clone(),
            client: record.client.clone(),
            roles: record.roles.iter().map(|(role, grant)| (*role, grant.into())).collect(),
            surface: record.surface.clone(),
            surface_approved_ms: record.surface_approved_ms,
            created_ms: record.created_ms,
            approved_ms: record.approved_ms,
            by_setup_code: record.approved_via == ApprovedVia::SetupCode,
            by_proxy: record.approved_via == ApprovedVia::TrustedProxy,
            last_seen_ms: record.last_seen_ms,
            denied: record.denied.clone(),
            opened: record.opened.clone(),
            last_address: record.last_address.clone(),
        }
    }
}

impl From<&RoleGrant> for StoredRole {
    fn from(grant: &RoleGrant) -> Self {
        Self {
            scopes: grant.scopes.clone(),
            generation: grant.generation,
            tokens: grant
                .tokens
                .iter()
                .map(|token| StoredToken {
                    sha256: *token.hash.as_bytes(),
                    created_ms: token.created_ms,
                    last_used_ms: token.last_used_ms,
                })
                .collect(),
        }
    }
}

impl TryFrom<StoredDevice> for DeviceRecord {
    type Error = BadRecord;

    fn try_from(stored: StoredDevice) -> Result<Self, BadRecord> {
        let digest: [u8; 32] = Sha256::digest(stored.public_key).into();
        if digest != *stored.id.as_bytes() {
            return Err(BadRecord(stored.id));
        }
        Ok(Self {
            id: stored.id,
            public_key: stored.public_key,
            label: stored.label,
            client: stored.client,
            roles: stored
                .roles
                .into_iter()
                .map(|(role, grant)| (role, grant.into()))
                .collect(),
            surface: stored.surface,
            surface_approved_ms: stored.surface_approved_ms,
            created_ms: stored.created_ms,
            approved_ms: stored.approved_ms,
            approved_via: match (stored.by_setup_code, stored.by_proxy) {
                (true, _) => ApprovedVia::SetupCode,
                (false, true) => ApprovedVia::TrustedProxy,
                (false, false) => ApprovedVia::Owner,
            },
            last_seen_ms: stored.last_seen_ms,
            denied: stored.denied,
            opened: stored.opened,
            last_address: stored.last_address,
        })
    }
}

impl From<StoredRole> for RoleGrant {
    fn from(stored: StoredRole) -> Self {
        Self {
            scopes: stored.scopes,
            generation: stored.generation,
            tokens: stored
                .tokens
                .into_iter()
                .map(|token| TokenRecord {
                    hash: SecretHash::from_bytes(token.sha256),
                    created_ms: token.created_ms,
                    last_used_ms: token.last_used_ms,
                })
                .collect(),
        }
    }
}

/// A setup code as it is stored: without its secret. New fields get a default.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredCode {
    id: SetupId,
    sha256: [u8; 32],
    #[serde(default)]
    link_sha256: Option<[u8; 32]>,
    role: Role,
    scopes: Scopes,
    #[serde(default)]
    commands: Option<Vec<String>>,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    replaces: Option<DeviceId>,
    by: String,
    #[serde(default)]
    addresses: Vec<String>,
    created_ms: u64,
    expires_ms: u64,
    #[serde(default)]
    end: Option<StoredEnd>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum StoredEnd {
    Used {
        device: DeviceId,
        generation: u64,
        at_ms: u64,
    },
    Revoked,
}

impl std::fmt::Debug for StoredCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredCode")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl From<&SetupCode> for StoredCode {
    fn from(code: &SetupCode) -> Self {
        let gift = code.gift.clone();
        Self {
            id: code.id.clone(),
            sha256: *code.hash.as_bytes(),
            link_sha256: code.link.map(|link| *link.as_bytes()),
            role: gift.role,
            scopes: gift.scopes,
            commands: gift.commands,
            label: gift.label,
            replaces: gift.replaces,
            by: code.by.clone(),
            addresses: code.addresses.clone(),
            created_ms: code.created_ms,
            expires_ms: code.expires_ms,
            end: code.end.as_ref().map(|end| match end {
                CodeEnd::Used {
                    device,
                    generation,
                    at_ms,
                } => StoredEnd::Used {
                    device: *device,
                    generation: *generation,
                    at_ms: *at_ms,
                },
                CodeEnd::Revoked => StoredEnd::Revoked,
            }),
        }
    }
}

impl From<StoredCode> for SetupCode {
    fn from(stored: StoredCode) -> Self {
        Self {
            id: stored.id,
            hash: SecretHash::from_bytes(stored.sha256),
            link: stored.link_sha256.map(SecretHash::from_bytes),
            gift: Gift {
                role: stored.role,
                scopes: stored.scopes,
                commands: stored.commands,
                label: stored.label,
                replaces: stored.replaces,
            },
            by: stored.by,
            addresses: stored.addresses,
            created_ms: stored.created_ms,
            expires_ms: stored.expires_ms,
            end: stored.end.map(|end| match end {
                StoredEnd::Used {
                    device,
                    generation,
                    at_ms,
                } => CodeEnd::Used {
                    device,
                    generation,
                    at_ms,
                },
                StoredEnd::Revoked => CodeEnd::Revoked,
            }),
        }
    }
}
