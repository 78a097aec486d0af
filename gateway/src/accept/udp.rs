//! The UDP side of the listeners: a socket beside each TCP one, and who may knock there. A datagram can name any address as its own,
//! so under load a stranger must first show that it hears us. Never waits for one stranger while others knock.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_pairing::link::quic::{Entry, Knock, Listener};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Accept, BindError, OPENING, Serve, bind_tcp};

/// Handshakes under way at once. More are not heard, and knock again by themselves.
const HANDSHAKES: usize = 1024;

/// With more than this under way, a stranger is first sent back for a token, which it gets only if its address is its own.
const CALM: usize = 64;

/// Handshakes under way from one address (from one /64 of IPv6). More are not heard, and knock again by themselves.
const OF_ADDRESS: usize = 128;

/// Where the system chooses the port, so many are tried until one is free for both.
const PAIRS: usize = 16;

/// Binds every address on TCP, and on UDP with the same port. A gateway without UDP goes on, and says so: its nodes use TLS.
pub(super) async fn bind_both(
    addresses: &[SocketAddr],
    udp: impl Fn(SocketAddr) -> io::Result<Listener>,
) -> Result<(Vec<TcpListener>, Vec<Listener>), BindError> {
    let is_free = addresses.iter().any(|address| address.port() == 0);
    let mut left = if is_free { PAIRS } else { 1 };
    loop {
        left -= 1;
        let tcp = bind_tcp(addresses).await?;
        let (mut bound, mut failed) = (Vec::new(), Vec::new());
        for address in tcp.iter().filter_map(|listener| listener.local_addr().ok()) {
            match udp(address) {
                Ok(listener) => bound.push(listener),
                Err(error) => failed.push((address, error)),
            }
        }
        if failed.is_empty() || left == 0 {
            for (address, error) in failed {
                tracing::warn!(%address, %error, "no QUIC: UDP cannot be bound there; nodes are served over TLS only");
            }
            return Ok((tcp, bound));
        }
    }
}

impl<S: Serve> Accept<S> {
    pub(super) async fn udp(self, listener: Listener, stop: CancellationToken) {
        let strangers = Strangers::default();
        while let Some((Some(knock), permit)) = self.next(listener.accept(), &stop).await {
            match strangers.judge(&knock) {
                Answer::Hear(seat) => {
                    let serve = self.serve.clone();
                    self.spawn(permit, async move { open(knock, seat, serve).await });
                }
                Answer::SendBack => knock.send_back(),
                Answer::Ignore => knock.ignore(),
            }
        }
        listener.shut();
    }
}

async fn open<S: Serve>(knock: Knock, seat: Seat, serve: S) {
    let address = knock.address();
    match tokio::time::timeout(OPENING, knock.open()).await {
        Ok(Ok(entry)) => {
            drop(seat);
            match entry {
                Entry::Native(pipe) => serve.link(pipe, address).await,
                Entry::Browser(visit) => serve.visit(*visit, address).await,
            }
        }
        Ok(Err(error)) => tracing::debug!(%address, %error, "QUIC handshake failed"),
        Err(_) => tracing::debug!(%address, "QUIC handshake took too long"),
    }
}

/// Who is in the middle of a handshake.
#[derive(Debug, Clone, Default)]
struct Strangers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// What a stranger gets.
#[derive(Debug)]
enum Answer {
    Hear(Seat),
    SendBack,
    Ignore,
}

/// One handshake under way; over when dropped.
#[derive(Debug)]
struct Seat {
    strangers: Strangers,
    address: IpAddr,
}

impl Strangers {
    fn judge(&self, knock: &Knock) -> Answer {
        self.judge_from(knock.address().ip(), knock.is_validated())
    }

    fn judge_from(&self, address: IpAddr, is_validated: bool) -> Answer {
        let address = place(address);
        let mut seats = self.lock();
        let (all, here) = (
            seats.values().sum::<usize>(),
            seats.get(&address).copied().unwrap_or_default(),
        );
        if all >= HANDSHAKES || here >= OF_ADDRESS {
            return Answer::Ignore;
        }
        if all >= CALM && !is_validated {
            return Answer::SendBack;
        }
        seats.insert(address, here + 1);
        Answer::Hear(Seat {
            strangers: self.clone(),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.strangers.lock();
        if let Some(count) = seats.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                seats.remove(&self.address);
            }
        }
    }
}

/// A household has a whole /64 of IPv6 to choose from.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_heard(answer: &Answer) -> bool {
        matches!(answer, Answer::Hear(_))
    }

    fn address(network: usize, host: usize) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(((network as u128 + 1) << 64) | host as u128))
    }

    #[test]
    fn one_network_cannot_take_every_seat() {
        let strangers = Strangers::default();
        let answers = |count: usize, network| -> Vec<_> {
            (0..count)
                .map(|host| strangers.judge_from(address(network, host), true))
                .collect()
        };
        let seats = answers(OF_ADDRESS + 1, 0);
        assert_eq!(seats.iter().filter(|answer| is_heard(answer)).count(), OF_ADDRESS);
        assert!(matches!(seats.last(), Some(Answer::Ignore)));
        assert!(is_heard(&strangers.judge_from(address(1, 0), true)));
        drop(seats);
        assert!(
            is_heard(&strangers.judge_from(address(0, 0), true)),
            "a seat is free again"
        );
    }

    #[test]
    fn under_load_a_stranger_must_show_that_its_address_is_its_own() {
        let strangers = Strangers::default();
        let calm: Vec<_> = (0..CALM)
            .map(|network| strangers.judge_from(address(network, 0), false))
            .collect();
        assert!(calm.iter().all(is_heard), "in calm times nobody is sent back");
        assert!(matches!(
            strangers.judge_from(address(CALM, 0), false),
            Answer::SendBack
        ));
        let seat = strangers.judge_from(address(CALM, 0), true);
        assert!(is_heard(&seat));
        drop((calm, seat));
        assert_eq!(strangers.lock().len(), 0);
    }

    #[test]
    fn there_is_a_bound_on_handshakes_in_all() {
        let strangers = Strangers::default();
        let all: Vec<_> = (0..=HANDSHAKES)
            .map(|network| strangers.judge_from(address(network, 0), true))
            .collect();
        assert_eq!(all.iter().filter(|answer| is_heard(answer)).count(), HANDSHAKES);
    }
}
