//! The owner of the pairing book: one task changes it, stores what must be durable before anybody hears of it, then tells and closes.
//! The rules are [`atoll_pairing::book`]'s and [`atoll_pairing::admission`]'s.

use std::collections::HashMap;
use std::sync::Arc;

use atoll_pairing::access::Principal;
use atoll_pairing::book::record::{StoredCode, StoredDevice};
use atoll_pairing::book::{Book as Records, BookError, Change, DeviceRecord, SetupCode};
use atoll_protocol::error::WireError;
use atoll_protocol::frame::{Event, Frame};
use atoll_protocol::id::DeviceId;
use atoll_protocol::scope::{Role, Scope};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock;
use crate::hub::{Broadcast, Hub};
use crate::journal::records::{self, Edit, Kind};
use crate::journal::{Durability, Journal, JournalError};

/// Requests that wait for the owner; callers wait for room.
const QUEUE: usize = 1024;

/// How often requests that nobody retries are looked for.
const EXPIRY: std::time::Duration = std::time::Duration::from_secs(5);

type Work = Box<dyn FnOnce(&mut Records, u64) -> (Vec<Change>, Answer) + Send>;
type Answer = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

/// A handle to the owner.
#[derive(Clone)]
pub(crate) struct Book {
    requests: mpsc::Sender<Work>,
    /// Counts decisions, for links that wait for one.
    decisions: watch::Receiver<u64>,
    /// The generation in force of every grant, for whoever decides without waiting.
    generations: watch::Receiver<Arc<Generations>>,
}

type Generations = HashMap<(DeviceId, Role), u64>;

impl Book {
    /// Reads the stored records and makes the owner's loop.
    pub(crate) async fn open(journal: Journal, hub: Hub) -> Result<(Self, impl Future<Output = ()>), JournalError> {
        let records = load(&journal).await?;
        let (requests, queue) = mpsc::channel(QUEUE);
        let (decided, decisions) = watch::channel(0);
        let (published, generations) = watch::channel(Arc::new(generations_of(&records)));
        let owner = Owner {
            records,
            journal,
            hub,
            decided,
            published,
        };
        Ok((
            Self {
                requests,
                decisions,
                generations,
            },
            owner.run(queue),
        ))
    }

    /// Looks something up.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Records, u64) -> T + Send + 'static,
    ) -> Result<T, WireError> {
        self.change(|records, now| Ok((look(records, now), Vec::new()))).await
    }

    /// Changes the book; returns once what must be durable is.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Records, u64) -> Result<(T, Vec<Change>), BookError> + Send + 'static,
    ) -> Result<T, WireError> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |records, now| match work(records, now) {
            Ok((value, changes)) => {
                let answer = move |stored: Result<(), JournalError>| drop(reply.send(stored.map(|()| Ok(value))));
                (changes, Box::new(answer))
            }
            Err(error) => (Vec::new(), Box::new(move |_| drop(reply.send(Ok(Err(error)))))),
        });
        let going_down = || WireError::unavailable("the gateway is going down");
        self.requests.send(work).await.map_err(|_| going_down())?;
        match answer.await.map_err(|_| going_down())? {
            Ok(decided) => decided.map_err(WireError::from),
            Err(error) => Err(WireError::unavailable(format!(
                "the pairing could not be stored: {error}"
            ))),
        }
    }

    /// Notes what is true of the moment and never stored.
    pub(crate) async fn note(&self, work: impl FnOnce(&mut Records) + Send + 'static) -> Result<(), WireError> {
        self.change(|records, _| {
            work(records);
            Ok(((), Vec::new()))
        })
        .await
    }

    /// Whether the grant behind a principal is still in force.
    pub(crate) fn is_current(&self, principal: &Principal) -> bool {
        let Some(device) = principal.device_id() else {
            return true;
        };
        self.generations.borrow().get(&(device, principal.role())) == Some(&principal.generation())
    }

    /// Whether a device was granted a role.
    pub(crate) fn knows(&self, device: DeviceId, role: Role) -> bool {
        self.generations.borrow().contains_key(&(device, role))
    }

    /// Changes whenever somebody approved or rejected something.
    pub(crate) fn decisions(&self) -> watch::Receiver<u64> {
        self.decisions.clone()
    }
}

struct Owner {
    records: Records,
    journal: Journal,
    hub: Hub,
    decided: watch::Sender<u64>,
    published: watch::Sender<Arc<Generations>>,
}

impl Owner {
    async fn run(mut self, mut queue: mpsc::Receiver<Work>) {
        let mut expiry = tokio::time::interval(EXPIRY);
        loop {
            let work = tokio::select! {
                biased;
                work = queue.recv() => work,
                _ = expiry.tick() => {
                    let changes = self.records.expire(clock::now_ms());
                    // What is not forgotten on disk now is after the next start.
                    if let Err(error) = self.store(&changes).await {
                        tracing::warn!(%error, "old setup codes were not forgotten");
                    }
                    self.enforce(&changes).await;
                    self.follow(changes).await;
                    continue;
                }
            };
            let Some(work) = work else { return };
            let (changes, answer) = work(&mut self.records, clock::now_ms());
            let stored = self.store(&changes).await;
            let is_stored = stored.is_ok();
            if !is_stored {
                self.take_back().await;
            }
            if changes.iter().any(Change::is_durable) {
                self.published.send_replace(Arc::new(generations_of(&self.records)));
            }
            // What is not durable did not happen, as far as others are concerned.
            if is_stored {
                self.enforce(&changes).await;
            }
            answer(stored);
            if is_stored {
                self.follow(changes).await;
            }
        }
    }

    /// What could not be stored did not happen. Devices that wait to be approved ask again by themselves.
    async fn take_back(&mut self) {
        match load(&self.journal).await {
            Ok(records) => self.records = records,
            Err(error) => tracing::error!(%error, "the paired devices cannot be read back"),
        }
    }

    async fn store(&self, changes: &[Change]) -> Result<(), JournalError> {
        let mut durable = Vec::new();
        for change in changes {
            match change {
                Change::Put(record) => durable.push(put(record)),
                Change::Remove(device) => durable.push(Edit::Remove(Kind::Device, device.to_string())),
                Change::PutCode(code) => durable.push(put_code(code)),
                Change::ForgetCode(id) => durable.push(Edit::Remove(Kind::SetupCode, id.to_string())),
                Change::Seen(record) => {
                    let edit = put(record);
                    self.journal
                        .post(Durability::Lazy, "device seen", move |db| records::edit(db, &edit))
                        .await;
                }
                Change::Event { .. } | Change::Surface(_) | Change::Close { .. } => {}
            }
        }
        if durable.is_empty() {
            return Ok(());
        }
        let write = move |db: &rusqlite::Connection| durable.iter().try_for_each(|edit| records::edit(db, edit));
        self.journal.write(Durability::Durable, write).await
    }

    /// Whoever is told that a node lost something can rely on it. The links of operators are closed later: the one who asked
    /// may be on one of them, and has an answer to come.
    async fn enforce(&self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Surface(device) => {
                    if let Some(record) = self.records.record(*device) {
                        self.hub
                            .granted(*device, record.surface.clone(), record.opened.clone())
                            .await;
                    }
                }
                Change::Close {
                    device,
                    role: None | Some(Role::Node),
                    code,
                    reason,
                } => {
                    self.hub.close_device(*device, Some(Role::Node), *code, reason).await;
                }
                Change::Put(_)
                | Change::Seen(_)
                | Change::Remove(_)
                | Change::PutCode(_)
                | Change::ForgetCode(_)
                | Change::Event { .. }
                | Change::Close { .. } => {}
            }
        }
    }

    /// Tells who is to hear of it.
    async fn follow(&self, changes: Vec<Change>) {
        let mut is_decision = false;
        for change in changes {
            match change {
                Change::Put(_) | Change::Remove(_) | Change::PutCode(_) | Change::ForgetCode(_) | Change::Seen(_) => {}
                Change::Event {
                    name,
                    payload,
                    to_device,
                } => {
                    is_decision |= name.ends_with(".resolved");
                    self.hub
                        .broadcast(Broadcast::to_scope(name, payload.clone(), Scope::Pairing))
                        .await;
                    if let Some(device) = to_device {
                        let event = Event {
                            name: name.to_owned(),
                            payload,
                            seq: None,
                            state: None,
                        };
                        self.hub.to_device(device, Role::Node, Frame::Event(event)).await;
                    }
                }
                Change::Surface(_) => is_decision = true,
                Change::Close {
                    device,
                    role,
                    code,
                    reason,
                } => {
                    self.hub.close_device(device, role, code, reason).await;
                }
            }
        }
        if is_decision {
            self.decided.send_modify(|count| *count += 1);
        }
    }
}

async fn load(journal: &Journal) -> Result<Records, JournalError> {
    let stored = journal.read(|db| records::all(db, Kind::Device)).await?;
    let records = stored.into_iter().filter_map(|text| {
        restored(&text)
            .inspect_err(|error| tracing::error!(error, "a stored device cannot be read; it must pair again"))
            .ok()
    });
    let codes = journal.read(|db| records::all(db, Kind::SetupCode)).await?;
    let codes = codes.into_iter().filter_map(|text| {
        serde_json::from_str::<StoredCode>(&text)
            .inspect_err(|error| tracing::error!(%error, "a stored setup code cannot be read; it is void"))
            .ok()
    });
    Ok(Records::restore(records, codes.map(SetupCode::from)))
}

fn put(record: &DeviceRecord) -> Edit {
    Edit::Put(Kind::Device, record.id.to_string(), stored(record))
}

fn put_code(code: &SetupCode) -> Edit {
    let text = serde_json::to_string(&StoredCode::from(code)).expect("a stored code has text keys, so it serialises");
    Edit::Put(Kind::SetupCode, code.id.to_string(), text)
}

fn stored(record: &DeviceRecord) -> String {
    serde_json::to_string(&StoredDevice::from(record)).expect("a stored device has text keys, so it serialises")
}

fn restored(text: &str) -> Result<DeviceRecord, String> {
    let stored: StoredDevice = serde_json::from_str(text).map_err(|error| error.to_string())?;
    DeviceRecord::try_from(stored).map_err(|error| error.to_string())
}

fn generations_of(records: &Records) -> Generations {
    let of_device = |record: &DeviceRecord| {
        let id = record.id;
        record
            .roles
            .iter()
            .map(move |(role, grant)| ((id, *role), grant.generation))
            .collect::<Vec<_>>()
    };
    records.records().flat_map(of_device).collect()
}
