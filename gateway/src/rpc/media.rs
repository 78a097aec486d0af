//! `media.*`: the way to blobs for whoever is linked.

use serde_json::json;

use super::{Answer, Ask, done};
use crate::clock;
use crate::house::House;
use crate::media::TICKET_LIFE;

/// A secret for `Authorization: Bearer` at `/media`, as good as the link that asks for it.
pub(super) async fn ticket(house: &House, ask: Ask) -> Answer {
    let ticket = house
        .tickets
        .issue(&ask.caller.principal, crate::random(), clock::instant());
    let life = u64::try_from(TICKET_LIFE.as_millis()).unwrap_or(u64::MAX);
    done(json!({"ticket": ticket, "expiresAtMs": clock::now_ms() + life}))
}
