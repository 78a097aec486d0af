//! Messages through the whole gateway: stored, a turn with a model that answers at once, the answer stored and sent.

use std::time::{Duration, Instant};

use atoll_tests::fake::openai::FakeOpenAi;
use atoll_tests::fake::telegram::{FakeTelegram, Person};
use atoll_tests::mesh::Mesh;
use serde_json::json;

use crate::table::{Samples, Table, time};

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
    table.row("message through a turn: p50 alone", time(alone.median()), "", "5 ms");
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
    table.row("messages through a turn: per second", format!("{rate:.0}"), "", "2,000");
}
