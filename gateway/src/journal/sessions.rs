//! The index of conversations: what a listing shows without reading transcripts. Everything but the choices of a person (label,
//! model, settings) can be rebuilt from the transcripts; a lost row loses no history.

use atoll_channels::port::{PeerKind, Place};
use atoll_protocol::id::{AgentId, SessionKey};
use atoll_protocol::json::Json;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::JournalError;
use super::column::{json, json_option, parsed, to_json, words};

words! {
    /// What kind of conversation it is.
    pub enum ChatType {
        /// One person.
        Direct = "direct",
        /// Several people.
        Group = "group",
        /// A broadcast channel.
        Channel = "channel",
    }
}

impl From<PeerKind> for ChatType {
    fn from(kind: PeerKind) -> Self {
        match kind {
            PeerKind::Direct => Self::Direct,
            PeerKind::Group => Self::Group,
            PeerKind::Channel => Self::Channel,
        }
    }
}

/// One conversation.
#[derive(Debug, Clone)]
pub struct SessionRow {
    /// Its key.
    pub session: SessionKey,
    /// The id of its present transcript; a reset may start a new one.
    pub id: String,
    /// Its agent.
    pub agent: AgentId,
    /// The transcript's file, relative to the agent's sessions folder.
    pub file: String,
    /// A name that a person gave.
    pub label: Option<String>,
    /// A name made from the chat.
    pub display_name: Option<String>,
    /// What kind of conversation it is.
    pub chat_type: ChatType,
    /// When it began, Unix milliseconds.
    pub created_at: i64,
    /// When this row changed.
    pub updated_at: i64,
    /// When somebody last said something.
    pub last_activity_at: i64,
    /// Counts over its present transcript.
    pub counts: Counts,
    /// Where an answer goes that nobody asked for; the last place it was spoken from.
    pub delivery: Option<Place>,
    /// The model that a person chose for it, `provider/model`.
    pub model: Option<String>,
    /// Other choices of a person, an object in the wire's words (`thinkingLevel`, `verboseLevel`, `sendPolicy`, …).
    pub settings: Json,
}

/// How much was said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages of all roles.
    pub messages: i64,
    /// Tokens read by models.
    pub input_tokens: i64,
    /// Tokens written by models.
    pub output_tokens: i64,
    /// Both.
    pub total_tokens: i64,
    /// Tokens in the present context, where known.
    pub context_tokens: Option<i64>,
    /// How often it was compacted.
    pub compactions: i64,
}

const COLUMNS: &str = "session, id, agent, file, label, display_name, chat_type, created_at, updated_at, last_activity_at, \
                       messages, input_tokens, output_tokens, total_tokens, context_tokens, compactions, delivery, model, settings";

/// Stores a row, replacing the one before.
///
/// # Errors
/// Any SQL error.
pub fn put(db: &Connection, row: &SessionRow) -> Result<(), JournalError> {
    let marks = (1..=19).map(|n| format!("?{n}")).collect::<Vec<_>>().join(", ");
    db.prepare_cached(&format!("INSERT OR REPLACE INTO sessions ({COLUMNS}) VALUES ({marks})"))?
        .execute(params![
            row.session.as_str(),
            row.id,
            row.agent.as_str(),
            row.file,
            row.label,
            row.display_name,
            row.chat_type,
            row.created_at,
            row.updated_at,
            row.last_activity_at,
            row.counts.messages,
            row.counts.input_tokens,
            row.counts.output_tokens,
            row.counts.total_tokens,
            row.counts.context_tokens,
            row.counts.compactions,
            row.delivery.as_ref().map(to_json).transpose()?,
            row.model,
            row.settings.as_str(),
        ])?;
    Ok(())
}

/// Adds what a turn has said: messages and tokens are added, the context's size replaces the one before. False when the session is
/// not in the index.
///
/// # Errors
/// Any SQL error.
pub fn add(db: &Connection, session: &SessionKey, more: &Counts, now: i64) -> Result<bool, JournalError> {
    let changed = db
        .prepare_cached(
            "UPDATE sessions SET messages = messages + ?2, input_tokens = input_tokens + ?3,
                 output_tokens = output_tokens + ?4, total_tokens = total_tokens + ?5,
                 context_tokens = coalesce(?6, context_tokens), compactions = compactions + ?7,
                 updated_at = ?8, last_activity_at = ?8
             WHERE session = ?1",
        )?
        .execute(params![
            session.as_str(),
            more.messages,
            more.input_tokens,
            more.output_tokens,
            more.total_tokens,
            more.context_tokens,
            more.compactions,
            now,
        ])?;
    Ok(changed == 1)
}

/// Gives a session that begins anew its id. False when the session is not in the index.
///
/// # Errors
/// Any SQL error.
pub fn begin_anew(db: &Connection, session: &SessionKey, id: &str, now: i64) -> Result<bool, JournalError> {
    let changed = db
        .prepare_cached("UPDATE sessions SET id = ?2, updated_at = ?3 WHERE session = ?1")?
        .execute(params![session.as_str(), id, now])?;
    Ok(changed == 1)
}

/// Notes where the session was last spoken from. False when the session is not in the index.
///
/// # Errors
/// Any SQL error.
pub fn deliver_to(db: &Connection, session: &SessionKey, place: &Place, now: i64) -> Result<bool, JournalError> {
    let changed = db
        .prepare_cached("UPDATE sessions SET delivery = ?2, updated_at = ?3, last_activity_at = ?3 WHERE session = ?1")?
        .execute(params![session.as_str(), to_json(place)?, now])?;
    Ok(changed == 1)
}

/// One row.
///
/// # Errors
/// Any SQL error.
pub fn find(db: &Connection, session: &SessionKey) -> Result<Option<SessionRow>, JournalError> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM sessions WHERE session = ?1"))?;
    Ok(query.query_row([session.as_str()], read).optional()?)
}

/// The row whose present transcript has this id.
///
/// # Errors
/// Any SQL error.
pub fn by_id(db: &Connection, id: &str) -> Result<Option<SessionRow>, JournalError> {
    let mut query = db.prepare_cached(&format!("SELECT {COLUMNS} FROM sessions WHERE id = ?1"))?;
    Ok(query.query_row([id], read).optional()?)
}

/// The latest active ones, of one agent or of all, newest first.
///
/// # Errors
/// Any SQL error.
pub fn latest(db: &Connection, agent: Option<&AgentId>, limit: u32) -> Result<Vec<SessionRow>, JournalError> {
    let mut query = db.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM sessions WHERE ?1 IS NULL OR agent = ?1 ORDER BY last_activity_at DESC, session LIMIT ?2"
    ))?;
    let rows = query
        .query_map(params![agent.map(AgentId::as_str), limit], read)?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

/// Takes a session out of the index; its transcript stays. False when it was not there.
///
/// # Errors
/// Any SQL error.
pub fn remove(db: &Connection, session: &SessionKey) -> Result<bool, JournalError> {
    let removed = db
        .prepare_cached("DELETE FROM sessions WHERE session = ?1")?
        .execute([session.as_str()])?;
    Ok(removed == 1)
}

fn read(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        session: parsed(row, "session")?,
        id: row.get("id")?,
        agent: parsed(row, "agent")?,
        file: row.get("file")?,
        label: row.get("label")?,
        display_name: row.get("display_name")?,
        chat_type: parsed(row, "chat_type")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        last_activity_at: row.get("last_activity_at")?,
        counts: Counts {
            messages: row.get("messages")?,
            input_tokens: row.get("input_tokens")?,
            output_tokens: row.get("output_tokens")?,
            total_tokens: row.get("total_tokens")?,
            context_tokens: row.get("context_tokens")?,
            compactions: row.get("compactions")?,
        },
        delivery: json_option(row, "delivery")?,
        model: row.get("model")?,
        settings: json(row, "settings")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::{database, place};

    fn row(key: &str, agent: &str, at: i64) -> SessionRow {
        SessionRow {
            session: SessionKey::new(key).expect("key"),
            id: format!("id of {key}"),
            agent: AgentId::new(agent).expect("id"),
            file: "a.jsonl".into(),
            label: Some("work".into()),
            display_name: None,
            chat_type: ChatType::Direct,
            created_at: 1,
            updated_at: at,
            last_activity_at: at,
            counts: Counts::default(),
            delivery: None,
            model: None,
            settings: Json::parse(r#"{"thinkingLevel":"low"}"#).expect("json"),
        }
    }

    #[test]
    fn counts_add_up_and_the_latest_comes_first() {
        let db = database();
        put(&db, &row("agent:main:main", "main", 1)).expect("puts");
        put(&db, &row("agent:ops:main", "ops", 2)).expect("puts");
        let key = SessionKey::new("agent:main:main").expect("key");
        let more = Counts {
            messages: 2,
            total_tokens: 30,
            context_tokens: Some(9),
            ..Counts::default()
        };
        assert!(add(&db, &key, &more, 5).expect("adds"));
        assert!(add(&db, &key, &more, 6).expect("adds"));
        assert!(deliver_to(&db, &key, &place("1"), 7).expect("notes"));
        let rows = latest(&db, None, 9).expect("reads");
        assert_eq!(rows[0].session, key);
        assert_eq!((rows[0].counts.messages, rows[0].counts.context_tokens), (4, Some(9)));
        assert_eq!(
            (rows[0].delivery.clone(), rows[0].last_activity_at),
            (Some(place("1")), 7)
        );
        assert_eq!(rows[0].settings.as_str(), r#"{"thinkingLevel":"low"}"#);
        let ops = AgentId::new("ops").expect("id");
        assert_eq!(latest(&db, Some(&ops), 9).expect("reads").len(), 1);
    }

    #[test]
    fn a_row_is_found_by_key_and_id_until_it_is_removed() {
        let db = database();
        let stored = row("agent:main:main", "main", 1);
        put(&db, &stored).expect("puts");
        assert_eq!(
            by_id(&db, &stored.id).expect("reads").map(|row| row.session),
            Some(stored.session.clone())
        );
        assert!(find(&db, &stored.session).expect("reads").is_some());
        assert!(remove(&db, &stored.session).expect("removes"));
        assert!(find(&db, &stored.session).expect("reads").is_none());
        assert!(!add(&db, &stored.session, &Counts::default(), 2).expect("adds"));
    }
}
