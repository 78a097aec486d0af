//! Whether a gateway's word that a person approved something counts here: only a plan signed by the very gateway this node is linked
//! to, for this node and this call. What the plan says is then compared with what would run by `system.run` itself.

use std::sync::{Mutex, PoisonError};

use atoll_capabilities::system_run::PlanVerifier;
use atoll_pairing::approval::plan::{Expectation, verify_plan};
use atoll_protocol::frame::SignedPlan;
use atoll_protocol::id::{CallId, DeviceId};
use atoll_protocol::plan::Plan;

use crate::state::unix_ms;

/// Checks plans against the key of the gateway in charge.
#[derive(Debug)]
pub struct Consent {
    node: DeviceId,
    gateway: Mutex<Option<[u8; 32]>>,
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
        *self.gateway.lock().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

impl PlanVerifier for Consent {
    fn verify(&self, signed: &SignedPlan, call: &CallId) -> Result<Plan, String> {
        let key = *self.gateway.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key.ok_or("this gateway has no key to sign approvals with")?;
        let expected = Expectation {
            node: self.node,
            call,
            now_ms: unix_ms(),
        };
        verify_plan(&key, signed, expected).map_err(|error| format!("{error}; ask for a new one"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atoll_pairing::identity::Identity;
    use atoll_protocol::id::ApprovalId;

    #[test]
    fn only_the_linked_gateways_plan_for_this_node_and_call_counts() {
        let (gateway, other) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let node = DeviceId::from_digest([3; 32]);
        let call = CallId::new("c1").expect("fits");
        let plan = Plan {
            approval: ApprovalId::new("a1").expect("fits"),
            call: call.clone(),
            node,
            argv: vec!["/bin/true".to_owned()],
            cwd: "/".to_owned(),
            env_sha256: [0; 32],
            stdin_sha256: [0; 32],
            files: Vec::new(),
            session: String::new(),
            expires_at_ms: u64::MAX,
        };
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
}
