//! `audit.entries`, and what is written down of requests that nobody answers because their caller may not make them.

use atoll_pairing::access::Principal;
use atoll_protocol::error::WireError;
use atoll_protocol::json::Json;
use atoll_protocol::method::audit::{AuditEntries, AuditEntry, AuditListed};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Ask, done};
use crate::clock;
use crate::house::House;
use crate::journal::audit::{self, AuditRow};
use crate::journal::{Durability, JournalError};

/// Entries, if the caller does not say.
const ENTRIES: u64 = 100;

pub(super) async fn entries(house: &House, ask: Ask) -> Answer {
    let params: AuditEntries = ask.read()?;
    let since = i64::try_from(params.since.unwrap_or_default()).unwrap_or(i64::MAX);
    let limit = params.limit.map_or(ENTRIES, |limit| limit.value());
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    let unread = |error: JournalError| WireError::unavailable(format!("the audit cannot be read: {error}"));
    // What was handed over before is committed by then.
    house
        .journal
        .write(Durability::Lazy, |_| Ok(()))
        .await
        .map_err(unread)?;
    let rows = house.journal.read(move |db| audit::latest(db, since, limit)).await;
    done(AuditListed {
        ts: clock::now_ms(),
        entries: rows.map_err(unread)?.into_iter().map(shown).collect(),
    })
}

fn shown(row: AuditRow) -> AuditEntry {
    let entry = row.entry;
    AuditEntry {
        at: u64::try_from(row.at).unwrap_or_default(),
        actor: entry.actor,
        action: entry.action,
        target: entry.target,
        outcome: entry.outcome,
        detail: entry.detail,
    }
}

/// What a request is about; its other parameters are nobody's business here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct About {
    node_id: String,
    command: String,
    id: String,
    decision: String,
}

/// Writes down that somebody wanted a call, or to answer a question, who may not.
pub(super) async fn note_denied(
    house: &House,
    by: &Principal,
    method: &str,
    params: Option<&Json>,
    refusal: &WireError,
) {
    if !matches!(method, "exec.approval.resolve" | "node.invoke") {
        return;
    }
    let about: About = params.and_then(|params| params.read().ok()).unwrap_or_default();
    if method == "node.invoke" {
        let (node, command) = (&about.node_id, &about.command);
        return house.ring.unmade(by, node, command, "denied", &refusal.message).await;
    }
    let detail = json!({"decision": audit::cut(&about.decision)});
    house
        .audit_refused(by.label(), method, about.id, &refusal.message, detail)
        .await;
}
