//! The ring of devices as the rest of the gateway uses it: the rows of `node.list`, whom a name means, and the one way to call a command
//! on a node. Joins the book (who is paired) with the hub (who is linked); owns neither.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_pairing::access::commands::CommandPolicy;
use atoll_pairing::access::{self, Door, InvokeCommand, Policy, Principal};
use atoll_pairing::book::DeviceRecord;
use atoll_pairing::proven::Language;
use atoll_protocol::calls::Failure;
use atoll_protocol::capability::Surface;
use atoll_protocol::error::CallError;
use atoll_protocol::frame::{Invoke, SignedPlan};
use atoll_protocol::id::{CallId, DeviceId};
use atoll_protocol::json::Json;
use atoll_protocol::limits;
use atoll_protocol::scope::Role;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::book::Book;
use crate::clock;
use crate::config::ConfigStore;
use crate::hub::{Hub, LiveNode, NewInvoke, Part};
use crate::journal::calls::{self, CallEnd, CallRow, CallState, Details, Fingerprint, NewCall, ToolKey};
use crate::journal::{Durability, Journal, JournalError};
use crate::media::{self, FETCH_AFTER_RESTART, Live, Media, Offers};
use crate::repeats::{Key, Repeats};
use crate::select::{self, Candidate, SelectError};

mod blobs;
mod leaving;
mod refused;
pub(crate) mod tools;
mod unmade;
use blobs::{is_laden, names_blobs};
pub(crate) use leaving::Leaving;
pub(crate) use refused::CallRefused;

/// The devices.
#[derive(Clone)]
pub(crate) struct Ring {
    pub(crate) hub: Hub,
    pub(crate) book: Book,
    pub(crate) journal: Journal,
    pub(crate) config: ConfigStore,
    pub(crate) leaving: Leaving,
    pub(crate) repeats: Repeats,
    pub(crate) media: Media,
    pub(crate) offers: Offers,
    pub(crate) live: Live,
}

/// One call to make.
#[derive(Debug)]
pub(crate) struct Call {
    /// Names it for ever.
    pub(crate) id: CallId,
    /// The tool call it serves, if it serves one.
    pub(crate) key: Option<ToolKey>,
    /// The node.
    pub(crate) node: DeviceId,
    /// The command.
    pub(crate) command: String,
    /// The way that it came in.
    pub(crate) door: Door,
    /// Its parameters.
    pub(crate) params: Option<Json>,
    /// How long it may take.
    pub(crate) timeout: Duration,
    /// When it ends at the latest, Unix milliseconds.
    pub(crate) deadline_ms: Option<u64>,
    /// The caller's key.
    pub(crate) idempotency: Option<Idempotency>,
    /// It stands in the journal already, where it waited for its node.
    pub(crate) has_waited: bool,
    /// What a person approved.
    pub(crate) plan: Option<SignedPlan>,
    /// Running it twice does no harm.
    pub(crate) idempotent: bool,
    /// Where parts of the output go.
    pub(crate) progress: Option<mpsc::Sender<Part>>,
    /// Calls it off; its end is written down all the same.
    pub(crate) cancel: CancellationToken,
}

impl Call {
    /// A call without anything special.
    pub(crate) fn new(node: DeviceId, command: impl Into<String>, params: Option<Json>, timeout: Duration) -> Self {
        Self {
            id: uuid::Uuid::now_v7().into(),
            key: None,
            node,
            command: command.into(),
            door: Door::Invoke,
            params,
            timeout,
            deadline_ms: None,
            idempotency: None,
            has_waited: false,
            plan: None,
            idempotent: false,
            progress: None,
            cancel: CancellationToken::new(),
        }
    }
}

/// A caller's key.
#[derive(Debug, Clone)]
pub(crate) struct Idempotency {
    /// As the caller wrote it; passed through to the node.
    pub(crate) text: String,
    /// The caller's own.
    pub(crate) key: Key,
    /// What it stands for.
    pub(crate) fingerprint: Fingerprint,
}

impl Call {
    /// How much time is left for it.
    fn budget(&self) -> Duration {
        let left = self
            .deadline_ms
            .map(|deadline| Duration::from_millis(deadline.saturating_sub(clock::now_ms())));
        let budget = left.map_or(self.timeout, |left| left.min(self.timeout));
        budget.min(limits::CALL_DEADLINE_MAX)
    }

    /// Whether its node keeps its end until that is committed here.
    fn is_durable(&self) -> bool {
        self.key.is_some() || self.has_waited
    }

    fn memory(&self, live: &LiveNode) -> Option<String> {
        live.memory.as_deref().filter(|_| self.is_durable()).map(str::to_owned)
    }
}

/// A call that was sent before.
#[derive(Debug)]
pub(crate) enum Before {
    /// It had ended; this was written down.
    Ended(Box<CallRow>),
    /// It was open until now.
    Open(Result<Option<Json>, Failure>),
}

impl Ring {
    fn policy(&self) -> Policy {
        crate::house::policy_of(&self.config.current())
    }

    async fn attempt(&self, principal: &Arc<Principal>, call: &Call) -> Result<Option<Json>, CallRefused> {
        let live = match call.key {
            Some(_) => Box::pin(self.hub.awaited(call.node)).await,
            None => self.hub.node(call.node),
        };
        let Some(live) = live else {
            return Err(Box::pin(self.absent(call.node)).await);
        };
        self.deliver(principal, call, &live).await
    }

    /// The same, to a node that is linked.
    async fn deliver(
        &self,
        principal: &Arc<Principal>,
        call: &Call,
        live: &LiveNode,
    ) -> Result<Option<Json>, CallRefused> {
        let action = InvokeCommand {
            node: call.node,
            command: call.command.clone(),
            facts: live.facts.clone(),
            door: call.door,
        };
        let granted = access::decide(principal, action, &self.policy(), clock::now_ms())
            .map_err(|denied| CallRefused::denied(&denied, live))?;
        let caller: Arc<str> = granted.principal().label().into();
        let load = match &call.params {
            Some(params) if is_laden(params) => {
                Some(Box::pin(self.load(call.node, live.language, params.clone())).await?)
            }
            Some(_) | None => None,
        };
        let params = load.as_ref().map_or(call.params.as_ref(), |load| Some(&load.params));
        let budget = call.budget();
        let deadline = clock::instant() + budget;
        let leaving = self.leaving.set_out().await;
        self.record_start(call, &caller, live, budget).await?;
        let ended = self.hub.invoke(outbound(call, live, caller, params, deadline)).await;
        let mut ended = pin!(ended);
        drop(leaving);
        let mut end = self.until_called_off(ended.as_mut(), &call.id, &call.cancel).await;
        if let Ok(Some(result)) = &end
            && names_blobs(result)
        {
            let progress = call.progress.as_ref();
            end = Box::pin(self.unload(call.node, result.clone(), deadline, progress, &call.cancel)).await;
        }
        if let Ok(Some(result)) = &end
            && call.key.is_some()
            && media::is_packed(result)
        {
            end = Box::pin(self.unpack(result.clone())).await;
        }
        drop(load);
        if call.is_durable() {
            Box::pin(self.record_end(call, &end)).await;
        } else {
            self.journal.call_ended(call.id.clone(), end_row(&end), clock::now());
        }
        Ok(end?)
    }

    /// Written down before it goes.
    async fn record_start(
        &self,
        call: &Call,
        caller: &str,
        live: &LiveNode,
        budget: Duration,
    ) -> Result<(), CallRefused> {
        let deadline_at = clock::after(budget);
        let journaled = |error: JournalError| CallRefused::Journal(error.to_string());
        if call.has_waited {
            let (id, memory) = (call.id.clone(), call.memory(live));
            let sent = move |db: &rusqlite::Connection| {
                calls::sent_after_waiting(db, &id, deadline_at, memory.as_deref(), clock::now())
            };
            return Box::pin(self.journal.write(Durability::Lazy, sent))
                .await
                .map_err(journaled);
        }
        let idempotency = call.idempotency.as_ref();
        let new = NewCall {
            call: call.id.clone(),
            key: call.key.clone(),
            node: call.node.to_string(),
            command: call.command.clone(),
            caller: caller.to_owned(),
            session: None,
            details: Details {
                deadline_at: Some(deadline_at),
                idempotency_key: idempotency.map(|idempotency| idempotency.text.clone()),
                fingerprint: idempotency.map(|idempotency| idempotency.fingerprint),
                memory: call.memory(live),
                waiting: None,
            },
        };
        if call.key.is_none() {
            return self
                .journal
                .call_sent(Box::new(new), clock::now())
                .await
                .map_err(journaled);
        }
        let open = move |db: &rusqlite::Connection| {
            calls::open(db, &new, clock::now())?;
            calls::sent_once(db, &new.call, clock::now())
        };
        Box::pin(self.journal.write(Durability::Lazy, open))
            .await
            .map_err(journaled)
    }

    /// Waits for the end of a call, which comes at once when it is called off.
    async fn until_called_off<T>(
        &self,
        mut ended: Pin<&mut impl Future<Output = T>>,
        call: &CallId,
        cancel: &CancellationToken,
    ) -> T {
        tokio::select! {
            biased;
            end = &mut ended => return end,
            () = cancel.cancelled() => {}
        }
        Box::pin(futures_util::future::join(ended, self.hub.cancel(call.clone())))
            .await
            .0
    }

    /// What was written down before it went is durable before the node may forget it.
    async fn record_end(&self, call: &Call, end: &Result<Option<Json>, Failure>) {
        let row = end_row(end);
        let id = call.id.clone();
        let close = move |db: &rusqlite::Connection| calls::close(db, &id, &row, clock::now()).map(drop);
        match self.journal.write(Durability::Lazy, close).await {
            Ok(()) => self.hub.acknowledge(call.id.clone()).await,
            Err(error) => {
                tracing::error!(call = %call.id, %error, "the end of a call could not be stored; its node keeps it")
            }
        }
    }

    /// How the call of this tool call went or goes, if it was sent before. It must not be sent again.
    pub(crate) async fn before(
        &self,
        key: &ToolKey,
        cancel: &CancellationToken,
    ) -> Result<Option<Before>, CallRefused> {
        let wanted = key.clone();
        let row = self.journal.read(move |db| calls::by_key(db, &wanted)).await;
        let row = row.map_err(|error| CallRefused::Journal(error.to_string()))?;
        let Some(row) = row.filter(|row| row.sent_at.is_some() || row.state.is_end()) else {
            return Ok(None);
        };
        if row.state.is_end() {
            return Ok(Some(Before::Ended(Box::new(row))));
        }
        let end = self.attach(&row, cancel).await;
        if end == Err(Failure::NotConnected) {
            // It never reached its node, so making it is no repetition.
            self.take_back(&row.new.call).await?;
            return Ok(None);
        }
        Ok(Some(Before::Open(end)))
    }

    /// Notes that a call certainly never began, so that it can be sent (again).
    pub(crate) async fn take_back(&self, call: &CallId) -> Result<(), CallRefused> {
        let id = call.clone();
        let taken = self.journal.write(Durability::Lazy, move |db| calls::unsent(db, &id));
        taken.await.map_err(|error| CallRefused::Journal(error.to_string()))
    }

    /// Waits for a call from before a restart.
    pub(crate) async fn attach(&self, row: &CallRow, cancel: &CancellationToken) -> Result<Option<Json>, Failure> {
        let call = &row.new.call;
        let ended = pin!(self.hub.attach(call.clone()));
        let mut end = self.until_called_off(ended, call, cancel).await;
        if let (Ok(node), Ok(Some(result))) = (row.new.node.parse(), &end)
            && names_blobs(result)
        {
            let deadline = clock::instant() + FETCH_AFTER_RESTART;
            end = self.unload(node, result.clone(), deadline, None, cancel).await;
        }
        if let Ok(Some(result)) = &end
            && row.new.key.is_some()
            && media::is_packed(result)
        {
            end = self.unpack(result.clone()).await;
        }
        let (id, row) = (call.clone(), end_row(&end));
        let close = move |db: &rusqlite::Connection| calls::close(db, &id, &row, clock::now()).map(drop);
        if self.journal.write(Durability::Lazy, close).await.is_ok() {
            self.hub.acknowledge(call.clone()).await;
        }
        end
    }

    async fn absent(&self, node: DeviceId) -> CallRefused {
        let is_paired = self.book.read(move |book, _| {
            book.record(node)
                .is_some_and(|record| record.role(Role::Node).is_some())
        });
        if is_paired.await.unwrap_or_default() {
            CallRefused::Away
        } else {
            CallRefused::Unknown
        }
    }

    /// The one node that somebody means.
    pub(crate) async fn find(&self, asked: Option<&str>) -> Result<DeviceId, SelectError> {
        select::select(asked, &self.candidates().await)
    }

    async fn candidates(&self) -> Vec<Candidate> {
        let open = self.open_calls().await;
        let candidate = |(record, live): (DeviceRecord, Option<Arc<LiveNode>>)| {
            let surface = surface(&record, live.as_deref());
            Candidate {
                node: record.id,
                name: record.display_name().to_owned(),
                connected: live.is_some(),
                address: live.as_ref().map(|live| live.address.clone()).unwrap_or_default(),
                open_calls: open.get(&record.id).copied().unwrap_or_default(),
                platform: record.client.platform,
                caps: surface.caps,
                commands: surface.commands,
            }
        };
        self.joined().await.into_iter().map(candidate).collect()
    }

    /// How many calls are open on each node that has any.
    async fn open_calls(&self) -> HashMap<DeviceId, u64> {
        let mut open = HashMap::new();
        for (call, _) in self.hub.calls().await {
            *open.entry(call.node).or_default() += 1;
        }
        open
    }

    /// The rows of `node.list`.
    pub(crate) async fn rows(&self) -> Vec<Value> {
        let open = self.open_calls().await;
        let policy = self.policy().commands;
        let row = |(record, live): &(DeviceRecord, Option<Arc<LiveNode>>)| {
            let mut row = row(record, live.as_deref(), &policy);
            if let Some(open) = open.get(&record.id) {
                row["openCalls"] = json!(open);
            }
            row
        };
        self.joined().await.iter().map(row).collect()
    }

    /// One row.
    pub(crate) async fn row(&self, node: DeviceId) -> Option<Value> {
        let record = self
            .book
            .read(move |book, _| book.record(node).cloned())
            .await
            .ok()
            .flatten()?;
        record.role(Role::Node)?;
        let (live, policy) = (self.hub.node(node), self.policy().commands);
        let row = row(&record, live.as_deref(), &policy);
        Some(tools::in_full(row, live.as_deref(), &policy))
    }

    /// A node that is linked now.
    pub(crate) fn live(&self, node: DeviceId) -> Option<Arc<LiveNode>> {
        self.hub.node(node)
    }

    /// A node that is linked now, or comes back soon after the gateway's start.
    pub(crate) async fn awaited(&self, node: DeviceId) -> Option<Arc<LiveNode>> {
        self.hub.awaited(node).await
    }

    async fn joined(&self) -> Vec<(DeviceRecord, Option<Arc<LiveNode>>)> {
        let records = self.book.read(|book, _| {
            let is_node = |record: &&DeviceRecord| record.role(Role::Node).is_some();
            book.records().filter(is_node).cloned().collect::<Vec<_>>()
        });
        let records = records.await.unwrap_or_default();
        let mut live: HashMap<_, _> = self.hub.nodes().into_iter().map(|node| (node.node, node)).collect();
        records
            .into_iter()
            .map(|record| (record.clone(), live.remove(&record.id)))
            .collect()
    }
}

/// What the hub is told of a call.
fn outbound(
    call: &Call,
    live: &LiveNode,
    caller: Arc<str>,
    params: Option<&Json>,
    deadline: Instant,
) -> Box<NewInvoke> {
    let params = match (&call.plan, live.language) {
        // The dialect has no signature: the gateway's word goes into the parameters.
        (Some(_), Language::Dialect) => params.map(approved),
        (Some(_) | None, _) => params.cloned(),
    };
    let invoke = Invoke {
        call: call.id.clone(),
        node: call.node,
        command: call.command.clone(),
        params,
        timeout_ms: u64::try_from((deadline - clock::instant()).as_millis()).unwrap_or(u64::MAX),
        idempotency_key: call.idempotency.as_ref().map(|idempotency| idempotency.text.clone()),
        plan: call.plan.clone().filter(|_| live.language == Language::Native),
    };
    Box::new(NewInvoke {
        invoke,
        deadline,
        idempotent: call.idempotent,
        keep_until_acknowledged: call.is_durable(),
        caller,
        progress: call.progress.clone(),
    })
}

/// What a node can do: declared and approved, or only approved while nobody can ask it.
fn surface(record: &DeviceRecord, live: Option<&LiveNode>) -> Surface {
    live.map_or_else(|| record.surface.clone(), |live| live.facts.in_force())
}

fn row(record: &DeviceRecord, live: Option<&LiveNode>, policy: &CommandPolicy) -> Value {
    let client = &record.client;
    // Of a node that is away: what it may offer when it is back.
    let usable = match live {
        Some(live) => policy.usable(&live.facts),
        None => policy.usable(&record.facts(record.surface.clone())),
    };
    let mut row = json!({
        "nodeId": record.id, "displayName": record.display_name(), "platform": client.platform,
        "version": client.version, "clientId": client.id, "clientMode": client.mode,
        "deviceFamily": client.device_family, "caps": usable.caps, "commands": usable.commands,
        "sessionHost": false, "nodePluginTools": tools::in_brief(live, policy), "paired": true, "connected": live.is_some(),
        "approvedAtMs": record.surface_approved_ms, "lastSeenAtMs": record.last_seen_ms, "lastSeenReason": "connect",
        "approvalState": "approved",
    });
    if let Some(live) = live {
        row["approvalState"] = json!(live.approval.as_str());
        row["connectedAtMs"] = json!(live.connected_at_ms);
        row["lastConnectedAtMs"] = json!(live.connected_at_ms);
        if !live.path_env.is_empty() {
            row["pathEnv"] = json!(live.path_env);
        }
        if !is_loopback(&live.address) {
            row["remoteIp"] = json!(live.address);
        }
        if !live.facts.declared.permissions.is_empty() {
            row["permissions"] = json!(live.facts.declared.permissions);
        }
        if let Some(request) = live.approval.request() {
            row["pendingRequestId"] = json!(request);
            row["pendingDeclaredCaps"] = json!(live.facts.declared.caps);
            row["pendingDeclaredCommands"] = json!(live.facts.declared.commands);
        }
        if let Some(stats) = &live.host_stats {
            row["hostStats"] = stats.tree();
        }
    }
    row
}

fn is_loopback(address: &str) -> bool {
    address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn approved(params: &Json) -> Json {
    let mut params = params.tree();
    if let Some(fields) = params.as_object_mut() {
        fields.insert("approved".to_owned(), json!(true));
        fields.insert("approvalDecision".to_owned(), json!("allow-once"));
    }
    params.into()
}

pub(crate) fn end_row(end: &Result<Option<Json>, Failure>) -> CallEnd {
    let failed = |state, error: CallError| CallEnd {
        state,
        error_code: Some(error.code),
        result: Some(error.message),
    };
    match end {
        Ok(payload) => CallEnd {
            state: CallState::Ok,
            error_code: None,
            result: payload.as_ref().map(|payload| payload.as_str().to_owned()),
        },
        Err(failure @ Failure::Node(_)) => failed(CallState::Error, failure.to_call_error()),
        Err(failure @ Failure::TimedOut { .. }) => failed(CallState::TimedOut, failure.to_call_error()),
        Err(failure @ Failure::Cancelled { .. }) => failed(CallState::Cancelled, failure.to_call_error()),
        Err(failure @ Failure::NotConnected) => failed(CallState::NodeAway, failure.to_call_error()),
        Err(failure @ Failure::Lost) => failed(CallState::Uncertain, failure.to_call_error()),
    }
}

#[cfg(test)]
mod tests;
