//! A picture of the test pattern on its way from a node to an operator, next to the bare work of making it; and how many a live stream brings.

use std::time::{Duration, Instant};

use atoll_capabilities::camera::test_picture;
use atoll_capabilities::capture::Splitter;
use atoll_tests::mesh::{Mesh, Node, Pipe, TOKEN};
use atoll_tests::wire::Wire;
use serde_json::{Value, json};

use crate::table::{Budget, Row, Samples, Table, Unit};

const SNAPS: usize = 30;

/// Pictures a second that are asked for.
const FPS: u32 = 30;

/// How long a stream is watched.
const WATCHED: Duration = Duration::from_secs(5);

pub(crate) async fn camera(table: &mut Table) {
    let commands = ["camera.snap", "camera.stream"];
    let mut mesh = Mesh::with(&json!({"gateway": {"nodes": {"commands": {"allow": commands}}}})).await;
    let mut node = Node::prepare(&mesh.target(), "camera", &[]).over(Pipe::Quic);
    node.rules(&json!({
        "commands": {"camera.snap": "allow", "camera.stream": "allow"}, "camera": {"testPattern": true, "default": "test"},
    }));
    node.run();
    let mut node = mesh.admit("camera", node).await;
    let id = mesh.connected("camera").await;
    let mut operator = mesh.operator().await;
    snaps(table, &mut operator, &id).await;
    let mut ring = Watched {
        gateway: mesh.gateway().pid(),
        node: node.program().pid(),
        mesh,
    };
    stream(table, &mut ring, &mut operator, &id).await;
}

/// Those who work while a stream is watched.
struct Watched {
    mesh: Mesh,
    gateway: u32,
    node: u32,
}

pub(crate) async fn invoke(operator: &mut Wire, node: &str, command: &str, params: Value) -> Value {
    let key = uuid::Uuid::new_v4().to_string();
    let request = json!({
        "nodeId": node, "command": command, "params": params, "timeoutMs": 60_000, "idempotencyKey": key, "blobs": "handles",
    });
    let mut answer = operator.call("node.invoke", request).await.expect("a result");
    answer["payload"].take()
}

async fn snaps(table: &mut Table, operator: &mut Wire, node: &str) {
    let (mut whole, mut bare) = (Samples::default(), Samples::default());
    for _ in 0..SNAPS {
        let began = Instant::now();
        invoke(operator, node, "camera.snap", json!({"deviceId": "test"})).await;
        whole.add(began.elapsed());
        let began = Instant::now();
        test_picture(1600, 90).expect("a picture");
        bare.add(began.elapsed());
    }
    table.row(Row {
        key: "camera.snap".to_owned(),
        what: "camera.snap of the test pattern, p50, over making the picture".to_owned(),
        unit: Unit::Seconds,
        value: whole.median(),
        bare: Some(bare.median()),
        budget: Budget::None,
    });
}

async fn stream(table: &mut Table, ring: &mut Watched, operator: &mut Wire, node: &str) {
    let params = json!({"deviceId": "test", "fps": FPS});
    let result = invoke(operator, node, "camera.stream", params).await;
    let id = result["blob"]["id"].as_str().expect("a handle");
    let url = format!("{}/media/{id}", ring.mesh.target().http());
    let asking = reqwest::Client::new().get(url).bearer_auth(TOKEN).send();
    let mut response = asking.await.expect("an answer");
    let programs = [vec![ring.gateway, ring.node], children(ring.node)].concat();
    let before = processor_time(&programs);
    let (began, mut splitter, mut pictures) = (Instant::now(), Splitter::default(), 0_u32);
    while began.elapsed() < WATCHED {
        let part = response.chunk().await.expect("a body").expect("not over");
        pictures += u32::try_from(splitter.push(&part).len()).expect("few");
    }
    let took = began.elapsed();
    let spent = processor_time(&programs).saturating_sub(before);
    drop(response);
    let bare = bare_source().await;
    table.row(Row {
        key: "camera.stream".to_owned(),
        what: format!("camera.stream: pictures watched of {FPS} a second (× the bare source)"),
        unit: Unit::PerSecond,
        value: f64::from(pictures) / took.as_secs_f64(),
        bare: Some(f64::from(bare.pictures) / bare.took.as_secs_f64()),
        budget: Budget::None,
    });
    table.row(Row {
        key: "camera.stream.processor".to_owned(),
        what: "camera.stream: processor time a picture, helper, node and gateway (× the bare source)".to_owned(),
        unit: Unit::Seconds,
        value: spent.as_secs_f64() / f64::from(pictures),
        bare: Some(bare.spent.as_secs_f64() / f64::from(bare.pictures)),
        budget: Budget::None,
    });
}

/// Pictures that are made at the same pace and go nowhere.
struct Bare {
    pictures: u32,
    took: Duration,
    spent: Duration,
}

async fn bare_source() -> Bare {
    let me = [std::process::id()];
    let before = processor_time(&me);
    let (began, mut pictures) = (Instant::now(), 0);
    let mut pace = tokio::time::interval(Duration::from_secs(1) / FPS);
    while began.elapsed() < WATCHED {
        pace.tick().await;
        test_picture(1280, 75).expect("a picture");
        pictures += 1;
    }
    Bare {
        pictures,
        took: began.elapsed(),
        spent: processor_time(&me).saturating_sub(before),
    }
}

/// The helper of a stream is one.
fn children(node: u32) -> Vec<u32> {
    let path = format!("/proc/{node}/task");
    let tasks = std::fs::read_dir(path).expect("a running program").flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn processor_time(programs: &[u32]) -> Duration {
    programs
        .iter()
        .map(|pid| atoll_tests::program::processor_time(*pid))
        .sum()
}
