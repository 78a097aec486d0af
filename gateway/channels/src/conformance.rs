//! What every channel must do, as scenarios that a test runs against a fake of its platform. Owns the scenarios and a
//! house in memory; knows no platform. Nothing but tests calls it.

mod memory;

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::port::{Channel, Outbound, Place, SendError};

pub use memory::{MemoryFiles, MemoryPort, Mode};

/// How long a scenario waits before it fails.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a stop may take.
const PROMPT: Duration = Duration::from_secs(1);

/// One platform with one account and one chat, both working.
pub trait Platform: Send + Sync {
    /// A channel for the account, as a program that was just started would make it, with [`MemoryFiles`].
    fn channel(&self) -> Box<dyn Channel>;

    /// Where somebody writes and the channel may answer.
    fn place(&self) -> Place;

    /// Makes something happen.
    fn act(&self, act: Act<'_>);

    /// What can be seen from the platform's side.
    fn seen(&self) -> Seen;
}

/// Something that happens at the platform.
#[derive(Debug, Clone, Copy)]
pub enum Act<'a> {
    /// Somebody writes at [`Platform::place`].
    Write(&'a str),
    /// The connection on which the channel receives fails once.
    BreakReceiving,
    /// The credentials are worth nothing any more.
    RejectToken,
    /// The next text the channel sends ends so.
    NextSend(Ending),
    /// The next photo the channel sends ends so.
    NextPhoto(Ending),
}

/// How a send ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The platform asks to wait.
    Throttled,
    /// The platform refuses for good.
    Refused,
    /// It is done, and the answer is lost.
    AnswerLost,
}

/// The platform's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What the platform would deliver to a channel that starts without a memory.
    pub unacknowledged: usize,
    /// What the channel wrote at [`Platform::place`].
    pub sent: Vec<String>,
    /// The photos among it.
    pub photos: Vec<Vec<u8>>,
}

/// A message is stored before the platform is told; while the house refuses it, the platform keeps it.
pub async fn commit_comes_before_acknowledgement(platform: &dyn Platform) {
    let port = MemoryPort::default();
    port.set_mode(Mode::Refuse);
    platform.act(Act::Write("one"));
    while_running(platform, &port, async {
        port.until("three refused commits", |kept| kept.attempts >= 3).await;
        assert_eq!(platform.seen().unacknowledged, 1, "acknowledged though it was refused");
        assert!(port.status().last_error.is_some(), "the refusal is not reported");
        port.set_mode(Mode::Store);
        port.until("the message", |kept| kept.texts() == ["one"]).await;
        platform.act(Act::Write("two"));
        port.until("the next message", |kept| kept.texts() == ["one", "two"])
            .await;
        assert!(
            platform.seen().unacknowledged <= 1,
            "the first message was not acknowledged"
        );
    })
    .await;
}

/// A crash between the commit and the acknowledgement neither loses nor doubles a message, with and without the cursor.
pub async fn a_crash_after_the_commit_repeats_nothing(platform: &dyn Platform) {
    let port = MemoryPort::default();
    port.set_mode(Mode::StoreAndHang);
    platform.act(Act::Write("one"));
    until_crash(
        platform,
        &port,
        port.until("the message", |kept| kept.texts() == ["one"]),
    )
    .await;
    assert_eq!(
        platform.seen().unacknowledged,
        1,
        "acknowledged before the commit was done"
    );
    port.forget_cursor();
    until_crash(platform, &port, port.until("it again", |kept| kept.attempts == 2)).await;
    port.set_mode(Mode::Store);
    platform.act(Act::Write("two"));
    while_running(platform, &port, port.until("the second", |kept| kept.texts().len() > 1)).await;
    assert_eq!(port.texts(), ["one", "two"]);
}

/// What was written in one order is stored in that order, through an outage too.
pub async fn order_is_kept_through_an_outage(platform: &dyn Platform) {
    let port = MemoryPort::default();
    let texts: Vec<String> = (0..250).map(|n| format!("message {n}")).collect();
    while_running(platform, &port, async {
        for (n, text) in texts.iter().enumerate() {
            if n % 60 == 30 {
                platform.act(Act::BreakReceiving);
            }
            platform.act(Act::Write(text));
        }
        port.until("all of them", |kept| kept.texts().len() >= texts.len())
            .await;
    })
    .await;
    assert_eq!(port.texts(), texts);
}

/// A long text is cut into parts that the platform takes, and nothing but blanks is lost.
pub async fn a_split_text_can_be_sent_and_is_whole(platform: &dyn Platform) {
    let channel = platform.channel();
    let paragraph = "Wörter *und* `code` – 😀 and <tags> & more. ".repeat(60);
    let text = format!(
        "{paragraph}\n\n```rust\n{}```\n\n{paragraph}",
        "let x = 1 < 2;\n".repeat(400)
    );
    let parts = channel.split(&text);
    assert!(parts.len() > 2, "the text is longer than the limit");
    let letters = |text: &str| {
        text.matches(char::is_alphanumeric)
            .collect::<String>()
            .replace("rust", "")
    };
    assert_eq!(letters(&parts.concat()), letters(&text));
    for part in parts.iter().take(2) {
        send(channel.as_ref(), platform, part)
            .await
            .expect("a part is within the limit");
    }
    let sent = platform.seen().sent;
    assert_eq!(letters(&sent.concat()), letters(&parts[..2].concat()));
}

/// Each way a send can end is told apart, and nothing that may have been sent is sent twice.
pub async fn a_send_says_what_is_certain(platform: &dyn Platform) {
    let channel = platform.channel();
    platform.act(Act::NextSend(Ending::Throttled));
    let throttled = send(channel.as_ref(), platform, "one").await;
    assert!(
        matches!(throttled, Err(SendError::Retry { after_ms: 1.., .. })),
        "{throttled:?}"
    );
    platform.act(Act::NextSend(Ending::Refused));
    let refused = send(channel.as_ref(), platform, "two").await;
    assert!(matches!(refused, Err(SendError::Refused(_))), "{refused:?}");
    assert_eq!(platform.seen().sent, [""; 0], "what was not sent is not there");
    platform.act(Act::NextSend(Ending::AnswerLost));
    let lost = send(channel.as_ref(), platform, "three").await;
    assert!(matches!(lost, Err(SendError::Uncertain(_))), "{lost:?}");
    assert_eq!(platform.seen().sent, ["three"], "it was sent, once");
}

/// A photo goes out whole with its words, and says what is certain as a text does.
pub async fn a_photo_is_sent_whole_once_or_says_why_not(platform: &dyn Platform) {
    let channel = platform.channel();
    photo(channel.as_ref(), platform, MemoryFiles::PICTURE)
        .await
        .expect("sent");
    let seen = platform.seen();
    assert_eq!(seen.photos, [MemoryFiles::picture()]);
    assert!(seen.sent.concat().contains("a caption"), "{seen:?}");
    let gone = photo(channel.as_ref(), platform, "gone").await;
    assert!(
        matches!(&gone, Err(SendError::Refused(why)) if why.contains("media store")),
        "{gone:?}"
    );
    platform.act(Act::NextPhoto(Ending::Throttled));
    let throttled = photo(channel.as_ref(), platform, MemoryFiles::PICTURE).await;
    assert!(
        matches!(throttled, Err(SendError::Retry { after_ms: 1.., .. })),
        "{throttled:?}"
    );
    platform.act(Act::NextPhoto(Ending::Refused));
    let refused = photo(channel.as_ref(), platform, MemoryFiles::PICTURE).await;
    assert!(matches!(refused, Err(SendError::Refused(_))), "{refused:?}");
    assert_eq!(platform.seen().photos.len(), 1, "what was not sent is not there");
    platform.act(Act::NextPhoto(Ending::AnswerLost));
    let lost = photo(channel.as_ref(), platform, MemoryFiles::PICTURE).await;
    assert!(matches!(lost, Err(SendError::Uncertain(_))), "{lost:?}");
    assert_eq!(platform.seen().photos.len(), 2, "it was sent, once");
}

async fn photo(channel: &dyn Channel, platform: &dyn Platform, handle: &str) -> Result<(), SendError> {
    let outbound = Outbound::File {
        handle: handle.to_owned(),
        name: "photo.jpg".to_owned(),
        mime: "image/jpeg".to_owned(),
        caption: "a **caption**".to_owned(),
        reply_to: None,
    };
    channel.send(&platform.place(), &outbound).await.map(|_| ())
}

/// Stopping does not wait for the platform.
pub async fn a_stop_is_prompt(platform: &dyn Platform) {
    let port = MemoryPort::default();
    let channel = platform.channel();
    let stop = CancellationToken::new();
    let stopper = async {
        port.until_status("connected", |status| status.connected).await;
        stop.cancel();
        tokio::time::Instant::now()
    };
    let ((), asked) = tokio::join!(channel.run(&port, stop.clone()), stopper);
    assert!(asked.elapsed() < PROMPT, "it took {:?}", asked.elapsed());
    let status = port.status();
    assert!(!status.running && !status.connected, "{status:?}");
}

/// Credentials that the platform rejects are seen in the status, and the task goes on trying.
pub async fn a_rejected_token_is_seen(platform: &dyn Platform) {
    let port = MemoryPort::default();
    platform.act(Act::RejectToken);
    while_running(platform, &port, async {
        let rejected = port
            .until_status("an error", |status| status.last_error.is_some())
            .await;
        assert!(rejected.running && !rejected.connected, "{rejected:?}");
    })
    .await;
}

async fn send(channel: &dyn Channel, platform: &dyn Platform, text: &str) -> Result<(), SendError> {
    let outbound = Outbound::Text {
        text: text.to_owned(),
        reply_to: None,
    };
    channel.send(&platform.place(), &outbound).await.map(|_| ())
}

/// Runs a channel until the script is done, then stops it.
async fn while_running<T>(platform: &dyn Platform, port: &MemoryPort, script: impl Future<Output = T>) {
    let channel = platform.channel();
    let stop = CancellationToken::new();
    let scripted = async {
        script.await;
        stop.cancel();
    };
    let both = async { tokio::join!(channel.run(port, stop.clone()), scripted) };
    assert!(
        tokio::time::timeout(PATIENCE, both).await.is_ok(),
        "took too long: {port:#?}"
    );
}

/// Runs a channel until the script is done, then drops it wherever it is.
async fn until_crash<T>(platform: &dyn Platform, port: &MemoryPort, script: impl Future<Output = T>) {
    let channel = platform.channel();
    let running = channel.run(port, CancellationToken::new());
    let crash = async {
        tokio::select! {
            _ = script => {}
            () = running => panic!("the channel gave up: {port:#?}"),
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, crash).await.is_ok(),
        "took too long: {port:#?}"
    );
}
