//! Messages through the whole gateway: stored, a turn with a model that answers at once, the answer stored (and, alone, sent).

use std::io::Write;
use std::time::{Duration, Instant};

use atoll_tests::fake::openai::FakeOpenAi;
use atoll_tests::fake::telegram::{FakeTelegram, Person};
use atoll_tests::mesh::Mesh;
use atoll_tests::wire::Wire;
use serde_json::{Value, json};

use crate::table::{Budget, Row, Samples, Table, Unit};

const TOKEN: &str = "99:BENCH-token";

/// People who write at once; turns of one conversation follow one another, those of different ones do not.
const PEOPLE: i64 = 64;

/// Messages of each of them.
const MESSAGES: usize = 30;

/// Messages that come alone, each from another person and awaited before the next: Telegram, and so the gateway, allows a bot
/// one message a second to a person.
const ALONE: usize = 50;

/// So long nobody writes, so that the bot's own rate (30 a second in all) is not what is measured.
const PAUSE: Duration = Duration::from_millis(50);

struct Chats {
    telegram: FakeTelegram,
    people: Vec<Person>,
    _model: FakeOpenAi,
    mesh: Mesh,
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
            mesh,
        }
    }

    /// Waits until the bot has written to somebody.
    async fn answered(&self, person: &Person) {
        let answered = || (!self.telegram.sent(person.id).is_empty()).then_some(());
        self.telegram.wait_for("answer", answered).await;
    }
}

/// One program that says something in each of many conversations, waits for the ends of the turns, and says the next: Telegram would
/// take 30 answers a second, so that no more than its own rate could be measured there.
async fn converse(operator: &mut Wire, sessions: usize) {
    let mut started = Vec::new();
    for session in 0..sessions {
        let key = uuid::Uuid::new_v4().to_string();
        let session = format!("agent:main:bench{session}");
        let message = json!({"sessionKey": session, "message": "hello", "idempotencyKey": key});
        operator.ask("chat.send", message).await;
    }
    for _ in 0..sessions {
        started.push(answer(operator).await["runId"].clone());
    }
    for run in started {
        operator
            .ask("agent.wait", json!({"runId": run, "timeoutMs": 20_000}))
            .await;
    }
    for _ in 0..sessions {
        let ended = answer(operator).await;
        assert_eq!(ended["status"], "ok", "{ended}");
    }
}

async fn answer(operator: &mut Wire) -> Value {
    let answer = operator.frame("an answer", |frame| frame["type"] == "res").await;
    assert_eq!(answer["ok"], true, "{answer}");
    answer["payload"].clone()
}

pub(crate) async fn messages(table: &mut Table) {
    let chats = Chats::start().await;
    let mut alone = Samples::default();
    for person in &chats.people[..ALONE] {
        let started = Instant::now();
        chats.telegram.write(person, person.id, "hello");
        chats.answered(person).await;
        alone.add(started.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    let bare = kept_line();
    table.row(Row {
        key: "message.alone".to_owned(),
        what: "message through a turn: p50 alone (× a line synced to disk)".to_owned(),
        unit: Unit::Seconds,
        value: alone.median(),
        bare: Some(bare),
        budget: Budget::Value(5e-3),
    });
    let mut operator = chats.mesh.operator().await;
    let started = Instant::now();
    for _ in 0..MESSAGES {
        converse(&mut operator, chats.people.len()).await;
    }
    let count = u32::try_from(MESSAGES * chats.people.len()).expect("a small number");
    let rate = f64::from(count) / started.elapsed().as_secs_f64();
    table.row(Row {
        key: "message.rate".to_owned(),
        what: "messages through a turn: per second (× lines synced to disk)".to_owned(),
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
