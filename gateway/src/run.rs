//! One life of the gateway: what is started in which order, and how it ends. The end's order is written here and nowhere else.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_agent::model::{CONNECT_DEADLINE, HttpModels};
use atoll_pairing::identity::Identity;
use atoll_pairing::link::ws::{self, Io};
use atoll_pairing::link::{Facts, Pipe, quic};
use atoll_pairing::proven::{Language, Origin};
use atoll_pairing::tls;
use atoll_protocol::limits;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::{Request, Response};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::{Listeners, Serve};
use crate::approvals::Approvals;
use crate::auth::{self, Auth};
use crate::book::Book;
use crate::cards::Cards;
use crate::certificates::{Keeper, Known};
use crate::channels::{self, Channels};
use crate::clock;
use crate::config::{self, ConfigStore};
use crate::connection;
use crate::deliver::{Accounts, Outbox};
use crate::direct::Typed;
use crate::discovery;
use crate::exec::{Commands, Here};
use crate::house::House;
use crate::http::{self, Body, HttpPolicy, Joins, Pages, Peer, Readiness};
use crate::hub::{Broadcast, Hub, OwnPresence};
use crate::intake;
use crate::journal::Journal;
use crate::lane::Lanes;
use crate::logs::Logs;
use crate::media::{Live, Media, Offers, Tickets};
use crate::pictures::Pictures;
use crate::repeats::Repeats;
use crate::ring::{Leaving, Ring};
use crate::rpc;
use crate::seats::Seats;
use crate::sessions::Sessions;
use crate::state::{self, StateDir};
use crate::turns::{Turns, Waiting};
use crate::vital::Vital;
use crate::waiting;
use crate::watchers::Watchers;

mod error;
mod exposure;
mod recover;

pub use error::StartError;
use exposure::Exposure;

/// The languages that are spoken on the port.
const PROTOCOLS: [&str; 2] = ["atoll/1", "openclaw/4"];

/// Turns that run at a time, in all conversations together. They wait for models nearly all of their time; each more holds a
/// conversation's text and a connection.
const TURNS_AT_ONCE: usize = 64;

/// How long links and turns may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// What the command line says; it wins over the configuration.
#[derive(Debug, Default)]
pub struct Options {
    /// The state folder.
    pub state_dir: Option<PathBuf>,
    /// The TCP and UDP port; 0 takes a free one.
    pub port: Option<u16>,
    /// `gateway.bind`.
    pub bind: Option<String>,
    /// `gateway.auth.token`.
    pub token: Option<SecretString>,
}

/// Ends when the process is asked to end. It listens from the call on, not from the first wait: a request that comes during the start
/// is kept for its end.
pub fn until_signalled() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    async move {
        let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

/// Runs a gateway until `ended` is, then lets go of everything in order.
///
/// # Errors
/// It could not start, or a part of it broke.
pub async fn run(options: Options, ended: impl Future<Output = ()>) -> Result<(), StartError> {
    let life = Life::start(options).await?;
    let broken = tokio::select! {
        () = ended => Ok(()),
        part = life.house.vital.failure() => Err(StartError::Broken(part)),
    };
    life.end().await;
    broken
}

/// Everything that runs.
struct Life {
    house: Arc<House>,
    /// No new socket.
    closed: CancellationToken,
    /// Turns, sends and channels end.
    stop: CancellationToken,
    tasks: TaskTracker,
    _lock: state::StateLock,
}

impl Life {
    async fn start(options: Options) -> Result<Self, StartError> {
        let started = Instant::now();
        let state = StateDir::open(options.state_dir.as_deref())?;
        let lock = state.lock()?;
        let (config, keeper) = ConfigStore::open(state.config(), Box::new(config::process_env))?;
        let logs = Logs::start(&state, &config.current().logging)?;
        for warning in &config.loaded().warnings {
            tracing::warn!("{warning}");
        }
        let exposure = Exposure::of(&options, &config.current())?;
        let identity = own_identity(&state)?;
        let tls_config = &config.current().gateway.tls;
        let certificates = Keeper::open(tls_config, state.root(), certificate_names(), clock::now_ms())?;
        let tls = tls::Server::new(&identity, certificates.shown())?;
        let udp = |address| quic::Listener::bind(address, &tls, &identity);
        let listeners = Listeners::bind(&exposure.addresses, &state.socket(), udp).await?;
        let addresses = listeners.addresses();
        let port = addresses.first().map_or(0, SocketAddr::port);
        let (stop, closed, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let given = Given {
            started,
            listening: addresses.clone(),
            auth: Auth::new(exposure.overrides, config.current()),
            vital: Vital::default(),
            certificates: certificates.known(),
            logs,
            journal: Journal::open(&state.journal())?,
            state,
            config,
            identity,
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        let house = build(given).await?;
        let vital = house.vital.clone();
        tasks.spawn(vital.keep("config", keeper.run(stop.clone())));
        recover::recover(&house).await.map_err(StartError::TakeUp)?;
        let keeping = certificates.run(tls.clone(), house.config.subscribe(), stop.clone());
        tasks.spawn(vital.keep("certificates", keeping));
        let accepting = listeners.run(Door(house.clone()), tls, closed.clone(), tasks.clone());
        tasks.spawn(vital.keep("listeners", accepting));
        spawn_loops(&house, &stop);
        // Not vital: a gateway that nobody finds is still one.
        let is_container = exposure::is_container();
        tasks.spawn(discovery::run(house.clone(), addresses, is_container, stop.clone()));
        write_port(&house)?;
        tracing::info!(port, state = %house.state.root().display(), ms = started.elapsed().as_millis(), "listening");
        Ok(Self {
            house,
            closed,
            stop,
            tasks,
            _lock: lock,
        })
    }

    /// Stop accepting, let calls leave, tell peers, end turns and sends, flush.
    async fn end(self) {
        tracing::info!("ending");
        self.closed.cancel();
        self.house.ring.leaving.end().await;
        self.house.hub.goodbye().await;
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "some tasks did not end in time");
        }
        self.house.sessions.keep().await;
        self.house.journal.close().await;
        let _ = std::fs::remove_file(self.house.port_file());
    }
}

/// The gateway's key. Whoever runs it is told where a new one lies, whatever is logged: it cannot be made again.
fn own_identity(state: &StateDir) -> Result<Arc<Identity>, StartError> {
    let path = state.identity();
    let is_new = !path.exists();
    let identity = Identity::load_or_create(&path)?;
    if is_new {
        eprintln!(
            "This gateway is {}\nIts key is in {}",
            identity.device_id(),
            path.display()
        );
    }
    Ok(Arc::new(identity))
}

/// Tells other programs on this machine which port was taken.
fn write_port(house: &House) -> Result<(), StartError> {
    let path = house.port_file();
    let written = state::write_atomically(&path, house.port.to_string().as_bytes());
    written.map_err(|source| StartError::PortFile { path, source })
}

/// What is known by the time the owners start.
struct Given {
    started: Instant,
    listening: Vec<SocketAddr>,
    auth: Auth,
    vital: Vital,
    certificates: watch::Receiver<Known>,
    logs: Logs,
    state: StateDir,
    config: ConfigStore,
    journal: Journal,
    identity: Arc<Identity>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// The owners of facts, running.
struct Owners {
    hub: Hub,
    book: Book,
    accounts: Accounts,
    outbox: Outbox,
    cards: Cards,
    approvals: Approvals,
}

async fn owners(given: &Given, boot: Arc<str>) -> Result<Owners, StartError> {
    let (config, journal) = (&given.config, &given.journal);
    let (hub, hub_loop) = Hub::start(OwnPresence {
        host: host_name(),
        version: env!("CARGO_PKG_VERSION"),
        instance: boot,
    });
    let (book, book_loop) = Book::open(journal.clone(), hub.clone()).await?;
    let accounts = Accounts::default();
    let outbox = Outbox::new(journal.clone(), accounts.clone());
    let cards = Cards::new(config.clone(), book.clone(), journal.clone(), outbox.clone());
    let (approvals, approvals_loop) =
        Approvals::open(journal.clone(), hub.clone(), book.clone(), cards.clone()).await?;
    // These end when the last handle is gone, which is later than the tracker can wait for.
    tokio::spawn(given.vital.keep("hub", hub_loop));
    tokio::spawn(given.vital.keep("book", book_loop));
    tokio::spawn(given.vital.keep("approvals", approvals_loop));
    Ok(Owners {
        hub,
        book,
        accounts,
        outbox,
        cards,
        approvals,
    })
}

fn turns(given: &Given, owners: &Owners, exec: &Commands) -> Result<Turns, StartError> {
    Ok(Turns {
        journal: given.journal.clone(),
        config: given.config.clone(),
        hub: owners.hub.clone(),
        sessions: Sessions::new(given.journal.clone(), given.state.clone()),
        outbox: owners.outbox.clone(),
        accounts: owners.accounts.clone(),
        exec: exec.clone(),
        pictures: Pictures::new(exec.ring.media.clone(), given.config.clone()),
        models: Arc::new(HttpModels::new(CONNECT_DEADLINE)?),
        state: given.state.clone(),
        stop: given.stop.clone(),
        waiting: Waiting::default(),
        watchers: Watchers::new(owners.hub.clone()),
        tasks: given.tasks.clone(),
        lanes: Arc::default(),
    })
}

fn ring(given: &Given, owners: &Owners) -> Result<Ring, StartError> {
    Ok(Ring {
        hub: owners.hub.clone(),
        book: owners.book.clone(),
        journal: given.journal.clone(),
        config: given.config.clone(),
        leaving: Leaving::default(),
        repeats: Repeats::default(),
        media: Media::open(&given.state.media()).map_err(StartError::Media)?,
        offers: Offers::default(),
        live: Live::default(),
    })
}

async fn build(given: Given) -> Result<Arc<House>, StartError> {
    let boot: Arc<str> = uuid::Uuid::new_v4().to_string().into();
    let owners = owners(&given, boot.clone()).await?;
    let ring = ring(&given, &owners)?;
    let (waiting, waits) = waiting::waiting();
    let exec = Commands {
        ring: ring.clone(),
        approvals: owners.approvals.clone(),
        identity: given.identity.clone(),
        here: Arc::new(Here::new(given.state.root(), given.identity.clone())),
    };
    let turns = turns(&given, &owners, &exec)?;
    let (lanes, lanes_loop) = Lanes::start(Arc::new(turns.clone()), TURNS_AT_ONCE, given.stop.clone());
    turns.lanes.get_or_init(|| lanes.clone());
    given.tasks.spawn(given.vital.keep("lanes", lanes_loop));
    let stop = given.stop.clone();
    let house = Arc::new(House {
        started: given.started,
        boot,
        port: given.listening.first().map_or(0, SocketAddr::port),
        listening: given.listening,
        certificates: given.certificates,
        auth: given.auth,
        seats: Seats::default(),
        vital: given.vital,
        lockouts: std::sync::Mutex::default(),
        logs: given.logs,
        state: given.state,
        config: given.config,
        journal: given.journal,
        identity: given.identity,
        hub: owners.hub,
        book: owners.book,
        approvals: owners.approvals,
        cards: owners.cards,
        media: ring.media.clone(),
        pictures: turns.pictures.clone(),
        tickets: Tickets::default(),
        ring,
        waiting,
        exec,
        sessions: turns.sessions.clone(),
        lanes,
        turns,
        outbox: owners.outbox,
        accounts: owners.accounts,
        channels: Channels::default(),
        typed: Typed::default(),
        health: rpc::LastHealth::default(),
        tasks: given.tasks,
    });
    let keeping = house.vital.keep("waiting", waiting::run(house.clone(), waits, stop));
    house.tasks.spawn(keeping);
    Ok(house)
}

/// What works for as long as the gateway does. After [`recover`], so that nothing is sent and called uncertain.
fn spawn_loops(house: &Arc<House>, stop: &CancellationToken) {
    let (vital, tasks) = (&house.vital, &house.tasks);
    let follows = {
        let (house, stop) = (house.clone(), stop.clone());
        async move { auth::follow(&house.auth, house.config.subscribe(), house.hub.clone(), stop).await }
    };
    tasks.spawn(vital.keep("auth", follows));
    tasks.spawn(vital.keep("outbox", house.outbox.clone().run(stop.clone())));
    tasks.spawn(vital.keep("channels", channels::run(house.clone(), stop.clone())));
    tasks.spawn(vital.keep("intake", intake::run(house.clone(), stop.clone())));
    tasks.spawn(vital.keep("tick", tick(house.clone(), stop.clone())));
    let housekeeping = crate::housekeeping::run(
        house.journal.clone(),
        house.media.clone(),
        house.config.clone(),
        stop.clone(),
    );
    tasks.spawn(vital.keep("housekeeping", housekeeping));
}

/// Says `tick`, and `health` every other time, for as long as it lives.
async fn tick(house: Arc<House>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(limits::TICK);
    ticks.tick().await;
    let mut count = 0_u64;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        house
            .hub
            .broadcast(Broadcast::to_all("tick", json!({"ts": clock::now_ms()})))
            .await;
        count += 1;
        if count.is_multiple_of(2) {
            house
                .hub
                .broadcast(Broadcast::to_all("health", rpc::health::now(&house).await))
                .await;
        }
    }
}

/// Where accepted sockets go.
#[derive(Clone)]
struct Door(Arc<House>);

impl Serve for Door {
    async fn serve<I: Io + 'static>(&self, io: I, facts: Facts, peer: Peer) {
        let house = self.0.clone();
        let serve = |upgrade: http::Upgrade| async move {
            let language = if upgrade.native {
                Language::Native
            } else {
                Language::Dialect
            };
            let pipe = ws::accept(
                upgrade.io,
                Facts {
                    language: Some(language),
                    ..facts
                },
            );
            connection::serve(house, pipe, upgrade.origin).await;
        };
        http::serve(io, peer, self.0.clone(), serve).await;
    }

    async fn link(&self, pipe: Pipe, address: SocketAddr) {
        let origin = http::direct(address, &Pages::policy(&*self.0));
        connection::serve(self.0.clone(), pipe, origin).await;
    }

    async fn visit(&self, visit: quic::Visit, address: SocketAddr) {
        let origin = match http::visit(&visit.headers(), visit.query(), address, &Pages::policy(&*self.0)) {
            Ok(origin) => origin,
            Err(status) => return visit.refuse(status.as_u16()).await,
        };
        match visit.accept().await {
            Ok(pipe) => connection::serve(self.0.clone(), pipe, origin).await,
            Err(error) => tracing::debug!(%address, %error, "a browser did not come in"),
        }
    }
}

impl Pages for House {
    fn policy(&self) -> Arc<HttpPolicy> {
        let config = self.config();
        let gateway = &config.gateway;
        Arc::new(HttpPolicy {
            port: self.port,
            allowed_origins: gateway.control_ui.allowed_origins.clone(),
            trusted_proxies: gateway
                .trusted_proxies
                .iter()
                .filter_map(|proxy| http::Network::parse(proxy))
                .collect(),
            proxy_user_header: gateway
                .auth
                .trusted_proxy
                .user_header
                .as_ref()
                .map(|name| name.to_ascii_lowercase()),
            proxy_required_headers: gateway.auth.trusted_proxy.required_headers.clone(),
            proxy_on_loopback: gateway.auth.trusted_proxy.allow_loopback,
            real_ip: gateway.allow_real_ip_fallback,
            host_name: host_name(),
        })
    }

    fn readiness(&self) -> Readiness {
        let journal = (!self.journal.is_open()).then_some("journal");
        Readiness {
            failing: [journal, self.vital.failed()].into_iter().flatten().collect(),
            // The last good version serves.
            warnings: self.config.broken().map(|_| "config").into_iter().collect(),
            uptime_ms: crate::hello::uptime_ms(self.started),
        }
    }

    fn well_known(&self) -> Value {
        let known = *self.certificates.borrow();
        let pins = [Some(known.shown), known.next].into_iter().flatten();
        let certificates: Vec<_> = pins
            .clone()
            .map(|pin| json!({"sha256": pin.fingerprint.hex(), "notAfterMs": pin.not_after_ms}))
            .collect();
        let pinned: Vec<_> = pins
            .filter(|pin| pin.is_made)
            .map(|pin| pin.fingerprint.hex())
            .collect();
        json!({
            "deviceKey": URL_SAFE_NO_PAD.encode(self.identity.public_key()), "certificates": certificates,
            "port": self.port, "protocols": PROTOCOLS, "webTransport": {"sha256": pinned},
        })
    }

    fn media(self: Arc<Self>, request: Request<Incoming>, origin: Origin) -> BoxFuture<'static, Response<Body>> {
        Box::pin(http::media::answer(self, request, origin))
    }
}

impl Joins for House {
    async fn join(&self, code: &str) -> Option<String> {
        crate::rpc::follow(self, code.into()).await
    }
}

/// What the certificate is made out to. Clients pin it, so this is only what they show.
fn certificate_names() -> Vec<String> {
    let host = host_name();
    let is_name = |host: &str| {
        !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte))
    };
    let own = [host.clone(), format!("{host}.local")]
        .into_iter()
        .filter(|_| is_name(&host));
    own.chain(["localhost", "127.0.0.1"].map(str::to_owned)).collect()
}

/// What this machine calls itself.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
