//! Pictures from a device to a model and to a chat: the real gateway and a real node with the test pattern, once each, whatever is killed;
//! and no base64 where it must not be.

use std::path::Path;

use atoll_capabilities::camera::taken_at;
use atoll_tests::fake::model::{Asked, Step};
use atoll_tests::fake::telegram::{Fault, Sent};
use atoll_tests::fake_node::FakeNode;
use atoll_tests::mesh::Pipe;
use atoll_tests::scene::{Api, NODE, OWNER, Scene, Setting};
use atoll_tests::wait::until;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

atoll_tests::over_every_pipe! {
    a_model_sees_the_picture_that_its_tool_took_and_the_chat_gets_it_once,
    a_picture_that_is_typed_for_comes_without_any_model_or_says_why_not,
    a_picture_that_the_store_lost_becomes_words_and_the_conversation_goes_on,
}

/// What both owners have to allow.
fn config() -> Value {
    let commands = ["camera.snap", "camera.clip"];
    json!({
        "gateway": {"nodes": {"commands": {"allow": commands}}},
        "models": {"providers": {"fake": {"models": [{"id": "model", "input": ["text", "image"]}]}}},
    })
}

fn rules() -> Value {
    json!({
        "commands": {"camera.list": "allow", "camera.snap": "allow", "camera.clip": "allow"},
        "camera": {"testPattern": true},
    })
}

fn studio(api: Api) -> Setting {
    Setting::default()
        .api(api)
        .config(&config())
        .rules(&rules())
        .script(photographer)
}

/// Takes a picture for whoever says "look", and says when the one that it sees was taken; reads a folder for whoever says "read".
fn photographer(asked: &Asked) -> Option<Step> {
    if asked.last_user.contains("read") {
        let list = json!({"action": "invoke", "node": NODE, "invokeCommand": "dir.list", "invokeParamsJson": "{\"path\":\"/\"}"});
        return Some(match asked.results.is_empty() {
            true => Step::call("nodes", &list),
            false => Step::say("I have read it"),
        });
    }
    if !asked.last_user.contains("look") {
        return None;
    }
    let snap = json!({"action": "camera_snap", "node": NODE, "deviceId": "test"});
    Some(match (asked.results.len(), asked.pictures.last()) {
        (0, _) => Step::call("nodes", &snap),
        (_, Some(picture)) => Step::say(format!("I see {:?}", taken_at(picture))),
        (_, None) => Step::say(format!("I see nothing: {}", asked.results.join(" "))),
    })
}

fn photos(scene: &Scene) -> Vec<Sent> {
    scene
        .telegram
        .sent(OWNER)
        .into_iter()
        .filter(|sent| sent.file.is_some())
        .collect()
}

async fn photo(scene: &Scene) -> Sent {
    scene.telegram.wait_sent(OWNER, |sent| sent.file.is_some()).await
}

/// When the picture that a chat got was taken.
fn taken(sent: &Sent) -> Option<u32> {
    taken_at(&sent.file.as_ref()?.bytes)
}

/// The bytes of every file below a folder.
fn all_bytes(folder: &Path, into: &mut Vec<u8>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            all_bytes(&path, into);
        } else {
            into.extend(std::fs::read(&path).unwrap_or_default());
        }
    }
}

fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Neither transcripts nor the journal have the picture in them.
fn has_no_base64(scene: &Scene, picture: &[u8]) {
    let encoded = STANDARD.encode(picture);
    let middle = &encoded.as_bytes()[100..160];
    let mut transcripts = Vec::new();
    all_bytes(&scene.mesh.state().join("agents"), &mut transcripts);
    assert!(holds(&transcripts, b"\"toolResult\""), "the transcript is there");
    assert!(!holds(&transcripts, middle), "base64 in a transcript");
    for journal in ["state.db", "state.db-wal"] {
        let journal = std::fs::read(scene.mesh.state().join(journal)).unwrap_or_default();
        assert!(!holds(&journal, middle), "base64 in the journal");
    }
}

async fn a_model_sees_the_picture_that_its_tool_took_and_the_chat_gets_it_once(pipe: Pipe) {
    for api in [Api::Anthropic, Api::OpenAi] {
        let scene = studio(api).over(pipe).start().await;
        scene.write("look");
        let sent = photo(&scene).await;
        let time = taken(&sent).expect("the pattern's time");
        scene.said(&format!("I see Some({time})")).await;
        assert_eq!(scene.model.refused(), Vec::<String>::new());
        let asked = scene.model.asked();
        let last = asked.last().expect("questions");
        assert!(last.results[0].contains("\"blob\""), "{:?}", last.results);
        assert!(!last.results[0].contains("base64"), "{:?}", last.results);
        has_no_base64(&scene, &sent.file.expect("a file").bytes);
        has_no_base64(&scene, &last.pictures[0]);
        assert_eq!(photos(&scene).len(), 1);
    }
}

#[tokio::test]
async fn a_model_without_eyes_is_told_in_words() {
    let blind = json!({"models": {"providers": {"fake": {"models": [{"id": "model"}]}}}});
    let scene = studio(Api::OpenAi).config(&blind).start().await;
    scene.write("look");
    let said = scene.said("I see nothing").await;
    assert!(said.text.contains("cannot see pictures"), "{}", said.text);
    photo(&scene).await;
}

async fn a_picture_that_the_store_lost_becomes_words_and_the_conversation_goes_on(pipe: Pipe) {
    let mut scene = studio(Api::Anthropic).over(pipe).start().await;
    scene.write("look");
    photo(&scene).await;
    scene.said("I see Some").await;
    scene.mesh.stop().await;
    for entry in std::fs::read_dir(scene.mesh.state().join("media"))
        .expect("a folder")
        .flatten()
    {
        if entry.path().is_file() {
            std::fs::remove_file(entry.path()).expect("it is ours");
        }
    }
    scene.mesh.run().await;
    scene.write("and then?");
    scene.said("I heard: and then?").await;
    let body = scene.model.asked().last().expect("questions").body.to_string();
    assert!(
        body.contains("not in the media store any more") && !body.contains("\"image\""),
        "{body}"
    );
    assert_eq!(scene.model.refused(), Vec::<String>::new());
}

/// A point of the way at which the gateway is killed.
#[derive(Debug, Clone, Copy)]
enum Point {
    Written,
    Asked,
    Told,
    Sending,
}

#[tokio::test]
async fn a_gateway_that_is_killed_anywhere_sends_the_picture_once_or_says_that_it_is_uncertain() {
    for point in [Point::Written, Point::Asked, Point::Told, Point::Sending] {
        let mut scene = studio(Api::OpenAi).start().await;
        scene.write("look");
        match point {
            Point::Written => {}
            Point::Asked => {
                until("the first question", async || {
                    (!scene.model.asked().is_empty()).then_some(())
                })
                .await;
            }
            Point::Told => {
                until("the second question", async || {
                    (scene.model.asked().len() > 1).then_some(())
                })
                .await;
            }
            Point::Sending => {
                scene
                    .telegram
                    .fail_next("sendPhoto", Fault::Delay(std::time::Duration::from_millis(300)));
                until("the photo to leave", async || {
                    (!scene.telegram.calls("sendPhoto").is_empty()).then_some(())
                })
                .await;
            }
        }
        scene.mesh.kill().await;
        scene.mesh.run().await;
        scene.said("I see Some").await;
        let ends = || (!photos(&scene).is_empty() || is_doubtful(&scene)).then_some(());
        scene.telegram.wait_for("the picture, or a doubt about it", ends).await;
        // Whatever is still to come is behind this in its lane.
        scene.write("done?");
        scene.said("I heard: done?").await;
        let photos = photos(&scene);
        assert!(photos.len() <= 1, "{point:?}: {} photos", photos.len());
        assert!(photos.len() == 1 || is_doubtful(&scene), "{point:?}");
    }
}

fn is_doubtful(scene: &Scene) -> bool {
    scene
        .telegram
        .sent(OWNER)
        .iter()
        .any(|sent| sent.text.contains("Uncertain"))
}

async fn a_picture_that_is_typed_for_comes_without_any_model_or_says_why_not(pipe: Pipe) {
    let scene = studio(Api::OpenAi).over(pipe).start().await;
    scene.write("/snap laptop test");
    let sent = photo(&scene).await;
    assert!(taken(&sent).is_some(), "the pattern's time");
    assert_eq!(sent.text, "laptop · test");
    scene.write("/snap laptop attic");
    scene.said("\"attic\"").await;
    scene.write("/snap nowhere");
    scene.said("nowhere").await;
    scene.write("/screen laptop");
    scene.said("node command not allowed").await;
    scene
        .node
        .rules(&json!({"commands": {"camera.snap": "deny"}, "camera": {"testPattern": true}}));
    scene.write("/snap laptop test");
    scene.said("CAMERA_DISABLED").await;
    assert!(scene.model.asked().is_empty());
    assert_eq!(photos(&scene).len(), 1);
}

#[tokio::test]
async fn what_has_read_of_a_device_asks_for_a_picture_and_a_no_is_a_no() {
    let scene = studio(Api::OpenAi).start().await;
    // What an own camera sees is nobody's words.
    for count in 1..=2 {
        scene.write("look");
        pictures(&scene, count).await;
    }
    scene.write("read");
    scene.said("I have read it").await;
    scene.write("look once more");
    let card = scene.said("has read the output").await;
    assert!(card.text.contains("camera.snap"), "{}", card.text);
    assert_eq!(photos(&scene).len(), 2, "nothing was taken before anybody answered");
    scene.press(&scene.owner, &card, "Deny");
    scene.said("not run: denied by").await;
    assert_eq!(photos(&scene).len(), 2);
    // A new conversation has read nothing.
    scene.write("/new");
    scene.said("A new conversation begins").await;
    scene.write("look");
    pictures(&scene, 3).await;
}

async fn pictures(scene: &Scene, count: usize) {
    let what = format!("{count} photos");
    let enough = || (photos(scene).len() == count).then_some(());
    scene.telegram.wait_for(&what, enough).await;
}

#[tokio::test]
async fn what_was_read_is_not_forgotten_by_a_restart_nor_is_the_question() {
    let mut scene = studio(Api::OpenAi).start().await;
    scene.write("read");
    scene.said("I have read it").await;
    scene.mesh.kill().await;
    scene.mesh.run().await;
    scene.write("look once more");
    let card = scene.said("has read the output").await;
    scene.mesh.kill().await;
    scene.mesh.run().await;
    scene.press(&scene.owner, &card, "Allow once");
    pictures(&scene, 1).await;
}

#[tokio::test]
async fn an_owner_can_do_without_those_questions() {
    let scene = studio(Api::OpenAi)
        .config(&json!({"tools": {"untrusted": "off"}}))
        .start()
        .await;
    scene.write("read");
    scene.said("I have read it").await;
    scene.write("look");
    pictures(&scene, 1).await;
}

#[tokio::test]
async fn what_was_taken_from_an_agent_stays_the_persons() {
    let taken_away = json!({"agents": {"list": [
        {"id": "main", "tools": {"nodes": {"commands": {"deny": ["camera.snap"]}}}},
    ]}});
    let scene = studio(Api::OpenAi).config(&taken_away).start().await;
    scene.write("look");
    let said = scene.said("I see nothing").await;
    assert!(
        said.text.contains("this agent may not use camera.snap"),
        "{}",
        said.text
    );
    assert_eq!(photos(&scene).len(), 0);
    scene.write("/snap laptop test");
    photo(&scene).await;
}

#[tokio::test]
async fn a_node_that_knows_base64_alone_gives_a_model_and_a_chat_the_same() {
    let phone = json!({"action": "camera_snap", "node": "phone"});
    let script = move |asked: &Asked| match asked.results.len() {
        0 if asked.last_user.contains("look") => Some(Step::call("nodes", &phone)),
        0 => None,
        _ => Some(Step::say(format!(
            "I see {:?}",
            asked.pictures.last().and_then(|picture| taken_at(picture))
        ))),
    };
    let scene = Setting::default()
        .api(Api::Anthropic)
        .config(&config())
        .script(script)
        .start()
        .await;
    let mut operator = scene.mesh.operator().await;
    let mut phone = FakeNode::pair(
        &scene.mesh.target(),
        &mut operator,
        "phone",
        &["camera.snap", "screen.snapshot"],
    )
    .await;
    let picture = atoll_capabilities::camera::test_picture(640, 90).expect("a picture");
    let payload = json!({"format": "jpg", "base64": STANDARD.encode(&picture), "width": 640, "height": 360});
    scene.write("look");
    let call = phone.invoked("camera.snap").await;
    assert_eq!(call.params()["maxWidth"], 1600);
    phone.succeed(&call, &payload).await.expect("taken");
    let sent = photo(&scene).await;
    scene.said(&format!("I see {:?}", taken_at(&picture))).await;
    assert_eq!(sent.file.as_ref().expect("a file").bytes, picture);
    has_no_base64(&scene, &picture);

    scene.write("/screen phone");
    let call = phone.invoked("screen.snapshot").await;
    phone.succeed(&call, &payload).await.expect("taken");
    scene
        .telegram
        .wait_for("the screen", || (photos(&scene).len() == 2).then_some(()))
        .await;

    // Bytes that break off are one picture that nobody sees, and a turn that goes on.
    scene.write("look again");
    let call = phone.invoked("camera.snap").await;
    let torn = json!({"format": "jpg", "base64": STANDARD.encode(&picture[..400])});
    phone.succeed(&call, &torn).await.expect("taken");
    scene.said("I see None").await;
    let told = scene.model.asked().last().expect("questions").results.join(" ");
    assert!(told.contains("cannot be shown"), "{told}");
    assert_eq!(scene.model.refused(), Vec::<String>::new());
}
