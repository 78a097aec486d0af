//! Requests that wait for a person: one per device, bounded, forgotten when nobody cares.

use std::collections::BTreeMap;

use atoll_protocol::capability::Surface;
use atoll_protocol::frame::ClientInfo;
use atoll_protocol::id::{DeviceId, PairingId};
use atoll_protocol::limits;
use atoll_protocol::scope::{Role, Scopes};

use crate::access::commands::required_to_approve;
use crate::digits::Digits;
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
    /// Where it came from, in the words of [`crate::lockout::network_of`]; none for this machine.
    pub address: Option<String>,
    /// What the link that waits shows to a person; none in the dialect, and none when too many links were given digits.
    pub digits: Option<Digits>,
    /// Codes that were typed and are not these.
    pub wrong_codes: u8,
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

    /// Its device shows nothing but a key of its own, and is not in.
    fn is_strange(&self) -> bool {
        self.reason.keeps_out() && !self.vouched
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
    /// Links that wait for a person now.
    present: BTreeMap<DeviceId, usize>,
}

/// What asking led to.
pub(super) struct Asked {
    /// The request; one for which there was no room is not among those that wait.
    pub(super) id: PairingId,
    pub(super) new: bool,
    /// Requests that this one pushed out: superseded, stale, or one of too many.
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
            held.address = request.address;
            let id = held.id.clone();
            return Asked {
                id,
                new: false,
                dropped,
            };
        }
        dropped.extend(self.by_device.remove(&device));
        let id = request.id.clone();
        let has_room = self.make_room(&request, &mut dropped);
        if has_room {
            self.by_device.insert(device, request);
        }
        Asked {
            id,
            new: has_room,
            dropped,
        }
    }

    /// Pushes out what has to go for a new request; false when nothing may, and the new one has to come again. Strangers push out
    /// only strangers, and first those of their own address.
    fn make_room(&mut self, new: &PendingRequest, dropped: &mut Vec<PendingRequest>) -> bool {
        if new.is_strange() && new.address.is_some() {
            let own = |request: &&PendingRequest| request.is_strange() && request.address == new.address;
            if self.by_device.values().filter(own).count() >= limits::PAIRING_PENDING_OF_ADDRESS {
                return self.push_out(new, own, dropped);
            }
        }
        if self.by_device.len() < limits::PAIRING_PENDING_COUNT {
            return true;
        }
        let Some(busiest) = self.busiest(new) else {
            return false;
        };
        self.push_out(new, |request| request.address == busiest, dropped)
    }

    /// The address with the most requests of which one can go.
    fn busiest(&self, new: &PendingRequest) -> Option<Option<String>> {
        let mut counts = BTreeMap::<_, (usize, bool)>::new();
        for request in self.by_device.values() {
            let (count, can_go) = counts.entry(&request.address).or_default();
            *count += 1;
            *can_go |= self.can_go(request, new);
        }
        let movable = counts.into_iter().filter(|(_, (_, can_go))| *can_go);
        movable
            .max_by_key(|(_, (count, _))| *count)
            .map(|(address, _)| address.clone())
    }

    fn push_out(
        &mut self,
        new: &PendingRequest,
        among: impl Fn(&&PendingRequest) -> bool,
        dropped: &mut Vec<PendingRequest>,
    ) -> bool {
        let candidates = self.by_device.values().filter(among);
        let oldest = candidates
            .filter(|request| self.can_go(request, new))
            .min_by_key(|request| (request.vouched, request.retried_ms))
            .map(|request| request.device.id);
        let gone = oldest.and_then(|oldest| self.by_device.remove(&oldest));
        let has_gone = gone.is_some();
        dropped.extend(gone);
        has_gone
    }

    /// Whether a request may make room for another: its device is not in and does not wait on its link, and it is a stranger's
    /// unless the other is not.
    fn can_go(&self, request: &PendingRequest, new: &PendingRequest) -> bool {
        let waits = self.present.contains_key(&request.device.id);
        request.reason.keeps_out() && !waits && (request.is_strange() || !new.is_strange())
    }

    /// A link of this device waits for a person now.
    pub(super) fn waits(&mut self, device: DeviceId) {
        *self.present.entry(device).or_default() += 1;
    }

    /// A link that waited is gone.
    pub(super) fn gone(&mut self, device: DeviceId) {
        if let Some(count) = self.present.get_mut(&device) {
            *count -= 1;
            if *count == 0 {
                self.present.remove(&device);
            }
        }
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

    pub(super) fn of_mut(&mut self, device: DeviceId) -> Option<&mut PendingRequest> {
        self.by_device.get_mut(&device)
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

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: usize = limits::PAIRING_PENDING_COUNT;
    const OF_ADDRESS: usize = limits::PAIRING_PENDING_OF_ADDRESS;

    fn request(n: usize, address: Option<&str>, vouched: bool) -> PendingRequest {
        let mut public_key = [0; 32];
        public_key[..8].copy_from_slice(&(n as u64).to_be_bytes());
        PendingRequest {
            id: PairingId::new(format!("r{n}")).expect("an id"),
            device: crate::identity::device_key(public_key),
            client: ClientInfo::default(),
            role: Role::Node,
            scopes: Scopes::none(),
            surface: Surface::default(),
            reason: Reason::NotPaired,
            is_repair: false,
            vouched,
            address: address.map(str::to_owned),
            digits: None,
            wrong_codes: 0,
            created_ms: 1,
            retried_ms: n as u64,
        }
    }

    fn holds(pending: &Pending, n: usize) -> bool {
        pending.of(request(n, None, false).device.id).is_some()
    }

    /// As many strangers as there is room for, each from an address of its own but for `shared` of them.
    fn full(shared: usize) -> Pending {
        let mut pending = Pending::default();
        for n in 0..ALL {
            let address = if n < shared { "busy".to_owned() } else { format!("a{n}") };
            assert!(pending.ask(request(n, Some(&address), false), 0).new);
        }
        pending
    }

    #[test]
    fn one_address_pushes_out_only_its_own() {
        let mut pending = Pending::default();
        pending.ask(request(0, Some("b"), false), 0);
        for n in 1..1000 {
            pending.ask(request(n, Some("a"), false), 0);
        }
        assert_eq!(pending.by_device.len(), 1 + OF_ADDRESS);
        assert!(holds(&pending, 0) && holds(&pending, 999) && !holds(&pending, 1));
    }

    #[test]
    fn when_all_is_full_the_busiest_address_gives_way() {
        let mut pending = full(3);
        let asked = pending.ask(request(9000, Some("new"), false), 0);
        let dropped: Vec<_> = asked.dropped.iter().map(|request| request.id.as_str()).collect();
        assert_eq!((asked.new, dropped), (true, vec!["r0"]), "the oldest of the three");
    }

    #[test]
    fn a_device_that_waits_on_its_link_is_not_pushed_out() {
        let mut pending = full(3);
        let waiting: Vec<_> = (0..3).map(|n| request(n, None, false).device.id).collect();
        waiting.iter().for_each(|device| pending.waits(*device));
        assert!(pending.ask(request(9000, Some("new"), false), 0).new);
        assert!((0..3).all(|n| holds(&pending, n)), "somebody else had to go");
        pending.waits(waiting[0]);
        waiting.iter().for_each(|device| pending.gone(*device));
        assert!(pending.ask(request(9001, Some("newer"), false), 0).new);
        assert!(
            holds(&pending, 0) && !holds(&pending, 1),
            "one link of the first still waits"
        );
    }

    #[test]
    fn a_stranger_has_to_come_again_when_nobody_may_go_and_one_with_the_secret_has_not() {
        let mut pending = Pending::default();
        for n in 0..ALL {
            pending.ask(request(n, None, true), 0);
        }
        let stranger = pending.ask(request(9000, Some("new"), false), 0);
        assert!(!stranger.new && stranger.dropped.is_empty() && !holds(&pending, 9000));
        assert!(pending.ask(request(9001, None, true), 0).new);
        assert_eq!(pending.by_device.len(), ALL);
    }
}
