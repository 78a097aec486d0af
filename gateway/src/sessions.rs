//! Conversations: which transcript belongs to which session key, and the index that lists them. Owns the open transcripts; what is in
//! them is [`atoll_agent::transcript`]'s. The index can be made anew from the files.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atoll_agent::transcript::{AppendError, Header, OpenError, Transcript};
use atoll_channels::port::Place;
use atoll_protocol::id::{AgentId, SessionKey};
use atoll_protocol::json::Json;
use serde_json::json;

use crate::clock;
use crate::journal::runs;
use crate::journal::sessions::{self, ChatType, Counts, SessionRow};
use crate::journal::{Durability, Journal, JournalError};
use crate::state::{self, StateDir};

pub(crate) mod reset;
mod restore;

/// Transcripts that stay open. More: one that was not used for longest is closed.
const OPEN: usize = 64;

/// The disk is told to keep a transcript so long after the end of a turn: once for the turns of that time, and not while a person
/// waits for an answer.
const LAG: Duration = Duration::from_secs(1);

/// Sessions that a listing shows.
const LISTED: u32 = 5_000;

/// The note in a transcript that says which session it is.
const NOTE: &str = "atoll.session";

/// A session could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The index.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The file.
    #[error(transparent)]
    Transcript(#[from] OpenError),
    /// It cannot be written.
    #[error("the conversation cannot begin anew: {0}")]
    Append(#[from] AppendError),
    /// The folder.
    #[error("the folder for conversations cannot be made: {0}")]
    Folder(#[from] std::io::Error),
    /// The task that opens files was ended.
    #[error("the gateway is going down")]
    GoingDown,
}

/// All conversations.
#[derive(Clone)]
pub(crate) struct Sessions {
    journal: Journal,
    state: StateDir,
    open: Arc<Mutex<Opened>>,
    unkept: Arc<Mutex<Unkept>>,
}

/// Transcripts whose end a power cut can still take.
#[derive(Default)]
struct Unkept {
    transcripts: HashMap<SessionKey, Transcript>,
    is_announced: bool,
}

#[derive(Default)]
struct Opened {
    transcripts: HashMap<SessionKey, (Transcript, u64)>,
    uses: u64,
}

/// What a session is about, for its first message.
#[derive(Debug, Clone)]
pub(crate) struct About {
    /// Its key.
    pub(crate) session: SessionKey,
    /// Its agent.
    pub(crate) agent: AgentId,
    /// Where it is spoken, if in a chat.
    pub(crate) place: Option<Place>,
    /// What people call the chat.
    pub(crate) name: Option<String>,
}

impl Sessions {
    /// The conversations of this state folder.
    pub(crate) fn new(journal: Journal, state: StateDir) -> Self {
        Self {
            journal,
            state,
            open: Arc::default(),
            unkept: Arc::default(),
        }
    }

    /// The transcript of a session, which begins with this if there was none.
    pub(crate) async fn open(&self, about: About) -> Result<Transcript, SessionError> {
        if let Some(transcript) = self.opened().take(&about.session) {
            return Ok(transcript);
        }
        let key = about.session.clone();
        let known = self.journal.read(move |db| sessions::find(db, &key)).await?;
        let folder = self.state.sessions(&about.agent);
        let (row, is_new) = match known {
            Some(row) => (row, false),
            None => (new_row(&about), true),
        };
        let opening = row.clone();
        let transcript = tokio::task::spawn_blocking(move || open_file(&folder, &opening, is_new))
            .await
            .map_err(|_| SessionError::GoingDown)??;
        if is_new {
            self.journal
                .write(Durability::Lazy, move |db| sessions::put(db, &row))
                .await?;
        } else {
            self.restore(&about.session, &transcript).await?;
        }
        Ok(self.opened().put(about.session, transcript))
    }

    async fn restore(&self, session: &SessionKey, transcript: &Transcript) -> Result<(), SessionError> {
        let key = session.clone();
        let latest = move |db: &rusqlite::Connection| runs::of_session(db, &key, restore::LATEST);
        match restore::restore(transcript, &self.journal.read(latest).await?) {
            Ok(0) => {}
            Ok(turns) => {
                tracing::warn!(%session, turns, "the end of a transcript was lost; it is back from the journal")
            }
            Err(error) => tracing::error!(%session, %error, "the lost end of a transcript could not be put back"),
        }
        Ok(())
    }

    /// The transcript of a session that exists.
    pub(crate) async fn find(&self, session: &SessionKey) -> Result<Option<(SessionRow, Transcript)>, SessionError> {
        let key = session.clone();
        let Some(row) = self.journal.read(move |db| sessions::find(db, &key)).await? else {
            return Ok(None);
        };
        let about = About {
            session: session.clone(),
            agent: row.agent.clone(),
            place: None,
            name: None,
        };
        Ok(Some((row, self.open(about).await?)))
    }

    /// Every session, newest first.
    pub(crate) async fn list(&self) -> Result<Vec<SessionRow>, SessionError> {
        Ok(self.journal.read(|db| sessions::latest(db, None, LISTED)).await?)
    }

    /// Makes what a turn has said survive a power cut, soon. Until then the journal has the question and the answer.
    pub(crate) fn keep_soon(&self, session: SessionKey, transcript: Transcript) {
        let mut unkept = self.unkept();
        unkept.transcripts.insert(session, transcript);
        if !std::mem::replace(&mut unkept.is_announced, true) {
            let sessions = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(LAG).await;
                sessions.keep().await;
            });
        }
    }

    /// Makes all that was said survive a power cut, one transcript after the other.
    pub(crate) async fn keep(&self) {
        let unkept = std::mem::take(&mut *self.unkept());
        for (session, transcript) in unkept.transcripts {
            match self.journal.between(move || transcript.keep()).await {
                Ok(Ok(())) | Err(JournalError::Closed) => {}
                Ok(Err(error)) => tracing::warn!(%session, %error, "a transcript may lose its end in a power cut"),
                Err(error) => tracing::warn!(%session, %error, "a transcript may lose its end in a power cut"),
            }
        }
    }

    fn unkept(&self) -> MutexGuard<'_, Unkept> {
        self.unkept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what a turn has said.
    pub(crate) async fn count(&self, session: SessionKey, counts: Counts) {
        let count = move |db: &rusqlite::Connection| sessions::add(db, &session, &counts, clock::now()).map(drop);
        self.journal.post(Durability::Lazy, "session counts", count).await;
    }

    /// Begins a conversation anew; gives the id that it has from now on.
    pub(crate) async fn begin_anew(
        &self,
        session: SessionKey,
        transcript: Transcript,
        reason: String,
    ) -> Result<String, SessionError> {
        let id = uuid::Uuid::new_v4().to_string();
        let (new, known) = (id.clone(), id.clone());
        tokio::task::spawn_blocking(move || transcript.reset(&reason, &new))
            .await
            .map_err(|_| SessionError::GoingDown)??;
        let begin = move |db: &rusqlite::Connection| sessions::begin_anew(db, &session, &known, clock::now()).map(drop);
        self.journal.write(Durability::Durable, begin).await?;
        Ok(id)
    }

    /// Forgets a session. Its file stays, under another name.
    pub(crate) async fn delete(&self, session: &SessionKey) -> Result<bool, SessionError> {
        let Some((row, _)) = self.find(session).await? else {
            return Ok(false);
        };
        self.opened().transcripts.remove(session);
        let file = self.state.sessions(&row.agent).join(&row.file);
        let kept = file.with_extension(format!("deleted.{}.jsonl", clock::now_ms()));
        tokio::task::spawn_blocking(move || std::fs::rename(file, kept))
            .await
            .map_err(|_| SessionError::GoingDown)??;
        let key = session.clone();
        self.journal
            .write(Durability::Durable, move |db| sessions::remove(db, &key).map(drop))
            .await?;
        Ok(true)
    }

    /// Makes the index anew out of the transcripts, when it is empty.
    pub(crate) async fn rebuild(&self, agents: Vec<AgentId>) -> Result<usize, SessionError> {
        if !self.journal.read(|db| sessions::latest(db, None, 1)).await?.is_empty() {
            return Ok(0);
        }
        let mut found = 0;
        for agent in agents {
            let folder = self.state.sessions(&agent);
            let rows = tokio::task::spawn_blocking(move || read_folder(&folder, &agent))
                .await
                .map_err(|_| SessionError::GoingDown)?;
            for row in rows {
                let added = self.journal.write(Durability::Lazy, move |db| {
                    let is_known = sessions::find(db, &row.session)?.is_some();
                    if !is_known {
                        sessions::put(db, &row)?;
                    }
                    Ok(!is_known)
                });
                found += usize::from(added.await?);
            }
        }
        Ok(found)
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    fn take(&mut self, session: &SessionKey) -> Option<Transcript> {
        self.uses += 1;
        let uses = self.uses;
        let (transcript, used) = self.transcripts.get_mut(session)?;
        *used = uses;
        Some(transcript.clone())
    }

    /// Gives the transcript to use: another one may have been opened meanwhile, and a file has one writer. Closes one that was not used for
    /// longest; never one that somebody holds, who would write beside the next one to open it.
    fn put(&mut self, session: SessionKey, transcript: Transcript) -> Transcript {
        if let Some(first) = self.take(&session) {
            return first;
        }
        self.transcripts.insert(session, (transcript.clone(), self.uses));
        if self.transcripts.len() > OPEN {
            let idle = self.transcripts.iter().filter(|(_, (open, _))| !open.is_held());
            let oldest = idle
                .min_by_key(|(_, (_, used))| *used)
                .map(|(session, _)| session.clone());
            oldest.map(|oldest| self.transcripts.remove(&oldest));
        }
        transcript
    }
}

fn open_file(folder: &std::path::Path, row: &SessionRow, is_new: bool) -> Result<Transcript, SessionError> {
    state::make_private_folder(folder)?;
    let header = Header {
        session_id: row.id.clone(),
        cwd: String::new(),
    };
    let (transcript, repairs) = Transcript::open(&folder.join(&row.file), &header)?;
    if let Some(torn) = &repairs.torn {
        tracing::warn!(session = %row.session, kept = %torn.display(), "the last line of a transcript was cut short; it was set aside");
    }
    if repairs.unreadable_lines > 0 {
        tracing::warn!(session = %row.session, lines = repairs.unreadable_lines, "a transcript has lines that cannot be read");
    }
    if is_new {
        let note =
            json!({"sessionKey": row.session, "chatType": row.chat_type.as_str(), "displayName": row.display_name});
        if let Err(error) = transcript.note(NOTE, &note.into()) {
            tracing::warn!(session = %row.session, %error, "a transcript could not be labelled");
        }
    }
    Ok(transcript)
}

fn new_row(about: &About) -> SessionRow {
    let id = uuid::Uuid::new_v4().to_string();
    let now = clock::now();
    SessionRow {
        session: about.session.clone(),
        file: format!("{id}.jsonl"),
        id,
        agent: about.agent.clone(),
        label: None,
        display_name: about.name.clone(),
        chat_type: about.place.as_ref().map_or(ChatType::Direct, |place| place.kind.into()),
        created_at: now,
        updated_at: now,
        last_activity_at: now,
        counts: Counts::default(),
        delivery: about.place.clone(),
        model: None,
        settings: Json::from(json!({})),
    }
}

fn read_folder(folder: &std::path::Path, agent: &AgentId) -> Vec<SessionRow> {
    let Ok(files) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    files
        .filter_map(|file| read_session(&file.ok()?.path(), agent))
        .collect()
}

fn read_session(path: &PathBuf, agent: &AgentId) -> Option<SessionRow> {
    let name = path.file_name()?.to_str()?;
    if !name.ends_with(".jsonl") || name.contains(".deleted.") {
        return None;
    }
    let header = Header {
        session_id: path.file_stem()?.to_str()?.to_owned(),
        cwd: String::new(),
    };
    let (transcript, _) = Transcript::open(path, &header).ok()?;
    let text = std::fs::read_to_string(path).ok()?;
    let note = text
        .lines()
        .find(|line| line.contains(NOTE))
        .and_then(|line| Json::parse(line).ok())?
        .tree();
    let facts = transcript.facts();
    let session = SessionKey::new(note.pointer("/data/sessionKey")?.as_str()?).ok()?;
    let mut row = new_row(&About {
        session,
        agent: agent.clone(),
        place: None,
        name: facts.title.clone(),
    });
    row.id = transcript.session_id();
    row.file = name.to_owned();
    row.counts.messages = i64::try_from(facts.messages).unwrap_or(i64::MAX);
    row.last_activity_at = facts.last_activity_at.unwrap_or(row.last_activity_at);
    Some(row)
}

#[cfg(test)]
mod tests;
