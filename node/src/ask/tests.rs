//! Questions on a virtual clock, with people who do as a test says.

use std::sync::Mutex;

use tokio::sync::oneshot;

use super::*;

/// Answers when it is told to.
#[derive(Debug)]
struct Person(Mutex<Option<oneshot::Receiver<bool>>>);

#[async_trait]
impl Way for Person {
    fn name(&self) -> &'static str {
        "person"
    }

    async fn ask(&self, _: &Question) -> bool {
        let answer = self.0.lock().expect("whole").take();
        match answer {
            Some(answer) => answer.await.expect("answered"),
            None => std::future::pending().await,
        }
    }

    fn show(&self, _: &str) {}
}

fn asks() -> (tempfile::TempDir, Asks, oneshot::Sender<bool>) {
    let folder = tempfile::tempdir().expect("a folder");
    let (answer, answered) = oneshot::channel();
    let ways = Ways(vec![Arc::new(Person(Mutex::new(Some(answered))))]);
    let asks = Asks::new(Board::new(folder.path()), ways);
    (folder, asks, answer)
}

async fn ask(asks: &Asks, patience: u64) -> Answer {
    let patience = Duration::from_secs(patience);
    asks.ask("camera.snap", String::new(), "gateway x".to_owned(), patience)
        .await
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_wins_and_the_question_is_gone() {
    for said in [true, false] {
        let (_folder, asks, answer) = asks();
        let answering = async { answer.send(said).expect("heard") };
        let (given, ()) = tokio::join!(ask(&asks, 100), answering);
        assert_eq!(given, Answer::Given(said, "person"));
        assert_eq!(asks.board().waiting(), []);
        // On the board, before the person says anything.
        let (_folder, asks, _answer) = self::asks();
        let answering = async {
            let posted = asks.board().waiting().pop().expect("it waits");
            assert_eq!(posted.command, "camera.snap");
            asks.board().answer(&posted.id, said).expect("first");
            asks.board().answer(&posted.id, !said).expect_err("second");
            posted.id
        };
        let (given, id) = tokio::join!(ask(&asks, 100), answering);
        assert_eq!(given, Answer::Given(said, board::NAME));
        asks.board().answer(&id, true).expect_err("over");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_no_longer_than_the_call_and_never_over_the_bound() {
    for (patience, expected) in [(3, 3), (1000, PATIENCE.as_secs())] {
        let (_folder, asks, _answer) = asks();
        let began = tokio::time::Instant::now();
        assert_eq!(
            ask(&asks, patience).await,
            Answer::Nobody(Duration::from_secs(expected))
        );
        assert_eq!(began.elapsed().as_secs(), expected);
        assert_eq!(asks.board().waiting(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_too_many_is_none_and_those_that_are_dropped_make_room() {
    let (_folder, asks, _answer) = asks();
    let mut waiting: Vec<_> = (0..QUESTIONS).map(|_| Box::pin(ask(&asks, 10))).collect();
    for one in &mut waiting {
        assert!(futures_util::poll!(one).is_pending());
    }
    assert_eq!(asks.board().waiting().len(), QUESTIONS);
    assert_eq!(ask(&asks, 10).await, Answer::TooMany);
    waiting.pop();
    assert_eq!(asks.board().waiting().len(), QUESTIONS - 1);
    assert_eq!(ask(&asks, 1).await, Answer::Nobody(Duration::from_secs(1)));
}

#[test]
fn what_is_shown_of_a_call_is_one_short_line_that_a_screen_does_not_obey() {
    for (params, shown) in [
        (
            serde_json::json!({"deviceId": "front", "quality": 1, "secret": "s"}),
            "deviceId front",
        ),
        (
            serde_json::json!({"command": ["echo", "a b"], "env": {"A": "s"}}),
            "command echo a b",
        ),
        (serde_json::json!({"path": "/x\u{1b}[2J\n\u{202e}y"}), "path /x·[2J··y"),
        (serde_json::json!([1]), ""),
    ] {
        assert_eq!(about(Some(&params.into())), shown);
    }
    let long = serde_json::json!({"path": "ä".repeat(1000)});
    assert_eq!(about(Some(&long.into())).chars().count(), ABOUT + 1);
    assert_eq!(about(None), "");
}
