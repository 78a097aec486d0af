//! Everything that the parts of the gateway share: the handles to the owners of its facts. Holds no fact of its own but who failed to
//! get in lately.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use atoll_pairing::access::Policy;
use atoll_pairing::access::commands::{CommandPolicy, Narrowing};
use atoll_pairing::admission::{self, Verdict};
use atoll_pairing::book::{CodeFault, Fresh, FreshToken};
use atoll_pairing::identity::Identity;
use atoll_pairing::lockout::{Locked, Lockouts, network_of};
use atoll_pairing::proven::{Origin, Proven};
use atoll_protocol::dialect::refusal::Refusal;
use atoll_protocol::id::{AgentId, SetupId};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::approvals::Approvals;
use crate::auth::Auth;
use crate::book::Book;
use crate::cards::Cards;
use crate::certificates::Known;
use crate::channels::Channels;
use crate::clock;
use crate::config::{Agent, Config, ConfigStore};
use crate::deliver::{Accounts, Outbox};
use crate::direct::Typed;
use crate::exec::Commands;
use crate::hub::Hub;
use crate::journal::Journal;
use crate::journal::audit::{self, Entry};
use crate::lane::Lanes;
use crate::logs::Logs;
use crate::media::{Media, Tickets};
use crate::pictures::Pictures;
use crate::ring::Ring;
use crate::rpc::LastHealth;
use crate::seats::Seats;
use crate::sessions::Sessions;
use crate::state::StateDir;
use crate::turns::Turns;
use crate::vital::Vital;
use crate::waiting::Waiting;

/// The handles.
pub(crate) struct House {
    /// When this start began.
    pub(crate) started: Instant,
    /// Names this start.
    pub(crate) boot: Arc<str>,
    /// The port that is listened on.
    pub(crate) port: u16,
    /// The addresses that are listened on.
    pub(crate) listening: Vec<std::net::SocketAddr>,
    /// The certificates that ordinary clients see.
    pub(crate) certificates: watch::Receiver<Known>,
    /// How peers show that they belong.
    pub(crate) auth: Auth,
    /// Unknown devices that wait at the door.
    pub(crate) seats: Seats,
    /// What must not break.
    pub(crate) vital: Vital,
    /// Who failed to get in lately.
    pub(crate) lockouts: Mutex<Lockouts>,
    /// The log.
    pub(crate) logs: Logs,
    /// The files.
    pub(crate) state: StateDir,
    /// The typed configuration.
    pub(crate) config: ConfigStore,
    /// What is durable.
    pub(crate) journal: Journal,
    /// The gateway's own key.
    pub(crate) identity: Arc<Identity>,
    /// Who is linked.
    pub(crate) hub: Hub,
    /// Who is paired.
    pub(crate) book: Book,
    /// What waits for a yes or no.
    pub(crate) approvals: Approvals,
    /// Those questions in chats.
    pub(crate) cards: Cards,
    /// The devices.
    pub(crate) ring: Ring,
    /// Calls that wait for their node.
    pub(crate) waiting: Waiting,
    /// Blobs.
    pub(crate) media: Media,
    /// What models and chats get of those.
    pub(crate) pictures: Pictures,
    /// Who may fetch blobs over HTTP.
    pub(crate) tickets: Tickets,
    /// Commands on this machine and on nodes.
    pub(crate) exec: Commands,
    /// Conversations.
    pub(crate) sessions: Sessions,
    /// Turns in their order.
    pub(crate) lanes: Lanes,
    /// Turns, and who waits for them.
    pub(crate) turns: Turns,
    /// What leaves by the channels.
    pub(crate) outbox: Outbox,
    /// The chat accounts.
    pub(crate) accounts: Accounts,
    /// How the chat accounts are doing.
    pub(crate) channels: Channels,
    /// Typed commands that run.
    pub(crate) typed: Typed,
    /// What `health` answered last.
    pub(crate) health: LastHealth,
    /// Every task that must end before the process does.
    pub(crate) tasks: TaskTracker,
}

impl House {
    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.current()
    }

    /// What decisions depend on.
    pub(crate) fn policy(&self) -> Policy {
        policy_of(&self.config())
    }
}

/// What decisions depend on, out of a configuration.
pub(crate) fn policy_of(config: &Config) -> Policy {
    let commands = &config.gateway.nodes.commands;
    Policy {
        commands: CommandPolicy {
            allow: commands.allow.clone(),
            deny: commands.deny.clone(),
        },
        agents: config.agents.list.iter().filter_map(narrowed).collect(),
    }
}

/// An agent from which something was taken.
fn narrowed(agent: &Agent) -> Option<(AgentId, Narrowing)> {
    let commands = &agent.tools.nodes.commands;
    let narrowing = Narrowing {
        allow: commands.allow.clone(),
        deny: commands.deny.clone(),
    };
    (!narrowing.is_open()).then(|| (agent.id.clone(), narrowing))
}

impl House {
    /// Decides about a peer at the door: lockout first, then credentials and book, then what follows from it. `is_first`: its
    /// link has not asked before.
    pub(crate) async fn admit(&self, proven: Arc<Proven>, origin: Origin, is_first: bool) -> Verdict {
        let patience = self.config().gateway.auth.rate_limit.patience();
        let reserved = {
            let mut lockouts = self.lockouts();
            lockouts.be(patience);
            lockouts.reserve(&origin, Instant::now())
        };
        let attempt = match reserved {
            Ok(attempt) => attempt,
            Err(locked) => return Verdict::Refused(rate_limited(&locked)),
        };
        let (auth, commands) = (self.auth.policy(&self.config()), self.policy().commands);
        let fresh = Fresh {
            request: uuid::Uuid::new_v4().into(),
            token: FreshToken(crate::random()),
            address: (!origin.is_near()).then(|| network_of(&origin.address)),
            is_first,
            from: origin.address.clone(),
        };
        let (who, from) = (proven.clone(), origin.address.clone());
        let decided = self.book.change(move |book, now| {
            let fault = admission::code_fault(&proven, book, now);
            let mut verdict = admission::admit(&proven, &origin, &auth, &commands, book, fresh, now);
            let changes = match &mut verdict {
                Verdict::Admitted(admitted) => std::mem::take(&mut admitted.changes),
                Verdict::Waiting(waiting) => std::mem::take(&mut waiting.changes),
                Verdict::Refused(_) => Vec::new(),
            };
            Ok(((verdict, fault), changes))
        });
        let (verdict, fault) = decided.await.unwrap_or((Verdict::Refused(Refusal::Internal), None));
        if verdict.is_failure() {
            self.lockouts().fail(attempt, Instant::now());
        } else {
            self.lockouts().refund(attempt);
        }
        self.audit_code(&who, from, &verdict, fault).await;
        verdict
    }

    /// Writes down every setup code that was shown, whatever came of it.
    async fn audit_code(
        &self,
        proven: &Proven,
        from: String,
        verdict: &Verdict,
        fault: Option<(CodeFault, Option<SetupId>)>,
    ) {
        let device = proven.device().map(|device| device.id.to_string()).unwrap_or_default();
        let (outcome, setup) = match (verdict, fault) {
            (_, Some((fault, setup))) => (fault.as_str(), setup),
            (Verdict::Admitted(admitted), None) if admitted.setup.is_some() => ("ok", admitted.setup.clone()),
            (_, None) => return,
        };
        let detail = json!({"setupId": setup, "address": from});
        self.write_audit(device.clone(), "device.setup", device, outcome, detail)
            .await;
    }

    fn lockouts(&self) -> MutexGuard<'_, Lockouts> {
        self.lockouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down who did what.
    pub(crate) async fn audit(&self, actor: String, action: &str, target: String, detail: Value) {
        self.write_audit(actor, action, target, "ok", detail).await;
    }

    /// Writes down what somebody was not let do.
    pub(crate) async fn audit_refused(
        &self,
        actor: String,
        action: &str,
        target: String,
        refusal: impl Display,
        mut detail: Value,
    ) {
        detail["why"] = json!(audit::cut(&refusal.to_string()));
        self.write_audit(actor, action, target, "denied", detail).await;
    }

    async fn write_audit(&self, actor: String, action: &str, target: String, outcome: &str, detail: Value) {
        let entry = Entry {
            actor,
            action: action.to_owned(),
            target,
            outcome: outcome.to_owned(),
            detail: detail.into(),
        };
        self.journal.note(entry, clock::now()).await;
    }

    /// Tells other programs on this machine which port was taken.
    pub(crate) fn port_file(&self) -> PathBuf {
        self.state.root().join("gateway.port")
    }
}

fn rate_limited(locked: &Locked) -> Refusal {
    Refusal::RateLimited {
        retry_after_ms: u64::try_from(locked.retry_after.as_millis()).unwrap_or(u64::MAX),
    }
}
