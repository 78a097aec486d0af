//! Whether a gateway's word that a person approved something counts here: only a plan signed by the very gateway this node is linked
//! to, for this node and this call. What the plan says is then compared with what would run by `system.run` itself.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use atoll_capabilities::system_run::PlanVerifier;
use atoll_pairing::approval::plan::{Expectation, verify_plan};
use atoll_pairing::identity::device_id_of;
use atoll_protocol::frame::SignedPlan;
use atoll_protocol::id::{CallId, DeviceId};
use atoll_protocol::plan::Plan;

use crate::state::unix_ms;

/// A plan that holds for longer than this from now on is none: no gateway's question waits so long, and uses are not remembered for
/// ever.
const LONGEST: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// Checks plans against the key and the clock of the gateway in charge.
#[derive(Debug)]
pub struct Consent {
    node: DeviceId,
    gateway: Mutex<Option<InCharge>>,
}

#[derive(Debug, Clone)]
struct InCharge {
    key: [u8; 32],
    /// The short id of its key.
    id: String,
    /// What its clock said, Unix milliseconds, and when it was heard.
    clock: Option<(u64, Instant)>,
}

impl InCharge {
    /// Plans are this gateway's word, their time included; so it counts by its clock, whatever ours says. One that does not tell its
    /// time is taken to have ours.
    fn now_ms(&self) -> u64 {
        self.clock.map_or_else(unix_ms, |(said, heard)| {
            let since = u64::try_from(heard.elapsed().as_millis()).unwrap_or(u64::MAX);
            said.saturating_add(since)
        })
    }
}

impl Consent {
    /// Nobody is in charge yet.
    pub fn new(node: DeviceId) -> Self {
        Self {
            node,
            gateway: Mutex::new(None),
        }
    }

    /// The gateway of the present link; none for one that has no key (the OpenClaw dialect).
    pub fn set_gateway(&self, key: Option<[u8; 32]>) {
        let in_charge = key.map(|key| InCharge {
            key,
            id: device_id_of(&key).short(),
            clock: None,
        });
        *self.gateway.lock().unwrap_or_else(PoisonError::into_inner) = in_charge;
    }

    /// What the clock of that gateway says now, Unix milliseconds.
    pub fn set_clock(&self, now_ms: u64) {
        if let Some(gateway) = &mut *self.gateway.lock().unwrap_or_else(PoisonError::into_inner) {
            gateway.clock = Some((now_ms, Instant::now()));
        }
    }

    /// That gateway, as people name it.
    pub fn gateway(&self) -> String {
        match self.gateway_id().as_str() {
            "" => "the gateway".to_owned(),
            id => format!("gateway {id}"),
        }
    }

    /// The short id of its key; empty for one that has none.
    pub fn gateway_id(&self) -> String {
        let in_charge = self.in_charge();
        in_charge.map_or_else(String::new, |gateway| gateway.id)
    }

    fn in_charge(&self) -> Option<InCharge> {
        self.gateway.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl PlanVerifier for Consent {
    fn verify(&self, signed: &SignedPlan, call: &CallId) -> Result<Plan, String> {
        let gateway = self
            .in_charge()
            .ok_or("this gateway has no key to sign approvals with")?;
        let now_ms = gateway.now_ms();
        let expected = Expectation {
            node: self.node,
            call,
            now_ms,
        };
        let plan =
            verify_plan(&gateway.key, signed, expected).map_err(|error| format!("{error}; ask for a new one"))?;
        let longest = u64::try_from(LONGEST.as_millis()).unwrap_or(u64::MAX);
        if plan.expires_at_ms > now_ms.saturating_add(longest) {
            return Err("the approval would hold for more than two days; ask for a new one".to_owned());
        }
        Ok(plan)
    }

    fn now_ms(&self) -> u64 {
        self.in_charge().as_ref().map_or_else(unix_ms, InCharge::now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_pairing::identity::Identity;
    use atoll_protocol::id::ApprovalId;

    fn plan(node: DeviceId, call: &CallId, expires_at_ms: u64) -> Plan {
        Plan {
            approval: ApprovalId::new("a1").expect("fits"),
            call: call.clone(),
            node,
            argv: vec!["/bin/true".to_owned()],
            cwd: "/".to_owned(),
            env_sha256: [0; 32],
            stdin_sha256: [0; 32],
            files: Vec::new(),
            session: String::new(),
            expires_at_ms,
        }
    }

    #[test]
    fn only_the_linked_gateways_plan_for_this_node_and_call_counts() {
        let (gateway, other) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let node = DeviceId::from_digest([3; 32]);
        let call = CallId::new("c1").expect("fits");
        let plan = plan(node, &call, unix_ms() + 60_000);
        let consent = Consent::new(node);
        let signed = gateway.sign_plan(&plan);
        assert!(consent.verify(&signed, &call).is_err(), "nobody is in charge");
        consent.set_gateway(Some(gateway.public_key()));
        assert_eq!(consent.verify(&signed, &call).as_ref(), Ok(&plan));
        assert!(
            consent.verify(&other.sign_plan(&plan), &call).is_err(),
            "another signer"
        );
        assert!(
            consent.verify(&signed, &CallId::new("c2").expect("fits")).is_err(),
            "another call"
        );
        let elsewhere = Plan {
            node: DeviceId::from_digest([4; 32]),
            ..plan
        };
        assert!(
            consent.verify(&gateway.sign_plan(&elsewhere), &call).is_err(),
            "another node"
        );
        let mut tampered = signed;
        tampered.plan[0] ^= 1;
        assert!(consent.verify(&tampered, &call).is_err(), "changed bytes");
    }

    #[test]
    fn a_plans_time_goes_by_the_gateways_clock_and_not_by_ours() {
        const DAY: u64 = 24 * 60 * 60 * 1000;
        let gateway = Identity::from_seed(&[1; 32]);
        let node = DeviceId::from_digest([3; 32]);
        let call = CallId::new("c1").expect("fits");
        let until = |expires_at_ms| gateway.sign_plan(&plan(node, &call, expires_at_ms));
        let consent = Consent::new(node);
        // Ours is a day ahead of its clock, then a day behind; then it is set anew on the same link.
        for its in [unix_ms() - DAY, unix_ms() + DAY] {
            consent.set_gateway(Some(gateway.public_key()));
            consent.set_clock(its);
            assert!(consent.verify(&until(its + 60_000), &call).is_ok(), "still holds there");
            let over = consent.verify(&until(its - 1), &call).expect_err("over there");
            assert!(over.contains("expired"), "{over}");
            assert!(consent.now_ms().abs_diff(its) < 60_000);
            assert!(consent.verify(&until(its + 3 * DAY), &call).is_err(), "for too long");
        }
        // What another gateway said of its clock is nothing to this one.
        consent.set_gateway(Some(gateway.public_key()));
        assert!(consent.verify(&until(unix_ms() + 60_000), &call).is_ok());
        assert!(consent.verify(&until(unix_ms() - 1), &call).is_err());
    }
}
