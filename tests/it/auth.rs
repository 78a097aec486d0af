//! How peers show that they belong, in every mode of `gateway.auth`; who guesses is not heard; what would not be safe does not start.

use atoll_tests::mesh::{Mesh, TOKEN};
use atoll_tests::wire::{ALL_SCOPES, Device, Refusal, Wire, node, operator};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::nodes_cli::said;

const PASSWORD: &str = "correct horse battery staple";

type Header = (&'static str, &'static str);

/// An operator with every scope, and what it shows.
fn showing(auth: Value) -> Value {
    let mut params = operator("", &ALL_SCOPES);
    params["auth"] = auth;
    params
}

/// A node of this token.
fn a_node(token: &str) -> Value {
    node(token, "Newcomer", &["device.info"])
}

async fn connect(mesh: &Mesh, headers: &[Header], params: Value, device: Option<&Device>) -> Result<Value, Refusal> {
    let wire = Wire::open_with(&mesh.target(), headers).await.expect("an upgrade");
    Ok(wire.introduce(params, device).await?.1)
}

/// How it ended, in one word: the method that it was let in by, or the code of its refusal.
fn word(end: &Result<Value, Refusal>) -> &str {
    let found = match end {
        Ok(hello) => &hello["auth"]["method"],
        Err(refusal) => &refusal.error["details"]["code"],
    };
    found.as_str().unwrap_or_else(|| panic!("no word in {end:?}"))
}

/// A connect of an operator without a device, or of a node with one; and the word that it ends with.
type Case = (&'static [Header], Value, &'static str);

async fn expect(mesh: &Mesh, cases: Vec<Case>) {
    for (headers, params, expected) in cases {
        let device = (params["role"] == "node").then(Device::default);
        let shown = format!("{headers:?} {}", params["auth"]);
        let end = connect(mesh, headers, params, device.as_ref()).await;
        assert_eq!(word(&end), expected, "{shown}: {end:?}");
        match end {
            Ok(hello) => assert_eq!(hello["auth"]["scopes"], json!(ALL_SCOPES), "{shown}"),
            Err(refusal) => assert_eq!(refusal.code, Some(1008), "{shown}"),
        }
    }
}

#[tokio::test]
async fn by_password_the_password_counts_alone() {
    let mesh = Mesh::with(&json!({"gateway": {"auth": {"mode": "password", "password": PASSWORD}}})).await;
    let mut by_password = a_node("");
    by_password["auth"] = json!({"password": PASSWORD});
    let mut by_nothing = a_node("");
    by_nothing["auth"] = json!({});
    let cases: Vec<Case> = vec![
        (&[], showing(json!({"password": PASSWORD})), "password"),
        (&[], showing(json!({"token": PASSWORD})), "password"),
        (&[], showing(json!({"token": TOKEN})), "AUTH_PASSWORD_MISMATCH"),
        (&[], showing(json!({"password": "wrong"})), "AUTH_PASSWORD_MISMATCH"),
        (&[], showing(json!({})), "DEVICE_IDENTITY_REQUIRED"),
        (&[], by_nothing, "AUTH_PASSWORD_MISSING"),
        (&[], by_password, "PAIRING_REQUIRED"),
    ];
    expect(&mesh, cases).await;
}

#[tokio::test]
async fn without_a_proof_this_machine_comes_in_and_nobody_else() {
    let mesh = Mesh::with(&json!({"gateway": {"auth": {"mode": "none"}}})).await;
    let own = format!("http://127.0.0.1:{}", mesh.target().port);
    let cases: Vec<Case> = vec![
        (&[], showing(json!({})), "none"),
        (&[], showing(json!({"token": "anything"})), "none"),
        (&[], a_node(""), "PAIRING_REQUIRED"),
        // By a name that somebody could have pointed here.
        (
            &[("Host", "evil.example")],
            showing(json!({"token": "x"})),
            "AUTH_UNAUTHORIZED",
        ),
    ];
    expect(&mesh, cases).await;
    let page = Wire::open_with(&mesh.target(), &[("Origin", &own)])
        .await
        .expect("our own page");
    let page = page
        .introduce(showing(json!({"token": "x"})), None)
        .await
        .map(|(_, hello)| hello);
    assert_eq!(
        word(&page),
        "AUTH_UNAUTHORIZED",
        "a browser has to show something: {page:?}"
    );
}

/// Requests of a proxy on this machine.
const ANN: &[Header] = &[
    ("X-Forwarded-For", "203.0.113.7"),
    ("X-User", "ann@example.org"),
    ("X-Checked", "1"),
];
const UNCHECKED: &[Header] = &[("X-Forwarded-For", "203.0.113.7"), ("X-User", "ann@example.org")];
const BOB: &[Header] = &[
    ("X-Forwarded-For", "203.0.113.8"),
    ("X-User", "bob@example.org"),
    ("X-Checked", "1"),
];
const ANN_BESIDE_BOB: &[Header] = &[
    ("X-Forwarded-For", "203.0.113.8"),
    ("X-User", "ann@example.org"),
    ("X-Checked", "1"),
];

async fn behind_a_proxy() -> Mesh {
    let proxy = json!({"userHeader": "X-User", "requiredHeaders": ["X-Checked"], "allowUsers": ["ann@example.org"],
        "allowLoopback": true, "deviceAutoApprove": {"enabled": true, "scopes": ["operator.read"]}});
    let auth = json!({"mode": "trusted-proxy", "trustedProxy": proxy});
    Mesh::with(&json!({"gateway": {"auth": auth, "trustedProxies": ["127.0.0.1"]}})).await
}

#[tokio::test]
async fn a_trusted_proxy_vouches_for_its_users() {
    let mesh = behind_a_proxy().await;
    let cases: Vec<Case> = vec![
        (ANN, showing(json!({})), "trusted-proxy"),
        (
            UNCHECKED,
            showing(json!({"token": TOKEN})),
            "AUTH_IDENTITY_HEADER_REQUIRED",
        ),
        (&[], showing(json!({"token": TOKEN})), "AUTH_IDENTITY_HEADER_REQUIRED"),
        (BOB, showing(json!({"token": TOKEN})), "AUTH_UNAUTHORIZED"),
        // A node is a person's decision.
        (ANN, a_node(""), "PAIRING_REQUIRED"),
    ];
    expect(&mesh, cases).await;

    // A new browser gets what was configured, and not what it asks for.
    let browser = Device::default();
    let mut params = showing(json!({}));
    (params["client"]["id"], params["client"]["mode"]) = (json!("webchat"), json!("webchat"));
    let hello = connect(&mesh, ANN, params.clone(), Some(&browser))
        .await
        .expect("Ann's browser");
    assert_eq!(
        (&hello["auth"]["method"], &hello["auth"]["scopes"]),
        (&json!("trusted-proxy"), &json!(["operator.read"])),
        "{hello}"
    );
    let list = mesh.cli_json(&["devices", "list", "--json"]).await;
    assert_eq!(list["paired"][0]["approvedVia"], "trusted-proxy", "{list}");
    // A program that is no browser asks.
    (params["client"]["id"], params["client"]["mode"]) = (json!("cli"), json!("cli"));
    let end = connect(&mesh, ANN, params, Some(&Device::default())).await;
    assert_eq!(word(&end), "PAIRING_REQUIRED", "{end:?}");
}

/// Failures until nobody listens any more.
const FAILURES: usize = 10;

#[tokio::test]
async fn whoever_guesses_behind_a_proxy_locks_out_its_own_address() {
    let mesh = behind_a_proxy().await;
    for _ in 0..FAILURES {
        let end = connect(&mesh, BOB, showing(json!({"token": "x"})), None).await;
        assert_eq!(word(&end), "AUTH_UNAUTHORIZED", "{end:?}");
    }
    let cases: Vec<Case> = vec![
        (ANN_BESIDE_BOB, showing(json!({})), "AUTH_RATE_LIMITED"),
        (ANN, showing(json!({})), "trusted-proxy"),
    ];
    expect(&mesh, cases).await;
}

#[tokio::test]
async fn ten_guesses_of_a_page_on_this_machine_are_all_however_many_come_at_once() {
    let mesh = Mesh::start().await;
    let own = format!("http://127.0.0.1:{}", mesh.target().port);
    let right = async |headers: &[(&str, &str)]| {
        let wire = Wire::open_with(&mesh.target(), headers).await.expect("an upgrade");
        let end = wire.introduce(a_node(TOKEN), Some(&Device::default())).await;
        end.map(|(_, hello)| hello)
    };
    let page = [("Origin", own.as_str())];
    assert_eq!(word(&right(&page).await), "PAIRING_REQUIRED");
    let opened = join_all((0..3 * FAILURES).map(async |_| {
        let mut wire = Wire::open_with(&mesh.target(), &page).await.expect("our own page");
        wire.challenge().await;
        wire
    }));
    let guesses = opened.await.into_iter().map(async |mut wire| {
        let error = wire
            .call("connect", operator("wrong", &[]))
            .await
            .expect_err("a wrong token");
        (error, wire.closed().await.0)
    });
    let ends = join_all(guesses).await;
    let (heard, unheard): (Vec<_>, Vec<_>) = ends
        .iter()
        .partition(|(error, _)| error["details"]["code"] == "AUTH_TOKEN_MISMATCH");
    assert_eq!(heard.len(), FAILURES, "{ends:?}");
    for (error, close) in unheard {
        assert_eq!(
            (&error["details"]["code"], close),
            (&json!("AUTH_RATE_LIMITED"), &Some(1008)),
            "{error}"
        );
        assert!(
            error["retryable"] == true && error["retryAfterMs"].as_u64() > Some(0),
            "{error}"
        );
    }
    assert_eq!(
        word(&right(&page).await),
        "AUTH_RATE_LIMITED",
        "the secret is not even looked at"
    );
    // What is no page is this machine's owner.
    assert_eq!(word(&right(&[]).await), "PAIRING_REQUIRED");
}

#[tokio::test]
async fn what_would_not_be_safe_does_not_start_and_says_what_to_set() {
    let open = json!({"gateway": {"auth": {"mode": "none"}}});
    let none = json!({});
    let table: [(&Value, &[&str], &str); 5] = [
        (&none, &["--bind", "lan"], "gateway.auth.token: is missing"),
        (
            &none,
            &["--bind", "lan", "--token", "31-characters-are-one-too-few-0"],
            "32 characters",
        ),
        (
            &open,
            &["--bind", "lan"],
            "gateway.auth.mode: none is allowed with gateway.bind loopback only",
        ),
        (
            &open,
            &["--bind", "auto"],
            "gateway.auth.mode: none is allowed with gateway.bind loopback only",
        ),
        (
            &none,
            &["--bind", "everywhere"],
            "allowed are loopback, lan, tailnet, custom, auto",
        ),
    ];
    for (config, more, words) in table {
        let mesh = Mesh::prepare(config);
        let arguments = [&["gateway", "run", "--port", "0"], more].concat();
        let (code, _, complaint) = said(&mesh.cli(&arguments).await);
        assert_eq!(code, Some(1), "{more:?}: {complaint}");
        assert!(complaint.contains(words), "{more:?}: {complaint}");
        assert!(!mesh.state().join("gateway.port").exists(), "{more:?}");
    }
}

#[tokio::test]
async fn a_second_gateway_on_a_state_folder_names_the_first() {
    let mut mesh = Mesh::start().await;
    let (code, _, complaint) = said(&mesh.cli(&["gateway", "run", "--port", "0"]).await);
    assert_eq!(code, Some(1), "{complaint}");
    let first = format!("another gateway (process {})", mesh.gateway().pid());
    for words in [first.as_str(), "atoll gateway stop", "--state-dir"] {
        assert!(complaint.contains(words), "{words} in {complaint}");
    }
    let page = async |path: &str| {
        let answer = reqwest::get(format!("{}/{path}", mesh.target().http()))
            .await
            .expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    assert_eq!(page("healthz").await, (200, json!({"ok": true, "status": "live"})));
    for (path, word) in [("startupz", "started"), ("readyz", "ready")] {
        let (status, told) = page(path).await;
        assert_eq!(
            (status, &told[word], &told["failing"]),
            (200, &json!(true), &json!([])),
            "{told}"
        );
        assert!(told["uptimeMs"].is_u64(), "{told}");
    }
}

#[tokio::test]
async fn how_much_guessing_is_borne_is_the_owners_to_say() {
    let limit = json!({"maxAttempts": 2, "lockoutMs": 600_000, "exemptLoopback": false});
    let mesh = Mesh::with(&json!({"gateway": {"auth": {"rateLimit": limit}}})).await;
    let wrong = operator("a-token-that-is-not-the-right-one-at-all", &ALL_SCOPES);
    let mut codes = Vec::new();
    for _ in 0..3 {
        let refused = Wire::connect(&mesh.target(), wrong.clone(), None).await;
        let refused = refused.expect_err("a wrong token");
        codes.push(refused.error["details"]["code"].clone());
    }
    assert_eq!(
        codes,
        ["AUTH_TOKEN_MISMATCH", "AUTH_TOKEN_MISMATCH", "AUTH_RATE_LIMITED"]
    );
    let right = operator(&mesh.target().token, &ALL_SCOPES);
    let locked = Wire::connect(&mesh.target(), right, None)
        .await
        .expect_err("locked out");
    assert_eq!(locked.error["details"]["code"], "AUTH_RATE_LIMITED");
}
