//! What every device was granted: one record per device, one pending request per device, one approval for admission
//! and command surface together.
//!
//! Owns the facts and what may change them. Never checks a credential (that is [`crate::admission`]), never stores, sends
//! or reads a clock: every change comes back as a list of [`Change`]s, to be made durable before anybody hears of it.

use std::collections::BTreeMap;

use atoll_protocol::capability::Surface;
use atoll_protocol::frame::ClientInfo;
use atoll_protocol::id::{DeviceId, PairingId, SetupId};
use atoll_protocol::scope::{Role, Scopes};
use secrecy::SecretString;

mod authority;
mod change;
mod code;
mod codes;
mod commands;
mod device;
mod digits;
mod pending;
mod proxy;
pub mod record;
pub mod rows;
mod token;

pub use authority::{Answered, Approved, BookError, LABEL_CHARS, Rotated};
pub use change::Change;
pub use code::{CODE_LIFE_MS, CODES, CodeEnd, CodeFault, CodeState, FreshCode, Gift, SetupCode};
pub use codes::{Minted, access_word};
pub use device::{ApprovedVia, DeviceRecord, RoleGrant, TOKENS, TokenRecord};
pub(crate) use digits::LinkDigits;
pub use digits::{WRONG_CODES, WrongCode};
pub use pending::{PendingRequest, Reason};
pub use token::{FreshToken, SecretHash};

use crate::access::commands::{CommandPolicy, NodeFacts};
use crate::access::{Kind, Principal};
use crate::proven::{Claims, DeviceKey};
use change::Decision;
use pending::Pending;

/// All records and all pending requests.
#[derive(Debug, Default)]
pub struct Book {
    records: BTreeMap<DeviceId, DeviceRecord>,
    codes: BTreeMap<SetupId, SetupCode>,
    pending: Pending,
    shown: digits::Shown,
    last_generation: u64,
}

/// What was granted to a device that may come in.
#[derive(Debug)]
pub struct Grant {
    /// The role in force.
    pub role: Role,
    /// The scopes in force: asked and approved.
    pub scopes: Scopes,
    /// The commands in force: declared, offerable and approved.
    pub surface: Surface,
    /// What commands on it are decided by.
    pub facts: NodeFacts,
    /// Where the approval of its surface stands (nodes).
    pub approval: SurfaceApproval,
    /// The generation of this role's grant.
    pub generation: u64,
    /// The device token for the hello: a new one, or the one that was used. None on a native link.
    pub token: Option<IssuedToken>,
}

/// A device token to be told to its device, once.
#[derive(Debug)]
pub struct IssuedToken {
    /// The token.
    pub text: SecretString,
    /// When it was made, Unix milliseconds.
    pub issued_ms: u64,
}

/// Where the approval of a node's surface stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SurfaceApproval {
    /// Everything that it declares and may offer is approved.
    Approved,
    /// Nothing was ever approved; this request asks for it.
    Pending(PairingId),
    /// It declares more than was approved; what was approved keeps working.
    Reapproval(PairingId),
}

impl SurfaceApproval {
    /// The word of `approvalState`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Pending(_) => "pending-approval",
            Self::Reapproval(_) => "pending-reapproval",
        }
    }

    /// The request that waits, if one does.
    pub fn request(&self) -> Option<&PairingId> {
        match self {
            Self::Approved => None,
            Self::Pending(id) | Self::Reapproval(id) => Some(id),
        }
    }
}

/// The book's answer to a device whose credentials are right.
#[derive(Debug)]
pub enum Admission {
    /// It is in.
    In(Box<Grant>),
    /// A person must decide first.
    Pending {
        /// What to approve.
        request: PairingId,
        /// It was not waiting before.
        new: bool,
        /// Why it has to ask.
        reason: Reason,
    },
}

/// What the book needs from outside for one admission, used or not.
#[derive(Debug)]
pub struct Fresh {
    /// A new id, in case a request is filed.
    pub request: PairingId,
    /// Random bytes, in case a token is made.
    pub token: FreshToken,
    /// Where the peer came from, as far as requests are counted by it; none for this machine.
    pub address: Option<String>,
    /// The address that the peer comes from, to be shown.
    pub from: String,
    /// This link asks for the first time. Later, the digits that were shown for it stay.
    pub is_first: bool,
}

/// How the device showed that it is welcome, as far as its token is concerned.
#[derive(Debug)]
pub(crate) enum TokenUse<'a> {
    /// It used this device token; it keeps it.
    Echo(&'a SecretString),
    /// It used something else and needs a token for the next time, made of these bytes.
    Issue(FreshToken),
    /// Its language has no tokens: the key is enough.
    None,
}

/// A device whose credentials were found right.
#[derive(Debug)]
pub(crate) struct Applicant<'a> {
    /// The key that it proved.
    pub(crate) key: DeviceKey,
    /// What it says and asks.
    pub(crate) claims: &'a Claims,
    /// It brought more than its own key: the shared secret or a token.
    pub(crate) vouched: bool,
    /// About its token.
    pub(crate) token: TokenUse<'a>,
    /// What its link shows to a person.
    pub(crate) digits: LinkDigits,
    /// The address that it comes from.
    pub(crate) from: String,
    /// A new id, in case a request is filed.
    pub(crate) request: PairingId,
    /// Where it came from; none for this machine.
    pub(crate) address: Option<String>,
}

impl Book {
    /// Puts stored records and codes back. Pending requests are not stored: devices ask again.
    pub fn restore(
        records: impl IntoIterator<Item = DeviceRecord>,
        codes: impl IntoIterator<Item = SetupCode>,
    ) -> Self {
        let records: BTreeMap<_, _> = records.into_iter().map(|record| (record.id, record)).collect();
        let last_generation = records
            .values()
            .flat_map(|record| record.roles.values().map(|grant| grant.generation))
            .max()
            .unwrap_or(0);
        Self {
            records,
            codes: codes.into_iter().map(|code| (code.id.clone(), code)).collect(),
            pending: Pending::default(),
            shown: digits::Shown::default(),
            last_generation,
        }
    }

    /// One device's record.
    pub fn record(&self, device: DeviceId) -> Option<&DeviceRecord> {
        self.records.get(&device)
    }

    /// All records, by id.
    pub fn records(&self) -> impl Iterator<Item = &DeviceRecord> {
        self.records.values()
    }

    /// All requests that wait.
    pub fn requests(&self, now_ms: u64) -> impl Iterator<Item = &PendingRequest> {
        self.pending.iter(now_ms)
    }

    /// One request that waits.
    pub fn request(&self, id: &PairingId, now_ms: u64) -> Option<&PendingRequest> {
        self.pending.find(id, now_ms)
    }

    /// The request of one device, if it waits.
    pub fn request_of(&self, device: DeviceId) -> Option<&PendingRequest> {
        self.pending.of(device)
    }

    /// Whether the grant behind this principal is still in force. To be asked at every dispatch; a principal without a
    /// device does not depend on the book.
    pub fn is_current(&self, principal: &Principal) -> bool {
        match principal.kind() {
            Kind::Device(id) => self
                .record(*id)
                .and_then(|record| record.role(principal.role()))
                .is_some_and(|grant| grant.generation == principal.generation()),
            Kind::SharedSecret
            | Kind::LocalOwner { .. }
            | Kind::Proxy { .. }
            | Kind::Agent { .. }
            | Kind::Sender { .. } => true,
        }
    }

    /// The whole reply of `device.pair.list`.
    pub fn device_list(&self, now_ms: u64, presence: impl Fn(DeviceId) -> rows::Presence) -> serde_json::Value {
        let pending: Vec<_> = self
            .requests(now_ms)
            .filter(|request| request.reason.keeps_out())
            .map(rows::device_request)
            .collect();
        let paired: Vec<_> = self
            .records()
            .map(|record| rows::device(record, Some(presence(record.id))))
            .collect();
        let invites: Vec<_> = self.open_codes(now_ms).map(rows::invite).collect();
        serde_json::json!({"pending": pending, "paired": paired, "invites": invites})
    }

    /// The whole reply of `node.pair.list`. A node that waits to be let in shows here too: it is the same request.
    pub fn node_list(&self, now_ms: u64) -> serde_json::Value {
        let pending: Vec<_> = self
            .requests(now_ms)
            .filter(|request| request.role == Role::Node)
            .map(rows::node_request)
            .collect();
        let paired: Vec<_> = self
            .records()
            .filter(|record| record.role(Role::Node).is_some())
            .map(rows::node)
            .collect();
        serde_json::json!({"pending": pending, "paired": paired})
    }

    /// A link of a device waits for a person now, until [`Self::gone`]: its request is not pushed out by others.
    pub fn waits(&mut self, device: DeviceId) {
        self.pending.waits(device);
    }

    /// A link that [`Self::waits`] was said of has ended or came in.
    pub fn gone(&mut self, device: DeviceId) {
        self.pending.gone(device);
    }

    /// Forgets requests whose devices stopped asking, and codes that are long over.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Change> {
        let dropped = self.pending.expire(now_ms);
        let mut changes = rejections(&dropped, now_ms);
        changes.extend(self.expire_codes(now_ms));
        changes
    }

    /// Decides about a device whose credentials were found right.
    pub(crate) fn admit(
        &mut self,
        applicant: Applicant<'_>,
        policy: &CommandPolicy,
        now_ms: u64,
    ) -> (Admission, Vec<Change>) {
        let Applicant { key, claims, .. } = applicant;
        let opened = self
            .record(key.id)
            .map(|record| record.opened.clone())
            .unwrap_or_default();
        let wanted = policy.offerable(&claims.client, &surface_of(claims), &opened);
        let mut asked = wanted.clone();
        if let Some(record) = self.record(key.id) {
            asked.commands.retain(|command| !record.denied.contains(command));
        }
        let request = PendingRequest {
            id: applicant.request,
            device: key,
            client: claims.client.clone(),
            role: claims.role,
            scopes: scopes_of(claims),
            surface: asked,
            reason: Reason::NotPaired,
            is_repair: self.records.contains_key(&key.id),
            vouched: applicant.vouched,
            address: applicant.address,
            digits: None,
            wrong_codes: 0,
            created_ms: now_ms,
            retried_ms: now_ms,
        };
        match self.obstacle(key.id, claims) {
            Some(reason) => self.keep_out(PendingRequest { reason, ..request }, applicant.digits, now_ms),
            None => {
                let (approval, mut changes) = self.review_surface(request, now_ms);
                self.seen_at(key.id, applicant.from);
                let (grant, change) = self.let_in(key.id, claims, wanted, approval, applicant.token, now_ms);
                changes.push(change);
                (Admission::In(Box::new(grant)), changes)
            }
        }
    }

    fn obstacle(&self, device: DeviceId, claims: &Claims) -> Option<Reason> {
        let Some(record) = self.record(device) else {
            return Some(Reason::NotPaired);
        };
        let Some(grant) = record.role(claims.role) else {
            return Some(Reason::RoleUpgrade);
        };
        if !record.is_same_machine(claims.role, &claims.client) {
            Some(Reason::MetadataUpgrade)
        } else if !grant.scopes.cover(&scopes_of(claims)) {
            Some(Reason::ScopeUpgrade)
        } else {
            None
        }
    }

    fn keep_out(&mut self, request: PendingRequest, digits: LinkDigits, now_ms: u64) -> (Admission, Vec<Change>) {
        let reason = request.reason;
        let (id, new, changes) = self.ask(request, digits, now_ms);
        (
            Admission::Pending {
                request: id,
                new,
                reason,
            },
            changes,
        )
    }

    fn ask(&mut self, request: PendingRequest, digits: LinkDigits, now_ms: u64) -> (PairingId, bool, Vec<Change>) {
        let device = request.device.id;
        let asked = self.pending.ask(request, now_ms);
        let mut changes = rejections(&asked.dropped, now_ms);
        let is_changed = self.show(device, digits, asked.new, now_ms);
        if asked.new || is_changed {
            changes.extend(self.pending.of(device).map(change::requested));
        }
        (asked.id, asked.new, changes)
    }

    /// A device that is in: does it declare more than was approved?
    fn review_surface(&mut self, request: PendingRequest, now_ms: u64) -> (SurfaceApproval, Vec<Change>) {
        let device = request.device.id;
        let approved = self.record(device).map(|record| &record.surface);
        let is_covered =
            request.role != Role::Node || approved.is_some_and(|approved| approved.covers(&request.surface));
        if is_covered {
            let dropped: Vec<_> = self.pending.take_answered(device, request.role).into_iter().collect();
            return (SurfaceApproval::Approved, rejections(&dropped, now_ms));
        }
        let is_first = approved.is_none_or(|approved| approved.commands.is_empty());
        let (id, _, changes) = self.ask(
            PendingRequest {
                reason: Reason::Surface,
                ..request
            },
            // It is in: whose key it holds was settled long ago.
            LinkDigits::None,
            now_ms,
        );
        let approval = if is_first {
            SurfaceApproval::Pending(id)
        } else {
            SurfaceApproval::Reapproval(id)
        };
        (approval, changes)
    }

    fn seen_at(&mut self, device: DeviceId, address: String) {
        if let Some(record) = self.records.get_mut(&device) {
            record.last_address = address;
        }
    }

    fn let_in(
        &mut self,
        device: DeviceId,
        claims: &Claims,
        wanted: Surface,
        approval: SurfaceApproval,
        token: TokenUse<'_>,
        now_ms: u64,
    ) -> (Grant, Change) {
        let record = self
            .records
            .get_mut(&device)
            .expect("a device without an obstacle has a record");
        record.last_seen_ms = Some(now_ms);
        refresh_client(record, claims);
        let (token, is_new) = settle_token(record, claims.role, token, now_ms);
        let grant = record
            .roles
            .get(&claims.role)
            .expect("a device without an obstacle has the role");
        let grant = Grant {
            role: claims.role,
            scopes: scopes_of(claims).within(&grant.scopes),
            surface: wanted.within(&record.surface),
            facts: record.facts(wanted),
            approval,
            generation: grant.generation,
            token,
        };
        let stored = Box::new(record.clone());
        let change = if is_new {
            Change::Put(stored)
        } else {
            Change::Seen(stored)
        };
        (grant, change)
    }
}

/// Gives the hello its token. The second value says whether a new one was made.
fn settle_token(
    record: &mut DeviceRecord,
    role: Role,
    token: TokenUse<'_>,
    now_ms: u64,
) -> (Option<IssuedToken>, bool) {
    match token {
        TokenUse::None => (None, false),
        TokenUse::Echo(text) => {
            let used = record.token(role, text);
            let held = used.and_then(|index| record.roles.get_mut(&role)?.tokens.get_mut(index));
            let issued = held.map(|held| {
                held.last_used_ms = Some(now_ms);
                IssuedToken {
                    text: text.clone(),
                    issued_ms: held.created_ms,
                }
            });
            (issued, false)
        }
        TokenUse::Issue(fresh) => {
            let issued = record.roles.get_mut(&role).map(|grant| grant.issue(&fresh, now_ms));
            (issued, true)
        }
    }
}

impl RoleGrant {
    fn issue(&mut self, fresh: &FreshToken, now_ms: u64) -> IssuedToken {
        let text = fresh.text();
        if self.tokens.len() >= TOKENS {
            self.tokens.remove(0);
        }
        self.tokens.push(TokenRecord {
            hash: SecretHash::of(&text),
            created_ms: now_ms,
            last_used_ms: None,
        });
        IssuedToken {
            text,
            issued_ms: now_ms,
        }
    }
}

/// Names and versions follow the device; what decisions depend on stays as it was approved. An operator's program on
/// a node's key does not speak for the node.
fn refresh_client(record: &mut DeviceRecord, claims: &Claims) {
    if claims.role == Role::Operator && record.roles.contains_key(&Role::Node) {
        return;
    }
    let pinned = std::mem::take(&mut record.client);
    record.client = ClientInfo {
        id: pinned.id,
        platform: pinned.platform,
        device_family: pinned.device_family,
        ..claims.client.clone()
    };
}

fn scopes_of(claims: &Claims) -> Scopes {
    match claims.role {
        Role::Operator => claims.scopes.clone(),
        Role::Node => Scopes::none(),
    }
}

fn surface_of(claims: &Claims) -> Surface {
    match claims.role {
        Role::Operator => Surface::default(),
        Role::Node => claims.surface.clone(),
    }
}

fn rejections(dropped: &[PendingRequest], now_ms: u64) -> Vec<Change> {
    dropped
        .iter()
        .flat_map(|request| change::resolved(request, Decision::Rejected, now_ms))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
