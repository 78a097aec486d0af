//! Setup codes and links: one device, once, for ten minutes, over every pipe and through every accident.

use std::time::Duration;

use atoll_tests::mesh::{Mesh, Node, Pipe};
use atoll_tests::wire::{Device, Target, Wire, node};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{COMMAND, find, knock};

atoll_tests::over_every_pipe! {
    a_link_lets_one_device_in_without_a_question_and_a_second_use_is_refused_and_audited,
    a_gateway_that_is_killed_while_a_code_is_used_loses_neither_code_nor_device,
}

async fn invite(mesh: &Mesh, further: &[&str]) -> Value {
    let arguments = [&["devices", "invite", "--json"], further].concat();
    mesh.cli_json(&arguments).await
}

fn link(invite: &Value) -> &str {
    invite["link"].as_str().expect("a link")
}

fn by_code(name: &str, code: &str) -> Value {
    let mut params = node("", name, &[COMMAND]);
    params["auth"] = json!({"bootstrapToken": code});
    params
}

async fn paired(owner: &mut Wire) -> Vec<Value> {
    let list = owner.call("device.pair.list", json!({})).await.expect("a list");
    assert_eq!(list["pending"], json!([]), "a code asks no question");
    list["paired"].as_array().expect("a list").clone()
}

/// Rows of the journal's audit of that action: outcome and detail.
fn audited(mesh: &Mesh, action: &str) -> Vec<(String, Value)> {
    let db = rusqlite::Connection::open(mesh.state().join("state.db")).expect("the journal");
    let mut query = db
        .prepare("SELECT outcome, detail FROM audit WHERE action = ?1 ORDER BY id")
        .expect("the audit");
    let rows = query
        .query_map([action], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .expect("rows");
    rows.map(|row| row.expect("a row"))
        .map(|(outcome, detail)| (outcome, serde_json::from_str(&detail).expect("JSON")))
        .collect()
}

async fn a_link_lets_one_device_in_without_a_question_and_a_second_use_is_refused_and_audited(pipe: Pipe) {
    let mut mesh = Mesh::start().await;
    let mut owner = mesh.operator().await;
    let (name, address) = ("laptop", pipe.address(mesh.target().port));
    let invite = invite(
        &mesh,
        &["--name", name, "--address", "wss://127.0.0.1:1", "--address", &address],
    )
    .await;
    let mut laptop = Node::prepare(&mesh.target(), "from-its-host", &[]).at(&address);
    let output = laptop.pair(link(&invite)).await;
    assert!(output.status.success(), "{output:?}");
    let completed = owner.event("device.pair.setup.completed").await;
    assert_eq!(
        (&completed["setupId"], &completed["access"]),
        (&invite["setupId"], &json!("node"))
    );
    let rows = paired(&mut owner).await;
    let row = rows
        .iter()
        .find(|row| row["displayName"] == name)
        .expect("in, under the name of the link");
    assert_eq!(row["approvedVia"], "bootstrap");
    assert!(
        row["nodeSurface"]["commands"]
            .as_array()
            .is_some_and(|commands| commands.len() > 2),
        "{row}"
    );

    let thief = Node::prepare(&mesh.target(), "thief", &[]).pair(link(&invite)).await;
    assert!(!thief.status.success(), "{thief:?}");
    assert_eq!(paired(&mut owner).await.len(), rows.len());
    // It holds its key and the gateway's: no code, no token, no question.
    laptop.run();
    mesh.connected(name).await;
    laptop.kill().await;
    mesh.stop().await;
    let outcomes: Vec<String> = audited(&mesh, "device.setup")
        .into_iter()
        .map(|(outcome, _)| outcome)
        .collect();
    assert_eq!(outcomes, ["ok", "used"]);
}

#[tokio::test]
async fn a_code_survives_a_restart_and_neither_its_time_nor_its_revocation_does_not() {
    let mut mesh = Mesh::start().await;
    let kept = invite(&mesh, &[]).await;
    let late = invite(&mesh, &[]).await;
    let taken_back = invite(&mesh, &[]).await;
    let id = taken_back["setupId"].as_str().expect("an id");
    let revoked = mesh.cli(&["devices", "reject", &id[..10]]).await;
    assert!(revoked.status.success(), "{revoked:?}");
    mesh.stop().await;
    // Ten minutes pass for one of them.
    let db = rusqlite::Connection::open(mesh.state().join("state.db")).expect("the journal");
    let aged = db.execute(
        "UPDATE records SET record = json_set(record, '$.expiresMs', json_extract(record, '$.createdMs')) WHERE id = ?1",
        [late["setupId"].as_str()],
    );
    assert_eq!(aged.expect("a row"), 1);
    // Nothing that is kept lets anybody in.
    let stored: Vec<String> = db
        .prepare("SELECT record FROM records WHERE kind = 'setup-code'")
        .and_then(|mut query| query.query_map([], |row| row.get(0))?.collect())
        .expect("rows");
    assert_eq!(stored.len(), 3);
    for invite in [&kept, &late, &taken_back] {
        assert!(!stored.concat().contains(invite["code"].as_str().expect("a code")));
    }
    drop(db);
    mesh.run().await;
    for invite in [&late, &taken_back] {
        let refused = Node::prepare(&mesh.target(), "late", &[]).pair(link(invite)).await;
        assert!(!refused.status.success(), "{refused:?}");
    }
    let output = Node::prepare(&mesh.target(), "kept", &[]).pair(link(&kept)).await;
    assert!(output.status.success(), "{output:?}");
    mesh.stop().await;
    let outcomes: Vec<String> = audited(&mesh, "device.setup")
        .into_iter()
        .map(|(outcome, _)| outcome)
        .collect();
    assert_eq!(outcomes, ["expired", "revoked", "ok"]);
}

#[tokio::test]
async fn a_link_of_another_gateway_gives_its_code_to_nobody() {
    let (mesh, other) = (Mesh::start().await, Mesh::start().await);
    let invite = invite(&mesh, &["--address", &other.target().ws()]).await;
    let lost = Node::prepare(&mesh.target(), "lost", &[]).pair(link(&invite)).await;
    assert!(!lost.status.success(), "{lost:?}");
    let said = String::from_utf8_lossy(&lost.stderr).into_owned();
    assert!(said.contains("not the gateway"), "{said}");
    let open = mesh.cli_json(&["devices", "list", "--json"]).await;
    assert_eq!(
        open["invites"].as_array().map(Vec::len),
        Some(1),
        "the code still waits"
    );
}

/// Whatever moment the gateway is killed at: the code is used if and only if the device is in, and the device comes in by
/// asking again with the same code, which lets nobody else in.
async fn a_gateway_that_is_killed_while_a_code_is_used_loses_neither_code_nor_device(pipe: Pipe) {
    let mut mesh = Mesh::start().await;
    let address = pipe.address(mesh.target().port);
    // Every pipe has its share of the moments.
    let first = Pipe::EACH.iter().position(|each| *each == pipe).expect("one of them");
    for round in (first as u64..6).step_by(Pipe::EACH.len()) {
        let invite = invite(&mesh, &["--address", &address]).await;
        let laptop = Node::prepare(&mesh.target(), "laptop", &[]);
        let before = paired(&mut mesh.operator().await).await.len();
        {
            let pairing = laptop.pair(link(&invite));
            tokio::pin!(pairing);
            // The moment is what varies, not something that is waited for.
            let early = tokio::time::timeout(Duration::from_millis(5 + round * 12), &mut pairing).await;
            mesh.kill().await;
            if early.is_err() {
                pairing.await;
            }
        }
        mesh.run().await;
        let list = mesh.cli_json(&["devices", "list", "--json"]).await;
        let is_used = find(&list, "invites", "setupId", invite["setupId"].as_str().expect("an id")).is_none();
        let is_in = list["paired"].as_array().expect("a list").len() > before;
        assert_eq!(is_used, is_in, "round {round}: {list}");
        let again = laptop.pair(link(&invite)).await;
        assert!(again.status.success(), "round {round}: {again:?}");
        let thief = Node::prepare(&mesh.target(), "thief", &[]).pair(link(&invite)).await;
        assert!(!thief.status.success(), "round {round}");
        assert_eq!(paired(&mut mesh.operator().await).await.len(), before + 1);
    }
}

/// A setup code in the dialect: holds for the real gateway too, as far as its replies are recorded.
async fn setup_code(target: &Target, owner: &mut Wire) -> (Value, Value) {
    let _ = target;
    let reply = owner
        .call(
            "device.pair.setupCode",
            json!({"bootstrapProfile": "node", "joinUrl": true, "includeQr": true}),
        )
        .await;
    let reply = reply.expect("a code");
    let drawn = reply["qrDataUrl"].as_str().expect("a picture");
    assert!(drawn.starts_with("data:image/png;base64,"), "{drawn}");
    let code = reply["setupCode"].as_str().expect("a code");
    let json = URL_SAFE_NO_PAD.decode(code).expect("base64url");
    (reply.clone(), serde_json::from_slice(&json).expect("JSON"))
}

#[tokio::test]
async fn a_setup_code_of_the_dialect_pairs_and_approves_in_one_handshake_once() {
    let mesh = Mesh::start().await;
    let target = mesh.target();
    let mut owner = mesh.operator().await;
    let (reply, inside) = setup_code(&target, &mut owner).await;
    let token = inside["bootstrapToken"].as_str().expect("a token").to_owned();
    assert_eq!((token.len(), &inside["url"]), (43, &json!(target.ws())));
    assert_eq!(
        (&reply["access"], &reply["gatewayUrl"]),
        (&json!("node"), &inside["url"])
    );
    let status = json!({"setupId": reply["setupId"]});
    assert_eq!(
        owner
            .call("device.pair.setupStatus", status.clone())
            .await
            .expect("a status"),
        json!({})
    );

    let device = Device::default();
    let (_wire, hello) = knock(&target, &device, by_code("theirs", &token)).await.expect("in");
    let auth = &hello["auth"];
    assert_eq!(
        (&auth["method"], &auth["role"], &auth["scopes"]),
        (&json!("bootstrap-token"), &json!("node"), &json!([]))
    );
    assert_eq!(auth["deviceToken"].as_str().map(str::len), Some(43), "{auth}");
    let row = owner
        .call("node.describe", json!({"nodeId": device.id()}))
        .await
        .expect("a row");
    assert_eq!(
        (&row["approvalState"], &row["commands"]),
        (&json!("approved"), &json!([COMMAND])),
        "{row}"
    );
    let completed = owner.event("device.pair.setup.completed").await;
    assert_eq!(
        (&completed["deviceId"], &completed["setupId"]),
        (&json!(device.id()), &reply["setupId"])
    );
    let status = owner.call("device.pair.setupStatus", status).await.expect("a status");
    assert_eq!(status["completion"]["deviceId"], device.id().as_str(), "{status}");

    let refused = knock(&target, &Device::default(), by_code("another", &token))
        .await
        .expect_err("used");
    assert_eq!(refused.error["details"]["code"], "AUTH_BOOTSTRAP_TOKEN_INVALID");
    // The device's own token is what it comes back with.
    let mut back = node("", "theirs", &[COMMAND]);
    back["auth"] = json!({"deviceToken": auth["deviceToken"]});
    knock(&target, &device, back).await.expect("known");
}

#[tokio::test]
async fn a_join_link_answers_once_and_our_node_follows_codes_and_links_of_the_dialect() {
    let mesh = Mesh::start().await;
    let mut owner = mesh.operator().await;
    let (reply, inside) = setup_code(&mesh.target(), &mut owner).await;
    let join = reply["joinUrl"].as_str().expect("a link");
    let wrong = format!("{}/j/{}", mesh.target().http(), "x".repeat(22));
    assert_eq!(reqwest::get(&wrong).await.expect("an answer").status(), 404);
    let answered: Value = reqwest::get(join).await.expect("an answer").json().await.expect("JSON");
    assert_eq!(answered, inside);
    let again = reqwest::get(join).await.expect("an answer");
    assert_eq!(again.status(), 404);
    assert_eq!(
        again.json::<Value>().await.expect("JSON"),
        json!({"error": "not_found"})
    );

    let code = reply["setupCode"].as_str().expect("a code");
    let followed = Node::prepare(&mesh.target(), "by-code", &[])
        .pair(&format!("oc-pair://{code}"))
        .await;
    assert!(followed.status.success(), "{followed:?}");
    let (reply, _) = setup_code(&mesh.target(), &mut owner).await;
    let join = reply["joinUrl"].as_str().expect("a link");
    let mut laptop = Node::prepare(&mesh.target(), "by-link", &["--dialect", "openclaw"]);
    let followed = laptop.pair(join).await;
    assert!(followed.status.success(), "{followed:?}");
    laptop.run();
    mesh.connected("by-link").await;
}

#[tokio::test]
async fn a_code_is_minted_by_whoever_holds_what_it_gives() {
    let mesh = Mesh::start().await;
    let mut clerk = mesh.operator_with(&["operator.pairing", "operator.read"]).await;
    clerk
        .call("device.invite", json!({}))
        .await
        .expect_err("a node takes admin");
    clerk
        .call("device.pair.setupCode", json!({}))
        .await
        .expect_err("for administrators");
    let more = json!({"role": "operator", "scopes": ["operator.write"]});
    clerk.call("device.invite", more).await.expect_err("more than it holds");
    let less = json!({"role": "operator", "scopes": ["operator.read"]});
    clerk.call("device.invite", less).await.expect("what it holds");
}

#[tokio::test]
async fn the_picture_and_the_next_step_are_printed() {
    let mesh = Mesh::start().await;
    for command in [&["qr"][..], &["devices", "invite"]] {
        let printed = mesh.cli(command).await;
        let text = String::from_utf8_lossy(&printed.stdout).into_owned();
        assert!(
            printed.status.success() && text.contains("atoll-node pair 'atoll://pair?key="),
            "{text}"
        );
        assert!(text.contains('█') || text.contains('▀'), "{text}");
    }
}
