//! Commands that agents and people want run, here or on a node: made exact by the host that would run them, decided, approved by a
//! person where somebody must be asked, signed, sent once, and written down. Never falls back from one host to another.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atoll_agent::port::{Caller, Exec, ExecHost, ExecRequest, ToolReply, TurnClock};
use atoll_agent::taint::Taint;
use atoll_pairing::access::Principal;
use atoll_pairing::approval::{Approval, Ended, NewApproval, Question, Requester, Spend, State};
use atoll_pairing::identity::Identity;
use atoll_pairing::proven::Language;
use atoll_protocol::frame::SignedPlan;
use atoll_protocol::hex;
use atoll_protocol::id::{ApprovalId, CallId, DeviceId};
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::plan::{FileHash, Plan};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::approvals::{Approvals, Refused};
use crate::cards::NOBODY;
use crate::clock;
use crate::config::{ExecAsk, ExecSecurity, Untrusted};
use crate::hub::LiveNode;
use crate::journal::calls::ToolKey;
use crate::ring::{Before, Call, CallRefused, Ring};

mod here;
mod policy;
mod prepared;
mod reply;
pub(crate) mod words;

pub(crate) use here::Here;
use policy::{Backing, Decision, HostVerdict};
use prepared::Prepared;

/// A host has this long to make a command exact.
const PREPARE: Duration = Duration::from_secs(15);

/// Runs commands.
#[derive(Clone)]
pub(crate) struct Commands {
    pub(crate) ring: Ring,
    pub(crate) approvals: Approvals,
    pub(crate) identity: Arc<Identity>,
    /// The gateway's own machine as a host.
    pub(crate) here: Arc<Here>,
}

/// One command that somebody wants.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Names it for ever.
    pub(crate) key: ToolKey,
    /// Who wants it.
    pub(crate) principal: Arc<Principal>,
    /// An approver typed exactly this.
    pub(crate) typed: bool,
    /// The agent, where one wants it.
    pub(crate) agent: Option<atoll_protocol::id::AgentId>,
    /// The session.
    pub(crate) session: Option<atoll_protocol::id::SessionKey>,
    /// Where; none: the gateway's own machine.
    pub(crate) node: Option<DeviceId>,
    /// What.
    pub(crate) argv: Vec<String>,
    /// In which folder.
    pub(crate) cwd: Option<String>,
    /// With these additions to the environment.
    pub(crate) env: Vec<(String, String)>,
    /// For how long.
    pub(crate) timeout: Option<Duration>,
    /// Ends it early.
    pub(crate) cancel: CancellationToken,
    /// The time of the turn that wants it, which a question stops.
    pub(crate) clock: Option<TurnClock>,
    /// What its conversation has read that is not the owner's.
    pub(crate) read: Option<Taint>,
}

/// Why a command did not run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRun {
    /// A policy or a person said no, or nobody answered.
    #[error("{0}")]
    No(String),
    /// The host or the gateway failed.
    #[error(transparent)]
    Call(#[from] CallRefused),
    /// The approval failed.
    #[error(transparent)]
    Approval(#[from] Refused),
    /// It was stopped before it began.
    #[error("stopped before it ran")]
    Stopped,
}

impl Commands {
    /// Runs one command to its end. The same key again gives the same end, and never a second run.
    pub(crate) async fn run(&self, wanted: Wanted) -> ToolReply {
        match self.known(&wanted.key, &wanted.cancel).await {
            Ok(Some(reply)) => reply,
            Ok(None) => match self.run_new(&wanted).await {
                Ok(payload) => reply::of_payload(payload.as_ref()),
                Err(error) => {
                    if let NotRun::No(why) = &error {
                        let node = wanted
                            .node
                            .map_or_else(|| here::GATEWAY.to_owned(), |node| node.to_string());
                        let ring = &self.ring;
                        ring.unmade(&wanted.principal, node, "system.run", "denied", why).await;
                    }
                    reply::of_error(&error)
                }
            },
            Err(error) => reply::of_error(&error),
        }
    }

    /// How this very command went, if it was sent before.
    async fn known(&self, key: &ToolKey, cancel: &CancellationToken) -> Result<Option<ToolReply>, NotRun> {
        Ok(match self.ring.before(key, cancel).await? {
            None => None,
            Some(Before::Ended(row)) => Some(reply::of_row(&row)),
            Some(Before::Open(Ok(payload))) => Some(reply::of_payload(payload.as_ref())),
            Some(Before::Open(Err(failure))) => Some(reply::of_error(&CallRefused::Failed(failure).into())),
        })
    }

    async fn run_new(&self, wanted: &Wanted) -> Result<Option<Json>, NotRun> {
        let approval = approval_id(&wanted.key);
        let asked = approval.clone();
        let before = self.approvals.read(move |all| all.find(&asked).cloned()).await?;
        if let Some(before) = before {
            // Asked before a restart: the answer counts for what was asked then, and for where.
            let wanted = Wanted {
                node: before.question.node,
                ..wanted.clone()
            };
            return self.finish_asking(&wanted, before).await;
        }
        if let Some(node) = wanted.node {
            self.awaited(node, &wanted.principal, &wanted.cancel).await?;
        }
        let (prepared, verdict) = self.prepare(wanted).await?;
        let backing = if wanted.typed { Backing::Typed } else { Backing::None };
        let decision = policy::decide(self.mode(), &verdict, backing);
        match policy::after_reading(decision, wanted.read.is_some(), backing) {
            Decision::Refuse(refusal) => Err(NotRun::No(refusal.to_string())),
            Decision::Run { plan: false } => self.send(wanted, &prepared, None).await,
            Decision::Run { plan: true } => {
                let plan = self.sign(&self.plan(wanted, &prepared, approval));
                self.send(wanted, &prepared, Some(plan)).await
            }
            Decision::Ask => {
                let asked = self.ask(wanted, prepared, approval).await?;
                self.finish_asking(wanted, asked).await
            }
        }
    }

    fn mode(&self) -> policy::Mode {
        match self.ring.config.current().tools.exec.policy() {
            (ExecSecurity::Deny, _) => policy::Mode::Deny,
            (ExecSecurity::Allowlist | ExecSecurity::Full, ExecAsk::Always) => policy::Mode::Always,
            (ExecSecurity::Full, ExecAsk::Off) => policy::Mode::Full,
            (ExecSecurity::Allowlist, ExecAsk::Off) => policy::Mode::Allowlist,
            (ExecSecurity::Allowlist | ExecSecurity::Full, ExecAsk::OnMiss) => policy::Mode::Ask,
        }
    }

    /// What was read, where `tools.untrusted` says that it counts.
    pub(crate) fn heeded(&self, read: Option<Taint>) -> Option<Taint> {
        let setting = self.ring.config.current().tools.untrusted;
        read.filter(|_| setting == Untrusted::Ask)
    }

    fn fallback(&self) -> policy::Fallback {
        match self.ring.config.current().tools.exec.ask_fallback {
            ExecSecurity::Deny => policy::Fallback::Deny,
            ExecSecurity::Allowlist => policy::Fallback::Allowlist,
            ExecSecurity::Full => policy::Fallback::Full,
        }
    }

    /// Asks the host what exactly it would run, and what it thinks of it.
    async fn prepare(&self, wanted: &Wanted) -> Result<(Prepared, HostVerdict), NotRun> {
        let params = Some(params(wanted, &wanted.argv, wanted.cwd.as_deref(), None));
        let reply = match wanted.node {
            Some(node) => {
                let call = Call {
                    idempotent: true,
                    cancel: wanted.cancel.clone(),
                    ..Call::new(node, "system.run.prepare", params, PREPARE)
                };
                self.ring.call(&wanted.principal, &call).await?
            }
            None => {
                self.here
                    .call("system.run.prepare", params, PREPARE, None, &wanted.cancel)
                    .await?
            }
        };
        prepared::read(reply.as_ref()).map_err(|error| NotRun::No(error.to_string()))
    }

    /// The files that decide what a command does, as its node sees them now; none where it does not say. A plan without them is
    /// refused by a node that checks.
    pub(crate) async fn files(
        &self,
        principal: &Arc<Principal>,
        node: DeviceId,
        command: &serde_json::Value,
    ) -> Option<Vec<FileHash>> {
        let live = self.ring.live(node)?;
        if live.language != Language::Native {
            return None;
        }
        let params = Some(Json::from(command));
        let call = Call {
            idempotent: true,
            ..Call::new(node, "system.run.prepare", params, PREPARE)
        };
        let reply = self.ring.call(principal, &call).await.ok()?;
        let (prepared, _) = prepared::read(reply.as_ref()).ok()?;
        Some(prepared.file_hashes())
    }

    async fn ask(&self, wanted: &Wanted, prepared: Prepared, id: ApprovalId) -> Result<Approval, NotRun> {
        let config = self.ring.config.current();
        let (security, ask) = words_of(config.tools.exec.policy());
        let files = prepared.file_hashes();
        let question = Question {
            node: wanted.node,
            command: prepared.text,
            argv: prepared.argv,
            cwd: Some(prepared.cwd),
            env_sha256: env_sha256(&wanted.env),
            stdin_sha256: Sha256::digest([]).into(),
            files,
            agent: wanted.agent.clone(),
            session: wanted.session.clone(),
            system_run_plan: Some(prepared.plan.into()),
            security: security.to_owned(),
            ask: ask.to_owned(),
            warning: wanted.read.map(why),
            offers_always: prepared.covered && wanted.read.is_none(),
        };
        let new = NewApproval {
            id,
            question,
            requester: Requester::default(),
            lifetime_ms: Some(config.approvals.exec.timeout_ms),
            is_bound: false,
        };
        let asked = self.approvals.ask(new).await?;
        if asked.is_pending() && !self.approvals.has_route(&asked.requester).await {
            self.approvals.withdraw(asked.id.clone(), Ended::NoRoute).await?;
            if wanted.agent.is_some() {
                self.approvals.say_nobody(&wanted.key.run).await;
            }
        }
        Ok(asked)
    }

    /// What `tools.exec.askFallback` says, where nobody could or did answer. Whoever withdrew the question wants nothing any more.
    async fn without_answer(&self, wanted: &Wanted, reason: Ended) -> Result<Option<Json>, NotRun> {
        let fallback = self.fallback();
        // What somebody else may have asked for needs a person's yes, and nothing stands for it.
        if reason != Ended::Withdrawn && fallback != policy::Fallback::Deny && wanted.read.is_none() {
            let (prepared, verdict) = self.prepare(wanted).await?;
            if policy::runs_unanswered(fallback, &verdict) {
                tracing::warn!(run = %wanted.key.run, "nobody answered; tools.exec.askFallback lets it go to its host");
                return self.send(wanted, &prepared, None).await;
            }
        }
        Err(NotRun::No(unanswered(reason).to_owned()))
    }

    /// Waits for the answer, then runs what was asked, exactly.
    async fn finish_asking(&self, wanted: &Wanted, asked: Approval) -> Result<Option<Json>, NotRun> {
        let paused = wanted.clock.as_ref().map(TurnClock::pause);
        let approval = tokio::select! {
            approval = self.approvals.wait(&asked.id) => approval?,
            () = wanted.cancel.cancelled() => {
                self.approvals.withdraw(asked.id.clone(), Ended::Withdrawn).await?;
                return Err(NotRun::Stopped);
            }
        };
        drop(paused);
        let approval = approval.ok_or_else(|| NotRun::No("the question was forgotten".to_owned()))?;
        match &approval.state {
            State::Denied(answer) => return Err(NotRun::No(format!("denied by {}", answer.by))),
            State::Expired { reason, .. } => return self.without_answer(wanted, *reason).await,
            State::Pending | State::Allowed(_) | State::Used { .. } => {}
        }
        let spend = Spend {
            call: call_id(&wanted.key),
            node: wanted.node,
            by: Requester::default(),
        };
        let used = self.approvals.spend(approval.id.clone(), spend).await?;
        let prepared = prepared_of(&used.question);
        let plan = Plan {
            expires_at_ms: used.expires_ms,
            ..self.plan(wanted, &prepared, used.id.clone())
        };
        self.send(wanted, &prepared, Some(self.sign(&plan))).await
    }

    /// Everything that decides what will happen, for this call alone.
    fn plan(&self, wanted: &Wanted, prepared: &Prepared, approval: ApprovalId) -> Plan {
        Plan {
            approval,
            call: call_id(&wanted.key),
            node: wanted.node.unwrap_or(self.identity.device_id()),
            argv: prepared.argv.clone(),
            cwd: prepared.cwd.clone(),
            env_sha256: env_sha256(&wanted.env),
            stdin_sha256: Sha256::digest([]).into(),
            files: prepared.file_hashes(),
            session: wanted.session.as_ref().map(ToString::to_string).unwrap_or_default(),
            expires_at_ms: clock::now_ms() + u64::try_from(PREPARE.as_millis()).unwrap_or_default() * 4,
        }
    }

    fn sign(&self, plan: &Plan) -> SignedPlan {
        self.identity.sign_plan(plan)
    }

    async fn send(
        &self,
        wanted: &Wanted,
        prepared: &Prepared,
        plan: Option<SignedPlan>,
    ) -> Result<Option<Json>, NotRun> {
        if wanted.cancel.is_cancelled() {
            return Err(NotRun::Stopped);
        }
        let usual = Duration::from_secs(self.ring.config.current().tools.exec.timeout_sec);
        let timeout = wanted.timeout.unwrap_or(usual).min(limits::CALL_DEADLINE_MAX);
        let params = Some(params(wanted, &prepared.argv, Some(&prepared.cwd), Some(timeout)));
        let Some(node) = wanted.node else {
            return Ok(self.run_here(wanted, params, timeout, plan).await?);
        };
        let call = Call {
            id: call_id(&wanted.key),
            key: Some(wanted.key.clone()),
            plan,
            cancel: wanted.cancel.clone(),
            ..Call::new(node, "system.run", params, timeout)
        };
        Ok(self.ring.call(&wanted.principal, &call).await?)
    }

    async fn run_here(
        &self,
        wanted: &Wanted,
        params: Option<Json>,
        timeout: Duration,
        plan: Option<SignedPlan>,
    ) -> Result<Option<Json>, CallRefused> {
        let call = here::Recorded {
            id: call_id(&wanted.key),
            key: wanted.key.clone(),
            caller: wanted.principal.label(),
        };
        self.here
            .run(&self.ring.journal, call, params, timeout, plan, &wanted.cancel)
            .await
    }
}

fn params(wanted: &Wanted, argv: &[String], cwd: Option<&str>, timeout: Option<Duration>) -> Json {
    let env: serde_json::Map<_, _> = wanted
        .env
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let mut params = json!({"command": argv, "runId": approval_id(&wanted.key)});
    let mut put = |name: &str, value: Option<serde_json::Value>| {
        if let Some(value) = value {
            params[name] = value;
        }
    };
    put("cwd", cwd.filter(|cwd| !cwd.is_empty()).map(|cwd| json!(cwd)));
    put("env", (!env.is_empty()).then(|| env.into()));
    put(
        "timeoutMs",
        timeout.map(|timeout| json!(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))),
    );
    put("agentId", wanted.agent.as_ref().map(|agent| json!(agent)));
    put("sessionKey", wanted.session.as_ref().map(|session| json!(session)));
    params.into()
}

fn prepared_of(question: &Question) -> Prepared {
    Prepared {
        argv: question.argv.clone(),
        cwd: question.cwd.clone().unwrap_or_default(),
        text: question.command.clone(),
        files: question
            .files
            .iter()
            .map(|file| (file.path.clone(), hex::encode(&file.sha256)))
            .collect(),
        plan: question.system_run_plan.as_ref().map(Json::tree).unwrap_or_default(),
        covered: question.offers_always,
    }
}

/// What a person should know who is asked.
pub(crate) fn why(read: Taint) -> String {
    format!("This conversation has read {read}, which may ask for this in your name.")
}

/// Why there is no answer.
pub(crate) fn unanswered(reason: Ended) -> &'static str {
    match reason {
        Ended::Timeout => "nobody approved it in time",
        Ended::NoRoute => NOBODY,
        Ended::Withdrawn => "the question was withdrawn",
    }
}

/// The words of `security` and `ask` that questions show.
fn words_of((security, ask): (ExecSecurity, ExecAsk)) -> (&'static str, &'static str) {
    let security = match security {
        ExecSecurity::Deny => "deny",
        ExecSecurity::Allowlist => "allowlist",
        ExecSecurity::Full => "full",
    };
    let ask = match ask {
        ExecAsk::Off => "off",
        ExecAsk::OnMiss => "on-miss",
        ExecAsk::Always => "always",
    };
    (security, ask)
}

/// The same key always gives the same id, so that a restarted turn finds its question again. Short enough for a button.
pub(crate) fn approval_id(key: &ToolKey) -> ApprovalId {
    ApprovalId::new(digest(key, 8)).expect("a digest is a short id")
}

/// The same key always gives the same id, so that a restarted turn finds its call again.
pub(crate) fn call_id(key: &ToolKey) -> CallId {
    CallId::new(digest(key, 16)).expect("a digest is a short id")
}

fn digest(key: &ToolKey, bytes: usize) -> String {
    let mut hash = Sha256::new();
    hash.update(key.run.as_str());
    hash.update([0]);
    hash.update(&key.tool_call);
    hex::encode(&hash.finalize()[..bytes])
}

/// As in [`atoll_protocol::plan::Plan::env_sha256`].
pub(crate) fn env_sha256(env: &[(String, String)]) -> [u8; 32] {
    let mut sorted: Vec<_> = env.iter().collect();
    sorted.sort();
    let mut hash = Sha256::new();
    for (name, value) in sorted {
        hash.update(format!("{name}={value}\0"));
    }
    hash.finalize().into()
}

#[async_trait]
impl Exec for Commands {
    async fn exec(&self, caller: &Caller, request: ExecRequest) -> ToolReply {
        let key = ToolKey {
            run: caller.key.run.clone(),
            tool_call: caller.key.tool_call.clone(),
        };
        // First of all: what was sent before a restart has an end of its own, whether its node is here now or not.
        match self.known(&key, &caller.cancel).await {
            Ok(None) => {}
            Ok(Some(reply)) => return reply,
            Err(error) => return reply::of_error(&error),
        }
        let principal = Arc::new(Principal::agent(caller.agent.clone(), caller.session.clone()));
        let node = match self.target(&request.host).await {
            Ok(node) => node,
            Err(error) => {
                let ring = &self.ring;
                ring.unmade(&principal, "", "system.run", "unknown_node", &error).await;
                return reply::failed(error);
            }
        };
        let platform = match node {
            Some(node) => match self.awaited(node, &principal, &caller.cancel).await {
                Ok(live) => live.client.platform.clone(),
                Err(error) => return reply::of_error(&error),
            },
            None => std::env::consts::OS.to_owned(),
        };
        let wanted = Wanted {
            key,
            principal,
            typed: false,
            agent: Some(caller.agent.clone()),
            session: Some(caller.session.clone()),
            node,
            argv: words::argv(&request.command, &platform),
            cwd: request.workdir,
            env: request.env,
            timeout: request.timeout_seconds.map(Duration::from_secs),
            cancel: caller.cancel.clone(),
            clock: Some(caller.clock.clone()),
            read: self.heeded(caller.read),
        };
        self.run(wanted).await
    }
}

impl Commands {
    /// A node that is there, or comes soon after a start.
    async fn awaited(
        &self,
        node: DeviceId,
        by: &Principal,
        cancel: &CancellationToken,
    ) -> Result<Arc<LiveNode>, NotRun> {
        let live = cancel.run_until_cancelled(self.ring.awaited(node)).await;
        if let Some(live) = live.ok_or(NotRun::Stopped)? {
            return Ok(live);
        }
        let away = CallRefused::Away;
        self.ring.unmade(by, node, "system.run", "node_away", &away).await;
        Err(away.into())
    }

    /// The node that is meant; none for the gateway's own machine.
    async fn target(&self, host: &ExecHost) -> Result<Option<DeviceId>, String> {
        match host {
            ExecHost::Gateway => Ok(None),
            ExecHost::Node(named) => {
                let configured = self.ring.config.current().tools.exec.node.clone();
                let asked = named.clone().or(configured);
                self.ring
                    .find(asked.as_deref())
                    .await
                    .map(Some)
                    .map_err(|error| error.to_string())
            }
        }
    }
}
