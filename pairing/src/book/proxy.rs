//! Browsers that come in by the word of a trusted proxy (`gateway.auth.trustedProxy.deviceAutoApprove`): operators only, for no more
//! than was configured, and never a device that anybody has to be asked about for another reason.

use atoll_protocol::scope::{Role, Scopes};

use super::change::{self, Change};
use super::device::ApprovedVia;
use super::pending::{PendingRequest, Reason};
use super::{Admission, Applicant, Book, surface_of};
use crate::access::commands::CommandPolicy;
use crate::proven::Claims;

/// How programs with a screen for people say that they are used.
const BROWSERS: [&str; 2] = ["ui", "webchat"];

impl Book {
    /// Decides about a device whose user the proxy vouches for. Whatever it asks, it gets what it holds and what is configured: there is
    /// no question to be asked.
    pub(crate) fn admit_by_proxy(
        &mut self,
        allowed: &Scopes,
        applicant: Applicant<'_>,
        policy: &CommandPolicy,
        now_ms: u64,
    ) -> (Admission, Vec<Change>) {
        let device = applicant.key.id;
        let is_new = self.record(device).is_none();
        let is_browser = BROWSERS.contains(&&*applicant.claims.client.mode);
        let wider = match self.obstacle(device, applicant.claims) {
            Some(Reason::NotPaired) => is_new,
            Some(Reason::ScopeUpgrade) => true,
            _ => false,
        };
        if applicant.claims.role != Role::Operator || !is_browser || !wider {
            return self.admit(applicant, policy, now_ms);
        }
        let held = self.record(device).and_then(|record| record.role(Role::Operator));
        let held = held.map_or_else(Scopes::none, |grant| grant.scopes.clone());
        let claims = Claims {
            scopes: applicant
                .claims
                .scopes
                .within(&held.iter().chain(allowed.iter()).collect()),
            ..applicant.claims.clone()
        };
        let applicant = Applicant {
            claims: &claims,
            ..applicant
        };
        let mut changes = Vec::new();
        if let Some(reason) = self.obstacle(device, &claims) {
            changes = self.let_browser_in(&applicant, reason, now_ms);
        }
        let (admission, admitted) = self.admit(applicant, policy, now_ms);
        changes.extend(admitted);
        (admission, changes)
    }

    fn let_browser_in(&mut self, applicant: &Applicant<'_>, reason: Reason, now_ms: u64) -> Vec<Change> {
        let mut changes = self.answer_request(applicant.key.id, now_ms);
        let claims = applicant.claims;
        let is_first = !self.records.contains_key(&applicant.key.id);
        let request = PendingRequest {
            id: applicant.request.clone(),
            device: applicant.key,
            client: claims.client.clone(),
            role: Role::Operator,
            scopes: claims.scopes.clone(),
            surface: surface_of(claims),
            reason,
            is_repair: !is_first,
            vouched: true,
            address: None,
            digits: None,
            wrong_codes: 0,
            created_ms: now_ms,
            retried_ms: now_ms,
        };
        self.record_approval(&request, now_ms);
        let record = self.records.get_mut(&request.device.id).expect("just approved");
        if is_first {
            record.approved_via = ApprovedVia::TrustedProxy;
        }
        changes.extend([Change::Put(Box::new(record.clone())), change::changed()]);
        changes
    }
}
