//! The owner of the questions "may this run?": one task asks, stores each change before anybody hears of it, tells those who may answer,
//! and wakes those who wait. The rules are [`atoll_pairing::approval`]'s.

use std::sync::Arc;

use atoll_pairing::access::Granted;
use atoll_pairing::access::ResolveApproval;
use atoll_pairing::approval::record::{StoredApproval, StoredGrant};
use atoll_pairing::approval::{
    Approval, ApprovalChange, ApprovalError, Approvals as Questions, Decision, Ended, Grant, NewApproval, Requester,
    Spend, SpendError,
};
use atoll_pairing::book::DeviceRecord;
use atoll_protocol::error::WireError;
use atoll_protocol::id::{ApprovalId, RunId};
use atoll_protocol::scope::{Role, Scope};
use tokio::sync::{mpsc, oneshot, watch};

use crate::book::Book;
use crate::cards::{Cards, is_card_of};
use crate::clock;
use crate::hub::{Audience, Broadcast, Hub};
use crate::journal::{Durability, Journal, JournalError, records};

/// Requests that wait for the owner; callers wait for room.
const QUEUE: usize = 256;

/// How often late questions are looked for.
const EXPIRY: std::time::Duration = std::time::Duration::from_millis(500);

/// Questions that expired longer ago are not looked after in the chats any more, milliseconds.
const SHOWN_AGAIN_MS: u64 = 24 * 60 * 60 * 1000;

type Work = Box<dyn FnOnce(&mut Questions, u64) -> (Vec<ApprovalChange>, Answer) + Send>;
type Answer = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

/// Why a question could not be asked, answered or used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// The rules say no.
    #[error(transparent)]
    Rules(#[from] ApprovalError),
    /// There is no yes for this use.
    #[error(transparent)]
    Spend(#[from] SpendError),
    /// It could not be stored, so it did not happen.
    #[error("the approval could not be stored: {0}")]
    Storage(String),
    /// The gateway is going down; the question stays for the next start.
    #[error("the gateway is going down")]
    GoingDown,
}

impl From<Refused> for WireError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Rules(error) => error.to_wire(),
            Refused::Spend(error) => error.to_wire(),
            Refused::Storage(_) | Refused::GoingDown => Self::unavailable(refused.to_string()),
        }
    }
}

/// A handle to the owner.
#[derive(Clone)]
pub(crate) struct Approvals {
    requests: mpsc::Sender<Work>,
    /// Counts settled questions, for those who wait for one.
    settled: watch::Receiver<u64>,
    hub: Hub,
    book: Book,
    cards: Cards,
}

impl Approvals {
    /// Reads what is stored and makes the owner's loop.
    pub(crate) async fn open(
        journal: Journal,
        hub: Hub,
        book: Book,
        cards: Cards,
    ) -> Result<(Self, impl Future<Output = ()>), JournalError> {
        let questions = load(&journal).await?;
        let (requests, queue) = mpsc::channel(QUEUE);
        let (count, settled) = watch::channel(0);
        let mut owner = Owner {
            questions,
            journal,
            hub: hub.clone(),
            cards: cards.clone(),
            count,
        };
        owner.end_unsent().await?;
        let handle = Self {
            requests,
            settled,
            hub,
            book,
            cards,
        };
        Ok((handle, owner.run(queue)))
    }

    /// Looks something up.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Questions) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        self.change(|questions, _| Ok((look(questions), Vec::new()))).await
    }

    /// Asks. A question with this id that is there already is left as it is: it is the same one, asked before a restart.
    pub(crate) async fn ask(&self, new: NewApproval) -> Result<Approval, Refused> {
        let id = new.id.clone();
        self.change(move |questions, now| {
            let changes = match questions.request(new, now) {
                Ok(changes) => changes,
                Err(ApprovalError::IdTaken) => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            let approval = questions.find(&id).cloned().ok_or(ApprovalError::Unknown)?;
            Ok((approval, changes))
        })
        .await
    }

    /// Whether anybody could ever answer what this one asks: an owner in a chat, whoever is linked now and may, or for an agent's
    /// question a paired operator who may. The user of this machine could too, but need not know that it is asked.
    pub(crate) async fn has_route(&self, requester: &Requester) -> bool {
        let audience = Audience::Approvers(Arc::new(requester.clone()));
        if self.cards.has_somebody() || self.hub.hears(audience).await {
            return true;
        }
        let may_answer = |record: &DeviceRecord| {
            let operator = record.role(Role::Operator);
            operator.is_some_and(|grant| grant.scopes.give(Scope::Approvals))
        };
        let is_an_agents = requester.connection.is_none();
        let look = self.book.read(move |book, _| book.records().any(may_answer));
        is_an_agents && look.await.unwrap_or_default()
    }

    /// Says in the chat of a turn that nobody may answer its question.
    pub(crate) async fn say_nobody(&self, run: &RunId) {
        self.cards.say_nobody(run).await;
    }

    /// Answers.
    pub(crate) async fn resolve(&self, granted: Granted<ResolveApproval>, decision: Decision) -> Result<(), Refused> {
        self.change(move |questions, now| Ok(((), questions.resolve(&granted, decision, now)?)))
            .await
    }

    /// Uses a yes for one call.
    pub(crate) async fn spend(&self, id: ApprovalId, spend: Spend) -> Result<Approval, Refused> {
        self.change(move |questions, now| Ok(questions.consume(&id, &spend, now)?))
            .await
    }

    /// Ends a question that nobody needs an answer to any more.
    pub(crate) async fn withdraw(&self, id: ApprovalId, reason: Ended) -> Result<(), Refused> {
        self.change(move |questions, now| Ok(((), questions.withdraw(&id, reason, now))))
            .await
    }

    /// Waits until a question has an end, which its expiry bounds; none when there is no such question.
    pub(crate) async fn wait(&self, id: &ApprovalId) -> Result<Option<Approval>, Refused> {
        let mut settled = self.settled.clone();
        loop {
            settled.mark_unchanged();
            let wanted = id.clone();
            let approval = self.read(move |questions| questions.find(&wanted).cloned()).await?;
            if approval.as_ref().is_none_or(|approval| !approval.is_pending()) {
                return Ok(approval);
            }
            settled.changed().await.map_err(|_| Refused::GoingDown)?;
        }
    }

    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Questions, u64) -> Result<(T, Vec<ApprovalChange>), Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |questions, now| match work(questions, now) {
            Ok((value, changes)) => {
                let answer = move |stored: Result<(), JournalError>| {
                    drop(
                        reply.send(
                            stored
                                .map(|()| value)
                                .map_err(|error| Refused::Storage(error.to_string())),
                        ),
                    );
                };
                (changes, Box::new(answer))
            }
            Err(refused) => (Vec::new(), Box::new(move |_| drop(reply.send(Err(refused))))),
        });
        self.requests.send(work).await.map_err(|_| Refused::GoingDown)?;
        answer.await.map_err(|_| Refused::GoingDown)?
    }
}

struct Owner {
    questions: Questions,
    journal: Journal,
    hub: Hub,
    cards: Cards,
    count: watch::Sender<u64>,
}

impl Owner {
    /// Nothing is sent before this: a card whose question ended with an earlier start, or after it, must not go out any more.
    async fn end_unsent(&mut self) -> Result<(), JournalError> {
        let withdrawn = self.questions.withdraw_bound(clock::now_ms());
        self.store(&withdrawn).await?;
        self.follow(withdrawn).await;
        self.expire().await;
        for key in self.cards.unsent().await? {
            let over = |approval: &&Approval| !approval.is_pending() && is_card_of(&key, &approval.id);
            if let Some(approval) = self.questions.iter().find(over) {
                self.cards.show(approval).await;
            }
        }
        Ok(())
    }

    /// Puts into the chats what the end of an earlier start may have kept from them; what is there already is not repeated.
    async fn show_again(&self) {
        let since = clock::now_ms().saturating_sub(SHOWN_AGAIN_MS);
        for approval in self.questions.iter().filter(|approval| approval.expires_ms >= since) {
            self.cards.show(approval).await;
        }
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Work>) {
        self.show_again().await;
        let mut expiry = tokio::time::interval(EXPIRY);
        loop {
            let work = tokio::select! {
                biased;
                // First, so that no flood of questions keeps late ones open; it comes too seldom to hold anything up.
                _ = expiry.tick() => {
                    self.expire().await;
                    continue;
                }
                work = queue.recv() => work,
            };
            let Some(work) = work else { return };
            let (changes, answer) = work(&mut self.questions, clock::now_ms());
            let stored = self.store(&changes).await;
            let is_stored = stored.is_ok();
            if !is_stored {
                self.take_back().await;
            }
            answer(stored);
            if is_stored {
                self.follow(changes).await;
            }
        }
    }

    /// What could not be stored did not happen: nobody may find it here and act on it.
    async fn take_back(&mut self) {
        match load(&self.journal).await {
            Ok(questions) => self.questions = questions,
            Err(error) => tracing::error!(%error, "the approvals cannot be read back"),
        }
    }

    async fn expire(&mut self) {
        let now = clock::now_ms();
        if self.questions.next_expiry_ms().is_none_or(|at| at > now) {
            return;
        }
        let changes = self.questions.expire(now);
        if let Err(error) = self.store(&changes).await {
            tracing::error!(%error, "the end of an approval could not be stored");
        }
        self.follow(changes).await;
    }

    async fn store(&self, changes: &[ApprovalChange]) -> Result<(), JournalError> {
        let edits: Vec<_> = changes.iter().filter_map(edit).collect();
        if edits.is_empty() {
            return Ok(());
        }
        let write = move |db: &rusqlite::Connection| edits.iter().try_for_each(|edit| records::edit(db, edit));
        self.journal.write(Durability::Durable, write).await
    }

    async fn follow(&self, changes: Vec<ApprovalChange>) {
        for change in changes {
            match change {
                ApprovalChange::Put(_)
                | ApprovalChange::Forget(_)
                | ApprovalChange::PutGrant(_)
                | ApprovalChange::ForgetGrant(_) => {}
                ApprovalChange::Event { id, name, payload } => {
                    if let Some(approval) = self.questions.find(&id) {
                        let audience = Audience::Approvers(Arc::new(approval.requester.clone()));
                        self.hub
                            .broadcast(Broadcast {
                                name,
                                payload,
                                audience,
                            })
                            .await;
                        self.cards.show(approval).await;
                    }
                }
                ApprovalChange::Settled(_) => self.count.send_modify(|count| *count += 1),
            }
        }
    }
}

async fn load(journal: &Journal) -> Result<Questions, JournalError> {
    let (approvals, grants) = journal
        .read(|db| {
            Ok((
                records::all(db, records::Kind::Approval)?,
                records::all(db, records::Kind::Grant)?,
            ))
        })
        .await?;
    let approvals = approvals
        .iter()
        .filter_map(|text| restored::<StoredApproval, Approval>(text));
    let grants = grants.iter().filter_map(|text| restored::<StoredGrant, Grant>(text));
    Ok(Questions::restore(approvals, grants))
}

fn edit(change: &ApprovalChange) -> Option<records::Edit> {
    use records::{Edit, Kind};
    match change {
        ApprovalChange::Put(approval) => {
            let text = stored(&StoredApproval::from(approval.as_ref().clone()));
            Some(Edit::Put(Kind::Approval, approval.id.to_string(), text))
        }
        ApprovalChange::Forget(id) => Some(Edit::Remove(Kind::Approval, id.to_string())),
        ApprovalChange::PutGrant(grant) => Some(Edit::Put(
            Kind::Grant,
            grant.id.to_string(),
            stored(&StoredGrant::from(grant.as_ref().clone())),
        )),
        ApprovalChange::ForgetGrant(id) => Some(Edit::Remove(Kind::Grant, id.to_string())),
        ApprovalChange::Event { .. } | ApprovalChange::Settled(_) => None,
    }
}

fn stored<S: serde::Serialize>(twin: &S) -> String {
    serde_json::to_string(twin).expect("a stored twin has text keys, so it serialises")
}

fn restored<S: serde::de::DeserializeOwned, T: From<S>>(text: &str) -> Option<T> {
    match serde_json::from_str::<S>(text) {
        Ok(twin) => Some(T::from(twin)),
        Err(error) => {
            tracing::error!(%error, "a stored approval cannot be read; it counts as no");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use atoll_pairing::approval::Question;

    use super::*;
    use crate::config::ConfigStore;
    use crate::deliver::{Accounts, Outbox};
    use crate::hub::OwnPresence;

    async fn approvals(folder: &std::path::Path) -> (Approvals, Journal) {
        let journal = Journal::open(&folder.join("state.db")).expect("opens");
        let own = OwnPresence {
            host: "vps".to_owned(),
            version: "0",
            instance: "boot".into(),
        };
        let (hub, hub_loop) = Hub::start(own);
        tokio::spawn(hub_loop);
        let (book, book_loop) = Book::open(journal.clone(), hub.clone()).await.expect("opens");
        tokio::spawn(book_loop);
        let (config, _) = ConfigStore::open(folder.join("atoll.json"), Box::new(|_| None)).expect("the defaults");
        let outbox = Outbox::new(journal.clone(), Accounts::default());
        let cards = Cards::new(config, book.clone(), journal.clone(), outbox);
        let (approvals, owner) = Approvals::open(journal.clone(), hub, book, cards).await.expect("opens");
        tokio::spawn(owner);
        (approvals, journal)
    }

    fn question(id: &ApprovalId) -> NewApproval {
        NewApproval {
            id: id.clone(),
            question: Question {
                node: None,
                command: "/bin/ls".to_owned(),
                argv: vec!["/bin/ls".to_owned()],
                cwd: None,
                env_sha256: [0; 32],
                stdin_sha256: [0; 32],
                files: Vec::new(),
                agent: None,
                session: None,
                system_run_plan: None,
                security: "allowlist".to_owned(),
                ask: "on-miss".to_owned(),
                warning: None,
                offers_always: false,
            },
            requester: Requester::default(),
            lifetime_ms: None,
            is_bound: false,
        }
    }

    async fn sql(journal: &Journal, text: &'static str) {
        let done = journal
            .write(Durability::Lazy, move |db| Ok(db.execute_batch(text)?))
            .await;
        done.expect("runs");
    }

    #[tokio::test]
    async fn what_could_not_be_stored_did_not_happen() {
        let folder = tempfile::tempdir().expect("a folder");
        let (approvals, journal) = approvals(folder.path()).await;
        let id = ApprovalId::new("a1").expect("an id");
        sql(
            &journal,
            "CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'full'); END",
        )
        .await;
        let refused = approvals.ask(question(&id)).await.expect_err("not stored");
        assert!(matches!(refused, Refused::Storage(_)), "{refused}");
        let wanted = id.clone();
        let found = approvals
            .read(move |all| all.find(&wanted).cloned())
            .await
            .expect("reads");
        assert_eq!(found, None);
        sql(&journal, "DROP TRIGGER full").await;
        assert!(approvals.ask(question(&id)).await.expect("stored").is_pending());
    }
}
