//! Stands before each capability: lets a call through where the device's owner says so, asks where he wants to be asked, ends it when he
//! changes his mind, shows that it goes on, and writes down what became of it.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use atoll_capabilities::blob::{Blobs, NewBlob, NewStream};
use atoll_capabilities::mcp;
use atoll_capabilities::{Call, Capability, Description};
use atoll_protocol::blob::BlobHandle;
use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::ask::board::Board;
use crate::ask::{Answer, Asks, Ways, about};
use crate::consent::Consent;
use crate::ledger::{Entry, Ledger, Shared};
use crate::rules::document::{is_closed, mcp_tool};
use crate::rules::limits::{Limits, Rate};
use crate::rules::{Decision, Rules};

/// What a question leaves of a call's time, at most.
const WORK: Duration = Duration::from_secs(2);

/// What a call does besides that takes what the microphone hears.
const SOUND: &str = "audio.record";

/// How long the reason waits for whoever watches a stream that was stopped.
const LAST_WORD: Duration = Duration::from_secs(30);

/// The use of a family is shown again when it has not been for this long.
const SHOWN_AGAIN: Duration = Duration::from_secs(60);

/// What the owner of this device says of calls, and whom to ask.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) rules: Rules,
    pub(crate) asks: Asks,
    consent: Arc<Consent>,
    pub(crate) ledger: Ledger,
    limits: Mutex<Limits>,
    /// When the use of a family was shown last.
    shown: Mutex<HashMap<String, Instant>>,
}

/// Why a call does not run.
#[derive(Debug, PartialEq, Eq)]
struct Refused {
    code: &'static str,
    /// The rule or the person.
    because: String,
    /// For the caller.
    why: String,
}

impl Owner {
    /// Of the device whose folder this is.
    pub(crate) fn new(state_dir: &Path, consent: Arc<Consent>, ways: Ways) -> Self {
        Self {
            rules: Rules::new(state_dir),
            asks: Asks::new(Board::new(state_dir), ways),
            consent,
            ledger: Ledger::new(state_dir),
            limits: Mutex::default(),
            shown: Mutex::default(),
        }
    }

    /// Whether a call may run, after asking where that is wanted; gives where it is written or who said so.
    async fn admit(&self, command: &str, call: &Call) -> Result<String, Refused> {
        let look = self.rules.look();
        let (because, asks) = match look.decide(command, Timestamp::now()) {
            Decision::Allow { because } => (because, false),
            Decision::Ask { because } => (because, true),
            Decision::Deny { because, why } => return Err(Refused::new(refusal(command), because, why)),
        };
        if let Some(why) = look.rest(command) {
            return Err(Refused::new("QUIET_HOURS", "quiet hours".to_owned(), why));
        }
        // Before anybody is asked, so that nobody is bothered more often either.
        self.count(&look.rates(command))?;
        if !asks {
            return Ok(because);
        }
        let patience = call.deadline.saturating_sub(WORK.min(call.deadline / 2));
        let shown = about(call.params.as_ref());
        let answer = self.asks.ask(command, shown, self.consent.gateway(), patience).await;
        let by = match answer {
            Answer::Given(true, by) => by,
            refused @ (Answer::Given(..) | Answer::Nobody(_) | Answer::TooMany | Answer::Failed(_)) => {
                return Err(Refused::by_answer(command, &because, refused));
            }
        };
        // The rule may have changed while somebody thought about it.
        match self.rules.look().decide(command, Timestamp::now()) {
            Decision::Deny { because, why } => Err(Refused::new(refusal(command), because, why)),
            Decision::Allow { .. } | Decision::Ask { .. } => Ok(format!("{because}; yes by {by}")),
        }
    }

    fn count(&self, rates: &[(String, Rate)]) -> Result<(), Refused> {
        if rates.is_empty() {
            return Ok(());
        }
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let full = limits.take(rates, Instant::now());
        full.map_err(|full| {
            Refused::new(
                "RATE_LIMITED",
                format!("limit {}: {}", full.name, full.rate),
                full.to_string(),
            )
        })
    }

    /// Resolves when its owner keeps one of these off.
    async fn stopped(&self, uses: &[String]) -> CallError {
        let one = async |command: &String| stopped(command, &self.rules.stopped(command).await);
        let mut all: FuturesUnordered<_> = uses.iter().map(one).collect();
        match all.next().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Shows that a family is being used which looks, listens or tells where one is.
    fn show_use(&self, command: &str) {
        if !is_closed(command) || !self.rules.shows_use() {
            return;
        }
        let family = command.rsplit_once('.').map_or(command, |(family, _)| family);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_fresh = |at: &Instant| now.duration_since(*at) < SHOWN_AGAIN;
        if shown.get(family).is_some_and(is_fresh) {
            return;
        }
        shown.insert(family.to_owned(), now);
        self.asks
            .ways()
            .show(&format!("{command}, for {}", self.consent.gateway()));
    }
}

impl Refused {
    fn new(code: &'static str, because: String, why: String) -> Self {
        Self { code, because, why }
    }

    fn by_answer(command: &str, because: &str, answer: Answer) -> Self {
        let (code, word, why) = match answer {
            Answer::Given(_, by) => (
                "CONSENT_DENIED",
                format!("no by {by}"),
                format!("the person at the device said no to {command} ({by})"),
            ),
            Answer::Nobody(patience) => (
                "CONSENT_TIMEOUT",
                "nobody answered".to_owned(),
                format!(
                    "nobody at the device answered within {:.0} s whether {command} may run, which counts as no; try again when \
                     somebody is there, or its owner can run: atoll-node allow {command}",
                    patience.as_secs_f32()
                ),
            ),
            Answer::TooMany => (
                "BUSY",
                "too many questions".to_owned(),
                format!(
                    "too many questions wait for the person at the device already, so {command} was not asked; try again later"
                ),
            ),
            Answer::Failed(error) => (
                refusal(command),
                "cannot be asked".to_owned(),
                format!("{command} has to be asked on the device, and cannot be: {error}"),
            ),
        };
        Self::new(code, format!("{because}; {word}"), why)
    }
}

impl From<Refused> for CallError {
    fn from(refused: Refused) -> Self {
        Self::new(refused.code, refused.why)
    }
}

/// What the rules call what a call does: its command, or the tool of an MCP server that it is for.
fn ruled_name(call: &Call) -> String {
    mcp::called(call).map_or_else(|| call.command.clone(), |(server, tool)| mcp_tool(&server, &tool))
}

/// OpenClaw's code for a command that its owner keeps off.
fn refusal(command: &str) -> &'static str {
    match command.split('.').next() {
        Some("camera") => "CAMERA_DISABLED",
        Some("location") => "LOCATION_DISABLED",
        Some("audio") if command == "audio.record" => "MIC_DISABLED",
        Some("system") if command == "system.notify" => "NOTIFICATIONS_DISABLED",
        _ => "COMMAND_DENIED",
    }
}

/// What a call is told that was running when its owner changed his mind.
fn stopped(command: &str, why: &str) -> CallError {
    CallError::new(refusal(command), format!("{command} was stopped in the middle: {why}"))
}

/// A capability under the owner's rules.
pub(crate) struct Guarded {
    capability: Arc<dyn Capability>,
    owner: Arc<Owner>,
}

impl Guarded {
    /// Offers less where the rules say so.
    pub(crate) fn new(capability: Arc<dyn Capability>, owner: Arc<Owner>) -> Self {
        Self { capability, owner }
    }

    async fn work(&self, mut call: Call, entry: &Shared) -> Result<Option<Json>, CallError> {
        let began = Instant::now();
        let cancel = call.cancel.clone();
        let command = ruled_name(&call);
        let admitted = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(CallError::new("CANCELLED", "the call was cancelled before anybody allowed it")),
            admitted = self.admit(&command, &mut call) => admitted,
        };
        match admitted {
            Ok(because) => entry.change(|entry| entry.allowed(because)),
            Err(refused) => {
                entry.change(|entry| entry.denied(refused.because.clone()));
                return Err(refused.into());
            }
        }
        call.deadline = call.deadline.saturating_sub(began.elapsed());
        let is_heard = call.silent.is_none() && self.capability.listens(&call);
        let uses: Vec<_> = std::iter::once(command)
            .chain(is_heard.then(|| SOUND.to_owned()))
            .collect();
        uses.iter().for_each(|command| self.owner.show_use(command));
        call.blobs = call.blobs.map(|blobs| {
            let (owner, command, entry) = (self.owner.clone(), uses[0].clone(), entry.clone());
            Arc::new(Stoppable {
                blobs,
                owner,
                command,
                entry,
            }) as _
        });
        // Dropping the work kills whatever it started.
        tokio::select! {
            biased;
            error = self.owner.stopped(&uses) => {
                entry.change(Entry::stopped);
                Err(error)
            }
            done = self.capability.invoke(call) => done,
        }
    }

    /// The call, and then its sound, which may be kept off alone.
    async fn admit(&self, command: &str, call: &mut Call) -> Result<String, Refused> {
        let because = self.owner.admit(command, call).await?;
        if !self.capability.listens(call) {
            return Ok(because);
        }
        match self.owner.admit(SOUND, call).await {
            Ok(sound) => Ok(format!("{because}; sound: {sound}")),
            Err(refused) => {
                call.silent = Some(refused.why);
                Ok(format!("{because}; no sound: {}", refused.because))
            }
        }
    }
}

#[async_trait]
impl Capability for Guarded {
    fn describe(&self) -> Description {
        let mut description = self.capability.describe();
        let (look, now) = (self.owner.rules.look(), Timestamp::now());
        let all = std::mem::take(&mut description.commands);
        for command in all {
            match look.decide(command, now) {
                Decision::Allow { .. } | Decision::Ask { .. } => description.commands.push(command),
                Decision::Deny { why, .. } => description.missing.push((command, why)),
            }
        }
        description
    }

    async fn invoke(&self, call: Call) -> Result<Option<Json>, CallError> {
        let gateway = self.owner.consent.gateway_id();
        let entry = Shared::new(self.owner.ledger.open(call.id.as_str(), &call.command, gateway));
        let result = self.work(call, &entry).await;
        entry.change(|entry| entry.ended(&result));
        result
    }
}

/// What a call gives beside its result; streams go on after it, and end when the owner changes his mind.
#[derive(Debug)]
struct Stoppable {
    blobs: Arc<dyn Blobs>,
    owner: Arc<Owner>,
    command: String,
    entry: Shared,
}

#[async_trait]
impl Blobs for Stoppable {
    fn offer(&self, blob: NewBlob) -> Result<BlobHandle, CallError> {
        self.blobs.offer(blob)
    }

    fn offer_stream(&self, stream: NewStream) -> BlobHandle {
        let (give, parts) = mpsc::channel(1);
        let (owner, uses, entry) = (self.owner.clone(), [self.command.clone()], self.entry.clone());
        let whole = stream.parts;
        // The call is over; what it began is written down when this is.
        tokio::spawn(async move {
            let forwarding = forward(whole, &give);
            let error = tokio::select! {
                biased;
                error = owner.stopped(&uses) => error,
                broken = forwarding => {
                    entry.change(|entry| broken.iter().for_each(|error| entry.broke(error)));
                    return;
                }
            };
            entry.change(Entry::stopped);
            drop(entry);
            // Whoever reads nothing for so long has seen the last of it all the same.
            let _ = tokio::time::timeout(LAST_WORD, give.send(Err(error))).await;
        });
        self.blobs.offer_stream(NewStream {
            name: stream.name,
            mime: stream.mime,
            parts,
        })
    }

    async fn take(&self, blob: &BlobHandle, into: File) -> Result<(), CallError> {
        self.blobs.take(blob, into).await
    }
}

type Part = Result<Vec<u8>, CallError>;

/// Until there is no more, or nobody who wants it; gives why it broke off, if it did. Takes a part only when there is room, so that what
/// waits is the newest.
async fn forward(mut parts: mpsc::Receiver<Part>, give: &mpsc::Sender<Part>) -> Option<CallError> {
    let mut broken = None;
    while let Ok(room) = give.reserve().await {
        let part = tokio::select! {
            biased;
            () = give.closed() => break,
            part = parts.recv() => part,
        };
        let Some(part) = part else { break };
        broken = part.as_ref().err().cloned();
        room.send(part);
    }
    broken
}
