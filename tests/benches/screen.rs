//! A picture of a screen on its way from a node to an operator, next to the bare work of taking it.

use std::time::Instant;

use atoll_capabilities::screen::grab;
use atoll_tests::mesh::{Mesh, Node, Pipe};
use atoll_tests::xserver::XServer;
use serde_json::json;

use crate::camera::invoke;
use crate::table::{Budget, Row, Samples, Table, Unit};

const SNAPS: usize = 30;

/// Pixels.
const WIDTH: u32 = 1280;

pub(crate) async fn screen(table: &mut Table) {
    let server = XServer::start(&["1280x720x24"]).await;
    let painter = server.painter();
    for number in 0..16_u16 {
        let colour = u32::from(number) * 0x0F_0B_07;
        painter.paint(0, (i16::try_from(number * 80).expect("small"), 0, 80, 720), colour);
    }
    let mesh = Mesh::start().await;
    let mut node = Node::prepare(&mesh.target(), "screen", &[]).over(Pipe::Quic);
    node.rules(&json!({"commands": {"screen.snapshot": "allow"}, "screen": {"display": server.display}}));
    node.run();
    let _node = mesh.admit("screen", node).await;
    let id = mesh.connected("screen").await;
    let mut operator = mesh.operator().await;
    let (mut whole, mut bare) = (Samples::default(), Samples::default());
    for _ in 0..SNAPS {
        let began = Instant::now();
        invoke(&mut operator, &id, "screen.snapshot", json!({"maxWidth": WIDTH})).await;
        whole.add(began.elapsed());
        let began = Instant::now();
        grab(&server.display, WIDTH).expect("a picture");
        bare.add(began.elapsed());
    }
    table.row(Row {
        key: "screen.snapshot".to_owned(),
        what: "screen.snapshot of 1280x720, p50, over taking the picture".to_owned(),
        unit: Unit::Seconds,
        value: whole.median(),
        bare: Some(bare.median()),
        budget: Budget::None,
    });
}
