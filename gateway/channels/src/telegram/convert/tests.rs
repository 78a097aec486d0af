//! Updates as Telegram sends them, and what is read from them.

use serde_json::{Value, json};

use super::*;

fn me() -> Identity {
    Identity {
        id: 99,
        username: "atoll_bot".into(),
    }
}

fn read(update: Value) -> Option<Inbound> {
    let account = AccountRef {
        channel: "telegram".into(),
        account: "default".into(),
    };
    let update = serde_json::from_str(&update.to_string()).expect("an update that teloxide reads");
    inbound(&account, &me(), update, 5)
}

fn message(chat: Value, more: Value) -> Value {
    let mut message = json!({
        "message_id": 3, "date": 1_700_000_000, "chat": chat,
        "from": {"id": 42, "is_bot": false, "first_name": "Ann", "last_name": "Lee"},
    });
    for (key, value) in more.as_object().expect("an object") {
        message[key] = value.clone();
    }
    json!({"update_id": 7, "message": message})
}

fn direct() -> Value {
    json!({"id": 42, "type": "private", "first_name": "Ann"})
}

fn group() -> Value {
    json!({"id": -1001, "type": "supergroup", "title": "G"})
}

fn text_of(update: Value) -> String {
    match read(update).expect("something").content {
        Content::Message { text, .. } => text,
        Content::Click { .. } => panic!("no message"),
    }
}

#[test]
fn a_direct_message_says_who_where_and_what() {
    let inbound = read(message(direct(), json!({"text": "hi"}))).expect("something");
    assert_eq!(inbound.id, "update:99:7");
    assert_eq!(
        (inbound.place.kind, inbound.place.chat.as_str()),
        (PeerKind::Direct, "42")
    );
    assert_eq!(
        (inbound.sender.id.as_str(), inbound.sender.name.as_str()),
        ("42", "Ann Lee")
    );
    assert_eq!(inbound.sent_at_ms, 1_700_000_000_000);
    assert_eq!(text_of(message(direct(), json!({"text": "hi"}))), "hi");
}

#[test]
fn a_bot_is_mentioned_by_name_by_id_by_command_or_by_reply() {
    let check = |text: &str, more: Value, expected: bool| {
        let mut fields = json!({"text": text});
        for (key, value) in more.as_object().expect("an object") {
            fields[key] = value.clone();
        }
        let inbound = read(message(group(), fields)).expect("something");
        let Content::Message { mentions_bot, .. } = inbound.content else {
            panic!("no message");
        };
        assert_eq!(mentions_bot, expected, "{text}");
    };
    let entity = |kind: &str, offset: usize, length: usize| json!({"entities": [{"type": kind, "offset": offset, "length": length}]});
    let reply = |from: u64, more: &str| {
        let mut replied = json!({"message_id": 2, "date": 1, "chat": group(), "from": {"id": from, "is_bot": true, "first_name": "B"}});
        if more == "topic" {
            replied["forum_topic_created"] = json!({"name": "T", "icon_color": 7_322_096});
        } else {
            replied["text"] = json!(more);
        }
        json!({"reply_to_message": replied})
    };
    check("hi", json!({}), false);
    check("😀 @Atoll_Bot hi", entity("mention", 3, 10), true);
    check("@other_bot hi", entity("mention", 0, 10), false);
    check("@atoll_bot without an entity", json!({}), false);
    check("/status@atoll_bot", entity("bot_command", 0, 17), true);
    check("/status@other_bot", entity("bot_command", 0, 17), false);
    check("/status", entity("bot_command", 0, 7), false);
    check("yes", reply(99, "question?"), true);
    check("yes", reply(98, "question?"), false);
    check("first in a topic the bot made", reply(99, "topic"), false);
    let user = json!({"id": 99, "is_bot": true, "first_name": "Atoll"});
    check(
        "Atoll hi",
        json!({"entities": [{"type": "text_mention", "offset": 0, "length": 5, "user": user}]}),
        true,
    );
}

#[test]
fn only_topics_are_threads() {
    let thread = |more: Value| read(message(group(), more)).expect("something").place.thread;
    assert_eq!(
        thread(json!({"text": "a", "message_thread_id": 8, "is_topic_message": true})),
        Some("8".into())
    );
    assert_eq!(thread(json!({"text": "a", "message_thread_id": 8})), None);
}

#[test]
fn who_speaks_as_a_chat_is_that_chat() {
    let sender_chat = json!({"id": -1001, "type": "supergroup", "title": "G"});
    let update = message(group(), json!({"text": "a", "sender_chat": sender_chat}));
    assert_eq!(read(update).expect("something").sender.id, "-1001");
}

#[test]
fn media_is_noted_beside_its_caption_and_forwarded_text_is_marked() {
    let photo = json!([{"file_id": "f", "file_unique_id": "u", "width": 1, "height": 1, "file_size": 1}]);
    assert_eq!(
        text_of(message(direct(), json!({"photo": photo, "caption": "look"}))),
        "[photo]\nlook"
    );
    let origin = json!({"type": "hidden_user", "sender_user_name": "Owner", "date": 1});
    let forwarded = message(
        direct(),
        json!({"text": "/approve 1 allow-always", "forward_origin": origin}),
    );
    assert_eq!(text_of(forwarded), "[forwarded]\n/approve 1 allow-always");
}

#[test]
fn a_click_names_the_clicker_and_the_card() {
    let card = json!({"message_id": 5, "date": 1, "chat": group(), "text": "card", "message_thread_id": 8, "is_topic_message": true});
    let click = json!({"update_id": 8, "callback_query": {
        "id": "q1", "chat_instance": "i", "data": "ap:1:o", "message": card,
        "from": {"id": 43, "is_bot": false, "first_name": "Eve"},
    }});
    let inbound = read(click).expect("something");
    assert_eq!((inbound.sender.id.as_str(), inbound.sent_at_ms), ("43", 5));
    assert_eq!(inbound.place.thread.as_deref(), Some("8"));
    let expected = Content::Click {
        data: "ap:1:o".into(),
        message: "5".into(),
        click: "q1".into(),
    };
    assert_eq!(inbound.content, expected);
}

#[test]
fn what_is_of_no_interest_gives_nothing() {
    assert_eq!(read(message(group(), json!({"new_chat_title": "T"}))), None);
    let mut edited = message(direct(), json!({"text": "x", "edit_date": 2}));
    edited["edited_message"] = edited["message"].take();
    edited.as_object_mut().expect("an object").remove("message");
    assert_eq!(read(edited), None);
}
