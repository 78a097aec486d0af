//! A live stream on its way out: the helper's pictures as the parts of `multipart/x-mixed-replace`, of which whoever is slow gets the
//! newest. Ends the helper when nobody wants pictures any more, or nobody ever came for them.

use std::time::Duration;

use atoll_protocol::error::CallError;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Subject;
use super::child::Helper;
use super::picture::Picture;
use super::turns::Turn;
use super::wire::Message;

/// The type of the whole. Its boundary is [`BOUNDARY`], which those who look for one need not be told: each part names its length.
pub(super) const MIME: &str = "multipart/x-mixed-replace";

const BOUNDARY: &str = "frame";

/// A stream whose pictures nobody takes for so long is over, and what it shows free again.
const UNWATCHED: Duration = Duration::from_secs(30);

/// What gives no picture for so long hangs.
const SILENCE: Duration = Duration::from_secs(15);

/// Hands pictures out, the first one first, until the helper is done or nobody wants more.
pub(super) async fn run(
    mut helper: Helper,
    first: Picture,
    parts: mpsc::Sender<Result<Vec<u8>, CallError>>,
    turn: Turn,
) {
    let mut newest = Some(part(&first));
    let mut given_up = Instant::now() + UNWATCHED;
    let mut hangs = Instant::now() + SILENCE;
    let end = loop {
        tokio::select! {
            biased;
            () = parts.closed() => break None,
            Ok(room) = parts.reserve(), if newest.is_some() => {
                if let Some(part) = newest.take() {
                    room.send(Ok(part));
                }
                given_up = Instant::now() + UNWATCHED;
            }
            message = helper.next() => match message {
                Ok(Message::Picture(picture)) => {
                    newest = Some(part(&picture));
                    hangs = Instant::now() + SILENCE;
                }
                Ok(Message::Done(_) | Message::Failed(_)) => break None,
                Err(error) => break Some(error),
            },
            () = sleep_until(given_up) => break None,
            () = sleep_until(hangs) => break Some(hanging(helper.subject())),
        }
    };
    turn.end_stream();
    helper.end().await;
    drop(turn);
    if let Some(error) = end {
        tracing::warn!(%error, "a stream of pictures broke off");
        let _ = tokio::time::timeout(UNWATCHED, parts.send(Err(error))).await;
    }
}

fn hanging(subject: Subject) -> CallError {
    let (word, silence) = (subject.word(), SILENCE.as_secs());
    subject.unavailable(format!(
        "the {word} gave no picture for {silence} s; its helper was ended"
    ))
}

fn part(picture: &Picture) -> Vec<u8> {
    let length = picture.bytes.len();
    let mut part = format!("--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    part.extend_from_slice(&picture.bytes);
    part.extend_from_slice(b"\r\n");
    part
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::capture::child::HelperProgram;
    use crate::capture::turns::Turns;
    use crate::capture::wire::Job;

    async fn silent() -> (Helper, Turn, Picture) {
        let helper = Helper::start(Subject::Camera, &HelperProgram::shell("exec sleep 1000"), &Job::Cameras).await;
        let turn = Turns::default()
            .take(Subject::Camera, ("a", "it"), SILENCE)
            .await
            .expect("free");
        let picture = Picture {
            width: 1,
            height: 1,
            bytes: vec![1, 2, 3],
        };
        (helper.expect("it starts"), turn, picture)
    }

    #[tokio::test]
    async fn a_camera_that_falls_silent_ends_its_stream_with_the_reason() {
        let (helper, turn, first) = silent().await;
        tokio::time::pause();
        let (give, mut parts) = mpsc::channel(1);
        let running = tokio::spawn(run(helper, first, give, turn));
        let first = parts.recv().await.expect("a part").expect("a picture");
        assert!(first.starts_with(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: 3\r\n\r\n\x01\x02\x03"));
        let error = parts.recv().await.expect("a part").expect_err("silence");
        assert!(error.message.contains("no picture for 15 s"), "{}", error.message);
        running.await.expect("it ends");
    }

    #[tokio::test]
    async fn a_stream_that_nobody_takes_or_everybody_left_ends_its_helper() {
        let (helper, turn, first) = silent().await;
        let (give, parts) = mpsc::channel(1);
        drop(parts);
        run(helper, first, give, turn).await;

        // Always something new, and nobody who wants it.
        let script = r"while true; do printf '\001\000\000\000\011\000\000\000\001\000\000\000\001x'; sleep 0.05; done";
        let helper = Helper::start(Subject::Camera, &HelperProgram::shell(script), &Job::Cameras)
            .await
            .expect("it starts");
        let (_, turn, first) = silent().await;
        let (give, _parts) = mpsc::channel(1);
        tokio::time::pause();
        let began = Instant::now();
        run(helper, first, give, turn).await;
        assert!(began.elapsed() >= UNWATCHED, "{:?}", began.elapsed());
    }
}
