//! Seats for devices that nobody knows yet: each holds a connection open until a person decides, so there is a bound on them, in all and
//! from one address. Never decides who may come in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_pairing::lockout::network_of;
use atoll_pairing::proven::Origin;
use atoll_protocol::limits;

/// Unknown devices in all; as many as requests are remembered. One more is told to come back later.
const SEATS: usize = limits::PAIRING_PENDING_COUNT;

/// Unknown devices from one address of a network. One more is told to come back later.
const SEATS_OF_ADDRESS: usize = limits::PAIRING_PENDING_OF_ADDRESS;

/// The seats of one gateway. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seats(Arc<Mutex<HashMap<String, usize>>>);

/// One taken seat; free again when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Seats,
    address: String,
}

impl Seats {
    /// Takes a seat, if there is one.
    pub(crate) fn take(&self, origin: &Origin) -> Option<Seat> {
        let mut taken = self.lock();
        let address = network_of(&origin.address);
        let of_address = taken.get(&address).copied().unwrap_or_default();
        let is_near = origin.is_direct_loopback || origin.local_user.is_some();
        if taken.values().sum::<usize>() >= SEATS || (!is_near && of_address >= SEATS_OF_ADDRESS) {
            return None;
        }
        taken.insert(address.clone(), of_address + 1);
        Some(Seat {
            seats: self.clone(),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(address: &str, is_direct_loopback: bool) -> Origin {
        Origin {
            address: address.to_owned(),
            is_direct_loopback,
            local_user: None,
            browser: None,
            proxy_user: None,
        }
    }

    #[test]
    fn one_address_cannot_take_every_seat() {
        let seats = Seats::default();
        let mut taken: Vec<_> = std::iter::from_fn(|| seats.take(&origin("10.0.0.1", false))).collect();
        assert_eq!(taken.len(), SEATS_OF_ADDRESS);
        assert!(seats.take(&origin("10.0.0.2", false)).is_some());
        let network: Vec<_> = (0..100)
            .filter_map(|n| seats.take(&origin(&format!("2001:db8::{n:x}"), false)))
            .collect();
        assert_eq!(network.len(), SEATS_OF_ADDRESS, "a network of IPv6 is one address");
        taken.pop();
        assert!(
            seats.take(&origin("10.0.0.1", false)).is_some(),
            "a seat that was left is free"
        );
    }

    #[test]
    fn there_is_a_bound_in_all_and_nothing_is_left_behind() {
        let seats = Seats::default();
        let taken: Vec<_> = std::iter::from_fn(|| seats.take(&origin("127.0.0.1", true))).collect();
        assert_eq!(taken.len(), SEATS);
        assert!(seats.take(&origin("10.0.0.1", false)).is_none());
        drop(taken);
        assert!(seats.lock().is_empty());
    }
}
