//! Somebody who will act later, in the form that is written down meanwhile. Gives no right by itself: whoever recalls it asks whether
//! the pairing or the secret behind it is still the one of then, and decides anew.

use atoll_protocol::id::DeviceId;
use atoll_protocol::scope::{Role, Scopes};
use serde::{Deserialize, Serialize};

use super::{Kind, Principal};

/// An operator, as it was when it asked for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    who: Who,
    scopes: Scopes,
    generation: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Who {
    Device(DeviceId),
    SharedSecret,
    LocalOwner(u32),
    Proxy(String),
}

impl Recorded {
    /// None for those who act only in the moment: nodes, agents, senders in chats.
    pub fn of(principal: &Principal) -> Option<Self> {
        let who = match &principal.kind {
            Kind::Device(id) if principal.role == Role::Operator => Who::Device(*id),
            Kind::SharedSecret => Who::SharedSecret,
            Kind::LocalOwner { uid } => Who::LocalOwner(*uid),
            Kind::Proxy { user } => Who::Proxy(user.clone()),
            Kind::Device(_) | Kind::Agent { .. } | Kind::Sender { .. } => return None,
        };
        Some(Self {
            who,
            scopes: principal.scopes.clone(),
            generation: principal.generation,
        })
    }

    /// The same principal, without the connection that it spoke through.
    pub fn recall(self) -> Principal {
        match self.who {
            Who::Device(id) => Principal::device(id, Role::Operator, self.scopes, self.generation),
            Who::SharedSecret => Principal::shared_secret(self.scopes),
            Who::LocalOwner(uid) => Principal::local_owner(uid, self.scopes),
            Who::Proxy(user) => Principal::proxy(user, self.scopes),
        }
    }
}

#[cfg(test)]
mod tests {
    use atoll_protocol::id::{AgentId, SessionKey};
    use atoll_protocol::scope::Scope;

    use super::*;

    #[test]
    fn an_operator_is_recalled_as_it_was() {
        let scopes: Scopes = [Scope::Read, Scope::Write].into_iter().collect();
        let device = DeviceId::from_digest([3; 32]);
        for principal in [
            Principal::device(device, Role::Operator, scopes.clone(), 7),
            Principal::shared_secret(scopes.clone()),
            Principal::local_owner(1000, scopes.clone()),
            Principal::proxy("me".to_owned(), scopes.clone()),
        ] {
            let connected = principal.clone().with_connection("c1");
            let text = serde_json::to_string(&Recorded::of(&connected).expect("an operator")).expect("writes");
            let recorded: Recorded = serde_json::from_str(&text).expect("reads");
            assert_eq!(recorded.recall(), principal, "{text}");
        }
    }

    #[test]
    fn who_acts_in_the_moment_is_not_written_down() {
        let agent = Principal::agent(
            AgentId::new("main").expect("an id"),
            SessionKey::new("agent:main:main").expect("a key"),
        );
        let node = Principal::device(DeviceId::from_digest([3; 32]), Role::Node, Scopes::none(), 1);
        for principal in [agent, node, Principal::sender("telegram", "main", "1", true)] {
            assert_eq!(Recorded::of(&principal), None);
        }
    }
}
