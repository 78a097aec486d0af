//! Which links want to hear of which conversations: `sessions.changed` and `session.message`. Best effort, as all events; whoever asked
//! for none hears none.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atoll_agent::transcript::Transcript;
use atoll_protocol::id::{RunId, SessionKey};
use serde_json::{Value, json};

use crate::clock;
use crate::hub::{Audience, Broadcast, Hub};
use crate::route;

/// Sessions whose messages one link can want. More: an error that says so.
const SESSIONS: usize = 256;

/// Handle to all wishes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Watchers {
    hub: Hub,
    wishes: Arc<Mutex<HashMap<String, Wish>>>,
}

/// What one link wants.
#[derive(Default)]
struct Wish {
    all: bool,
    sessions: HashSet<SessionKey>,
}

impl Watchers {
    /// Nobody watches.
    pub(crate) fn new(hub: Hub) -> Self {
        Self {
            hub,
            wishes: Arc::default(),
        }
    }

    /// A link wants to hear of changes in the list of sessions.
    pub(crate) fn all(&self, connection: &str) {
        self.lock().entry(connection.to_owned()).or_default().all = true;
    }

    /// A link wants the messages of a session; false when it has too many already.
    pub(crate) fn one(&self, connection: &str, session: &SessionKey) -> bool {
        let mut wishes = self.lock();
        let wish = wishes.entry(connection.to_owned()).or_default();
        if wish.sessions.len() >= SESSIONS && !wish.sessions.contains(session) {
            return false;
        }
        wish.sessions.insert(session.clone());
        true
    }

    /// A link does not want the messages of a session any more.
    pub(crate) fn not(&self, connection: &str, session: &SessionKey) {
        if let Some(wish) = self.lock().get_mut(connection) {
            wish.sessions.remove(session);
        }
    }

    /// Whether a link has asked for anything.
    pub(crate) fn knows(&self, connection: &str) -> bool {
        self.lock().contains_key(connection)
    }

    /// A link has ended.
    pub(crate) fn gone(&self, connection: &str) {
        self.lock().remove(connection);
    }

    /// Something about a session is another by now.
    pub(crate) fn changed(&self, session: &SessionKey, reason: &str) {
        let links = self.links(|wish| wish.all);
        self.tell("sessions.changed", links, || {
            json!({"sessionKey": session, "agentId": route::agent_of(session), "reason": reason, "ts": clock::now_ms()})
        });
    }

    /// A turn has ended: what was said in it.
    pub(crate) fn said(&self, session: &SessionKey, run: &RunId, transcript: &Transcript) {
        let links = self.links(|wish| wish.sessions.contains(session));
        if links.is_empty() {
            return;
        }
        let shown = transcript
            .history()
            .into_iter()
            .filter_map(|entry| Some((entry.run.as_ref() == Some(run), entry.id.clone(), entry.shown()?)));
        for (index, (is_of_run, id, message)) in shown.enumerate() {
            if !is_of_run {
                continue;
            }
            self.tell("session.message", links.clone(), || {
                json!({"sessionKey": session, "agentId": route::agent_of(session), "runId": run,
                    "messageId": id, "messageSeq": index + 1, "message": message})
            });
        }
    }

    fn links(&self, wants: impl Fn(&Wish) -> bool) -> HashSet<String> {
        let wishes = self.lock();
        let links = wishes.iter().filter(|(_, wish)| wants(wish));
        links.map(|(connection, _)| connection.clone()).collect()
    }

    fn tell(&self, name: &'static str, links: HashSet<String>, payload: impl FnOnce() -> Value) {
        if links.is_empty() {
            return;
        }
        self.hub.broadcast_now(Broadcast {
            name,
            payload: payload().into(),
            audience: Audience::Watching(Arc::new(links)),
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Wish>> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
