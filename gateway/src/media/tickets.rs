//! Tickets: how somebody who is linked as an operator fetches blobs over HTTP. A ticket is as good as its link, and dies with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use atoll_pairing::access::Principal;
use atoll_protocol::hex;
use sha2::{Digest, Sha256};

/// A ticket lasts so long.
pub(crate) const LIFE: Duration = Duration::from_secs(5 * 60);

/// Tickets at once. More: the oldest goes.
const MOST: usize = 1024;

/// The tickets in force; only their hashes.
#[derive(Debug, Default)]
pub(crate) struct Tickets(Mutex<HashMap<[u8; 32], Ticket>>);

#[derive(Debug)]
struct Ticket {
    whose: Weak<Principal>,
    until: Instant,
}

impl Tickets {
    /// Makes one for whoever is linked as this principal.
    pub(crate) fn issue(&self, whose: &Arc<Principal>, secret: [u8; 32], now: Instant) -> String {
        let text = hex::encode(&secret);
        let mut tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.retain(|_, ticket| ticket.until > now && ticket.whose.strong_count() > 0);
        if tickets.len() >= MOST {
            let oldest = tickets
                .iter()
                .min_by_key(|(_, ticket)| ticket.until)
                .map(|(hash, _)| *hash);
            oldest.and_then(|oldest| tickets.remove(&oldest));
        }
        let ticket = Ticket {
            whose: Arc::downgrade(whose),
            until: now + LIFE,
        };
        tickets.insert(hash(&text), ticket);
        text
    }

    /// Whose it is, if it is in force.
    pub(crate) fn check(&self, text: &str, now: Instant) -> Option<Arc<Principal>> {
        let tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked up by its hash, so that the time it takes tells nothing.
        let ticket = tickets.get(&hash(text)).filter(|ticket| ticket.until > now)?;
        ticket.whose.upgrade()
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_dies_with_its_time_and_with_its_link() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let whose = Arc::new(Principal::sender("telegram", "a", "1", true));
        let text = tickets.issue(&whose, [1; 32], now);
        assert_eq!(tickets.check(&text, now).as_deref(), Some(&*whose));
        assert_eq!(tickets.check("other", now), None);
        assert_eq!(tickets.check(&text, now + LIFE), None);
        drop(whose);
        assert_eq!(tickets.check(&text, now), None);
    }

    #[test]
    fn tickets_are_bounded_and_the_oldest_goes() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let whose = Arc::new(Principal::sender("telegram", "a", "1", true));
        let first = tickets.issue(&whose, [0; 32], now);
        for number in 0..MOST {
            let mut secret = [1; 32];
            secret[..8].copy_from_slice(&number.to_be_bytes());
            tickets.issue(&whose, secret, now + Duration::from_secs(1));
        }
        assert_eq!(tickets.check(&first, now), None);
    }
}
