//! Messages through the whole gateway: stored, a turn with a model that answers at once, the answer stored and sent.

use std::io::Write;
use std::time::{Duration, Instant};

use atoll_tests::fake::openai::FakeOpenAi;
use atoll_tests::fake::telegram::{FakeTelegram, Person};
use atoll_tests::mesh::Mesh;
use serde_json::json;

use crate::table::{Budget, Row, Samples, Table, Unit};

const TOKEN: &str = "99:BENCH-token";

/// People who write at once; turns of one conversation follow one another, those of different ones do not.
const PEOPLE: i64 = 64;

/// Messages of each of them.
const MESSAGES: usize = 30;

/// Messages of one person who waits for each answer.
const ALONE: usize = 50;

struct Chats {
    telegram: FakeTelegram,
    people: Vec<Person>,
    _model: FakeOpenAi,
    _mesh: Mesh,
}

impl Chats {
    async fn start() -> Self {
        let telegram = FakeTelegram::start(TOKEN).await;
        let people: Vec<Person> = (1..=PEOPLE).map(|id| Person::new(1_000 + id, "Somebody")).collect();
        for person in &people {
            telegram.meet(person);
        }
        let model = FakeOpenAi::instant("yes").await;
        let ids: Vec<String> = people.iter().map(|person| person.id.to_string()).collect();
        let mesh = Mesh::with(&json!({
            "session": {"dmScope": "per-channel-peer"},
            "agents": {"defaults": {"model": {"primary": "fake/model"}}},
            "models": {"providers": {"fake": {"baseUrl": model.base_url(), "apiKey": "bench",
                "api": "openai-completions", "models": [{"id": "model"}]}}},
            "channels": {"telegram": {"botToken": TOKEN, "apiRoot": telegram.api_root(),
                "dmPolicy": "allowlist", "allowFrom": ids}},
        }))
        .await;
        Self {
            telegram,
            people,
            _model: model,
            _mesh: mesh,
        }
    }

    /// Waits until the bot has written that many messages to somebody.
    async fn answered(&self, person: &Person, count: usize) {
        let enough = || (self.telegram.sent(person.id).len() >= count).then_some(());
        self.telegram.wait_for("an answer", enough).await;
    }
}

pub(crate) async fn messages(table: &mut Table) {
    let chats = Chats::start().await;
    let mut alone = Samples::default();
    for count in 1..=ALONE {
        let started = Instant::now();
        chats.telegram.write(&chats.people[0], chats.people[0].id, "hello");
        chats.answered(&chats.people[0], count).await;
        alone.add(started.elapsed());
        // A person thinks; and the next long poll must be open again, as it is in a chat.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let bare = kept_line();
    table.row(Row {
        key: "message.alone",
        what: "message through a turn: p50 alone (× a line synced to disk)",
        unit: Unit::Seconds,
        value: alone.median(),
        bare: Some(bare),
        budget: Budget::Value(5e-3),
    });
    let started = Instant::now();
    for _ in 0..MESSAGES {
        for person in &chats.people[1..] {
            chats.telegram.write(person, person.id, "hello");
        }
    }
    for person in &chats.people[1..] {
        chats.answered(person, MESSAGES).await;
    }
    let count = u32::try_from(MESSAGES * (chats.people.len() - 1)).expect("a small number");
    let rate = f64::from(count) / started.elapsed().as_secs_f64();
    table.row(Row {
        key: "message.rate",
        what: "messages through a turn: per second (× lines synced to disk)",
        unit: Unit::PerSecond,
        value: rate,
        bare: Some(kept_line().recip()),
        budget: Budget::Value(2_000.0),
    });
}

/// The median time to append a line to a file and have the disk keep it, seconds.
fn kept_line() -> f64 {
    let mut file = tempfile::tempfile().expect("a temporary folder");
    let mut samples = Samples::default();
    for _ in 0..200 {
        let started = Instant::now();
        file.write_all(&[b'x'; 512]).expect("room on the disk");
        file.sync_data().expect("a disk");
        samples.add(started.elapsed());
    }
    samples.median()
}
