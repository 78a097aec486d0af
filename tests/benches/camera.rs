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
    let mesh = Mesh::with(&json!({"gateway": {"nodes": {"commands": {"allow": commands}}}})).await;
    let mut node = Node::prepare(&mesh.target(), "camera", &[]).over(Pipe::Quic);
    node.rules(&json!({
        "commands": {"camera.snap": "allow", "camera.stream": "allow"}, "camera": {"testPattern": true, "default": "test"},
    }));
    node.run();
    let _node = mesh.admit("camera", node).await;
    let id = mesh.connected("camera").await;
    let mut operator = mesh.operator().await;
    snaps(table, &mut operator, &id).await;
    stream(table, &mesh, &mut operator, &id).await;
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
        test_picture(1600).expect("a picture");
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

async fn stream(table: &mut Table, mesh: &Mesh, operator: &mut Wire, node: &str) {
    let params = json!({"deviceId": "test", "fps": FPS});
    let result = invoke(operator, node, "camera.stream", params).await;
    let id = result["blob"]["id"].as_str().expect("a handle");
    let url = format!("{}/media/{id}", mesh.target().http());
    let asking = reqwest::Client::new().get(url).bearer_auth(TOKEN).send();
    let mut response = asking.await.expect("an answer");
    let (began, mut splitter, mut pictures) = (Instant::now(), Splitter::default(), 0);
    while began.elapsed() < WATCHED {
        let part = response.chunk().await.expect("a body").expect("not over");
        pictures += splitter.push(&part).len();
    }
    table.row(Row {
        key: "camera.stream".to_owned(),
        what: format!("camera.stream: pictures watched of {FPS} a second"),
        unit: Unit::PerSecond,
        value: pictures as f64 / began.elapsed().as_secs_f64(),
        bare: Some(f64::from(FPS)),
        budget: Budget::None,
    });
}
