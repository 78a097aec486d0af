//! The daemon of multicast DNS behind two functions: say what there is, and look around.
//!
//! Owns which interfaces are used and how a network without multicast is borne: it is told once, and tried again ever more rarely.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{SelectAll, select_all};
use mdns_sd::{
    DaemonEvent, IfKind, IfPredicate, MDNS_PORT, Receiver, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo,
};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::nearby::{Seen, Sighting};
use super::{Advert, Kind, Nearby};

/// An announcement goes out within about two seconds; by then the network has no multicast, or there is no network.
const ANNOUNCED: Duration = Duration::from_secs(10);

/// The first pause after a failure; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(5);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What is taken back at the end goes out by then, or never.
const FAREWELL: Duration = Duration::from_millis(500);

/// Beginnings of the names of interfaces that lead to containers and virtual machines of this very machine.
const INNER: [&str; 8] = ["docker", "br-", "veth", "virbr", "cni", "podman", "lxc", "vnet"];

/// Why nothing can be announced or found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// The system or the library refuses.
    #[error("multicast DNS does not work here: {0}")]
    Refused(String),
    /// Nothing went out.
    #[error("no interface of this machine takes announcements by multicast DNS")]
    Silent,
}

impl From<mdns_sd::Error> for DiscoveryError {
    fn from(error: mdns_sd::Error) -> Self {
        Self::Refused(error.to_string())
    }
}

/// Where to announce and to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Air {
    port: u16,
    through: Through,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Through {
    Lan,
    Only(Vec<IpAddr>),
    Loopback,
}

impl Air {
    /// The networks of this machine: not loopback, no tunnels, nothing that leads to its own containers.
    pub fn lan() -> Self {
        Self {
            port: MDNS_PORT,
            through: Through::Lan,
        }
    }

    /// Those that these addresses of this machine are in.
    pub fn only(addresses: Vec<IpAddr>) -> Self {
        Self {
            port: MDNS_PORT,
            through: Through::Only(addresses),
        }
    }

    /// This machine alone, on another port than the usual one, so that nothing leaves it.
    pub fn loopback(port: u16) -> Self {
        Self {
            port,
            through: Through::Loopback,
        }
    }

    fn interfaces(&self) -> Vec<IfKind> {
        match &self.through {
            Through::Lan => vec![IfKind::Predicate(IfPredicate::new(|interface| {
                let is_inner = INNER.iter().any(|beginning| interface.name.starts_with(beginning));
                !interface.is_loopback() && !interface.is_p2p() && !is_inner
            }))],
            Through::Only(addresses) => addresses.iter().copied().map(IfKind::Addr).collect(),
            Through::Loopback => vec![IfKind::LoopbackV4],
        }
    }
}

/// A daemon's thread; it ends with this value and takes back what it announced.
struct Daemon(ServiceDaemon);

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.shutdown());
    }
}

impl Daemon {
    fn start(air: &Air) -> Result<Self, DiscoveryError> {
        let daemon = Self(ServiceDaemon::new_with_port(air.port)?);
        // It begins with every interface; nothing is sent before the first announcement or question.
        daemon.0.disable_interface(IfKind::All)?;
        daemon.0.enable_interface(air.interfaces())?;
        Ok(daemon)
    }

    fn register(&self, air: &Air, advert: &Advert) -> Result<(), DiscoveryError> {
        let host = format!("{}.", advert.host);
        let addresses: &[IpAddr] = match &air.through {
            Through::Lan => &[],
            Through::Only(addresses) => addresses,
            Through::Loopback => &[IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)],
        };
        let service = advert.kind.service();
        let info = ServiceInfo::new(
            service,
            &advert.instance,
            &host,
            addresses,
            advert.port,
            &advert.txt[..],
        )?;
        let mut info = if addresses.is_empty() {
            info.enable_addr_auto()
        } else {
            info
        };
        info.set_interfaces(air.interfaces());
        Ok(self.0.register(info)?)
    }

    /// Takes everything back and waits until that is out.
    async fn close(self) {
        if let Ok(ended) = self.0.shutdown() {
            let _ = timeout(FAREWELL, ended.recv_async()).await;
        }
    }
}

/// Announces what is wanted, follows its changes, and takes it back in the end. Ends with `stop`, or when nobody can want anything
/// any more.
pub async fn announce(air: Air, mut wanted: watch::Receiver<Vec<Advert>>, stop: CancellationToken) {
    let mut patience = Patience::default();
    loop {
        let adverts = wanted.borrow_and_update().clone();
        let daemon = (!adverts.is_empty()).then(|| Daemon::start(&air)).transpose();
        let (daemon, failed) = match daemon {
            Ok(daemon) => (daemon, None),
            Err(error) => (None, Some(error)),
        };
        let is_over = tokio::select! {
            biased;
            () = stop.cancelled() => true,
            changed = wanted.changed() => changed.is_err(),
            () = keep(&air, daemon.as_ref(), &adverts, failed, &mut patience) => false,
        };
        if let Some(daemon) = daemon {
            daemon.close().await;
        }
        if is_over {
            return;
        }
    }
}

/// Returns when it is time to begin anew.
async fn keep(
    air: &Air,
    daemon: Option<&Daemon>,
    adverts: &[Advert],
    failed: Option<DiscoveryError>,
    patience: &mut Patience,
) {
    let error = match (daemon, failed) {
        (Some(daemon), _) => announced(air, daemon, adverts, patience).await,
        (None, Some(error)) => error,
        (None, None) => std::future::pending().await,
    };
    let pause = patience.fail(&error);
    let Some(daemon) = daemon.filter(|_| error == DiscoveryError::Silent) else {
        return tokio::time::sleep(pause).await;
    };
    // An interface that comes up meanwhile is noticed by the daemon itself.
    if let Ok(events) = daemon.0.monitor()
        && timeout(pause, first_announcement(&events)).await == Ok(Ok(()))
    {
        patience.succeed();
        let _ = until_broken(&events).await;
    }
}

/// Lives as long as the announcements do; the reason why they do not.
async fn announced(air: &Air, daemon: &Daemon, adverts: &[Advert], patience: &mut Patience) -> DiscoveryError {
    let begin = || -> Result<Receiver<DaemonEvent>, DiscoveryError> {
        let events = daemon.0.monitor()?;
        adverts.iter().try_for_each(|advert| daemon.register(air, advert))?;
        Ok(events)
    };
    let events = match begin() {
        Ok(events) => events,
        Err(error) => return error,
    };
    match timeout(ANNOUNCED, first_announcement(&events)).await {
        Ok(Ok(())) => patience.succeed(),
        Ok(Err(error)) => return error,
        Err(_) => return DiscoveryError::Silent,
    }
    until_broken(&events).await
}

async fn first_announcement(events: &Receiver<DaemonEvent>) -> Result<(), DiscoveryError> {
    loop {
        match events.recv_async().await {
            Ok(DaemonEvent::Announce(..)) => return Ok(()),
            Ok(event) => tell(&event)?,
            Err(_) => return Err(ended()),
        }
    }
}

async fn until_broken(events: &Receiver<DaemonEvent>) -> DiscoveryError {
    loop {
        match events.recv_async().await {
            Ok(event) => {
                if let Err(error) = tell(&event) {
                    return error;
                }
            }
            Err(_) => return ended(),
        }
    }
}

fn ended() -> DiscoveryError {
    DiscoveryError::Refused("its thread has ended".to_owned())
}

fn tell(event: &DaemonEvent) -> Result<(), DiscoveryError> {
    if let DaemonEvent::Error(error) = event {
        return Err(DiscoveryError::from(error.clone()));
    }
    tracing::debug!(?event, "mdns");
    Ok(())
}

/// How a network without multicast is borne.
#[derive(Debug, Default)]
struct Patience {
    failures: u32,
}

impl Patience {
    fn succeed(&mut self) {
        if self.failures > 0 {
            tracing::info!("this device is announced in the local network again");
        }
        self.failures = 0;
    }

    /// Tells the first failure; how long to wait.
    fn fail(&mut self, error: &DiscoveryError) -> Duration {
        match self.failures {
            0 => tracing::warn!(%error, "this device is not announced in the local network; it is tried again"),
            _ => tracing::debug!(%error, failures = self.failures, "still not announced in the local network"),
        }
        let pause = PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

/// Looks around for so long.
///
/// # Errors
/// See [`DiscoveryError`]. A network in which nobody answers is no error.
pub async fn browse(air: Air, kinds: &[Kind], patience: Duration) -> Result<Nearby, DiscoveryError> {
    let until = Instant::now() + patience;
    let daemon = Daemon::start(&air)?;
    let mut events = questions(&daemon, kinds)?;
    let mut seen = Seen::new(air.through == Through::Loopback);
    loop {
        match timeout_at(until, events.next()).await {
            Ok(Some((kind, event))) => take(&mut seen, kind, event),
            Ok(None) => return Err(ended()),
            Err(_) => break,
        }
    }
    daemon.close().await;
    Ok(seen.nearby())
}

type Events = SelectAll<futures_util::stream::BoxStream<'static, (Kind, ServiceEvent)>>;

fn questions(daemon: &Daemon, kinds: &[Kind]) -> Result<Events, DiscoveryError> {
    let ask = |kind: &Kind| -> Result<_, DiscoveryError> {
        let kind = *kind;
        let events = daemon.0.browse(kind.service())?;
        Ok(events.into_stream().map(move |event| (kind, event)).boxed())
    };
    Ok(select_all(kinds.iter().map(ask).collect::<Result<Vec<_>, _>>()?))
}

fn take(seen: &mut Seen, kind: Kind, event: ServiceEvent) {
    if let ServiceEvent::ServiceResolved(service) = event {
        seen.see(kind, sighting(&service));
    } else if let ServiceEvent::ServiceRemoved(_, fullname) = event {
        seen.forget(kind, &fullname);
    }
}

fn sighting(service: &ResolvedService) -> Sighting {
    let entries = service.txt_properties.iter();
    Sighting {
        fullname: service.fullname.clone(),
        host: service.host.clone(),
        port: service.port,
        addresses: service.addresses.iter().map(mdns_sd::ScopedIp::to_ip_addr).collect(),
        txt: entries
            .map(|entry| (entry.key().to_owned(), entry.val_str().to_owned()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_a_success_begins_anew() {
        let mut patience = Patience::default();
        let pauses: Vec<_> = (0..100).map(|_| patience.fail(&DiscoveryError::Silent)).collect();
        assert_eq!(pauses[..3], [PAUSE, PAUSE * 2, PAUSE * 4]);
        assert!(
            pauses.is_sorted() && pauses.last() == Some(&LONGEST_PAUSE),
            "{pauses:?}"
        );
        patience.succeed();
        assert_eq!(patience.fail(&DiscoveryError::Silent), PAUSE);
    }
}
