//! The Telegram channel against the Bot API: what every channel must do, and what is Telegram's own.

use std::time::Duration;

use atoll_channels::conformance::{self, Act, Ending, MemoryFiles, MemoryPort, Platform, Seen};
use atoll_channels::port::{AccountRef, Button, Channel, Content, Outbound, PeerKind, Place, SendError};
use atoll_channels::telegram::{Telegram, TelegramAccount, Timing};
use atoll_tests::fake::telegram::{FakeTelegram, Fault, Person, Post};
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "99:TEST-token";
const ANN: i64 = 42;

/// The fake with one person who has met the bot.
struct Chat {
    fake: FakeTelegram,
    ann: Person,
}

impl Chat {
    async fn new() -> Self {
        let fake = FakeTelegram::start(TOKEN).await;
        let ann = Person::new(ANN, "Ann");
        fake.meet(&ann);
        Self { fake, ann }
    }

    fn telegram(&self) -> Telegram {
        telegram_at(&self.fake.api_root(), TOKEN)
    }

    async fn send(&self, outbound: Outbound) -> Result<Option<String>, SendError> {
        let sent = self
            .telegram()
            .send(&place(PeerKind::Direct, ANN, None), &outbound)
            .await;
        sent.map(|receipt| receipt.message)
    }

    async fn say(&self, text: &str) -> Result<Option<String>, SendError> {
        self.send(text_of(text)).await
    }
}

impl Platform for Chat {
    fn channel(&self) -> Box<dyn Channel> {
        Box::new(self.telegram())
    }

    fn place(&self) -> Place {
        place(PeerKind::Direct, ANN, None)
    }

    fn act(&self, act: Act<'_>) {
        match act {
            Act::Write(text) => {
                self.fake.write(&self.ann, ANN, text);
            }
            Act::BreakReceiving => self.fake.fail_next("getUpdates", Fault::DropAfter),
            Act::RejectToken => self.fake.change_token("99:another"),
            Act::NextSend(ending) => self.fake.fail_next("sendMessage", fault(ending)),
            Act::NextPhoto(ending) => self.fake.fail_next("sendPhoto", fault(ending)),
        }
    }

    fn seen(&self) -> Seen {
        Seen {
            unacknowledged: self.fake.unconfirmed(),
            sent: self.fake.sent(ANN).into_iter().map(|sent| sent.text).collect(),
            photos: self
                .fake
                .sent(ANN)
                .into_iter()
                .filter_map(|sent| Some(sent.file?.bytes))
                .collect(),
        }
    }
}

fn fault(ending: Ending) -> Fault {
    match ending {
        Ending::Throttled => Fault::TooManyRequests(1),
        Ending::Refused => Fault::Refuse(403, "Forbidden: bot was blocked by the user"),
        Ending::AnswerLost => Fault::DropAfter,
    }
}

fn telegram_at(api_root: &str, token: &str) -> Telegram {
    let timing = Timing {
        pace: Duration::from_secs(3),
        backoff_first: Duration::from_millis(20),
        backoff_cap: Duration::from_millis(100),
        ..Timing::default()
    };
    let account = TelegramAccount {
        account: "default".into(),
        token: token.to_owned().into(),
        api_root: Some(api_root.to_owned()),
        chunk_limit: None,
        timing,
        files: std::sync::Arc::new(MemoryFiles),
    };
    Telegram::new(account).expect("a valid account")
}

fn place(kind: PeerKind, chat: i64, thread: Option<i64>) -> Place {
    Place {
        account: AccountRef {
            channel: "telegram".into(),
            account: "default".into(),
        },
        kind,
        chat: chat.to_string(),
        thread: thread.map(|thread| thread.to_string()),
    }
}

fn text_of(text: &str) -> Outbound {
    Outbound::Text {
        text: text.into(),
        reply_to: None,
    }
}

fn card(data: &str) -> Outbound {
    let button = |label: &str| Button {
        label: label.into(),
        data: data.into(),
    };
    Outbound::Card {
        text: "Run **it**?".into(),
        buttons: vec![vec![button("Yes"), button("No")]],
    }
}

async fn running<T>(telegram: &Telegram, port: &MemoryPort, script: impl Future<Output = T>) -> T {
    let stop = CancellationToken::new();
    let scripted = async {
        let result = tokio::time::timeout(Duration::from_secs(20), script).await;
        stop.cancel();
        result.unwrap_or_else(|_| panic!("took too long: {port:#?}"))
    };
    tokio::join!(telegram.run(port, stop.clone()), scripted).1
}

macro_rules! conforms {
    ($($scenario:ident)*) => {
        $(#[tokio::test]
        async fn $scenario() {
            conformance::$scenario(&Chat::new().await).await;
        })*
    };
}

conforms! {
    commit_comes_before_acknowledgement
    a_crash_after_the_commit_repeats_nothing
    order_is_kept_through_an_outage
    a_split_text_can_be_sent_and_is_whole
    a_send_says_what_is_certain
    a_photo_is_sent_whole_once_or_says_why_not
    a_stop_is_prompt
    a_rejected_token_is_seen
}

#[tokio::test]
async fn text_is_shown_formatted_and_as_it_was_written_where_telegram_cannot_read_it() {
    let chat = Chat::new().await;
    chat.say("a **bold** <move> & `code`").await.expect("sent");
    chat.say("```\n```").await.expect("sent as it was written");
    let sent = chat.fake.sent(ANN);
    assert_eq!((sent[0].text.as_str(), sent[0].html), ("a bold <move> & code", true));
    assert_eq!(sent[0].source, "a <b>bold</b> &lt;move&gt; &amp; <code>code</code>");
    assert_eq!((sent[1].text.as_str(), sent[1].html), ("```\n```", false));
}

#[tokio::test]
async fn a_reply_reaches_its_topic_and_its_message_even_when_that_is_gone() {
    let chat = Chat::new().await;
    chat.fake.add_group(-100, &[8]);
    let asked = chat.fake.post(&chat.ann, -100, Post::text("?").in_topic(8));
    let telegram = chat.telegram();
    for reply_to in [asked, 999] {
        let outbound = Outbound::Text {
            text: "!".into(),
            reply_to: Some(reply_to.to_string()),
        };
        telegram
            .send(&place(PeerKind::Group, -100, Some(8)), &outbound)
            .await
            .expect("sent");
    }
    let sent = chat.fake.sent(-100);
    assert_eq!((sent[0].topic, sent[0].reply_to), (Some(8), Some(asked)));
    assert_eq!((sent[1].topic, sent[1].reply_to), (Some(8), None));
    let nowhere = telegram
        .send(&place(PeerKind::Group, -100, Some(9)), &text_of("x"))
        .await;
    assert!(matches!(nowhere, Err(SendError::Refused(_))), "{nowhere:?}");
}

#[tokio::test]
async fn a_card_is_clicked_answered_and_loses_its_buttons_once() {
    let chat = Chat::new().await;
    let telegram = chat.telegram();
    let card = chat.send(card("ap:1:o")).await.expect("sent").expect("an id");
    let number = card.parse().expect("a number");
    let click = chat.fake.click(&Person::new(43, "Eve"), ANN, number, "ap:1:o");

    let port = MemoryPort::default();
    let kept = running(
        &telegram,
        &port,
        port.until("the click", |kept| !kept.arrived.is_empty()),
    )
    .await;
    let arrived = &kept.arrived[0];
    assert_eq!(arrived.sender.id, "43", "the clicker, not who got the card");
    let expected = Content::Click {
        data: "ap:1:o".into(),
        message: card.clone(),
        click: click.clone(),
    };
    assert_eq!(arrived.content, expected);

    let answer = Outbound::ClickAnswer {
        click,
        text: "not yours".repeat(50),
    };
    telegram.send(&arrived.place, &answer).await.expect("answered");
    assert_eq!(chat.fake.click_answers().len(), 1);
    let again = telegram.send(&arrived.place, &answer).await;
    assert!(matches!(again, Err(SendError::Refused(_))), "{again:?}");

    let edit = Outbound::Edit {
        message: card,
        text: "Denied.".into(),
    };
    for _ in 0..2 {
        telegram
            .send(&arrived.place, &edit)
            .await
            .expect("edited, or not modified");
    }
    let shown = &chat.fake.sent(ANN)[0];
    assert_eq!(
        (shown.text.as_str(), shown.buttons.len(), shown.edits),
        ("Denied.", 0, 1)
    );
}

#[tokio::test]
async fn a_lost_answer_is_uncertain_for_a_message_and_a_retry_for_an_edit() {
    let chat = Chat::new().await;
    let message = chat.say("one").await.expect("sent").expect("an id");
    for fault in [
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::BadGateway,
        Fault::ErrorAfter,
    ] {
        chat.fake.fail_next("sendMessage", fault);
        let sent = chat.say("two").await;
        assert!(matches!(sent, Err(SendError::Uncertain(_))), "{fault:?}: {sent:?}");
        chat.fake.fail_next("editMessageText", fault);
        let edit = Outbound::Edit {
            message: message.clone(),
            text: format!("{fault:?}"),
        };
        let edited = chat.send(edit.clone()).await;
        assert!(matches!(edited, Err(SendError::Retry { .. })), "{fault:?}: {edited:?}");
        chat.send(edit).await.expect("twice is once");
    }
    assert!(chat.fake.faults_are_used_up());
}

#[tokio::test]
async fn what_never_left_can_be_sent_again() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = closed.local_addr().expect("an address");
    drop(closed);
    let telegram = telegram_at(&format!("http://{address}"), TOKEN);
    let sent = telegram.send(&place(PeerKind::Direct, ANN, None), &text_of("x")).await;
    assert!(matches!(sent, Err(SendError::Retry { .. })), "{sent:?}");
    let words = sent.map_or_else(|error| error.to_string(), |_| String::new());
    assert!(!words.contains("TEST-token"), "the token is in {words}");
    let chat = Chat::new().await;
    chat.fake.change_token("99:new");
    let rejected = chat.say("x").await;
    assert!(matches!(rejected, Err(SendError::Retry { .. })), "{rejected:?}");
}

#[tokio::test]
async fn a_chat_that_is_gone_refuses_and_says_why() {
    let chat = Chat::new().await;
    chat.fake.block(ANN);
    let blocked = chat.say("x").await;
    assert!(
        matches!(&blocked, Err(SendError::Refused(why)) if why.contains("blocked")),
        "{blocked:?}"
    );
    let unknown = chat
        .telegram()
        .send(&place(PeerKind::Direct, 5, None), &text_of("x"))
        .await;
    assert!(
        matches!(&unknown, Err(SendError::Refused(why)) if why.contains("chat not found")),
        "{unknown:?}"
    );
}

fn file(mime: &str, caption: &str) -> Outbound {
    Outbound::File {
        handle: MemoryFiles::PICTURE.into(),
        name: "a \"photo\"\r\n.jpg".into(),
        mime: mime.into(),
        caption: caption.into(),
        reply_to: None,
    }
}

#[tokio::test]
async fn a_file_is_shown_as_what_it_is_and_a_picture_that_is_no_photo_goes_as_a_file() {
    let chat = Chat::new().await;
    for (mime, kind) in [
        ("video/mp4", "video"),
        ("application/pdf", "document"),
        ("image/jpeg", "photo"),
    ] {
        chat.send(file(mime, "")).await.expect("sent");
        let sent = chat.fake.sent(ANN).pop().and_then(|sent| sent.file).expect("a file");
        assert_eq!((sent.kind.as_str(), sent.mime.as_str()), (kind, mime));
        assert_eq!(
            (sent.name.as_str(), sent.bytes),
            ("a _photo___.jpg", MemoryFiles::picture())
        );
    }
    chat.fake
        .fail_next("sendPhoto", Fault::Refuse(400, "Bad Request: PHOTO_INVALID_DIMENSIONS"));
    chat.send(file("image/jpeg", "")).await.expect("sent in another way");
    let sent = chat.fake.sent(ANN).pop().and_then(|sent| sent.file).expect("a file");
    assert_eq!(sent.kind, "document");
}

#[tokio::test]
async fn a_caption_is_formatted_cut_to_what_telegram_takes_and_reaches_its_topic() {
    let chat = Chat::new().await;
    chat.send(file("image/jpeg", "a **bold** <move>")).await.expect("sent");
    let sent = chat.fake.sent(ANN).pop().expect("a message");
    assert_eq!((sent.text.as_str(), sent.html), ("a bold <move>", true));
    chat.send(file("image/jpeg", &"é".repeat(3000))).await.expect("sent");
    assert_eq!(chat.fake.sent(ANN).pop().expect("a message").text.chars().count(), 1024);
    chat.fake.add_group(-100, &[8]);
    let place = place(PeerKind::Group, -100, Some(8));
    chat.telegram()
        .send(&place, &file("image/jpeg", "x"))
        .await
        .expect("sent");
    assert_eq!(chat.fake.sent(-100)[0].topic, Some(8));
}

#[tokio::test]
async fn a_group_that_became_a_supergroup_is_followed() {
    let chat = Chat::new().await;
    chat.fake.add_group(-1, &[]);
    chat.fake.add_group(-1002, &[]);
    chat.fake.fail_next("sendMessage", Fault::Moved(-1002));
    let sent = chat
        .telegram()
        .send(&place(PeerKind::Group, -1, None), &text_of("x"))
        .await;
    assert!(sent.is_ok(), "{sent:?}");
    assert_eq!(chat.fake.sent(-1002).len(), 1);
}

#[tokio::test]
async fn a_second_poller_is_named_in_the_status() {
    let chat = Chat::new().await;
    let port = MemoryPort::default();
    let telegram = chat.telegram();
    let client = reqwest::Client::new();
    let status = running(&telegram, &port, async {
        chat.fake
            .wait_for("a poll", || (!chat.fake.calls("getUpdates").is_empty()).then_some(()))
            .await;
        let url = format!("{}/bot{TOKEN}/getUpdates", chat.fake.api_root());
        client.get(url).send().await.expect("the second poller is served");
        port.until_status("the conflict", |status| status.last_error.is_some())
            .await
    })
    .await;
    let error = status.last_error.expect("an error");
    assert!(error.contains("another program is receiving"), "{error}");
}

#[tokio::test]
async fn another_bots_cursor_is_not_used() {
    let chat = Chat::new().await;
    let port = MemoryPort::default();
    chat.fake.write(&chat.ann, ANN, "one");
    running(
        &chat.telegram(),
        &port,
        port.until("one", |kept| kept.texts() == ["one"]),
    )
    .await;

    let other = FakeTelegram::start("77:other").await;
    other.write(&chat.ann, ANN, "two");
    let telegram = telegram_at(&other.api_root(), "77:other");
    running(
        &telegram,
        &port,
        port.until("two", |kept| kept.texts() == ["one", "two"]),
    )
    .await;
    assert!(other.calls("getUpdates")[0].get("offset").is_none());
}

#[tokio::test]
async fn an_update_of_unknown_shape_does_not_block_those_after_it() {
    let chat = Chat::new().await;
    let port = MemoryPort::default();
    chat.fake.push(serde_json::json!({"message": {"nonsense": true}}));
    chat.fake.write(&chat.ann, ANN, "after");
    running(
        &chat.telegram(),
        &port,
        port.until("what follows", |kept| kept.texts() == ["after"]),
    )
    .await;
}

#[tokio::test]
async fn typing_is_shown_in_its_topic_and_its_failure_is_no_matter() {
    let chat = Chat::new().await;
    chat.fake.add_group(-100, &[8]);
    let telegram = chat.telegram();
    telegram.typing(&place(PeerKind::Group, -100, Some(8))).await;
    chat.fake.fail_next("sendChatAction", Fault::DropBefore);
    telegram.typing(&place(PeerKind::Group, -100, Some(8))).await;
    let call = &chat.fake.calls("sendChatAction")[0];
    assert_eq!(
        (call["action"].as_str(), call["message_thread_id"].as_i64()),
        (Some("typing"), Some(8))
    );
}
