//! One life of the gateway: what is started in which order, and how it ends. The end's order is written here and nowhere else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use atoll_agent::model::{CONNECT_DEADLINE, HttpModels};
use atoll_pairing::identity::Identity;
use atoll_pairing::link::Facts;
use atoll_pairing::link::ws::{self, Io};
use atoll_pairing::proven::Language;
use atoll_pairing::tls::{self, WebCertificate};
use atoll_protocol::limits;
use secrecy::SecretString;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::{Listeners, Serve};
use crate::approvals::Approvals;
use crate::book::Book;
use crate::cards::Cards;
use crate::channels::{self, Channels};
use crate::clock;
use crate::config::{self, Bind, Config, ConfigStore};
use crate::connection;
use crate::deliver::{Accounts, Outbox};
use crate::direct::Typed;
use crate::exec::{Commands, Here};
use crate::house::House;
use crate::http::{self, HttpPolicy, Pages, Peer};
use crate::hub::{Broadcast, Hub, OwnPresence, Restored};
use crate::intake;
use crate::journal::calls::{self, CallEnd, CallRow, CallState};
use crate::journal::{Durability, Journal};
use crate::lane::Lanes;
use crate::logs::Logs;
use crate::ring::Ring;
use crate::sessions::Sessions;
use crate::state::{self, StateDir};
use crate::turns::{Turns, Waiting};

/// How long links and turns may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// A call from before a restart is given up after this, when its node does not come back.
const RESTORED: Duration = Duration::from_secs(10 * 60);

/// What the command line says; it wins over the configuration.
#[derive(Debug, Default)]
pub struct Options {
    /// The state folder.
    pub state_dir: Option<PathBuf>,
    /// The TCP port; 0 takes a free one.
    pub port: Option<u16>,
    /// `gateway.bind`.
    pub bind: Option<String>,
    /// `gateway.auth.token`.
    pub token: Option<SecretString>,
}

/// Ends when the process is asked to end.
pub async fn until_signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Runs a gateway until `ended` is, then lets go of everything in order.
///
/// # Errors
/// It could not start; the message names what, why and the next step.
pub async fn run(options: Options, ended: impl Future<Output = ()>) -> anyhow::Result<()> {
    let life = Life::start(options).await?;
    ended.await;
    life.end().await;
    Ok(())
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
    async fn start(options: Options) -> anyhow::Result<Self> {
        let started = Instant::now();
        let state = StateDir::open(options.state_dir.as_deref())?;
        let lock = state.lock()?;
        let (config, keeper) = ConfigStore::open(state.config(), Box::new(config::process_env))?;
        let logs = Logs::start(&state, &config.current().logging)?;
        for warning in &config.loaded().warnings {
            tracing::warn!("{warning}");
        }
        let exposure = Exposure::of(&options, &config.current())?;
        let identity = Arc::new(Identity::load_or_create(&state.identity())?);
        let web = WebCertificate::load_or_create(&state.root().join("web-cert.pem"), &[host_name()])?;
        let tls = tls::Server::new(&identity, &web)?;
        let listeners = Listeners::bind(&exposure.addresses, &state.socket()).await?;
        let port = listeners.addresses().first().map_or(0, SocketAddr::port);
        let given = Given {
            started,
            port,
            exposure,
            fingerprint: web.fingerprint().to_string(),
            logs,
        };
        let (stop, closed, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let journal = Journal::open(&state.journal())?;
        let house = build(state, config, journal, identity, given, &stop, &tasks).await?;
        tasks.spawn(keeper.run(stop.clone()));
        recover(&house)
            .await
            .context("what was under way before the last end cannot be taken up")?;
        tasks.spawn(listeners.run(Door(house.clone()), tls, closed.clone(), tasks.clone()));
        tasks.spawn(channels::run(house.clone(), stop.clone()));
        tasks.spawn(intake::run(house.clone(), stop.clone()));
        tasks.spawn(tick(house.clone(), stop.clone()));
        tasks.spawn(crate::housekeeping::run(house.journal.clone(), stop.clone()));
        state::write_atomically(&house.port_file(), port.to_string().as_bytes())?;
        tracing::info!(port, state = %house.state.root().display(), ms = started.elapsed().as_millis(), "listening");
        Ok(Self {
            house,
            closed,
            stop,
            tasks,
            _lock: lock,
        })
    }

    /// Stop accepting, tell peers, end turns and sends, flush.
    async fn end(self) {
        tracing::info!("ending");
        self.closed.cancel();
        self.house.hub.goodbye().await;
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "some tasks did not end in time");
        }
        self.house.journal.close().await;
        let _ = std::fs::remove_file(self.house.port_file());
    }
}

/// Who can reach the gateway, and with which secret.
struct Exposure {
    addresses: Vec<SocketAddr>,
    /// The token in force when the configuration names none.
    token: Option<SecretString>,
}

impl Exposure {
    /// The configuration with the command line on top of it, checked again.
    fn of(options: &Options, config: &Config) -> anyhow::Result<Self> {
        let mut gateway = config.gateway.clone();
        gateway.port = options.port.unwrap_or(gateway.port);
        if let Some(bind) = &options.bind {
            gateway.bind = serde_json::from_value(json!(bind))
                .ok()
                .with_context(|| format!("--bind {bind}: allowed are loopback, lan, tailnet, custom, auto"))?;
        }
        if let Some(token) = &options.token {
            gateway.auth.token = Some(token.clone());
        }
        let problems = config::exposure(&gateway);
        if !problems.is_empty() {
            let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
            anyhow::bail!("the gateway would not be safe to start:\n  {}", lines.join("\n  "));
        }
        Ok(Self {
            addresses: addresses(&gateway)?,
            token: gateway.auth.token,
        })
    }
}

fn addresses(gateway: &config::Gateway) -> anyhow::Result<Vec<SocketAddr>> {
    let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let hosts = match gateway.bind {
        Bind::Loopback => vec![loopback],
        Bind::Lan => vec![everywhere],
        Bind::Auto if is_container() => vec![everywhere],
        Bind::Auto => vec![loopback],
        Bind::Tailnet => tailnet_address().into_iter().chain([loopback]).collect(),
        Bind::Custom => {
            let host = gateway.custom_bind_host.as_deref().unwrap_or_default();
            vec![
                host.trim_matches(['[', ']'])
                    .parse()
                    .with_context(|| format!("gateway.customBindHost: {host} is no address"))?,
            ]
        }
    };
    Ok(hosts
        .into_iter()
        .map(|host| SocketAddr::new(host, gateway.port))
        .collect())
}

fn is_container() -> bool {
    std::path::Path::new("/.dockerenv").exists() || std::path::Path::new("/run/.containerenv").exists()
}

/// The address that this machine has in a tailnet (100.64.0.0/10), if it is in one.
fn tailnet_address() -> Option<IpAddr> {
    // Asking the system which address it would send from to the tailnet's own resolver; nothing is sent.
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(100, 100, 100, 100), 53)).ok()?;
    let IpAddr::V4(address) = socket.local_addr().ok()?.ip() else {
        return None;
    };
    let [first, second, ..] = address.octets();
    (first == 100 && second & 0xc0 == 64).then_some(IpAddr::V4(address))
}

/// What is known by the time the owners start.
struct Given {
    started: Instant,
    port: u16,
    exposure: Exposure,
    fingerprint: String,
    logs: Logs,
}

async fn build(
    state: StateDir,
    config: ConfigStore,
    journal: Journal,
    identity: Arc<Identity>,
    given: Given,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> anyhow::Result<Arc<House>> {
    let boot: Arc<str> = uuid::Uuid::new_v4().to_string().into();
    let own = OwnPresence {
        host: host_name(),
        version: env!("CARGO_PKG_VERSION"),
        instance: boot.clone(),
    };
    let (hub, hub_loop) = Hub::start(own);
    let (book, book_loop) = Book::open(journal.clone(), hub.clone()).await?;
    let accounts = Accounts::default();
    let outbox = Outbox::new(journal.clone(), accounts.clone());
    let cards = Cards::new(config.clone(), journal.clone(), outbox.clone());
    let (approvals, approvals_loop) = Approvals::open(journal.clone(), hub.clone(), cards.clone()).await?;
    // These end when the last handle is gone, which is later than the tracker can wait for.
    tokio::spawn(hub_loop);
    tokio::spawn(book_loop);
    tokio::spawn(approvals_loop);
    let ring = Ring {
        hub: hub.clone(),
        book: book.clone(),
        journal: journal.clone(),
        config: config.clone(),
    };
    let here = Arc::new(Here::new(state.root(), identity.clone()));
    let exec = Commands {
        ring: ring.clone(),
        approvals: approvals.clone(),
        identity: identity.clone(),
        here,
    };
    let sessions = Sessions::new(journal.clone(), state.clone());
    let turns = Turns {
        journal: journal.clone(),
        config: config.clone(),
        hub: hub.clone(),
        sessions: sessions.clone(),
        outbox: outbox.clone(),
        accounts: accounts.clone(),
        exec: exec.clone(),
        models: Arc::new(HttpModels::new(CONNECT_DEADLINE)?),
        state: state.clone(),
        stop: stop.clone(),
        waiting: Waiting::default(),
    };
    let at_once = std::thread::available_parallelism().map_or(8, |cores| (cores.get() * 4).max(8));
    let (lanes, lanes_loop) = Lanes::start(Arc::new(turns.clone()), at_once, stop.clone());
    tasks.spawn(lanes_loop);
    tasks.spawn(outbox.clone().run(stop.clone()));
    Ok(Arc::new(House {
        started: given.started,
        boot,
        port: given.port,
        fingerprint: given.fingerprint,
        token: given.exposure.token.unwrap_or_else(unguessable),
        lockouts: std::sync::Mutex::default(),
        logs: given.logs,
        state,
        config,
        journal,
        identity,
        hub,
        book,
        approvals,
        cards,
        ring,
        exec,
        sessions,
        lanes,
        turns,
        outbox,
        accounts,
        channels: Channels::default(),
        typed: Typed::default(),
        tasks: tasks.clone(),
    }))
}

/// Without a configured token nobody comes in by one.
fn unguessable() -> SecretString {
    let bytes: [u8; 32] = crate::random();
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        .into()
}

/// Takes up what was under way when the last life ended, before anybody can connect.
async fn recover(house: &Arc<House>) -> anyhow::Result<()> {
    let open = house.journal.read(calls::unfinished).await?;
    let (kept, lost): (Vec<_>, Vec<_>) = open.into_iter().partition(is_with_a_node);
    let restored = kept.iter().filter_map(restored).collect();
    house.hub.restore(restored).await;
    house
        .journal
        .write(Durability::Lazy, move |db| {
            lost.iter().try_for_each(|row| close_lost(db, row))
        })
        .await?;
    let uncertain = house.outbox.recover().await?;
    if uncertain > 0 {
        tracing::warn!(
            uncertain,
            "messages were being sent when the gateway ended; their chats are told"
        );
    }
    let agents = house
        .config()
        .agents
        .list
        .iter()
        .map(|agent| agent.id.clone())
        .collect();
    let found = house.sessions.rebuild(agents).await?;
    if found > 0 {
        tracing::info!(found, "conversations were missing in the index and are listed again");
    }
    intake::recover(house).await?;
    Ok(())
}

fn restored(row: &CallRow) -> Option<Restored> {
    Some(Restored {
        call: row.new.call.clone(),
        node: row.new.node.parse().ok()?,
        command: row.new.command.clone(),
        deadline: Instant::now() + RESTORED,
    })
}

/// A tool's call that its node may still know.
fn is_with_a_node(row: &CallRow) -> bool {
    row.new.key.is_some() && row.sent_at.is_some() && restored(row).is_some()
}

/// A tool's call that was never sent is made anew by its turn; an operator's has nobody left who waits; one that ran on
/// this machine ran inside the process that is gone.
fn close_lost(db: &rusqlite::Connection, row: &CallRow) -> Result<(), crate::journal::JournalError> {
    if row.new.key.is_some() && row.sent_at.is_none() {
        return Ok(());
    }
    let state = if row.sent_at.is_some() {
        CallState::Uncertain
    } else {
        CallState::Cancelled
    };
    let end = CallEnd {
        state,
        error_code: None,
        result: Some("the gateway ended while this call was open".to_owned()),
    };
    calls::close(db, &row.new.call, &end, clock::now()).map(drop)
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
                .broadcast(Broadcast::to_all("health", house.health().await))
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
            host_name: host_name(),
        })
    }

    fn failing(&self) -> Vec<String> {
        self.config.broken().map(|_| "config".to_owned()).into_iter().collect()
    }

    fn uptime_ms(&self) -> u64 {
        crate::hello::uptime_ms(self.started)
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
