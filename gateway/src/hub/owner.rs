//! The hub's owner: routes each request to the part that holds the fact, and nothing more.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use std::sync::Arc;

use atoll_pairing::access::commands::NodeFacts;
use atoll_pairing::book::SurfaceApproval;
use atoll_pairing::link::stream::Streams;
use atoll_pairing::proven::Language;
use atoll_protocol::capability::Surface;
use atoll_protocol::frame::{Event, Frame, StateVersion};
use atoll_protocol::id::DeviceId;
use atoll_protocol::json::Json;
use atoll_protocol::plugin_tool::PluginTool;
use atoll_protocol::scope::{Role, Scope};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

use super::flight::{Flight, Order};
use super::held::Held;
use super::linked::Linked;
use super::{Audience, Broadcast, LinkId, LinkUp, LiveDevice, LiveNode, Outgoing, OwnPresence, RETURN, Request};
use crate::clock;

/// Close code for a peer that does not read.
const SLOW: (u16, &str) = (1008, "slow consumer");

/// Changes of presence within this time are told together.
const PRESENCE_PAUSE: Duration = Duration::from_millis(100);

/// This machine's kind, as clients spell it.
const FAMILY: &str = match std::env::consts::OS.as_bytes() {
    b"macos" => "Mac",
    b"windows" => "Windows",
    b"android" => "Android",
    _ => "Linux",
};

/// Changes of calls within this time are told together; long enough for an end to be written down.
const CALLS_PAUSE: Duration = Duration::from_millis(250);

/// Close code when the gateway ends.
const RESTART: (u16, &str) = (1012, "service restart");

struct Link {
    up: LinkUp,
    generation: u64,
    connected_at_ms: u64,
    /// Broadcasts so far; a skipped one counts, so that the peer sees the gap.
    seq: u64,
    host_stats: Option<Json>,
    missing_commands: Option<Json>,
    tools: Arc<[PluginTool]>,
    /// Which memory of calls its node has.
    memory: Option<Arc<str>>,
    streams: Option<Streams>,
}

impl Link {
    /// Sends or closes: a peer whose queue is full for something aimed at it has stopped reading.
    fn send(&self, frame: Frame) -> bool {
        let is_sent = self.up.outgoing.try_send(Outgoing::Frame(Box::new(frame)));
        if !is_sent {
            self.up.outgoing.cut(SLOW.0, SLOW.1);
        }
        is_sent
    }
}

pub(super) struct Owner {
    own: OwnPresence,
    links: HashMap<LinkId, Link>,
    /// What others see of `nodes`.
    linked: Linked,
    /// The newest link of each node.
    nodes: HashMap<DeviceId, LinkId>,
    /// Nodes that were linked since the start.
    seen: HashSet<DeviceId>,
    /// Who waits for which node to come back after the start.
    awaited: HashMap<DeviceId, Vec<oneshot::Sender<Option<Arc<LiveNode>>>>>,
    started: Instant,
    next_link: u64,
    presence_version: u64,
    health_version: u64,
    /// When the change of presence is told.
    presence_due: Option<Instant>,
    /// When it is told that lists of calls look different now.
    calls_due: Option<Instant>,
    /// Counts nodes that can be called now and could not before.
    arrived: watch::Sender<u64>,
    flight: Flight,
    held: Held,
}

enum Happened {
    Asked(Request),
    TimedOut,
    PresenceDue,
    CallsDue,
    HeldDue,
    Ended,
}

impl Owner {
    pub(super) fn new(own: OwnPresence, linked: Linked, arrived: watch::Sender<u64>) -> Self {
        Self {
            own,
            linked,
            arrived,
            links: HashMap::new(),
            nodes: HashMap::new(),
            seen: HashSet::new(),
            awaited: HashMap::new(),
            started: clock::instant(),
            next_link: 0,
            presence_version: 1,
            health_version: 1,
            presence_due: None,
            calls_due: None,
            flight: Flight::default(),
            held: Held::default(),
        }
    }

    /// Ends when every handle is gone.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        loop {
            let happened = match self.overdue() {
                Some(happened) => happened,
                None => tokio::select! {
                    biased;
                    request = requests.recv() => request.map_or(Happened::Ended, Happened::Asked),
                    () = until(self.flight.poll_timeout()) => Happened::TimedOut,
                    () = until(self.presence_due) => Happened::PresenceDue,
                    () = until(self.calls_due) => Happened::CallsDue,
                    () = until(self.held.due()) => Happened::HeldDue,
                },
            };
            match happened {
                Happened::Asked(request) => self.handle(request),
                Happened::TimedOut => self.time_out(),
                Happened::PresenceDue => self.tell_presence(),
                Happened::CallsDue => self.tell_calls(),
                Happened::HeldDue => self.release_held(),
                Happened::Ended => return,
            }
        }
    }

    /// What is late goes before what is asked, so that no flood of requests stops the clock.
    fn overdue(&self) -> Option<Happened> {
        let now = clock::instant();
        if self.flight.poll_timeout().is_some_and(|at| at <= now) {
            Some(Happened::TimedOut)
        } else if self.presence_due.is_some_and(|at| at <= now) {
            Some(Happened::PresenceDue)
        } else if self.calls_due.is_some_and(|at| at <= now) {
            Some(Happened::CallsDue)
        } else if self.held.due().is_some_and(|at| at <= now) {
            Some(Happened::HeldDue)
        } else {
            None
        }
    }

    fn time_out(&mut self) {
        let orders = self.flight.handle_timeout(clock::instant());
        self.carry_out(orders);
        self.calls_changed();
    }

    /// Replies go to callers that may have stopped waiting; that is theirs to do.
    fn handle(&mut self, request: Request) {
        let now = clock::instant();
        match request {
            Request::LinkUp(up, reply) => drop(reply.send(self.link_up(*up))),
            Request::Streams(link, streams) => self.streams(link, streams),
            Request::LinkDown(link) => self.link_down(link, now),
            Request::Heard(link, frame) => self.heard(link, *frame, now),
            Request::Invoke(new, reply) => {
                let linked = self.nodes.contains_key(&new.invoke.node);
                let orders = self.flight.invoke(*new, linked, reply, now);
                self.carry_out(orders);
                self.calls_changed();
            }
            Request::Restore(calls) => self.flight.restore(calls, now),
            Request::Attach(call, reply) => self.flight.attach(&call, reply),
            Request::Cancel(call) => {
                let orders = self.flight.cancel(&call);
                self.carry_out(orders);
                self.calls_changed();
            }
            Request::Acknowledge(call) => {
                let orders = self.flight.acknowledge(&call);
                self.carry_out(orders);
            }
            Request::Broadcast(broadcast) => self.broadcast(&broadcast),
            Request::ToDevice(device, role, frame) => self.to_device(device, role, &frame),
            Request::CloseDevice {
                device,
                role,
                code,
                reason,
                done,
            } => {
                self.close_device(device, role, code, &reason);
                let _ = done.send(());
            }
            Request::CloseShared { code, reason } => self
                .links
                .values()
                .filter(|link| link.up.is_by_shared_auth)
                .for_each(|link| link.up.outgoing.cut(code, reason)),
            Request::Granted(node, approved, opened, reply) => {
                self.granted(node, approved, opened);
                let _ = reply.send(());
            }
            Request::HostStats(node, stats) => self.report(node, |link| link.host_stats = Some(stats)),
            Request::MissingCommands(node, missing) => self.report(node, |link| link.missing_commands = Some(missing)),
            Request::Tools(node, tools) => self.report(node, |link| link.tools = tools),
            Request::Devices(reply) => drop(reply.send(self.devices())),
            Request::Awaited(node, reply) => self.awaited(node, reply, now),
            Request::Presence(reply) => drop(reply.send(self.presence())),
            Request::Hears(audience, reply) => drop(reply.send(self.hears(&audience))),
            Request::CallsChanged => self.calls_changed(),
            Request::Calls(reply) => drop(reply.send(self.flight.rows())),
            Request::Goodbye(reply) => {
                self.goodbye();
                let _ = reply.send(());
            }
        }
    }

    fn link_up(&mut self, up: LinkUp) -> (LinkId, u64) {
        self.next_link += 1;
        let (id, generation) = (LinkId(self.next_link), self.next_link);
        if let Some(node) = up.device.filter(|_| up.role == Role::Node) {
            self.nodes.insert(node, id);
        }
        let speaks_resume = up.language == Language::Native;
        let node = up.device.filter(|_| up.role == Role::Node && !speaks_resume);
        let link = Link {
            up,
            generation,
            connected_at_ms: clock::now_ms(),
            seq: 0,
            host_stats: None,
            missing_commands: None,
            tools: Arc::default(),
            memory: None,
            streams: None,
        };
        let arrived = link.up.device.filter(|_| link.up.role == Role::Node);
        self.links.insert(id, link);
        if let Some(arrived) = arrived {
            self.show(arrived);
            self.arrived(arrived);
        }
        if let Some(node) = node {
            // Such a node forgets its calls with its link: what it had is told so now.
            let orders = self.flight.link_up(node, generation, None, clock::instant());
            self.carry_out(orders);
            self.arrived.send_modify(|count| *count += 1);
        }
        self.presence_changed();
        (id, generation)
    }

    /// A node that was seen and is not linked has left; one that was not seen yet may be on its way back.
    fn awaited(&mut self, node: DeviceId, reply: oneshot::Sender<Option<Arc<LiveNode>>>, now: Instant) {
        let live = self.linked.one(node);
        if live.is_some() || self.seen.contains(&node) || now > self.started + RETURN {
            drop(reply.send(live));
        } else {
            let waiting = self.awaited.entry(node).or_default();
            waiting.retain(|reply| !reply.is_closed());
            waiting.push(reply);
        }
    }

    fn arrived(&mut self, node: DeviceId) {
        self.seen.insert(node);
        let live = self.linked.one(node);
        for reply in self.awaited.remove(&node).into_iter().flatten() {
            drop(reply.send(live.clone()));
        }
    }

    /// Cleans up exactly this link; a newer one of the same node keeps its place and its calls.
    fn link_down(&mut self, id: LinkId, now: Instant) {
        let Some(link) = self.links.remove(&id) else { return };
        if let Some(node) = link.up.device.filter(|node| self.nodes.get(node) == Some(&id)) {
            self.nodes.remove(&node);
            self.linked.remove(node);
            self.flight.link_down(node, link.generation, now);
            self.calls_changed();
        }
        self.presence_changed();
    }

    fn heard(&mut self, id: LinkId, frame: Frame, now: Instant) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(node) = link.up.device.filter(|_| link.up.role == Role::Node) else {
            return;
        };
        let generation = link.generation;
        let is_back = if let Frame::Resume(resume) = &frame {
            link.memory = Some(resume.boot.as_str().into());
            true
        } else {
            false
        };
        let orders = self.flight.heard(node, generation, frame, now);
        self.carry_out(orders);
        if is_back {
            self.show(node);
            self.arrived.send_modify(|count| *count += 1);
        }
        self.calls_changed();
    }

    fn carry_out(&mut self, mut orders: VecDeque<Order>) {
        while let Some(order) = orders.pop_front() {
            let Some(order) = self.held.hold(order, clock::instant()) else {
                continue;
            };
            self.release_held();
            let link = self
                .linked(&order.node)
                .filter(|link| link.generation == order.generation);
            let is_sent = link.is_some_and(|link| link.send(order.frame));
            if let (false, Some(call)) = (is_sent, order.call) {
                tracing::warn!(node = %order.node.short(), %call, "a node does not read; its link is closed");
                orders.extend(self.flight.unsent(&call, clock::instant()));
            }
        }
        if self.held.is_full() {
            self.release_held();
        }
    }

    /// A node whose link has gone meanwhile offers its ends again.
    fn release_held(&mut self) {
        for order in self.held.release() {
            let link = self.linked(&order.node);
            if let Some(link) = link.filter(|link| link.generation == order.generation) {
                link.send(order.frame);
            }
        }
    }

    fn linked(&self, node: &DeviceId) -> Option<&Link> {
        self.links.get(self.nodes.get(node)?)
    }

    fn broadcast(&mut self, broadcast: &Broadcast) {
        if broadcast.name == "health" {
            self.health_version += 1;
        }
        let state = (broadcast.name == "presence" || broadcast.name == "health").then_some(StateVersion {
            presence: self.presence_version,
            health: self.health_version,
        });
        for link in self.links.values_mut() {
            if !broadcast.audience.includes(&link.up) {
                continue;
            }
            link.seq += 1;
            let event = Event {
                name: broadcast.name.to_owned(),
                payload: broadcast.payload.clone(),
                seq: Some(link.seq),
                state,
            };
            // A peer that is behind misses broadcasts; its `seq` shows the gap.
            let _ = link
                .up
                .outgoing
                .try_send(Outgoing::Frame(Box::new(Frame::Event(event))));
        }
    }

    fn to_device(&self, device: DeviceId, role: Role, frame: &Frame) {
        for link in self
            .links
            .values()
            .filter(|link| link.up.device == Some(device) && link.up.role == role)
        {
            link.send(frame.clone());
        }
    }

    fn devices(&self) -> Vec<LiveDevice> {
        let device = |link: &Link| {
            Some(LiveDevice {
                device: link.up.device?,
                connected_at_ms: link.connected_at_ms,
                pipe: link.up.pipe,
            })
        };
        self.links.values().filter_map(device).collect()
    }

    fn close_device(&self, device: DeviceId, role: Option<Role>, code: u16, reason: &str) {
        let of_device = |link: &&Link| link.up.device == Some(device) && role.is_none_or(|role| role == link.up.role);
        self.links
            .values()
            .filter(of_device)
            .for_each(|link| link.up.outgoing.cut(code, reason));
    }

    fn granted(&mut self, node: DeviceId, approved: Surface, opened: BTreeSet<String>) {
        let Some(link) = self.nodes.get(&node).and_then(|id| self.links.get_mut(id)) else {
            return;
        };
        let facts = NodeFacts {
            approved,
            opened,
            ..NodeFacts::clone(&link.up.facts)
        };
        let is_denied = matches!(link.up.approval, SurfaceApproval::Reapproval(_));
        if is_denied || facts.approved.covers(&facts.declared) {
            link.up.approval = SurfaceApproval::Approved;
        }
        if link.up.language == Language::Native {
            link.send(Frame::Granted(facts.in_force()));
        }
        link.up.facts = Arc::new(facts);
        self.show(node);
        self.presence_changed();
    }

    /// What a node says of itself is kept with its newest link.
    fn report(&mut self, node: DeviceId, keep: impl FnOnce(&mut Link)) {
        if let Some(link) = self.nodes.get(&node).and_then(|id| self.links.get_mut(id)) {
            keep(link);
            self.show(node);
        }
    }

    fn streams(&mut self, id: LinkId, streams: Streams) {
        if let Some(link) = self.links.get_mut(&id) {
            link.streams = Some(streams);
            if let Some(node) = link.up.device.filter(|node| self.nodes.get(node) == Some(&id)) {
                self.show(node);
            }
        }
    }

    /// Lets others see what is known of a node now.
    fn show(&self, node: DeviceId) {
        if let Some(live) = self.nodes.get(&node).and_then(|id| self.live(*id)) {
            self.linked.set(live);
        }
    }

    fn live(&self, id: LinkId) -> Option<LiveNode> {
        let link = self.links.get(&id)?;
        Some(LiveNode {
            node: link.up.device?,
            link: id,
            streams: link.streams.clone(),
            client: link.up.client.clone(),
            facts: link.up.facts.clone(),
            approval: link.up.approval.clone(),
            path_env: link.up.path_env.clone(),
            address: link.up.address.clone(),
            language: link.up.language,
            connected_at_ms: link.connected_at_ms,
            host_stats: link.host_stats.clone(),
            missing_commands: link.missing_commands.clone(),
            tools: Arc::clone(&link.tools),
            memory: link.memory.clone(),
        })
    }

    /// Told a moment later, so that a thousand nodes that come back at once are one event.
    fn presence_changed(&mut self) {
        self.presence_version += 1;
        self.presence_due
            .get_or_insert_with(|| clock::instant() + PRESENCE_PAUSE);
    }

    /// Told a moment later, so that thousands of calls a second cost whoever watches a few events.
    fn calls_changed(&mut self) {
        self.calls_due.get_or_insert_with(|| clock::instant() + CALLS_PAUSE);
    }

    fn tell_calls(&mut self) {
        self.calls_due = None;
        let audience = Audience::Scope(Scope::Read);
        if self.hears(&audience) {
            self.broadcast(&Broadcast {
                name: "node.calls.changed",
                payload: json!({"ts": clock::now_ms()}).into(),
                audience,
            });
        }
    }

    fn tell_presence(&mut self) {
        self.presence_due = None;
        let audience = Audience::Scope(Scope::Read);
        if self.hears(&audience) {
            let payload = json!({"presence": self.presence_rows()}).into();
            self.broadcast(&Broadcast {
                name: "presence",
                payload,
                audience,
            });
        }
    }

    fn hears(&self, audience: &Audience) -> bool {
        self.links.values().any(|link| audience.includes(&link.up))
    }

    fn presence(&self) -> Json {
        json!({
            "presence": self.presence_rows(),
            "stateVersion": {"presence": self.presence_version, "health": self.health_version},
        })
        .into()
    }

    fn presence_rows(&self) -> Vec<serde_json::Value> {
        let own = json!({
            "host": self.own.host, "version": self.own.version, "platform": std::env::consts::OS,
            "deviceFamily": FAMILY, "mode": "gateway", "reason": "self", "instanceId": *self.own.instance,
            "text": format!("Gateway: {} · app {} · mode gateway · reason self", self.own.host, self.own.version),
            "ts": clock::now_ms(),
        });
        let links = self
            .links
            .values()
            .filter(|link| link.up.client.mode != "cli")
            .map(presence_row);
        std::iter::once(own).chain(links).collect()
    }

    fn goodbye(&mut self) {
        self.release_held();
        let payload = json!({"reason": "gateway stopping"}).into();
        self.broadcast(&Broadcast {
            name: "shutdown",
            payload,
            audience: Audience::Everyone,
        });
        for link in self.links.values() {
            link.up.outgoing.close(RESTART.0, RESTART.1);
        }
        self.flight.give_up();
    }
}

fn presence_row(link: &Link) -> serde_json::Value {
    let client = &link.up.client;
    let name = if client.display_name.is_empty() {
        &client.id
    } else {
        &client.display_name
    };
    let kind = match link.up.role {
        Role::Node => "Node",
        Role::Operator => "Operator",
    };
    json!({
        "host": name, "clientId": client.id, "mode": client.mode, "platform": client.platform, "version": client.version,
        "deviceFamily": client.device_family, "deviceId": link.up.device, "roles": [link.up.role],
        "instanceId": link.up.device.map_or_else(|| client.instance_id.clone(), |device| device.to_string()),
        "reason": "connect", "ts": link.connected_at_ms, "text": format!("{kind}: {name} · mode {}", client.mode),
    })
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
