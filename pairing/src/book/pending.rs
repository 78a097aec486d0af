//! Requests that wait for a person: one per device, bounded, forgotten when nobody cares.

use std::collections::BTreeMap;

use atoll_protocol::capability::Surface;
use atoll_protocol::frame::ClientInfo;
use atoll_protocol::id::{DeviceId, PairingId};
use atoll_protocol::limits;
use atoll_protocol::scope::{Role, Scopes};

use crate::access::commands::required_to_approve;
use crate::proven::DeviceKey;

/// What one device asks for: to come in, or a wider surface while it is in. One id and one answer for all of it.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingRequest {
    /// The id that a person approves.
    pub id: PairingId,
    /// The device.
    pub device: DeviceKey,
    /// What it says of itself.
    pub client: ClientInfo,
    /// The role asked for.
    pub role: Role,
    /// The scopes asked for.
    pub scopes: Scopes,
    /// The commands asked for, already filtered by what its platform may offer.
    pub surface: Surface,
    /// Why it has to ask.
    pub reason: Reason,
    /// The device has a record already.
    pub is_repair: bool,
    /// It brought more than its own key: the shared secret or a token.
    pub vouched: bool,
    /// When it first asked, Unix milliseconds.
    pub created_ms: u64,
    /// When it last asked, Unix milliseconds.
    pub retried_ms: u64,
}

/// Why a device has to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nobody approved it yet.
    NotPaired,
    /// It was not approved for this role, or that was revoked.
    RoleUpgrade,
    /// It wants scopes beyond those approved.
    ScopeUpgrade,
    /// It says it is another kind of machine than the one approved.
    MetadataUpgrade,
    /// It is in, and declares commands beyond those approved.
    Surface,
}

impl Reason {
    /// `details.reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotPaired => "not-paired",
            Self::RoleUpgrade => "role-upgrade",
            Self::ScopeUpgrade => "scope-upgrade",
            Self::MetadataUpgrade => "metadata-upgrade",
            Self::Surface => "surface",
        }
    }

    /// Whether the device is kept out until somebody decides.
    pub fn keeps_out(self) -> bool {
        self != Self::Surface
    }
}

impl PendingRequest {
    /// The scopes that saying yes takes, beyond what is asked for itself.
    pub fn required_to_approve(&self) -> Scopes {
        required_to_approve(&self.surface)
    }

    fn asks_the_same(&self, other: &Self) -> bool {
        self.device == other.device
            && self.role == other.role
            && self.scopes == other.scopes
            && self.surface.commands == other.surface.commands
            && self.surface.caps == other.surface.caps
            && self.reason == other.reason
            && self.client.platform == other.client.platform
            && self.client.device_family == other.client.device_family
            && self.client.id == other.client.id
    }

    /// A device that stays away no longer cares; one that is in waits as long as it takes.
    fn is_stale(&self, now_ms: u64) -> bool {
        let patience = limits::PAIRING_PENDING.as_millis() as u64;
        self.reason.keeps_out() && now_ms.saturating_sub(self.retried_ms) >= patience
    }
}

/// The requests that wait.
#[derive(Debug, Default)]
pub(super) struct Pending {
    by_device: BTreeMap<DeviceId, PendingRequest>,
}

/// What asking led to.
pub(super) struct Asked {
    pub(super) id: PairingId,
    pub(super) new: bool,
    /// Requests that this one pushed out: superseded, stale, or the oldest of too many.
    pub(super) dropped: Vec<PendingRequest>,
}

impl Pending {
    /// Files a request; a plain retry keeps its id.
    pub(super) fn ask(&mut self, request: PendingRequest, now_ms: u64) -> Asked {
        let mut dropped = self.expire(now_ms);
        let device = request.device.id;
        if let Some(held) = self.by_device.get_mut(&device)
            && held.asks_the_same(&request)
        {
            held.retried_ms = now_ms;
            held.client = request.client;
            held.vouched |= request.vouched;
            let id = held.id.clone();
            return Asked {
                id,
                new: false,
                dropped,
            };
        }
        dropped.extend(self.by_device.remove(&device));
        if self.by_device.len() >= limits::PAIRING_PENDING_COUNT {
            dropped.extend(self.evict());
        }
        let id = request.id.clone();
        self.by_device.insert(device, request);
        Asked { id, new: true, dropped }
    }

    /// Those who showed nothing but a key of their own go first, so that strangers push out only strangers.
    fn evict(&mut self) -> Option<PendingRequest> {
        let oldest = self
            .by_device
            .values()
            .min_by_key(|request| (!request.reason.keeps_out(), request.vouched, request.retried_ms))?
            .device
            .id;
        self.by_device.remove(&oldest)
    }

    pub(super) fn expire(&mut self, now_ms: u64) -> Vec<PendingRequest> {
        self.by_device
            .extract_if(.., |_, request| request.is_stale(now_ms))
            .map(|(_, request)| request)
            .collect()
    }

    pub(super) fn find(&self, id: &PairingId, now_ms: u64) -> Option<&PendingRequest> {
        self.by_device
            .values()
            .find(|request| request.id == *id && !request.is_stale(now_ms))
    }

    pub(super) fn of(&self, device: DeviceId) -> Option<&PendingRequest> {
        self.by_device.get(&device)
    }

    pub(super) fn take(&mut self, device: DeviceId) -> Option<PendingRequest> {
        self.by_device.remove(&device)
    }

    /// A device that was let in in this role asks for nothing more: what it asked before is void.
    pub(super) fn take_answered(&mut self, device: DeviceId, role: Role) -> Option<PendingRequest> {
        self.of(device)
            .is_some_and(|request| request.role == role)
            .then(|| self.take(device))?
    }

    pub(super) fn iter(&self, now_ms: u64) -> impl Iterator<Item = &PendingRequest> {
        self.by_device.values().filter(move |request| !request.is_stale(now_ms))
    }
}
