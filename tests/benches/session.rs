//! A conversation of a thousand turns: from the disk, and once it is in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use atoll_agent::message::{Assistant, Message, Part, User};
use atoll_agent::transcript::{Header, Transcript};
use atoll_protocol::id::RunId;

use crate::table::{Budget, Row, Samples, Table, Unit};

/// A question and an answer each.
const TURNS: usize = 1_000;

const TIMES: usize = 31;

pub(crate) async fn load(table: &mut Table) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("session.jsonl");
    let header = Header {
        session_id: "bench".to_owned(),
        cwd: folder.path().display().to_string(),
    };
    fill(&path, &header);
    let next = RunId::new("next").expect("an id");
    let (mut cold, mut warm, mut bare) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..TIMES {
        let started = Instant::now();
        let (transcript, _) = Transcript::open(&path, &header).expect("a transcript");
        let shown = transcript.conversation(&next).0.len();
        cold.add(started.elapsed());
        assert_eq!(shown, 2 * TURNS);
        let started = Instant::now();
        let shown = transcript.conversation(&next).0.len();
        warm.add(started.elapsed());
        assert_eq!(shown, 2 * TURNS);
        let started = Instant::now();
        let text = std::fs::read_to_string(&path).expect("a file");
        let lines = text
            .lines()
            .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
        assert_eq!(lines.count(), 2 * TURNS + 1);
        bare.add(started.elapsed());
    }
    table.row(Row {
        key: "session.cold".to_owned(),
        what: "session of 1,000 turns: cold load (× read and parse)".to_owned(),
        unit: Unit::Seconds,
        value: cold.median(),
        bare: Some(bare.median()),
        budget: Budget::Value(5e-3),
    });
    table.row(Row {
        key: "session.warm".to_owned(),
        what: "session of 1,000 turns: warm (× read and parse)".to_owned(),
        unit: Unit::Seconds,
        value: warm.median(),
        bare: Some(bare.median()),
        budget: Budget::Value(1e-4),
    });
}

/// Sentences of the length that people and models write in a chat.
fn fill(path: &Path, header: &Header) {
    let (transcript, _) = Transcript::open(path, header).expect("a transcript");
    let writer = transcript.writer(&RunId::new("before").expect("an id"));
    for turn in 0..TURNS {
        let question = format!("Question {turn}: which of my machines has the most room left on its disks?");
        let answer = format!("Answer {turn}: the laptop has 212 GB left, the server 48 GB.\n").repeat(4);
        let answer = Assistant {
            content: vec![Part::Text(answer)],
            provider: "bench".to_owned(),
            model: "model".to_owned(),
            ..Assistant::default()
        };
        for message in [Message::User(User::text(question)), Message::Assistant(answer)] {
            writer.append(Arc::new(message)).expect("a writable folder");
        }
    }
}
