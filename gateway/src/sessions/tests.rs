//! Open transcripts, on real files.

use atoll_agent::message::{Message, User};
use atoll_protocol::id::RunId;

use super::*;
use crate::journal::runs::{NewRun, RunEnd, RunState};
use crate::turns::Said;

struct Bench {
    folder: tempfile::TempDir,
    journal: Journal,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&folder.path().join("journal.db")).expect("opens");
        Self { folder, journal }
    }

    /// As after a start of the gateway.
    fn sessions(&self) -> Sessions {
        let state = StateDir::open(Some(self.folder.path())).expect("a state folder");
        Sessions::new(self.journal.clone(), state)
    }

    async fn ended(&self, run: &str, input: Json, text: &str, at: i64) {
        let new = NewRun {
            run: run_id(run),
            session: about("a").session,
            agent: about("a").agent,
            inbox: None,
            origin: json!(null).into(),
            input,
        };
        let end = RunEnd {
            state: RunState::Done,
            error: None,
            final_text: Some(text.to_owned()),
        };
        let store = move |db: &rusqlite::Connection| {
            runs::queue(db, &new, at)?;
            runs::start(db, &new.run, at)?;
            runs::finish(db, &new.run, &end, &[], at).map(drop)
        };
        self.journal.write(Durability::Lazy, store).await.expect("writes");
    }
}

fn run_id(text: &str) -> RunId {
    RunId::new(text).expect("an id")
}

fn about(session: &str) -> About {
    About {
        session: SessionKey::new(session).expect("a key"),
        agent: AgentId::new("main").expect("an id"),
        place: None,
        name: None,
    }
}

fn say(transcript: &Transcript, run: &str, text: &str) {
    let said = Arc::new(Message::User(User::text(text.to_owned())));
    transcript.writer(&run_id(run)).append(said).expect("appends");
}

fn texts(transcript: &Transcript) -> Vec<String> {
    let messages = transcript.conversation(&run_id("next")).0;
    let text = |message: &Arc<Message>| match &**message {
        Message::User(user) => atoll_agent::message::joined_text(&user.content),
        Message::Assistant(assistant) => assistant.text(),
        Message::ToolResult(_) => "a result".to_owned(),
    };
    messages.iter().map(text).collect()
}

#[tokio::test]
async fn a_transcript_that_somebody_holds_has_one_writer_however_many_others_are_opened() {
    let bench = Bench::new();
    let sessions = bench.sessions();
    let held = sessions.open(about("held")).await.expect("opens");
    for number in 0..=OPEN {
        sessions.open(about(&number.to_string())).await.expect("opens");
    }
    say(&held, "r1", "one");
    let again = sessions.open(about("held")).await.expect("opens");
    say(&again, "r2", "two");
    assert_eq!(texts(&held), ["one", "two"]);
    assert_eq!(sessions.opened().transcripts.len(), OPEN);
}

#[tokio::test]
async fn what_a_power_cut_took_from_a_transcript_comes_back_from_the_journal_once() {
    let bench = Bench::new();
    let before = bench.sessions().open(about("a")).await.expect("opens");
    say(&before, "r1", "one");
    let later = clock::now() + 1_000;
    let said = |text: &str| Json::of(&Said::of(text)).expect("serialises");
    bench
        .ended("r1", said("one"), "is there already", clock::now() - 1_000)
        .await;
    bench.ended("r2", said("two"), "answer two", later).await;
    bench
        .ended("r3", crate::intake::command_input("/status"), "no turn", later + 1)
        .await;
    let restored = bench.sessions().open(about("a")).await.expect("opens");
    assert_eq!(texts(&restored), ["one", "two", "answer two"]);
    let next = bench.sessions().open(about("a")).await.expect("opens");
    assert_eq!(texts(&next).len(), 3, "{:?}", texts(&next));
}

#[tokio::test(start_paused = true)]
async fn what_turns_said_is_kept_a_moment_after_their_end() {
    let bench = Bench::new();
    let sessions = bench.sessions();
    let transcript = sessions.open(about("a")).await.expect("opens");
    say(&transcript, "r1", "one");
    sessions.keep_soon(about("a").session, transcript.clone());
    assert!(!transcript.is_kept());
    while !transcript.is_kept() {
        tokio::time::sleep(LAG / 4).await;
    }
    assert!(sessions.unkept().transcripts.is_empty());
}
