//! Who is linked now, what is in flight to nodes, and who hears which event. One owner task holds all of it; others hold a [`Hub`].
//!
//! Knows nothing of approvals, sessions or the journal. A node that is not linked to this process is simply absent here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_pairing::access::commands::NodeFacts;
use atoll_pairing::book::SurfaceApproval;
use atoll_pairing::link::stream::Streams;
use atoll_pairing::proven::Language;
use atoll_protocol::calls::{Failure, Row, Said};
use atoll_protocol::capability::Surface;
use atoll_protocol::frame::{ClientInfo, Frame, Invoke};
use atoll_protocol::id::{CallId, DeviceId};
use atoll_protocol::json::Json;
use atoll_protocol::plugin_tool::PluginTool;
use atoll_protocol::scope::{Role, Scope, Scopes};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot, watch};

mod audience;
mod flight;
mod held;
mod linked;
mod outlet;
mod owner;
#[cfg(test)]
mod tests;

pub(crate) use audience::Audience;
use linked::Linked;
pub(crate) use outlet::{Outgoing, Outlet, Queued, outlet};

/// Nodes that were linked when the gateway ended are back this long after its start, or count as away: a little longer than
/// the longest pause between two of their tries.
pub(crate) const RETURN: Duration = Duration::from_secs(40);

/// Requests that wait for the owner; callers wait for room, so one that floods slows only itself down.
const QUEUE: usize = 4096;

/// One connection of this process's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

/// One link of a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LiveDevice {
    /// The device.
    pub(crate) device: DeviceId,
    /// Since when, Unix milliseconds.
    pub(crate) connected_at_ms: u64,
    /// What it goes over.
    pub(crate) pipe: &'static str,
}

/// A link that was admitted.
#[derive(Debug)]
pub(crate) struct LinkUp {
    /// Names this connection.
    pub(crate) connection: String,
    /// Its role in force.
    pub(crate) role: Role,
    /// Its scopes in force.
    pub(crate) scopes: Scopes,
    /// Its device, if it has one.
    pub(crate) device: Option<DeviceId>,
    /// What it says of itself.
    pub(crate) client: ClientInfo,
    /// What its commands are decided by: declared and approved (nodes).
    pub(crate) facts: Arc<NodeFacts>,
    /// Where the approval of its surface stands (nodes).
    pub(crate) approval: SurfaceApproval,
    /// A node's `PATH`.
    pub(crate) path_env: String,
    /// Where it came from.
    pub(crate) address: String,
    /// What it goes over, e.g. `wss`.
    pub(crate) pipe: &'static str,
    /// What it speaks.
    pub(crate) language: Language,
    /// It came in by the gateway's own secret, or by what stands in for it.
    pub(crate) is_by_shared_auth: bool,
    /// The way to its writer.
    pub(crate) outgoing: Outlet,
}

/// A node that is linked now.
#[derive(Debug, Clone)]
pub(crate) struct LiveNode {
    /// Its device id.
    pub(crate) node: DeviceId,
    /// Its link.
    pub(crate) link: LinkId,
    /// Where blobs are fetched from it: some once it has been greeted, and only in the native language.
    pub(crate) streams: Option<Streams>,
    /// What it says of itself.
    pub(crate) client: ClientInfo,
    /// What its commands are decided by.
    pub(crate) facts: Arc<NodeFacts>,
    /// Where the approval of its surface stands.
    pub(crate) approval: SurfaceApproval,
    /// Its `PATH`.
    pub(crate) path_env: String,
    /// Where it came from.
    pub(crate) address: String,
    /// What it speaks.
    pub(crate) language: Language,
    /// Since when, Unix milliseconds.
    pub(crate) connected_at_ms: u64,
    /// Its last report of load and memory, as it came.
    pub(crate) host_stats: Option<Json>,
    /// What it says that it does not offer, and why.
    pub(crate) missing_commands: Option<Json>,
    /// What it publishes beside its commands, as it says.
    pub(crate) tools: Arc<[PluginTool]>,
    /// Which memory of calls it has; none before it said so, and where it has none.
    pub(crate) memory: Option<Arc<str>>,
}

impl LiveNode {
    /// Why the node does not offer a command, in its own words.
    pub(crate) fn missing(&self, command: &str) -> Option<String> {
        let rows: Vec<MissingCommand> = self.missing_commands.as_ref()?.read().ok()?;
        rows.into_iter().find(|row| row.command == command).map(|row| row.why)
    }
}

/// A command that a node does not offer, as it says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MissingCommand {
    command: String,
    why: String,
}

/// How a call ended.
pub(crate) type CallEnd = Result<Option<Json>, Failure>;

/// A call to make.
#[derive(Debug)]
pub(crate) struct NewInvoke {
    /// What the node is told.
    pub(crate) invoke: Invoke,
    /// When the caller stops waiting.
    pub(crate) deadline: Instant,
    /// Running it twice does no harm.
    pub(crate) idempotent: bool,
    /// The caller acknowledges by itself, once the outcome is durable: [`Hub::acknowledge`].
    pub(crate) keep_until_acknowledged: bool,
    /// On whose behalf, for lists.
    pub(crate) caller: Arc<str>,
    /// Where the parts of the output go, if anybody wants them.
    pub(crate) progress: Option<mpsc::Sender<Part>>,
}

/// A part of the output of a running call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// So many parts just before it never came here.
    pub(crate) missed: u64,
    /// The part.
    pub(crate) said: Said,
}

/// A call from before a restart, whose node may still know it.
#[derive(Debug, Clone)]
pub(crate) struct Restored {
    /// The call.
    pub(crate) call: CallId,
    /// Its node.
    pub(crate) node: DeviceId,
    /// Its command.
    pub(crate) command: String,
    /// When it is given up.
    pub(crate) deadline: Instant,
    /// On whose behalf, for lists.
    pub(crate) caller: Arc<str>,
    /// The caller's key.
    pub(crate) idempotency_key: Option<String>,
    /// What its node remembered when it was sent, where its end is written down before the node may forget it.
    pub(crate) memory: Option<Arc<str>>,
}

/// Something that happened, for whoever may hear of it.
#[derive(Debug, Clone)]
pub(crate) struct Broadcast {
    /// The event's name.
    pub(crate) name: &'static str,
    /// Its facts.
    pub(crate) payload: Json,
    /// Who hears it.
    pub(crate) audience: Audience,
}

impl Broadcast {
    /// For everybody who holds `scope`.
    pub(crate) fn to_scope(name: &'static str, payload: impl Into<Json>, scope: Scope) -> Self {
        Self {
            name,
            payload: payload.into(),
            audience: Audience::Scope(scope),
        }
    }

    /// For every link, nodes too.
    pub(crate) fn to_all(name: &'static str, payload: impl Into<Json>) -> Self {
        Self {
            name,
            payload: payload.into(),
            audience: Audience::Everyone,
        }
    }
}

/// A handle to the owner.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    requests: mpsc::Sender<Request>,
    linked: Linked,
    arrivals: watch::Receiver<u64>,
}

#[derive(Debug)]
enum Request {
    LinkUp(Box<LinkUp>, oneshot::Sender<(LinkId, u64)>),
    LinkDown(LinkId),
    Streams(LinkId, Streams),
    Heard(LinkId, Box<Frame>),
    Invoke(Box<NewInvoke>, oneshot::Sender<CallEnd>),
    Restore(Vec<Restored>),
    Attach(CallId, oneshot::Sender<CallEnd>),
    Cancel(CallId),
    Acknowledge(CallId),
    Broadcast(Broadcast),
    ToDevice(DeviceId, Role, Box<Frame>),
    CloseDevice {
        device: DeviceId,
        role: Option<Role>,
        code: u16,
        reason: String,
        done: oneshot::Sender<()>,
    },
    CloseShared {
        code: u16,
        reason: &'static str,
    },
    Granted(DeviceId, Surface, BTreeSet<String>, oneshot::Sender<()>),
    HostStats(DeviceId, Json),
    MissingCommands(DeviceId, Json),
    Tools(DeviceId, Arc<[PluginTool]>),
    Devices(oneshot::Sender<Vec<LiveDevice>>),
    Awaited(DeviceId, oneshot::Sender<Option<Arc<LiveNode>>>),
    Presence(oneshot::Sender<Json>),
    Hears(Audience, oneshot::Sender<bool>),
    Calls(oneshot::Sender<Vec<(Row, Arc<str>)>>),
    CallsChanged,
    Goodbye(oneshot::Sender<()>),
}

impl Hub {
    /// Makes the handle and the owner's loop.
    pub(crate) fn start(own: OwnPresence) -> (Self, impl Future<Output = ()>) {
        let (requests, queue) = mpsc::channel(QUEUE);
        let linked = Linked::default();
        let (arrived, arrivals) = watch::channel(0);
        let owner = owner::Owner::new(own, linked.clone(), arrived);
        let hub = Self {
            requests,
            linked,
            arrivals,
        };
        (hub, owner.run(queue))
    }

    /// Changes whenever a node can be called that could not be called before.
    pub(crate) fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.clone()
    }

    /// Says that a list of calls looks different now, though no call in flight has changed.
    pub(crate) async fn calls_changed(&self) {
        self.tell(Request::CallsChanged).await;
    }

    /// Registers a link; gives its id and generation. None while the gateway goes down.
    pub(crate) async fn link_up(&self, link: LinkUp) -> Option<(LinkId, u64)> {
        self.ask(|reply| Request::LinkUp(Box::new(link), reply)).await
    }

    /// Forgets a link; a newer one of the same device is not touched.
    pub(crate) async fn link_down(&self, link: LinkId) {
        self.tell(Request::LinkDown(link)).await;
    }

    /// A node has been greeted, and blobs can be fetched from it.
    pub(crate) async fn streams(&self, link: LinkId, streams: Streams) {
        self.tell(Request::Streams(link, streams)).await;
    }

    /// A frame about calls that a node sent.
    pub(crate) async fn heard(&self, link: LinkId, frame: Frame) {
        self.tell(Request::Heard(link, Box::new(frame))).await;
    }

    /// Makes a call; it has its place in the owner's queue when this returns. What comes back waits for the end, which comes at the
    /// deadline at the latest. When the gateway goes down first it never comes: the caller is dropped with the rest of the house, and
    /// the node keeps the end for the next start.
    pub(crate) async fn invoke(&self, invoke: Box<NewInvoke>) -> impl Future<Output = CallEnd> + use<> {
        let call = CancelOnDrop {
            hub: self.clone(),
            call: Some(invoke.invoke.call.clone()),
        };
        let (reply, answer) = oneshot::channel();
        self.tell(Request::Invoke(invoke, reply)).await;
        async move {
            let Ok(end) = answer.await else {
                return std::future::pending().await;
            };
            call.done();
            end
        }
    }

    /// Takes up calls from before a restart, before any link is accepted.
    pub(crate) async fn restore(&self, calls: Vec<Restored>) {
        self.tell(Request::Restore(calls)).await;
    }

    /// Waits for the end of a restored call; one that nobody knows is lost. As for [`Self::invoke`] when the gateway goes
    /// down first.
    pub(crate) async fn attach(&self, call: CallId) -> CallEnd {
        match self.ask(|reply| Request::Attach(call, reply)).await {
            Some(end) => end,
            None => std::future::pending().await,
        }
    }

    /// Ends a call early; its waiter hears so.
    pub(crate) async fn cancel(&self, call: CallId) {
        self.tell(Request::Cancel(call)).await;
    }

    /// The outcome is durable: the node may forget it.
    pub(crate) async fn acknowledge(&self, call: CallId) {
        self.tell(Request::Acknowledge(call)).await;
    }

    /// Tells everybody who may hear it.
    pub(crate) async fn broadcast(&self, broadcast: Broadcast) {
        self.tell(Request::Broadcast(broadcast)).await;
    }

    /// Tells without waiting: for what is best effort. Dropped when the owner is that far behind.
    pub(crate) fn broadcast_now(&self, broadcast: Broadcast) {
        let _ = self.requests.try_send(Request::Broadcast(broadcast));
    }

    /// Sends a frame to every link of a device in a role.
    pub(crate) async fn to_device(&self, device: DeviceId, role: Role, frame: Frame) {
        self.tell(Request::ToDevice(device, role, Box::new(frame))).await;
    }

    /// Closes every link of a device (in one role, or all). Nothing goes out on them when this has returned.
    pub(crate) async fn close_device(&self, device: DeviceId, role: Option<Role>, code: u16, reason: &str) {
        self.ask(|done| Request::CloseDevice {
            device,
            role,
            code,
            reason: reason.to_owned(),
            done,
        })
        .await;
    }

    /// Closes every link that came in by the gateway's own secret.
    pub(crate) async fn close_shared(&self, code: u16, reason: &'static str) {
        self.tell(Request::CloseShared { code, reason }).await;
    }

    /// What was approved for a node, or opened on it by name, has changed. In force when this returns.
    pub(crate) async fn granted(&self, node: DeviceId, approved: Surface, opened: BTreeSet<String>) {
        self.ask(|reply| Request::Granted(node, approved, opened, reply)).await;
    }

    /// A node said what it does not offer.
    pub(crate) async fn missing_commands(&self, node: DeviceId, missing: Json) {
        self.tell(Request::MissingCommands(node, missing)).await;
    }

    /// A node reported its load.
    pub(crate) async fn host_stats(&self, node: DeviceId, stats: Json) {
        self.tell(Request::HostStats(node, stats)).await;
    }

    /// A node published its tools; gone with its link.
    pub(crate) async fn tools(&self, node: DeviceId, tools: Arc<[PluginTool]>) {
        self.tell(Request::Tools(node, tools)).await;
    }

    /// One node, once blobs can be fetched from it over another link than this one.
    pub(crate) async fn streaming_anew(&self, node: DeviceId, not: Option<LinkId>) -> Arc<LiveNode> {
        self.linked.anew(node, not).await
    }

    /// Every linked node.
    pub(crate) fn nodes(&self) -> Vec<Arc<LiveNode>> {
        self.linked.all()
    }

    /// Every linked device and since when, Unix milliseconds.
    pub(crate) async fn devices(&self) -> Vec<LiveDevice> {
        self.ask(Request::Devices).await.unwrap_or_default()
    }

    /// One node, if it is linked.
    pub(crate) fn node(&self, node: DeviceId) -> Option<Arc<LiveNode>> {
        self.linked.one(node)
    }

    /// One node, if it is linked. Just after the start a node that was not seen yet is on its way back, and is waited for.
    pub(crate) async fn awaited(&self, node: DeviceId) -> Option<Arc<LiveNode>> {
        let found = self.ask(|reply| Request::Awaited(node, reply));
        tokio::time::timeout(RETURN, found).await.ok()?.flatten()
    }

    /// The rows of `system-presence`.
    pub(crate) async fn presence(&self) -> Json {
        self.ask(Request::Presence)
            .await
            .unwrap_or_else(|| serde_json::json!([]).into())
    }

    /// Whether anybody would hear it.
    pub(crate) async fn hears(&self, audience: Audience) -> bool {
        self.ask(|reply| Request::Hears(audience, reply))
            .await
            .unwrap_or_default()
    }

    /// Every call in flight, and on whose behalf.
    pub(crate) async fn calls(&self) -> Vec<(Row, Arc<str>)> {
        self.ask(Request::Calls).await.unwrap_or_default()
    }

    /// Says `shutdown` to every link and closes them with 1012. Returns when each has been told.
    pub(crate) async fn goodbye(&self) {
        self.ask(Request::Goodbye).await;
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.ok()?;
        answer.await.ok()
    }

    async fn tell(&self, request: Request) {
        // The owner ends last, so a closed queue means that the process is ending.
        let _ = self.requests.send(request).await;
    }
}

/// A caller that goes away takes its call with it.
struct CancelOnDrop {
    hub: Hub,
    call: Option<CallId>,
}

impl CancelOnDrop {
    fn done(mut self) {
        self.call = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let Some(call) = self.call.take() else { return };
        let hub = self.hub.clone();
        tokio::spawn(async move { hub.cancel(call).await });
    }
}

/// The gateway's own row in presence.
#[derive(Debug, Clone)]
pub(crate) struct OwnPresence {
    /// The machine's name.
    pub(crate) host: String,
    /// This program's version.
    pub(crate) version: &'static str,
    /// One start of the program.
    pub(crate) instance: Arc<str>,
}
