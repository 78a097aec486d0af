//! What people do to the book: approve, reject, remove, rename, rotate, revoke. Nobody gives more than they hold.

use atoll_protocol::capability::Surface;
use atoll_protocol::dialect::denial;
use atoll_protocol::error::{ErrorCode, WireError};
use atoll_protocol::id::{DeviceId, PairingId};
use atoll_protocol::scope::{Role, Scope, Scopes};
use secrecy::SecretString;

use super::Book;
use super::change::{self, Change, Decision};
use super::code::CODES;
use super::device::{ApprovedVia, DeviceRecord, RoleGrant};
use super::digits::WrongCode;
use super::pending::{PendingRequest, Reason};
use super::token::FreshToken;
use crate::access::{ApprovePairing, ChangeDevice, Granted, PairingView, Principal, RejectPairing, RotateToken};

/// Characters of a name that the owner gives a device.
pub const LABEL_CHARS: usize = 64;

/// Signs of life within this time of the last one are not written down.
const SEEN_PAUSE_MS: u64 = 60_000;

/// What an approval led to.
#[derive(Debug)]
pub struct Approved {
    /// The request.
    pub request: PendingRequest,
    /// The device as it stands now.
    pub record: DeviceRecord,
    /// What follows.
    pub changes: Vec<Change>,
}

/// What answering a request with yes led to.
#[derive(Debug)]
pub enum Answered {
    /// The device is in.
    Approved(Box<Approved>),
    /// The code is not the one that the device shows; nothing was approved.
    WrongCode(WrongCode),
}

/// What a rotation led to.
#[derive(Debug)]
pub struct Rotated {
    /// The scopes that the role has now.
    pub scopes: Scopes,
    /// The new token, only when the device itself asked. Another's is handed to its device at its next hello.
    pub token: Option<SecretString>,
    /// What follows.
    pub changes: Vec<Change>,
}

/// Why the book stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// Nothing with this id waits; it may have been answered, superseded or expired.
    #[error("unknown requestId")]
    UnknownRequest,
    /// No record.
    #[error("unknown deviceId")]
    UnknownDevice,
    /// The device was not approved for that role.
    #[error("the device has no role {0}")]
    NoSuchRole(Role),
    /// The caller holds less than the request asks for. Clients ask again with `operator.admin` on this very text.
    #[error("device pairing approval denied")]
    ApprovalDenied,
    /// The caller holds less than it would give.
    #[error("missing scope: {missing}")]
    MissingScope {
        /// The first one missing.
        missing: Scope,
        /// All that it takes.
        required: Vec<Scope>,
    },
    /// A device without `operator.admin` manages nobody but itself.
    #[error("device management denied: another device needs operator.admin")]
    NotYours,
    /// A code was typed for a request that shows none.
    #[error(
        "this request shows no digits to compare; approve it without a code, or let the device ask again in a minute"
    )]
    NoDigits,
    /// A new token that is not the caller's to ask for, whatever the reason: who asks learns nothing about other devices.
    #[error("device token rotation denied")]
    RotationDenied,
    /// A token that is not the caller's to take away, whatever the reason.
    #[error("device token revocation denied")]
    RevocationDenied,
    /// No such setup code waits.
    #[error("unknown setupId")]
    UnknownCode,
    /// Too many wait already.
    #[error("{CODES} setup codes wait for their devices; revoke one, or wait ten minutes")]
    TooManyCodes,
    /// Too long a list.
    #[error("a setup code names fewer commands")]
    TooManyCommands,
    /// Empty or too long.
    #[error("a label has 1 to {LABEL_CHARS} characters")]
    BadLabel,
}

impl BookError {
    /// The error as it crosses the wire.
    pub fn to_wire(&self) -> WireError {
        match self {
            Self::MissingScope { missing, required } => denial::missing_scope(*missing, required),
            Self::ApprovalDenied => denial::device_approval_denied(),
            Self::NotYours => WireError::new(ErrorCode::Forbidden, self.to_string()),
            Self::UnknownRequest
            | Self::UnknownDevice
            | Self::NoSuchRole(_)
            | Self::NoDigits
            | Self::RotationDenied
            | Self::RevocationDenied
            | Self::UnknownCode
            | Self::TooManyCommands
            | Self::BadLabel => WireError::invalid(self.to_string()),
            Self::TooManyCodes => WireError::unavailable(self.to_string()),
        }
    }
}

impl From<BookError> for WireError {
    fn from(error: BookError) -> Self {
        error.to_wire()
    }
}

impl Book {
    /// Says yes: admission and surface in one step. A code that came along has to be the one of the link that waits; the
    /// [`super::WRONG_CODES`]th that is not ends the request.
    ///
    /// # Errors
    /// Nothing waits under this id, the caller holds less than it would give, or there are no digits to compare.
    pub fn approve(&mut self, granted: &Granted<ApprovePairing>, now_ms: u64) -> Result<Answered, BookError> {
        let action = granted.action();
        let request = self.request(&action.request, now_ms).ok_or(BookError::UnknownRequest)?;
        check_approver(granted.principal(), request, action.view)?;
        let device = request.device.id;
        if let Some(code) = action.code {
            let digits = request.digits.ok_or(BookError::NoDigits)?;
            if !digits.matches(code) {
                let wrong = self.wrong_code(device, now_ms).ok_or(BookError::UnknownRequest)?;
                return Ok(Answered::WrongCode(wrong));
            }
        }
        let request = self.pending.take(device).ok_or(BookError::UnknownRequest)?;
        Ok(Answered::Approved(Box::new(self.accept(request, now_ms))))
    }

    fn accept(&mut self, request: PendingRequest, now_ms: u64) -> Approved {
        let record = self.record_approval(&request, now_ms);
        let mut changes = vec![Change::Put(Box::new(record.clone()))];
        changes.extend(change::resolved(&request, Decision::Approved, now_ms));
        changes.push(change::changed());
        changes.push(Change::Surface(record.id));
        Approved {
            request,
            record,
            changes,
        }
    }

    /// Says no; the device may ask again.
    ///
    /// # Errors
    /// Nothing waits under this id.
    pub fn reject(
        &mut self,
        granted: &Granted<RejectPairing>,
        now_ms: u64,
    ) -> Result<(PendingRequest, Vec<Change>), BookError> {
        let id: &PairingId = &granted.action().request;
        let device = self.request(id, now_ms).ok_or(BookError::UnknownRequest)?.device.id;
        let request = self.pending.take(device).ok_or(BookError::UnknownRequest)?;
        let mut changes = change::resolved(&request, Decision::Rejected, now_ms);
        if request.reason == Reason::Surface {
            changes.push(Change::Surface(device));
        }
        Ok((request, changes))
    }

    /// Forgets a device, or one role of it, and closes its links.
    ///
    /// # Errors
    /// No such device or role, or not the caller's to remove.
    pub fn remove(
        &mut self,
        granted: &Granted<ChangeDevice>,
        role: Option<Role>,
        now_ms: u64,
    ) -> Result<Vec<Change>, BookError> {
        let device = granted.action().device;
        check_manager(granted.principal(), device)?;
        let record = self.records.get(&device).ok_or(BookError::UnknownDevice)?;
        let is_node = record.role(Role::Node).is_some();
        // What lost its last role is still there to be forgotten.
        if let Some(role) = role.filter(|_| !record.roles.is_empty()) {
            record.role(role).ok_or(BookError::UnknownDevice)?;
            if record.roles.len() > 1 {
                return self.withdraw(device, role, now_ms);
            }
        }
        self.records.remove(&device);
        let mut changes = vec![Change::Remove(device)];
        changes.extend(self.void_request(device, now_ms));
        if is_node {
            changes.push(change::node_resolved("", device, Decision::Removed, now_ms));
        }
        changes.extend([change::changed(), change::close(device, None)]);
        Ok(changes)
    }

    /// Gives a device another name.
    ///
    /// # Errors
    /// No such device, not the caller's, or no proper name.
    pub fn rename(&mut self, granted: &Granted<ChangeDevice>, label: &str) -> Result<Vec<Change>, BookError> {
        let device = granted.action().device;
        check_manager(granted.principal(), device)?;
        let label = label.trim();
        check_label(label)?;
        let record = self.records.get_mut(&device).ok_or(BookError::UnknownDevice)?;
        record.label = Some(label.to_owned());
        Ok(vec![Change::Put(Box::new(record.clone())), change::changed()])
    }

    /// Makes every token of one role void at once and closes its links. The role stays approved, with the scopes
    /// given, which are at most those that both the record and the caller hold.
    ///
    /// # Errors
    /// [`BookError::RotationDenied`]: no such device or role, or the caller holds less than it would give.
    pub fn rotate(
        &mut self,
        granted: &Granted<RotateToken>,
        fresh: &FreshToken,
        now_ms: u64,
    ) -> Result<Rotated, BookError> {
        self.renew(granted, fresh, now_ms)
            .map_err(|_| BookError::RotationDenied)
    }

    fn renew(&mut self, granted: &Granted<RotateToken>, fresh: &FreshToken, now_ms: u64) -> Result<Rotated, BookError> {
        let RotateToken { device, role, scopes } = granted.action();
        let principal = granted.principal();
        check_token_manager(principal, *device, *role)?;
        let record = self.records.get(device).ok_or(BookError::UnknownDevice)?;
        let held = &record.role(*role).ok_or(BookError::NoSuchRole(*role))?.scopes;
        let scopes = scopes.clone().unwrap_or_else(|| held.clone());
        check_covers(held, &scopes)?;
        check_covers(principal.scopes(), &scopes)?;

        let generation = self.next_generation();
        let record = self.records.get_mut(device).ok_or(BookError::UnknownDevice)?;
        let mut grant = RoleGrant {
            scopes: scopes.clone(),
            generation,
            tokens: Vec::new(),
        };
        let is_own = principal.device_id() == Some(*device) && principal.role() == *role;
        let token = is_own.then(|| grant.issue(fresh, now_ms).text);
        record.roles.insert(*role, grant);
        let changes = vec![
            Change::Put(Box::new(record.clone())),
            change::changed(),
            change::close(*device, Some(*role)),
        ];
        Ok(Rotated { scopes, token, changes })
    }

    /// Withdraws one role: its tokens are void, its links closed, and it must ask again to come back.
    ///
    /// # Errors
    /// [`BookError::RevocationDenied`]: no such device or role, or not the caller's.
    pub fn revoke(
        &mut self,
        granted: &Granted<ChangeDevice>,
        role: Role,
        now_ms: u64,
    ) -> Result<Vec<Change>, BookError> {
        let device = granted.action().device;
        check_token_manager(granted.principal(), device, role)
            .and_then(|()| self.withdraw(device, role, now_ms))
            .map_err(|_| BookError::RevocationDenied)
    }

    /// Takes note that a device is alive; false when it said so a moment ago.
    pub fn seen(&mut self, device: DeviceId, now_ms: u64) -> (bool, Vec<Change>) {
        let Some(record) = self.records.get_mut(&device) else {
            return (false, Vec::new());
        };
        let is_news = record
            .last_seen_ms
            .is_none_or(|last| now_ms.saturating_sub(last) >= SEEN_PAUSE_MS);
        if !is_news {
            return (false, Vec::new());
        }
        record.last_seen_ms = Some(now_ms);
        (true, vec![Change::Seen(Box::new(record.clone()))])
    }

    fn withdraw(&mut self, device: DeviceId, role: Role, now_ms: u64) -> Result<Vec<Change>, BookError> {
        let record = self.records.get_mut(&device).ok_or(BookError::UnknownDevice)?;
        record.roles.remove(&role).ok_or(BookError::NoSuchRole(role))?;
        if role == Role::Node {
            record.surface = Surface::default();
            record.opened.clear();
            record.surface_approved_ms = None;
        }
        let mut changes = vec![Change::Put(Box::new(record.clone()))];
        changes.extend(self.void_request(device, now_ms));
        if role == Role::Node {
            changes.push(change::node_resolved("", device, Decision::Removed, now_ms));
        }
        changes.extend([change::changed(), change::close(device, Some(role))]);
        Ok(changes)
    }

    pub(super) fn void_request(&mut self, device: DeviceId, now_ms: u64) -> Vec<Change> {
        self.pending
            .take(device)
            .map(|request| change::resolved(&request, Decision::Rejected, now_ms))
            .unwrap_or_default()
    }

    fn next_generation(&mut self) -> u64 {
        self.last_generation += 1;
        self.last_generation
    }

    pub(super) fn record_approval(&mut self, request: &PendingRequest, now_ms: u64) -> DeviceRecord {
        let generation = self.next_generation();
        let record = self
            .records
            .entry(request.device.id)
            .or_insert_with(|| new_record(request, now_ms));
        record.approved_ms = now_ms;
        if request.reason.keeps_out() {
            admit_role(record, request, generation);
        }
        if request.role == Role::Node {
            approve_surface(record, request, now_ms);
        }
        record.clone()
    }
}

fn new_record(request: &PendingRequest, now_ms: u64) -> DeviceRecord {
    DeviceRecord {
        id: request.device.id,
        public_key: request.device.public_key,
        label: None,
        client: request.client.clone(),
        roles: std::collections::BTreeMap::new(),
        surface: Surface::default(),
        denied: std::collections::BTreeSet::new(),
        opened: std::collections::BTreeSet::new(),
        surface_approved_ms: None,
        created_ms: now_ms,
        approved_ms: now_ms,
        approved_via: ApprovedVia::Owner,
        last_seen_ms: None,
        last_address: String::new(),
    }
}

fn admit_role(record: &mut DeviceRecord, request: &PendingRequest, generation: u64) {
    let speaks_for_record = request.role == Role::Node || !record.roles.contains_key(&Role::Node);
    if speaks_for_record {
        record.client = request.client.clone();
    }
    let grant = record.roles.entry(request.role).or_insert(RoleGrant {
        scopes: Scopes::none(),
        generation,
        tokens: Vec::new(),
    });
    grant.scopes = grant.scopes.iter().chain(request.scopes.iter()).collect();
}

/// What was approved before stays approved, so that a node which declares less for a while loses nothing; another
/// kind of machine starts anew.
fn approve_surface(record: &mut DeviceRecord, request: &PendingRequest, now_ms: u64) {
    let mut surface = request.surface.clone();
    if request.reason == Reason::MetadataUpgrade {
        record.opened.clear();
    } else {
        surface.caps.extend(record.surface.caps.iter().cloned());
        surface.commands.extend(record.surface.commands.iter().cloned());
    }
    record.surface = surface.sorted();
    record.surface_approved_ms = Some(now_ms);
}

fn check_approver(principal: &Principal, request: &PendingRequest, view: PairingView) -> Result<(), BookError> {
    let is_entry = request.reason.keeps_out();
    let admin: Scopes = (is_entry && request.role != Role::Operator)
        .then_some(Scope::Admin)
        .into_iter()
        .collect();
    let needed = [&request.required_to_approve(), &request.scopes, &admin]
        .into_iter()
        .flat_map(Scopes::iter)
        .collect();
    check_covers(principal.scopes(), &needed).map_err(|error| match view {
        PairingView::Device => BookError::ApprovalDenied,
        PairingView::Node => error,
    })
}

pub(super) fn check_label(label: &str) -> Result<(), BookError> {
    if label.trim().is_empty() || label.chars().count() > LABEL_CHARS || label.chars().any(char::is_control) {
        return Err(BookError::BadLabel);
    }
    Ok(())
}

pub(super) fn check_covers(held: &Scopes, needed: &Scopes) -> Result<(), BookError> {
    match needed.iter().find(|scope| !held.give(*scope)) {
        None => Ok(()),
        Some(missing) => Err(BookError::MissingScope {
            missing,
            required: needed.iter().collect(),
        }),
    }
}

pub(super) fn check_manager(principal: &Principal, device: DeviceId) -> Result<(), BookError> {
    let is_other = principal.device_id().is_some_and(|own| own != device);
    if is_other && !principal.scopes().give(Scope::Admin) {
        return Err(BookError::NotYours);
    }
    Ok(())
}

/// Whoever takes a token from another device cuts it off, which for anything but an operator's program takes what approving it took.
fn check_token_manager(principal: &Principal, device: DeviceId, role: Role) -> Result<(), BookError> {
    let is_own = principal.device_id() == Some(device);
    if role != Role::Operator && !is_own && !principal.scopes().give(Scope::Admin) {
        return Err(BookError::NotYours);
    }
    check_manager(principal, device)
}
