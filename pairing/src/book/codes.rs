//! What people and devices do with setup codes: mint, take back, follow the join link, come in by one.

use atoll_protocol::capability::Surface;
use atoll_protocol::id::{DeviceId, SetupId};
use atoll_protocol::scope::{Role, Scope, Scopes};
use secrecy::SecretString;
use serde_json::json;

use super::authority::check_covers;
use super::change::{self, Change, Decision};
use super::code::{CODE_LIFE_MS, CODES, CodeEnd, CodeFault, CodeState, FreshCode, Gift, SetupCode, code_behind};
use super::commands::COMMANDS;
use super::device::ApprovedVia;
use super::pending::{PendingRequest, Reason};
use super::token::SecretHash;
use super::{Admission, Applicant, Book, BookError, surface_of};
use crate::access::commands::{CommandPolicy, required_to_approve};
use crate::access::{ChangeCode, Granted, MintCode};
use crate::proven::Claims;

/// A code that was minted. Its text is told once.
#[derive(Debug)]
pub struct Minted {
    /// What is kept.
    pub code: SetupCode,
    /// What is told.
    pub fresh: FreshCode,
    /// What follows.
    pub changes: Vec<Change>,
}

impl Book {
    /// Gives a place away beforehand.
    ///
    /// # Errors
    /// The caller holds less than it would give, too many codes wait, or the name is no proper one.
    pub fn mint(
        &mut self,
        granted: &Granted<MintCode>,
        id: SetupId,
        fresh: FreshCode,
        now_ms: u64,
    ) -> Result<Minted, BookError> {
        let MintCode {
            gift,
            addresses,
            has_link,
        } = granted.action();
        check_covers(granted.principal().scopes(), &needed_for(gift))?;
        check_gift(self, gift)?;
        if self.open_codes(now_ms).count() >= CODES {
            return Err(BookError::TooManyCodes);
        }
        let code = SetupCode {
            id,
            hash: SecretHash::of(&fresh.text),
            link: has_link.then(|| SecretHash::of(&fresh.link)),
            gift: gift.clone(),
            by: granted.principal().label(),
            addresses: addresses.clone(),
            created_ms: now_ms,
            expires_ms: now_ms + CODE_LIFE_MS,
            end: None,
        };
        self.codes.insert(code.id.clone(), code.clone());
        let changes = vec![Change::PutCode(Box::new(code.clone()))];
        Ok(Minted { code, fresh, changes })
    }

    /// Takes a code back that has not been used.
    ///
    /// # Errors
    /// No such code waits.
    pub fn revoke_code(&mut self, granted: &Granted<ChangeCode>, now_ms: u64) -> Result<Vec<Change>, BookError> {
        let code = self
            .codes
            .get_mut(&granted.action().setup)
            .filter(|code| code.state(now_ms) == CodeState::Pending)
            .ok_or(BookError::UnknownCode)?;
        code.end = Some(CodeEnd::Revoked);
        code.link = None;
        Ok(vec![Change::PutCode(Box::new(code.clone()))])
    }

    /// One code, over or not.
    pub fn code(&self, id: &SetupId) -> Option<&SetupCode> {
        self.codes.get(id)
    }

    /// The codes that wait for their devices.
    pub fn open_codes(&self, now_ms: u64) -> impl Iterator<Item = &SetupCode> {
        self.codes
            .values()
            .filter(move |code| code.state(now_ms) == CodeState::Pending)
    }

    /// Follows a join link, which works once: the code that it stands for, where the gateway is, until when it holds.
    pub fn follow_link(&mut self, link: &SecretString, now_ms: u64) -> Option<(SecretString, SetupCode, Vec<Change>)> {
        let code = self.codes.values_mut().find(|code| {
            let is_it = code.link.is_some_and(|hash| hash.matches(link));
            is_it && code.state(now_ms) == CodeState::Pending
        })?;
        code.link = None;
        let changes = vec![Change::PutCode(Box::new(code.clone()))];
        Some((code_behind(link), code.clone(), changes))
    }

    /// The code that a device brings, if it gives this device anything in this role.
    ///
    /// A device whose hello was lost on its way brings its code again: as long as it still holds what that code gave it,
    /// it may come in by it until the code's time is over, and is given nothing more.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check_code(
        &self,
        text: &SecretString,
        device: DeviceId,
        role: Role,
        now_ms: u64,
    ) -> Result<&SetupCode, (CodeFault, Option<&SetupCode>)> {
        // Every hash is compared, so that the time says nothing about which one was right.
        let matching = |found, code| {
            if SetupCode::is_text(code, text) {
                Some(code)
            } else {
                found
            }
        };
        let found = self.codes.values().fold(None, matching);
        let Some(code) = found else {
            return Err((CodeFault::Unknown, None));
        };
        let fault = match (code.state(now_ms), &code.end) {
            (CodeState::Completed, Some(CodeEnd::Used { .. })) if self.is_same_use(code, device, role, now_ms) => None,
            (CodeState::Completed, _) => Some(CodeFault::Used),
            (CodeState::Revoked, _) => Some(CodeFault::Revoked),
            (CodeState::Expired, _) => Some(CodeFault::Expired),
            (CodeState::Pending, _) => (code.gift.role != role).then_some(CodeFault::Role),
        };
        fault.map_or(Ok(code), |fault| Err((fault, Some(code))))
    }

    fn is_same_use(&self, code: &SetupCode, device: DeviceId, role: Role, now_ms: u64) -> bool {
        let Some(CodeEnd::Used {
            device: user,
            generation,
            ..
        }) = code.end
        else {
            return false;
        };
        let holds = |generation| {
            let grant = self.record(device).and_then(|record| record.role(role));
            grant.is_some_and(|grant| grant.generation == generation)
        };
        user == device && now_ms < code.expires_ms && holds(generation)
    }

    /// Lets a device in by a code that was found right: the code is used, the device is in, its surface is approved, and
    /// the device that it replaces is out, all in one list of changes.
    pub(crate) fn admit_by_code(
        &mut self,
        setup: &SetupId,
        applicant: Applicant<'_>,
        policy: &CommandPolicy,
        now_ms: u64,
    ) -> (Admission, Vec<Change>) {
        let Some(code) = self.codes.get(setup) else {
            return self.admit(applicant, policy, now_ms);
        };
        // Whatever it asks, it gets what was frozen: there is no question to be asked.
        let claims = Claims {
            scopes: applicant.claims.scopes.within(&code.gift.scopes),
            ..applicant.claims.clone()
        };
        let applicant = Applicant {
            claims: &claims,
            ..applicant
        };
        let mut changes = Vec::new();
        if code.end.is_none() {
            changes = self.redeem(setup, &applicant, policy, now_ms);
        }
        let (admission, admitted) = self.admit(applicant, policy, now_ms);
        changes.extend(admitted);
        (admission, changes)
    }

    fn redeem(
        &mut self,
        setup: &SetupId,
        applicant: &Applicant<'_>,
        policy: &CommandPolicy,
        now_ms: u64,
    ) -> Vec<Change> {
        let Some(gift) = self.codes.get(setup).map(|code| code.gift.clone()) else {
            return Vec::new();
        };
        let device = applicant.key.id;
        let mut changes = self.replace(&gift, device, now_ms);
        changes.extend(self.answer_request(device, now_ms));
        let request = self.granted_request(&gift, applicant, policy, now_ms);
        self.record_approval(&request, now_ms);
        let record = self.records.get_mut(&device).expect("just approved");
        record.approved_via = ApprovedVia::SetupCode;
        // Whoever names a command for one device means that it can be used there.
        record.opened.extend(gift.commands.iter().flatten().cloned());
        if let Some(label) = gift.label {
            record.label = Some(label);
        }
        let name = record.display_name().to_owned();
        let generation = record.role(gift.role).map_or(0, |grant| grant.generation);
        changes.push(Change::Put(Box::new(record.clone())));
        let code = self.codes.get_mut(setup).expect("looked at above");
        code.end = Some(CodeEnd::Used {
            device,
            generation,
            at_ms: now_ms,
        });
        code.link = None;
        changes.push(Change::PutCode(Box::new(code.clone())));
        changes.extend([
            change::event(
                "device.pair.setup.completed",
                json!({
                    "setupId": setup, "deviceId": device, "deviceName": name, "access": access_word(gift.role),
                    "ts": now_ms,
                }),
            ),
            change::changed(),
            Change::Surface(device),
        ]);
        changes
    }

    /// The device in whose place another one comes is a stranger from now on.
    fn replace(&mut self, gift: &Gift, device: DeviceId, now_ms: u64) -> Vec<Change> {
        let Some(old) = gift.replaces.filter(|old| *old != device) else {
            return Vec::new();
        };
        if self.records.remove(&old).is_none() {
            return Vec::new();
        }
        let mut changes = vec![Change::Remove(old)];
        changes.extend(self.void_request(old, now_ms));
        changes.push(change::node_resolved("", old, Decision::Removed, now_ms));
        changes.push(change::close(old, None));
        changes
    }

    /// What it asked before without a code is answered by it.
    pub(super) fn answer_request(&mut self, device: DeviceId, now_ms: u64) -> Vec<Change> {
        let asked = self.pending.take(device);
        asked
            .map(|request| change::resolved(&request, Decision::Approved, now_ms))
            .unwrap_or_default()
    }

    /// The request that a person said yes to by minting the code.
    fn granted_request(
        &self,
        gift: &Gift,
        applicant: &Applicant<'_>,
        policy: &CommandPolicy,
        now_ms: u64,
    ) -> PendingRequest {
        let claims = applicant.claims;
        let opened = gift.commands.iter().flatten().cloned().collect();
        let mut surface = policy.offerable(&claims.client, &surface_of(claims), &opened);
        if let Some(commands) = &gift.commands {
            surface.commands.retain(|command| commands.contains(command));
        }
        PendingRequest {
            id: applicant.request.clone(),
            device: applicant.key,
            client: claims.client.clone(),
            role: gift.role,
            scopes: gift.scopes.clone(),
            surface,
            // A machine of another kind starts anew, as it does with an approval.
            reason: self.obstacle(applicant.key.id, claims).unwrap_or(Reason::NotPaired),
            is_repair: self.records.contains_key(&applicant.key.id),
            vouched: true,
            address: None,
            digits: None,
            wrong_codes: 0,
            created_ms: now_ms,
            retried_ms: now_ms,
        }
    }

    /// Forgets codes that nobody will bring any more.
    pub(super) fn expire_codes(&mut self, now_ms: u64) -> Vec<Change> {
        let forgotten: Vec<_> = self
            .codes
            .extract_if(.., |_, code| code.is_forgotten(now_ms))
            .map(|(id, _)| Change::ForgetCode(id))
            .collect();
        forgotten
    }
}

/// What a code's device may do, in OpenClaw's words.
pub fn access_word(role: Role) -> &'static str {
    match role {
        Role::Node => "node",
        Role::Operator => "limited",
    }
}

/// What somebody must hold to give this: as much as approving a request for it takes, whatever device comes.
fn needed_for(gift: &Gift) -> Scopes {
    match gift.role {
        Role::Operator => [Scope::Pairing].into_iter().chain(gift.scopes.iter()).collect(),
        Role::Node => {
            let surface = Surface {
                commands: gift.commands.clone().unwrap_or_default(),
                ..Surface::default()
            };
            let admin = [Scope::Admin];
            admin.into_iter().chain(required_to_approve(&surface).iter()).collect()
        }
    }
}

fn check_gift(book: &Book, gift: &Gift) -> Result<(), BookError> {
    if let Some(label) = &gift.label {
        super::authority::check_label(label)?;
    }
    if let Some(replaced) = gift.replaces {
        book.record(replaced).ok_or(BookError::UnknownDevice)?;
    }
    if gift.commands.as_ref().is_some_and(|commands| commands.len() > COMMANDS) {
        return Err(BookError::TooManyCommands);
    }
    Ok(())
}
