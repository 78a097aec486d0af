//! Screens of a real node, seen by operators through a real gateway: a real X server on which the tests paint, what happens when it hangs or
//! dies, and who may see anything.

use std::time::Duration;

use atoll_capabilities::capture::{Preview, preview};
use atoll_tests::mesh::{Mesh, Node, Pipe};
use atoll_tests::xserver::{XServer, authority};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::camera::{Studio, message};
use crate::consent::refusal;

mod cli;
mod moving;
mod text;

atoll_tests::over_every_pipe! {
    a_server_that_hangs_costs_one_call_and_leaves_no_process,
    a_screen_is_seen_as_it_is_now,
}

const ALL: [&str; 4] = ["screen.list", "screen.snapshot", "screen.record", "screen.stream"];

/// What a gateway's owner has to allow, besides the node's.
pub(crate) fn gateway_allows() -> Value {
    json!({"gateway": {"nodes": {"commands": {"allow": ["screen.record", "screen.stream"]}}}})
}

/// What a node's owner has to allow.
pub(crate) fn owner_allows(screens: Value) -> Value {
    let commands = ALL.iter().map(|name| ((*name).to_owned(), json!("allow")));
    let commands: serde_json::Map<String, Value> = commands.collect();
    json!({"commands": commands, "screen": screens})
}

/// A gateway, and a node with screens.
async fn studio(pipe: Pipe, screens: Value) -> Studio {
    Studio::under(pipe, gateway_allows(), owner_allows(screens)).await
}

async fn beside(pipe: Pipe, server: &XServer) -> Studio {
    studio(pipe, json!({"display": server.display})).await
}

async fn snap(studio: &mut Studio, params: Value) -> Result<(Value, Preview), Value> {
    let result = studio.invoke("screen.snapshot", params, 15_000).await?;
    let bytes = STANDARD.decode(result["base64"].as_str().expect("base64"));
    let picture = preview(&bytes.expect("base64"), u32::MAX).expect("a picture");
    let size = [&result["width"], &result["height"]].map(Value::as_u64);
    assert_eq!(
        size,
        [picture.width, picture.height].map(|side| Some(u64::from(side))),
        "{result}"
    );
    Ok((result, picture))
}

/// Every pixel.
fn exact() -> Value {
    json!({"format": "png"})
}

pub(crate) fn pixel(picture: &Preview, x: u32, y: u32) -> u32 {
    let at = (y * picture.width + x) as usize * 3;
    let [red, green, blue] = [0, 1, 2].map(|colour| u32::from(picture.rgb[at + colour]));
    red << 16 | green << 8 | blue
}

/// Whether two colours look the same after a lossy way.
pub(crate) fn is_like(seen: u32, painted: u32) -> bool {
    let part = |colour: u32, shift: u32| colour >> shift & 0xFF;
    [0, 8, 16]
        .iter()
        .all(|shift| part(seen, *shift).abs_diff(part(painted, *shift)) < 40)
}

async fn a_screen_is_seen_as_it_is_now(pipe: Pipe) {
    let server = XServer::start(&["640x480x24"]).await;
    let painter = server.painter();
    painter.point(0, 600, 440);
    painter.paint(0, (0, 0, 640, 480), 0x20_40_60);
    painter.paint(0, (100, 50, 200, 100), 0xFF_80_00);
    let mut studio = beside(pipe, &server).await;

    let list = studio.invoke("screen.list", json!({}), 15_000).await.expect("a list");
    let one = json!({"index": 0, "name": "screen", "x": 0, "y": 0, "width": 640, "height": 480, "primary": true});
    assert_eq!(list["screens"], json!([one]));

    let (result, picture) = snap(&mut studio, exact()).await.expect("a picture");
    assert_eq!(
        (&result["format"], &result["screenIndex"]),
        (&json!("png"), &json!(0)),
        "{result}"
    );
    let corners = [
        (99, 50),
        (100, 49),
        (100, 50),
        (299, 149),
        (300, 149),
        (299, 150),
        (0, 0),
        (639, 479),
    ];
    let seen = corners.map(|(x, y)| format!("{:06x}", pixel(&picture, x, y)));
    let (ground, patch) = ("204060", "ff8000");
    assert_eq!(seen, [ground, ground, patch, patch, ground, ground, ground, ground]);

    painter.paint(0, (100, 50, 200, 100), 0x00_FF_00);
    let usual = json!({"executionId": "x", "screenIndex": 0});
    let (result, picture) = snap(&mut studio, usual).await.expect("a picture");
    assert_eq!(result["format"], "jpeg");
    assert!(
        is_like(pixel(&picture, 200, 100), 0x00_FF_00),
        "{:06x}",
        pixel(&picture, 200, 100)
    );

    sizes_and_refusals(&mut studio).await;
    studio.is_tidy().await;
}

async fn sizes_and_refusals(studio: &mut Studio) {
    let mut lengths = Vec::new();
    for quality in [0.2, 1.0] {
        let asked = json!({"maxWidth": 320, "quality": quality, "format": "jpeg"});
        let (result, picture) = snap(studio, asked).await.expect("a picture");
        assert_eq!((picture.width, picture.height), (320, 240));
        assert!(is_like(pixel(&picture, 100, 50), 0x00_FF_00));
        lengths.push(result["base64"].as_str().map(str::len));
    }
    assert!(lengths[0] < lengths[1], "{lengths:?}");
    for (params, words) in [
        (json!({"screenIndex": 1}), "no screen 1 here; there is one, number 0"),
        (json!({"screenIndex": -1}), "screenIndex is -1"),
        (json!({"format": "gif"}), "jpeg or png"),
        (json!({"delayMs": 5}), "delayMs"),
    ] {
        let error = snap(studio, params).await.expect_err("refused");
        assert!(
            message(&error).starts_with("INVALID_REQUEST") && message(&error).contains(words),
            "{error}"
        );
    }
}

#[tokio::test]
async fn every_screen_has_a_number_and_the_pointer_is_seen() {
    let server = XServer::start(&["640x480x24", "320x200x24"]).await;
    let painter = server.painter();
    painter.divide(
        0,
        &[("left", (0, 0, 300, 480), false), ("right", (300, 0, 340, 480), true)],
    );
    painter.paint(0, (0, 0, 300, 480), 0x80_00_00);
    painter.paint(0, (300, 0, 340, 480), 0x00_80_00);
    painter.paint(1, (0, 0, 320, 200), 0x00_00_80);
    painter.point(0, 500, 200);
    let mut studio = beside(Pipe::Ws, &server).await;
    let list = studio.invoke("screen.list", json!({}), 15_000).await.expect("a list");
    let rows = list["screens"].as_array().expect("a list");
    let facts: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row["name"].as_str().unwrap_or_default(),
                row["x"].as_i64(),
                row["primary"] == true,
            )
        })
        .collect();
    let expected = [
        ("right on X screen 0", Some(300), true),
        ("left on X screen 0", Some(0), false),
        ("screen on X screen 1", Some(0), false),
    ];
    assert_eq!(facts, expected, "{list}");

    for (index, width, colour) in [(0, 340, 0x00_80_00), (1, 300, 0x80_00_00), (2, 320, 0x00_00_80)] {
        let asked = json!({"screenIndex": index, "format": "png"});
        let (_, picture) = snap(&mut studio, asked).await.expect("a picture");
        assert_eq!((picture.width, pixel(&picture, 0, 0)), (width, colour), "{index}");
        let pixels = (0..picture.height).flat_map(|y| (0..picture.width).map(move |x| (x, y)));
        let other: Vec<_> = pixels.filter(|(x, y)| pixel(&picture, *x, *y) != colour).collect();
        // The pointer is on the right one alone, and nowhere else.
        assert_eq!(other.is_empty(), index != 0, "{index}: {} pixels", other.len());
        assert!(
            other.iter().all(|(x, y)| x.abs_diff(200) < 40 && y.abs_diff(200) < 40),
            "{other:?}"
        );
    }
    let error = snap(&mut studio, json!({"screenIndex": 3}))
        .await
        .expect_err("no such screen");
    assert!(message(&error).contains("there are 3, from 0 on"), "{error}");
}

#[tokio::test]
async fn a_locked_display_opens_with_its_file_alone_and_odd_colours_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (key, wrong) = (folder.path().join("key"), folder.path().join("wrong"));
    authority(&key, [7; 16]);
    authority(&wrong, [8; 16]);
    let locked = XServer::locked("320x200x24", &key).await;
    let mut studio = studio(Pipe::Ws, json!({"display": locked.display, "xauthority": wrong})).await;
    let error = snap(&mut studio, exact()).await.expect_err("locked");
    let words = ["SCREEN_UNAVAILABLE", locked.display.as_str(), "XAUTHORITY"];
    assert!(words.iter().all(|word| message(&error).contains(word)), "{error}");
    studio
        .node
        .rules(&owner_allows(json!({"display": locked.display, "xauthority": key})));
    snap(&mut studio, exact()).await.expect("the right one");

    let shallow = XServer::start(&["320x200x16"]).await;
    studio.node.rules(&owner_allows(json!({"display": shallow.display})));
    let error = snap(&mut studio, exact()).await.expect_err("16 bits");
    assert!(message(&error).contains("16 bits of colour"), "{error}");

    studio.node.rules(&owner_allows(json!({"display": ":9999"})));
    let error = snap(&mut studio, exact()).await.expect_err("nobody there");
    assert!(message(&error).contains("\":9999\" does not open"), "{error}");
    studio.is_tidy().await;
}

#[tokio::test]
async fn a_node_without_a_display_declares_nothing_and_says_what_is_missing() {
    let mesh = Mesh::with(&gateway_allows()).await;
    let mut node = Node::prepare(&mesh.target(), "headless", &[]);
    node.rules(&owner_allows(json!({})));
    let doctor = node.doctor().await;
    let rows = doctor["capabilities"].as_array().expect("rows");
    let row = rows.iter().find(|row| row["cap"] == "screen").expect("a row");
    assert_eq!(row["commands"], json!([]), "{row}");
    let missing = row["missing"].as_array().expect("reasons");
    let says_it = |row: &Value| {
        row["why"]
            .as_str()
            .is_some_and(|why| why.contains("neither DISPLAY nor"))
    };
    assert!(missing.len() == 4 && missing.iter().all(says_it), "{row}");

    // Whoever calls it nevertheless hears the same, after the words that clients of OpenClaw know.
    node.run();
    let _node = mesh.admit("headless", node).await;
    let known = "the node (platform: linux) does not support \"screen.record\"; the node says: there is no display";
    let error = refusal(&mesh, "headless", "screen.record").await;
    assert!(error.contains(known), "{error}");
    let error = refusal(&mesh, "headless", "screen.snapshot").await;
    let next = "start it in the desktop session, or name an X display in node.json";
    assert!(error.contains("there is no display") && error.contains(next), "{error}");
}

#[tokio::test]
async fn nothing_is_seen_unless_both_owners_say_so() {
    let server = XServer::start(&["320x200x24"]).await;
    let mesh = Mesh::start().await;
    let environment = [("DISPLAY", server.display.as_str())];
    let mut shy = Node::prepare(&mesh.target(), "shy", &[]).with_environment(&environment);
    shy.run();
    let shy = mesh.admit("shy", shy).await;
    let id = mesh.connected("shy").await;
    let described = mesh.operator().await.call("node.describe", json!({"nodeId": id})).await;
    let commands = described.expect("a node")["commands"].to_string();
    assert!(!commands.contains("screen"), "{commands}");
    drop(shy);

    let display = json!({"display": server.display});
    let mut studio = Studio::under(Pipe::Ws, json!({}), owner_allows(display.clone())).await;
    studio
        .invoke("screen.list", json!({}), 15_000)
        .await
        .expect("facts alone");
    snap(&mut studio, exact())
        .await
        .expect("the approval of the node is enough");
    for command in ["screen.record", "screen.stream"] {
        let error = studio
            .invoke(command, json!({}), 15_000)
            .await
            .expect_err("not allowed");
        assert!(message(&error).contains("node command not allowed"), "{error}");
    }

    let mut denied = owner_allows(display);
    denied["commands"]["screen.snapshot"] = json!("deny");
    studio.node.rules(&denied);
    let error = snap(&mut studio, exact()).await.expect_err("denied");
    assert!(message(&error).contains("screen.snapshot is denied"), "{error}");
}

#[tokio::test]
async fn a_program_of_the_owner_sees_the_screen_and_learns_the_display() {
    let server = XServer::start(&["64x48x24"]).await;
    let painter = server.painter();
    painter.paint(0, (0, 0, 64, 48), 0x11_22_33);
    let screens = json!({"commands": [
        {"name": "desk", "snap": ["cat", "desk.png"]},
        {"snap": ["sh", "-c", "echo on $DISPLAY >&2; exit 4"]},
    ], "display": ":4242"});
    let mut studio = studio(Pipe::Quic, json!({"display": server.display})).await;
    let result = studio
        .invoke("screen.snapshot", exact(), 15_000)
        .await
        .expect("a picture");
    let bytes = STANDARD
        .decode(result["base64"].as_str().expect("base64"))
        .expect("base64");
    std::fs::write(studio.node.state().join("desk.png"), bytes).expect("room");

    studio.node.rules(&owner_allows(screens));
    let list = studio.invoke("screen.list", json!({}), 15_000).await.expect("a list");
    let rows = json!([
        {"index": 0, "name": "desk", "primary": true},
        {"index": 1, "name": "screen", "primary": false},
    ]);
    assert_eq!(list["screens"], rows);
    let (result, picture) = snap(&mut studio, json!({"maxWidth": 32, "format": "png"}))
        .await
        .expect("a picture");
    assert_eq!(
        (&result["format"], picture.width, pixel(&picture, 3, 3)),
        (&json!("png"), 32, 0x11_22_33)
    );
    let error = snap(&mut studio, json!({"screenIndex": 1}))
        .await
        .expect_err("it fails");
    let words = "the program of screen 1 ended with exit status: 4; it says: on :4242";
    assert!(message(&error).contains(words), "{error}");
}

async fn a_server_that_hangs_costs_one_call_and_leaves_no_process(pipe: Pipe) {
    let mut server = XServer::start(&["320x200x24"]).await;
    let mut studio = beside(pipe, &server).await;
    server.program().suspend();
    let error = studio
        .invoke("screen.snapshot", json!({}), 2_000)
        .await
        .expect_err("it hangs");
    let words = "SCREEN_UNAVAILABLE: the screen gave nothing within";
    assert!(message(&error).contains(words), "{error}");
    studio.is_tidy().await;
    server.program().wake();
    snap(&mut studio, exact()).await.expect("it goes on");
    assert!(server.program().ended().is_none());
    tokio::time::timeout(Duration::from_secs(10), server.program().terminate())
        .await
        .expect("it ends");
}
