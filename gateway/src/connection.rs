//! One WebSocket from its upgrade to its end: handshake, verdict, then frames both ways. Owns the deadlines of that way. Never decides
//! who may come in ([`atoll_pairing::admission`]) nor what a frame means ([`crate::rpc`], [`crate::hub`]).

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use atoll_pairing::access::commands::NodeFacts;
use atoll_pairing::admission::{self, Method, Verdict};
use atoll_pairing::book::SurfaceApproval;
use atoll_pairing::greet::{Guest, greet};
use atoll_pairing::link::stream::{Incoming, Streams};
use atoll_pairing::link::{Link, LinkError, LinkRx, LinkTx, Pipe, Received};
use atoll_pairing::proven::{Language, Origin, Proven};
use atoll_protocol::capability::Surface;
use atoll_protocol::dialect;
use atoll_protocol::dialect::refusal::{PairingRefusal, Refusal};
use atoll_protocol::frame::{self, Frame};
use atoll_protocol::id::DeviceId;
use atoll_protocol::limits;
use atoll_protocol::scope::Role;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::book::Book;
use crate::clock;
use crate::hello;
use crate::house::House;
use crate::hub::{Hub, LinkId, LinkUp, Outgoing, Outlet, Queued, outlet};
use crate::rpc::{self, Caller};

/// A device that waits for its approval keeps its request alive this often.
const KEEP_WAITING: Duration = Duration::from_secs(60);

/// A link that is closed at once still gets what was queued for it before, for this long.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Serves one WebSocket to its end.
pub(crate) async fn serve(house: Arc<House>, pipe: Pipe, origin: Origin) {
    let is_far = origin.local_user.is_none() && !origin.is_direct_loopback;
    let facts = pipe.facts();
    let language = facts.language.unwrap_or(Language::Dialect);
    if is_far && language == Language::Native && facts.exporter.is_none() {
        return pipe
            .close(1008, "from another machine the native language needs wss://")
            .await;
    }
    let over = match (origin.local_user, facts.exporter) {
        (Some(_), _) => "unix",
        (None, Some(_)) if pipe.is_quic() && language == Language::Native => "quic",
        (None, Some(_)) if pipe.is_quic() => "webtransport",
        (None, Some(_)) => "wss",
        (None, None) => "ws",
    };
    // What coming in takes is not kept by a link that rests, and there may be thousands of those.
    let opened = Box::pin(come_in(&house, pipe, &origin, over)).await;
    drop(origin);
    if let Some(opened) = opened {
        carry(house, opened).await;
    }
}

/// From the first word to the greeting; none when it goes no further.
async fn come_in(house: &House, pipe: Pipe, origin: &Origin, over: &'static str) -> Option<Opened> {
    let language = pipe.facts().language.unwrap_or(Language::Dialect);
    match greet(pipe, language, house.identity.clone()).await {
        Ok(guest) => {
            let (guest, admitted) = Box::pin(knock(house, guest, origin)).await?;
            enter(house, guest, origin, over, *admitted).await
        }
        Err(error) => {
            tracing::debug!(address = origin.address, %error, "a peer did not come in");
            None
        }
    }
}

/// Asks for the verdict, and waits with the guest for as long as a person takes. None when it is sent away or leaves.
async fn knock(house: &House, mut guest: Guest, origin: &Origin) -> Option<(Guest, Box<admission::Admitted>)> {
    let _seat = if is_known(house, &guest) {
        None
    } else {
        let Some(seat) = house.seats.take(origin) else {
            let retry_after_ms = u64::try_from(KEEP_WAITING.as_millis()).unwrap_or(u64::MAX);
            guest.refuse(&Refusal::RateLimited { retry_after_ms }).await;
            return None;
        };
        Some(seat)
    };
    let mut decisions = house.book.decisions();
    let mut told: Option<PairingRefusal> = None;
    let mut _present = None;
    loop {
        let is_first = told.is_none();
        match house.admit(guest.proven().clone(), origin.clone(), is_first).await {
            Verdict::Admitted(admitted) => return Some((guest, admitted)),
            Verdict::Refused(refusal) => {
                guest.refuse(&refusal).await;
                return None;
            }
            Verdict::Waiting(waiting) => {
                if told.as_ref().is_none_or(|told| told.request != waiting.pairing.request) {
                    guest = guest.wait(&waiting.pairing).await.ok()??;
                    if told.is_none() {
                        _present = Some(Present::new(house, waiting.pairing.device).await);
                    }
                    told = Some(waiting.pairing);
                }
            }
        }
        tokio::select! {
            decided = decisions.changed() => decided.ok()?,
            () = tokio::time::sleep(KEEP_WAITING) => {}
            _ = guest.gone() => return None,
        }
        if let Some(told) = &told
            && was_rejected(house, told).await
        {
            // Told so, that it does not ask again by itself at once.
            guest.refuse(&Refusal::Pairing(Box::new(told.clone()))).await;
            return None;
        }
    }
}

/// A device that waits on its link, for the book; however its wait ends.
struct Present {
    book: Book,
    tasks: TaskTracker,
    device: DeviceId,
}

impl Present {
    async fn new(house: &House, device: DeviceId) -> Self {
        // While the gateway goes down nobody is pushed out any more.
        let _ = house.book.note(move |book| book.waits(device)).await;
        Self {
            book: house.book.clone(),
            tasks: house.tasks.clone(),
            device,
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let (book, device) = (self.book.clone(), self.device);
        self.tasks
            .spawn(async move { book.note(move |book| book.gone(device)).await });
    }
}

/// Whether there is nothing to ask a person about. A device that nobody knows may need no secret to ask.
fn is_known(house: &House, guest: &Guest) -> bool {
    let proven = guest.proven();
    proven
        .device()
        .is_none_or(|device| house.book.knows(device.id, proven.claims().role))
}

/// The request is gone, and its device was not approved.
async fn was_rejected(house: &House, told: &PairingRefusal) -> bool {
    let (device, role, request) = (told.device, told.role, told.request.clone());
    let is_open = house.book.read(move |book, now| {
        let is_approved = book.record(device).is_some_and(|record| record.role(role).is_some());
        is_approved || book.request(&request, now).is_some()
    });
    !is_open.await.unwrap_or(true)
}

/// A link that was greeted.
struct Opened {
    link: Link,
    queue: Queued,
    caller: Arc<Caller>,
    outgoing: Outlet,
    linked: Linked,
}

/// Registers the peer and greets it.
async fn enter(
    house: &House,
    guest: Guest,
    origin: &Origin,
    over: &'static str,
    admitted: admission::Admitted,
) -> Option<Opened> {
    let (outgoing, queue) = outlet();
    let connection = uuid::Uuid::new_v4().to_string();
    // Registered before it is greeted, so that it misses nothing; the writer starts after the greeting.
    let up = LinkUp {
        pipe: over,
        ..link_up(guest.proven(), origin, &admitted, &connection, outgoing.clone())
    };
    let (link, generation) = house.hub.link_up(up).await?;
    let linked = Linked {
        hub: house.hub.clone(),
        link,
    };
    let link = welcome(house, guest, &admitted, &connection, generation).await.ok()?;
    Some(Opened {
        link,
        queue,
        caller: Arc::new(Caller::new(Arc::new(admitted.principal.with_connection(connection)))),
        outgoing,
        linked,
    })
}

/// Carries frames until one end hangs up.
async fn carry(house: Arc<House>, opened: Opened) {
    let Opened {
        mut link,
        mut queue,
        caller,
        outgoing,
        linked,
    } = opened;
    let _gone = caller.gone.clone().drop_guard();
    let node = caller.principal.device_id();
    let node = node.filter(|_| caller.principal.role() == Role::Node);
    let blobs = offer_blobs(&house, linked.link, node.zip(link.take_streams())).await;
    if node.is_some() {
        // The queue is empty, so there is room.
        let _ = outgoing.try_send(Outgoing::Frame(Box::new(Frame::Clock(clock::now_ms()))));
    }
    let (mut tx, mut rx) = link.split();
    let peer = caller.principal.label();
    let reader = Reader {
        house,
        caller,
        outgoing,
        link: linked.link,
    };
    let end = tokio::select! {
        end = reader.run(&mut rx) => end,
        end = write(&mut tx, &mut queue) => end,
        never = blobs => match never {},
    };
    // Both halves hear of it when streams are misused; whichever is first ends the link.
    if let End::Failed(error) = &end {
        note(&peer, error);
    }
    tracing::debug!(link = linked.link.0, %end, "a link ended");
}

/// Why a link ended.
#[derive(Debug)]
enum End {
    Meant(String),
    Failed(LinkError),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meant(reason) => f.write_str(reason),
            Self::Failed(error) => write!(f, "{error}"),
        }
    }
}

/// Lets blobs be fetched from a node, and lets it fetch those that its calls name. Nobody else has any here.
async fn offer_blobs(
    house: &House,
    link: LinkId,
    node: Option<(DeviceId, (Streams, Incoming))>,
) -> impl Future<Output = Infallible> + Send + use<> {
    let mut serving = None;
    if let Some((node, (streams, incoming))) = node {
        house.hub.streams(link, streams).await;
        serving = Some(house.ring.offers.clone().serve(node, incoming));
    }
    async move {
        if let Some(serving) = serving {
            serving.await;
        }
        std::future::pending().await
    }
}

/// Takes the link out of the hub, however its task ends.
struct Linked {
    hub: Hub,
    link: LinkId,
}

impl Drop for Linked {
    fn drop(&mut self) {
        let (hub, link) = (self.hub.clone(), self.link);
        tokio::spawn(async move { hub.link_down(link).await });
    }
}

fn link_up(
    proven: &Proven,
    origin: &Origin,
    admitted: &admission::Admitted,
    connection: &str,
    outgoing: Outlet,
) -> LinkUp {
    let claims = proven.claims();
    let (facts, approval) = match &admitted.grant {
        Some(grant) => (grant.facts.clone(), grant.approval.clone()),
        None => (
            NodeFacts::new(&claims.client, Surface::default(), Surface::default()),
            SurfaceApproval::Approved,
        ),
    };
    LinkUp {
        connection: connection.to_owned(),
        role: admitted.principal.role(),
        scopes: admitted.principal.scopes().clone(),
        device: admitted.principal.device_id(),
        client: claims.client.clone(),
        facts: Arc::new(facts),
        approval,
        path_env: claims.path_env.clone(),
        address: origin.address.clone(),
        pipe: "",
        language: proven.language(),
        is_by_shared_auth: match admitted.method {
            Method::None | Method::Token | Method::Password | Method::TrustedProxy => true,
            Method::DeviceToken | Method::SetupCode | Method::DeviceKey | Method::LocalUser => false,
        },
        outgoing,
    }
}

async fn welcome(
    house: &House,
    guest: Guest,
    admitted: &admission::Admitted,
    connection: &str,
    generation: u64,
) -> Result<Link, LinkError> {
    let greeting = frame::Admitted {
        connection: connection.to_owned(),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        role: admitted.principal.role(),
        scopes: admitted.principal.scopes().clone(),
        surface: admitted
            .grant
            .as_ref()
            .map(|grant| grant.surface.clone())
            .unwrap_or_default(),
        generation,
        tick_ms: u64::try_from(limits::TICK.as_millis()).unwrap_or(u64::MAX),
    };
    let hello = match guest.proven().language() {
        Language::Native => None,
        Language::Dialect => Some(hello::build(house, admitted, connection).await),
    };
    guest.admit(greeting, |_| hello.unwrap_or_default()).await
}

/// Sends what is queued, in order, until the link is to end.
async fn write(tx: &mut LinkTx, queue: &mut Queued) -> End {
    let cut = queue.cut();
    let (code, reason) = tokio::select! {
        biased;
        why = cut => why,
        end = write_all(tx, queue) => return end,
    };
    let _ = tokio::time::timeout(LAST_WORDS, async {
        while let Some((outgoing, _room)) = queue.try_next() {
            if write_one(tx, outgoing).await.is_err() {
                return;
            }
        }
        // Whoever does not take its last words does not get them.
        let _ = tx.flush().await;
    })
    .await;
    tx.close(code, &reason).await;
    End::Meant(reason)
}

/// What waits together leaves together; then a little of the streams.
async fn write_all(tx: &mut LinkTx, queue: &mut Queued) -> End {
    loop {
        let mut next = tokio::select! {
            biased;
            next = queue.next() => match next {
                Some(next) => Some(next),
                None => return End::Meant("nobody speaks to it any more".to_owned()),
            },
            () = tx.streams_due() => None,
        };
        while let Some((outgoing, _room)) = next {
            if let Err(end) = write_one(tx, outgoing).await {
                return end;
            }
            next = queue.try_next();
        }
        if let Err(error) = tx.feed_streams().await {
            return End::Failed(error);
        }
        if let Err(error) = tx.flush().await {
            return End::Failed(error);
        }
    }
}

/// For the owner: no network does this.
fn note(peer: &str, error: &LinkError) {
    if error.is_violation() {
        tracing::warn!(peer, %error, "a peer broke the rules; its link is closed");
    }
}

/// The error says why it was the last one.
async fn write_one(tx: &mut LinkTx, outgoing: Outgoing) -> Result<(), End> {
    let sent = match outgoing {
        Outgoing::Frame(frame) => feed(tx, &frame).await,
        Outgoing::Text(text) => tx.feed_text(text).await,
        Outgoing::Close { code, reason } => {
            tx.close(code, &reason).await;
            return Err(End::Meant(reason));
        }
    };
    sent.map_err(End::Failed)
}

/// A reply too large for the language becomes an error reply; anything else that is too large is dropped, and said so.
async fn feed(tx: &mut LinkTx, frame: &Frame) -> Result<(), LinkError> {
    match (tx.feed(frame).await, frame) {
        (Err(LinkError::Frame(error)), Frame::Response(response)) => {
            tx.feed(&Frame::Response(rpc::too_large(&response.id, &error))).await
        }
        (Err(LinkError::Frame(error)), _) => {
            tracing::warn!(%error, kind = frame.kind(), "a frame could not be written");
            Ok(())
        }
        (sent, _) => sent,
    }
}

struct Reader {
    house: Arc<House>,
    caller: Arc<Caller>,
    outgoing: Outlet,
    link: LinkId,
}

impl Reader {
    /// Routes what comes. A peer with too much under way is read no further until something of it ends.
    async fn run(&self, rx: &mut LinkRx) -> End {
        let usual = Arc::new(Semaphore::new(limits::OPERATOR_REQUESTS));
        let urgent = Arc::new(Semaphore::new(limits::OPERATOR_URGENT));
        loop {
            let frame = match rx.recv().await {
                Ok(Received::Frame(frame)) => frame,
                Ok(Received::Reject(reject)) => {
                    if self.reject(reject).await {
                        continue;
                    }
                    // The writer says so and ends the link; ending here would keep it from that.
                    return std::future::pending().await;
                }
                Err(error) => return self.ended(error).await,
            };
            match (self.caller.principal.role(), frame) {
                (_, Frame::Request(request)) => {
                    let room = if rpc::is_urgent(&request.method) {
                        &urgent
                    } else {
                        &usual
                    };
                    let Ok(permit) = room.clone().acquire_owned().await else {
                        return End::Meant("closed".to_owned());
                    };
                    let (house, caller, outgoing) = (self.house.clone(), self.caller.clone(), self.outgoing.clone());
                    let stop = house.turns.stop.clone();
                    let mut served = Box::pin(async move {
                        tokio::select! {
                            biased;
                            () = stop.cancelled() => {}
                            () = rpc::serve(house, caller, request, outgoing, permit) => {}
                        }
                    });
                    // Most answers wait for nobody, and need no task of their own.
                    let begun = poll_fn(|context| Poll::Ready(served.as_mut().poll(context)));
                    if begun.await.is_pending() {
                        self.house.tasks.spawn(served);
                    }
                }
                (_, Frame::Ping(number)) => {
                    // A peer that is behind has enough to hear.
                    let _ = self.outgoing.try_send(Outgoing::Frame(Box::new(Frame::Pong(number))));
                }
                (Role::Node, frame) => self.house.hub.heard(self.link, frame).await,
                (Role::Operator, frame) => {
                    tracing::debug!(kind = frame.kind(), "a frame that an operator does not send")
                }
            }
        }
    }

    /// The link is over, or will be as soon as the peer has been told why.
    async fn ended(&self, error: LinkError) -> End {
        if let LinkError::Frame(wrong) = &error {
            note(&self.caller.principal.label(), &error);
            self.outgoing.cut(1002, &wrong.to_string());
            // The writer says so and ends the link.
            return std::future::pending().await;
        }
        End::Failed(error)
    }

    /// False when the link ends with it.
    async fn reject(&self, reject: dialect::Reject) -> bool {
        if let Some(answer) = reject.answer {
            self.outgoing.send(Outgoing::Text(answer)).await;
        }
        let Some((code, reason)) = reject.close else {
            return true;
        };
        self.outgoing.close(code, &reason);
        false
    }
}
