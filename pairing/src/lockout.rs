//! Slows down guessing: an address that fails too often is not listened to for a while.
//!
//! An attempt is charged before its credentials are looked at and refunded when they were right, so that attempts made side by side
//! cannot outrun the count. Pure: time comes in. Never says whether credentials are right.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::proven::Origin;

/// Failures within [`WINDOW`] that lock an address, unless configured.
pub const FAILURES: usize = 10;
/// The time over which failures count, unless configured.
pub const WINDOW: Duration = Duration::from_secs(60);
/// How long an address stays locked, unless configured.
pub const LOCKED: Duration = Duration::from_secs(5 * 60);
/// Addresses remembered at once. More: the one whose last failure is oldest is forgotten, locked ones last.
pub const ADDRESSES: usize = 4096;

/// How much guessing is borne.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Failures within the window that lock an address; at least one.
    pub failures: usize,
    /// The time over which failures count.
    pub window: Duration,
    /// How long an address stays locked.
    pub locked: Duration,
    /// Direct loopback is not counted, but for browsers.
    pub exempts_loopback: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            failures: FAILURES,
            window: WINDOW,
            locked: LOCKED,
            exempts_loopback: true,
        }
    }
}

/// The failures of every address that had any.
#[derive(Debug, Default)]
pub struct Lockouts {
    patience: Patience,
    addresses: HashMap<String, Address>,
}

#[derive(Debug, Default)]
struct Address {
    /// When each counted attempt was charged, oldest first.
    failures: VecDeque<Instant>,
    /// When each attempt was charged whose outcome is not known yet.
    open: VecDeque<Instant>,
    locked_until: Option<Instant>,
}

/// One charged attempt. Settle it when the outcome is known; one that is dropped stays charged for the whole window.
#[must_use = "settle it, or the address stays charged"]
#[derive(Debug)]
pub struct Attempt {
    /// None for an exempt origin.
    address: Option<String>,
}

/// The address is not listened to now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many failed attempts")]
pub struct Locked {
    /// When to come back.
    pub retry_after: Duration,
}

impl Lockouts {
    /// What holds from now on. Failures that are counted and addresses that are locked stay so.
    pub fn be(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Charges one attempt. The Unix socket is exempt, and direct loopback where that is wanted; a browser never is.
    ///
    /// # Errors
    /// [`Locked`]: do not even look at the credentials.
    pub fn reserve(&mut self, origin: &Origin, now: Instant) -> Result<Attempt, Locked> {
        let patience = self.patience;
        if is_exempt(origin, patience) {
            return Ok(Attempt { address: None });
        }
        let key = network_of(&origin.address);
        if !self.addresses.contains_key(&key) {
            self.make_room(now);
        }
        let address = self.addresses.entry(key.clone()).or_default();
        address.forget_before(now, patience.window);
        if let Some(until) = address.locked_until {
            return Err(Locked {
                retry_after: until.duration_since(now),
            });
        }
        if address.failures.len() + address.open.len() >= patience.failures {
            let oldest = address.failures.front().copied().unwrap_or(now);
            return Err(Locked {
                retry_after: (oldest + patience.window)
                    .saturating_duration_since(now)
                    .max(Duration::from_secs(1)),
            });
        }
        address.open.push_back(now);
        Ok(Attempt { address: Some(key) })
    }

    /// The credentials were right: the charge is taken back.
    pub fn refund(&mut self, attempt: Attempt) {
        if let Some(key) = attempt.address
            && let Some(address) = self.addresses.get_mut(&key)
        {
            address.open.pop_front();
            if address.is_clean() {
                self.addresses.remove(&key);
            }
        }
    }

    /// The credentials were wrong: the charge stays, and the last of too many locks.
    pub fn fail(&mut self, attempt: Attempt, now: Instant) {
        let Some(key) = attempt.address else { return };
        let address = self.addresses.entry(key).or_default();
        address.open.pop_front();
        address.forget_before(now, self.patience.window);
        address.failures.push_back(now);
        if address.failures.len() >= self.patience.failures {
            address.locked_until = Some(now + self.patience.locked);
        }
    }

    /// How many addresses are remembered.
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    fn make_room(&mut self, now: Instant) {
        if self.addresses.len() < ADDRESSES {
            return;
        }
        let window = self.patience.window;
        self.addresses.retain(|_, address| {
            address.forget_before(now, window);
            !address.is_clean()
        });
        while self.addresses.len() >= ADDRESSES {
            let oldest = self
                .addresses
                .iter()
                .min_by_key(|(_, address)| (address.locked_until, address.failures.back().copied()))
                .map(|(key, _)| key.clone());
            match oldest {
                Some(key) => self.addresses.remove(&key),
                None => return,
            };
        }
    }
}

impl Address {
    fn forget_before(&mut self, now: Instant, window: Duration) {
        if self.locked_until.is_some_and(|until| until <= now) {
            self.locked_until = None;
            self.failures.clear();
        }
        for charged in [&mut self.failures, &mut self.open] {
            while charged.front().is_some_and(|at| now.duration_since(*at) >= window) {
                charged.pop_front();
            }
        }
    }

    fn is_clean(&self) -> bool {
        self.open.is_empty() && self.failures.is_empty() && self.locked_until.is_none()
    }
}

fn is_exempt(origin: &Origin, patience: Patience) -> bool {
    let is_near = patience.exempts_loopback && origin.is_direct_loopback;
    origin.browser.is_none() && (is_near || origin.local_user.is_some())
}

/// What counts as one address: one household has a whole /64 of IPv6 to itself.
pub fn network_of(address: &str) -> String {
    match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => address.to_string(),
        Ok(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Err(_) => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(address: &str) -> Origin {
        Origin {
            address: address.into(),
            is_direct_loopback: false,
            local_user: None,
            browser: None,
            proxy_user: None,
        }
    }

    fn fail(lockouts: &mut Lockouts, origin: &Origin, now: Instant) -> Result<(), Locked> {
        let attempt = lockouts.reserve(origin, now)?;
        lockouts.fail(attempt, now);
        Ok(())
    }

    #[test]
    fn ten_failures_in_a_minute_lock_for_five() {
        let (mut lockouts, start) = (Lockouts::default(), Instant::now());
        let origin = from("203.0.113.9");
        for _ in 0..FAILURES {
            assert_eq!(fail(&mut lockouts, &origin, start), Ok(()));
        }
        let soon = start + LOCKED - Duration::from_secs(1);
        let locked = lockouts.reserve(&origin, soon).expect_err("locked");
        assert_eq!(locked.retry_after, Duration::from_secs(1));
        assert!(lockouts.reserve(&from("203.0.113.10"), soon).is_ok(), "others are not");
        assert_eq!(fail(&mut lockouts, &origin, start + LOCKED), Ok(()));
    }

    #[test]
    fn slow_failures_do_not_lock() {
        let (mut lockouts, start) = (Lockouts::default(), Instant::now());
        for n in 0..40 {
            assert_eq!(
                fail(&mut lockouts, &from("203.0.113.9"), start + WINDOW / 8 * n),
                Ok(())
            );
        }
    }

    #[test]
    fn attempts_side_by_side_cannot_outrun_the_count() {
        let (mut lockouts, now) = (Lockouts::default(), Instant::now());
        let origin = from("203.0.113.9");
        let open: Vec<_> = (0..100).filter_map(|_| lockouts.reserve(&origin, now).ok()).collect();
        assert_eq!(open.len(), FAILURES);
        for attempt in open {
            lockouts.refund(attempt);
        }
        assert!(lockouts.is_empty(), "right credentials leave no trace");
    }

    #[test]
    fn success_does_not_wash_failures_away() {
        let (mut lockouts, now) = (Lockouts::default(), Instant::now());
        let origin = from("203.0.113.9");
        for _ in 0..FAILURES - 1 {
            assert_eq!(fail(&mut lockouts, &origin, now), Ok(()));
        }
        let right = lockouts.reserve(&origin, now).expect("one left");
        lockouts.refund(right);
        assert_eq!(fail(&mut lockouts, &origin, now), Ok(()));
        assert!(lockouts.reserve(&origin, now).is_err());
    }

    #[test]
    fn loopback_is_exempt_until_a_browser_speaks_from_it() {
        let (mut lockouts, now) = (Lockouts::default(), Instant::now());
        let mut local = from("127.0.0.1");
        local.is_direct_loopback = true;
        for _ in 0..50 {
            assert_eq!(fail(&mut lockouts, &local, now), Ok(()));
        }
        local.browser = Some("http://127.0.0.1:18789".into());
        let counted = (0..50).filter(|_| fail(&mut lockouts, &local, now).is_ok()).count();
        assert_eq!(counted, FAILURES);
    }

    #[test]
    fn another_patience_holds_at_once_and_forgets_no_failure() {
        let (mut lockouts, start) = (Lockouts::default(), Instant::now());
        let (mut local, origin) = (from("127.0.0.1"), from("203.0.113.9"));
        local.is_direct_loopback = true;
        for _ in 0..2 {
            assert_eq!(fail(&mut lockouts, &origin, start), Ok(()));
        }
        lockouts.be(Patience {
            failures: 3,
            window: WINDOW * 2,
            locked: LOCKED * 2,
            exempts_loopback: false,
        });
        assert_eq!(fail(&mut lockouts, &origin, start + WINDOW), Ok(()));
        let late = start + WINDOW + LOCKED;
        assert_eq!(lockouts.reserve(&origin, late).expect_err("locked").retry_after, LOCKED);
        let counted = (0..9).filter(|_| fail(&mut lockouts, &local, start).is_ok()).count();
        assert_eq!(counted, 3, "loopback counts where it is not exempt");
        local.local_user = Some(0);
        assert!(
            lockouts.reserve(&local, start).is_ok(),
            "the socket of the machine's owner never does"
        );
    }

    #[test]
    fn one_ipv6_network_counts_as_one_address_and_a_mapped_address_as_ipv4() {
        assert_eq!(network_of("2001:db8:1:2::1"), network_of("2001:db8:1:2:ffff::9"));
        assert_ne!(network_of("2001:db8:1:2::1"), network_of("2001:db8:1:3::1"));
        assert_eq!(network_of("::ffff:203.0.113.9"), "203.0.113.9");
    }

    #[test]
    fn a_flood_of_addresses_is_bounded_and_does_not_free_a_locked_one() {
        let (mut lockouts, now) = (Lockouts::default(), Instant::now());
        let locked = from("203.0.113.9");
        for _ in 0..FAILURES {
            assert_eq!(fail(&mut lockouts, &locked, now), Ok(()));
        }
        for n in 0..ADDRESSES as u32 + 500 {
            let origin = from(&std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string());
            assert_eq!(fail(&mut lockouts, &origin, now), Ok(()));
        }
        assert!(lockouts.len() <= ADDRESSES);
        assert!(lockouts.reserve(&locked, now).is_err());
    }
}
