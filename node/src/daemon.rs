//! The daemon: dials the gateway for ever, waits to be approved, serves each link, and keeps the calls across links.
//!
//! Ends only when it is told to, or when nothing but a person can help and no gateway has ever let this device in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_capabilities::Capabilities;
use atoll_capabilities::audio::Audio;
use atoll_capabilities::camera::Cameras;
use atoll_capabilities::canvas::Canvas;
use atoll_capabilities::capture::HelperProgram;
use atoll_capabilities::clipboard::Clipboard;
use atoll_capabilities::device::Device;
use atoll_capabilities::file::Files;
use atoll_capabilities::location::Location;
use atoll_capabilities::mcp::Mcp;
use atoll_capabilities::notify::Notify;
use atoll_capabilities::screen::Screens;
use atoll_capabilities::system_run::SystemRun;
use atoll_pairing::access::commands::NATIVE_CLIENT;
use atoll_pairing::dial::{Dial, DialError, Dialled, PipeKind, Speak, Target, dial};
use atoll_pairing::digits::Digits;
use atoll_pairing::handshake::{Ask, HandshakeError, Outcome, Waiting};
use atoll_pairing::identity::Identity;
use atoll_pairing::link::LinkError;
use atoll_pairing::proven::Offered;
use atoll_protocol::frame::ClientInfo;
use atoll_protocol::limits;
use atoll_protocol::plugin_tool::MCP_CALL;
use atoll_protocol::scope::{Role, Scopes};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::backoff::{Backoff, part_of};
use crate::beacon::Beacon;
use crate::config::{Config, Dialect, platform};
use crate::consent::Consent;
use crate::desk::Desk;
use crate::guard::{Guarded, Owner};
use crate::roam::{Better, Roam};
use crate::serve::{Ended, FAREWELL, Next as Successor, Session, Told, serve};
use crate::state::{Gateways, Known, Lock, Phase, StateDir, StateError, Status, Way, unix_ms};
use crate::tools::Tools;

mod face;
mod seek;

use face::Face;

/// How often a gateway that keeps nobody waiting is asked again whether this device has been approved.
const APPROVAL_POLL: Duration = Duration::from_secs(5);

/// A gateway that keeps a node waiting is heard this often; of what it says in between the newest counts.
const WAITING_PAUSE: Duration = Duration::from_secs(1);

/// A wrong credential is tried again this rarely, so that no lockout is run into.
const CREDENTIAL_POLL: Duration = Duration::from_secs(30);

/// A link that lived this long was a success.
const SUCCESS: Duration = Duration::from_secs(10);

/// The close code of a gateway that restarts and wants its nodes back.
const RESTARTING: u16 = 1012;

/// What somebody who watches should know.
#[derive(Debug)]
pub enum Notice {
    /// The first of all.
    Started {
        /// This device.
        device: String,
        /// Where its key is.
        identity: String,
    },
    /// Somebody has to approve this device.
    Waiting {
        /// What to approve.
        request: String,
        /// What the operator must see too; those of an open link.
        digits: Option<Digits>,
        /// Whether the link stays open meanwhile.
        is_held: bool,
    },
    /// A gateway let this device in.
    Connected {
        /// The short id of its key; none in the dialect.
        gateway: Option<String>,
        /// What carries the link.
        pipe: PipeKind,
        /// The commands in force.
        commands: Vec<String>,
    },
    /// What is in force has changed.
    Granted {
        /// The commands in force.
        commands: Vec<String>,
    },
    /// No link; the next try comes.
    Retrying {
        /// Why.
        why: String,
        /// When.
        wait: Duration,
    },
    /// Another gateway answers than the one that is trusted.
    WrongGateway {
        /// The details.
        why: String,
        /// The file that holds the pin.
        pins: String,
    },
}

/// Why the daemon ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// Trying again cannot help.
    #[error(transparent)]
    Dial(DialError),
    /// Somebody else answers than the one who announced himself.
    #[error(
        "{target} does not hold the key {key} that was announced for it, so nothing was said to it. Somebody in this network may \
         pretend to be your gateway; compare its key with `atoll gateway status` there, then name it with --gateway"
    )]
    OtherKey {
        /// The address.
        target: Target,
        /// The short id of the announced key.
        key: String,
    },
}

/// Runs the daemon until `stop`.
///
/// # Errors
/// See [`RunError`].
pub async fn run(config: Config, stop: CancellationToken, notify: impl FnMut(Notice) + Send) -> Result<(), RunError> {
    let mut daemon = Daemon::start(config, stop, notify)?;
    daemon.begin_beacon();
    let owner = Arc::clone(&daemon.owner);
    daemon.mcp.start(move || owner.rules.look().is_open(MCP_CALL));
    let ended = daemon.dial_for_ever().await;
    tokio::join!(daemon.desk.close(FAREWELL), daemon.mcp.close(FAREWELL));
    let phase = if ended.is_ok() { Phase::Stopped } else { Phase::Failed };
    daemon.write_status(phase, |status| {
        status.last_error = ended.as_ref().err().map(ToString::to_string);
    });
    ended
}

/// What the gateway says last of whom it waits for, not before `from`.
async fn newest(waiting: &mut watch::Receiver<Option<Waiting>>, from: tokio::time::Instant) -> Waiting {
    tokio::time::sleep_until(from).await;
    let changed = waiting.changed().await;
    let newest = waiting.borrow_and_update().clone();
    match newest {
        Some(newest) if changed.is_ok() => newest,
        // The dial holds the sender, so it is over.
        Some(_) | None => std::future::pending().await,
    }
}

struct Daemon<N> {
    config: Config,
    /// What is known of the gateway is known by this.
    place: String,
    stop: CancellationToken,
    notify: N,
    face: Face,
    _lock: Lock,
    identity: Arc<Identity>,
    gateways: Gateways,
    consent: Arc<Consent>,
    owner: Arc<Owner>,
    /// Told of changes of the owner's rules.
    rules: watch::Receiver<u64>,
    /// Looks after the owner's file.
    _follow: AbortOnDropHandle<()>,
    mcp: Arc<Mcp>,
    desk: Desk,
    /// Links that others have taken the place of.
    left: JoinSet<()>,
    backoff: Backoff,
    /// While no gateway has let this device in, if nobody said where to go.
    beacon: Option<Beacon>,
    /// The request that was shown last, with its digits: it is shown once.
    shown: Option<(String, Option<Digits>)>,
}

/// What a link or a failed dial leads to.
enum Next {
    Stop,
    After(Duration),
}

impl<N: FnMut(Notice) + Send> Daemon<N> {
    fn start(config: Config, stop: CancellationToken, mut notify: N) -> Result<Self, RunError> {
        let state = StateDir::open(&config.state_dir)?;
        let lock = state.lock()?;
        let identity = Arc::new(state.identity()?);
        let gateways = state.gateways()?;
        let consent = Arc::new(Consent::new(identity.device_id()));
        let owner = Arc::new(Owner::new(state.path(), consent.clone(), config.ways.clone()));
        owner.asks.board().clear();
        let rules = owner.rules.changes();
        let mcp = Arc::new(Mcp::new(state.path()));
        let desk = Desk::new(
            identity.device_id(),
            config.dialect,
            capabilities(&state, &consent, &owner, &config.name, Arc::clone(&mcp)),
        );
        let following = Arc::clone(&owner);
        let follow = tokio::spawn(async move { following.rules.follow().await });
        notify(Notice::Started {
            device: identity.device_id().to_string(),
            identity: state.identity_path().display().to_string(),
        });
        Ok(Self {
            face: Face {
                device: identity.device_id().to_string(),
                gateway: config.gateway.to_string(),
                dialect: config.dialect,
                state,
            },
            place: config.gateway.place(),
            desk,
            owner,
            rules,
            _follow: AbortOnDropHandle::new(follow),
            config,
            stop,
            notify,
            _lock: lock,
            identity,
            gateways,
            consent,
            mcp,
            left: JoinSet::new(),
            backoff: Backoff::default(),
            beacon: None,
            shown: None,
        })
    }

    async fn dial_for_ever(&mut self) -> Result<(), RunError> {
        loop {
            self.write_status(Phase::Connecting, |_| {});
            let next = match self.dial().await {
                None => Next::Stop,
                Some(Ok(link)) => self.admitted(link).await?,
                Some(Err(error)) => {
                    self.seek(&error).await;
                    self.failed(error)?
                }
            };
            let Next::After(wait) = next else { return Ok(()) };
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
                () = self.desk.rest() => {}
            }
        }
    }

    /// Dials once; calls of earlier links go on meanwhile. None: the daemon shall stop.
    async fn dial(&mut self) -> Option<Result<Better, DialError>> {
        if self.rules.has_changed().unwrap_or_default() {
            self.rules.mark_unchanged();
            self.desk.refresh();
        }
        let how = self.how();
        let stop = self.stop.clone();
        let (waits, mut waiting) = watch::channel(None);
        let dialling = dial(&how, |request: Waiting| drop(waits.send_replace(Some(request))));
        tokio::pin!(dialling);
        let mut next_word = tokio::time::Instant::now();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                waiting = newest(&mut waiting, next_word) => {
                    self.waiting(waiting.request.as_str(), Some(waiting.digits));
                    next_word = tokio::time::Instant::now() + WAITING_PAUSE;
                }
                result = &mut dialling => return Some(result.map(|dialled| Better {
                    dialled,
                    declared: how.ask.surface.clone(),
                })),
                () = self.desk.rest() => {}
            }
        }
    }

    fn how(&self) -> Dial {
        let known = self.gateways.known(&self.place);
        let speak = match self.config.dialect {
            Dialect::Native => Speak::Native {
                pin: self.pin(&known),
                token: self.token(&known),
                setup_code: None,
            },
            Dialect::Openclaw => Speak::Dialect {
                credentials: self.credentials(&known),
                certificate: self.config.tls_fingerprint,
            },
        };
        Dial {
            target: self.config.gateway.clone(),
            first: known.pipe(),
            identity: Some(Arc::clone(&self.identity)),
            ask: ask_of(self.config.dialect, &self.config.name, &self.desk),
            speak,
        }
    }

    /// The device token once there is one, as the real node does; the shared token before.
    fn credentials(&self, known: &Known) -> Offered {
        let device_token = known.device_token().map(SecretString::from);
        Offered {
            token: self.config.token.clone().filter(|_| device_token.is_none()),
            device_token,
            ..Offered::default()
        }
    }

    fn waiting(&mut self, request: &str, digits: Option<Digits>) {
        let now = Some((request.to_owned(), digits));
        if self.shown != now {
            self.shown = now;
            (self.notify)(Notice::Waiting {
                request: request.to_owned(),
                digits,
                is_held: digits.is_some(),
            });
        }
        self.write_status(Phase::Waiting, |status| {
            status.request_id = Some(request.to_owned());
            status.digits = digits.map(|digits| digits.to_string());
        });
    }

    /// Serves a link, and the better one that is found meanwhile, until one ends.
    async fn admitted(&mut self, mut link: Better) -> Result<Next, RunError> {
        loop {
            match self.hold(link).await? {
                Ended::Moved(better) => link = *better,
                Ended::Stopped => return Ok(Next::Stop),
                Ended::Lost(error) => return Ok(self.lost(&error)),
            }
        }
    }

    /// Remembers whom it is linked to, then serves.
    async fn hold(&mut self, held: Better) -> Result<Ended, RunError> {
        let Dialled { link, pipe, outcome } = held.dialled;
        self.remember(&outcome, pipe)?;
        self.shown = None;
        self.beacon = None;
        self.consent
            .set_gateway(outcome.gateway.map(|gateway| gateway.public_key));
        let mut commands = outcome.admitted.surface.commands.clone();
        (self.notify)(Notice::Connected {
            gateway: outcome.gateway.map(|gateway| gateway.id.short()),
            pipe,
            commands: commands.clone(),
        });
        let session = Session {
            tick: Duration::from_millis(outcome.admitted.tick_ms),
            folder: self.face.state.path(),
            stop: &self.stop,
            next: Successor {
                roam: self.roam(pipe),
                dial: self.how(),
                declared: held.declared,
                rules: self.rules.clone(),
            },
            tools: Tools::of(&self.mcp, &self.owner).anew(),
        };
        let began = Instant::now();
        let (notify, face, consent) = (&mut self.notify, &self.face, &self.consent);
        let mut calls = self.desk.running();
        face.connected(pipe, &commands, calls);
        let serving = serve(link, &mut self.desk, session, |told| {
            match told {
                Told::Granted(surface) => {
                    commands = surface.commands;
                    notify(Notice::Granted {
                        commands: commands.clone(),
                    });
                }
                Told::Running(count) => calls = count,
                Told::Clock(now_ms) => return consent.set_clock(now_ms),
            }
            face.connected(pipe, &commands, calls);
        });
        let (ended, left) = serving.await;
        if let Some(left) = left {
            self.left.spawn(left);
            while self.left.try_join_next().is_some() {}
        }
        if began.elapsed() >= SUCCESS {
            self.backoff.reset();
        }
        Ok(ended)
    }

    /// Only where the address leaves the pipe open, and only from the second best.
    fn roam(&self, pipe: PipeKind) -> Option<Roam> {
        let Target::Any { host, port } = &self.config.gateway else {
            return None;
        };
        let target = Target::Quic {
            host: host.clone(),
            port: *port,
        };
        (pipe != PipeKind::Quic).then(|| Roam::new(Dial { target, ..self.how() }, self.config.quic_pause))
    }

    fn remember(&mut self, outcome: &Outcome, pipe: PipeKind) -> Result<(), RunError> {
        let place = self.config.gateway.place();
        if place != self.place {
            self.gateways.moved(&self.place, &place)?;
            self.place = place;
        }
        if matches!(self.config.gateway, Target::Any { .. }) {
            self.gateways.set_pipe(&self.place, pipe)?;
        }
        if let Some(gateway) = outcome.gateway
            && self.gateways.pin(&self.place, gateway.public_key)?.is_err()
        {
            // The handshake insists on the pin, so this is never reached; if it were, nothing must be served.
            return Err(RunError::Dial(DialError::Handshake(HandshakeError::Unproven)));
        }
        if let Some(token) = &outcome.device_token {
            let token = token.expose_secret().to_owned();
            self.gateways.set_device_token(&self.place, Some(token))?;
        }
        let way = Way {
            address: self.config.gateway.to_string(),
            dialect: self.config.dialect,
            tls_fingerprint: self.config.tls_fingerprint.map(|fingerprint| fingerprint.to_string()),
        };
        Ok(self.gateways.used(&self.place, way, unix_ms())?)
    }

    fn lost(&mut self, error: &LinkError) -> Next {
        let wait = if error.code() == Some(RESTARTING) {
            // It comes back at once, and so do all its nodes: not all in the same moment.
            part_of(Duration::from_secs(1), random())
        } else {
            self.backoff.wait(random())
        };
        self.retry(error.to_string(), wait)
    }

    fn failed(&mut self, error: DialError) -> Result<Next, RunError> {
        let known = self.gateways.known(&self.place);
        if let Some(request) = error.needs_pairing() {
            self.waiting(&request, None);
            self.backoff.reset();
            // Every link shows new digits: whoever says "come again" does not get to see many of them.
            let wait = error.retry_after().unwrap_or_default().max(APPROVAL_POLL);
            return Ok(Next::After(wait + part_of(Duration::from_secs(1), random())));
        }
        if error.is_stale_device_token() && known.device_token().is_some() {
            self.gateways.set_device_token(&self.place, None)?;
            return Ok(self.retry(error.to_string(), Duration::from_secs(1)));
        }
        if let Some(error) = self.other_key(&error, &known) {
            return Err(error);
        }
        if error.is_wrong_gateway() {
            (self.notify)(Notice::WrongGateway {
                why: error.to_string(),
                pins: self.gateways.path().display().to_string(),
            });
        }
        if error.is_fatal() {
            return self.fatal(error, &known);
        }
        let wait = self.backoff.wait(random());
        let wait = error
            .retry_after()
            .map_or(wait, |asked| asked.max(wait).min(limits::PAIRING_PENDING));
        Ok(self.retry(error.to_string(), wait))
    }

    /// A mistake of this device's own, or a first try with a wrong credential, is for a person who is looking now. A node that has
    /// worked before goes on trying: its gateway may be set right without anybody near it.
    fn fatal(&mut self, error: DialError, known: &Known) -> Result<Next, RunError> {
        let is_own = matches!(
            error,
            DialError::TooOpen { .. }
                | DialError::NativeOnly { .. }
                | DialError::NoFingerprint { .. }
                | DialError::NoIdentity
        );
        if is_own || !known.was_admitted() {
            return Err(RunError::Dial(error));
        }
        Ok(self.retry(error.to_string(), CREDENTIAL_POLL + part_of(CREDENTIAL_POLL, random())))
    }

    fn retry(&mut self, why: String, wait: Duration) -> Next {
        self.write_status(Phase::Connecting, |status| status.last_error = Some(why.clone()));
        (self.notify)(Notice::Retrying { why, wait });
        Next::After(wait)
    }

    fn write_status(&self, phase: Phase, fill: impl FnOnce(&mut Status)) {
        self.face.write(phase, |status| {
            status.paired = self.gateways.known(&self.place).was_admitted();
            status.calls = self.desk.running();
            fill(status);
        });
    }
}

/// What this device can do.
pub(crate) fn capabilities(
    state: &StateDir,
    consent: &Arc<Consent>,
    owner: &Arc<Owner>,
    name: &str,
    mcp: Arc<Mcp>,
) -> Capabilities {
    let cameras = Cameras::new(state.path(), HelperProgram::this());
    let screens = Screens::new(state.path(), HelperProgram::this());
    let all: Capabilities = vec![
        Arc::new(SystemRun::new(state.path(), Arc::clone(consent) as _)),
        Arc::new(Device::new(name.to_owned(), state.path())),
        Arc::new(Files::new(state.path())),
        Arc::new(cameras),
        Arc::new(screens),
        Arc::new(Notify::here()),
        Arc::new(Location::new(state.path())),
        Arc::new(Clipboard::here()),
        Arc::new(Canvas::new(state.path())),
        Arc::new(Audio::new(state.path())),
        mcp,
    ];
    let guarded = |capability| Arc::new(Guarded::new(capability, owner.clone())) as _;
    all.into_iter().map(guarded).collect()
}

/// What this device says of itself and asks for.
pub(crate) fn ask_of(dialect: Dialect, name: &str, desk: &Desk) -> Ask {
    let (platform, family) = platform();
    Ask {
        role: Role::Node,
        scopes: Scopes::default(),
        client: ClientInfo {
            id: match dialect {
                Dialect::Native => NATIVE_CLIENT.to_owned(),
                // The dialect has a closed list of programs; this is the headless node's name there.
                Dialect::Openclaw => "node-host".to_owned(),
            },
            mode: "node".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: platform.to_owned(),
            device_family: family.to_owned(),
            model: String::new(),
            display_name: name.to_owned(),
            instance_id: desk.boot().to_owned(),
        },
        surface: desk.surface().clone(),
        path_env: std::env::var("PATH").unwrap_or_default(),
    }
}

fn random() -> u64 {
    // Without random bytes the wait is half its bound, as good as any.
    getrandom::u64().unwrap_or(1 << 63)
}

#[cfg(test)]
mod tests;
