//! Finding one another in a local network: machines of their own with the real programs on them, and nobody told where the others are.
//! And the certificates that those who are not found by a key go by.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use atoll_tests::lan::Lan;
use atoll_tests::mesh::{Mesh, TOKEN};
use atoll_tests::program::Program;
use atoll_tests::wait::{PATIENCE, until, until_time, within, within_time};
use atoll_tests::wire::{ALL_SCOPES, Wire, operator};
use serde_json::{Value, json};
use tempfile::TempDir;

mod roaming;

/// A look around takes seconds, and so does an announcement.
const LOOKS: u32 = 4;

/// A gateway on a machine of the network.
struct Gateway {
    machine: usize,
    state: TempDir,
    program: Option<Program>,
}

impl Gateway {
    async fn start(lan: &Lan, machine: usize) -> Self {
        let state = tempfile::tempdir().expect("a temporary folder");
        // Written, since nothing is announced unasked from within a container.
        let config = json!({"discovery": {"mdns": {"mode": "minimal"}}});
        std::fs::write(state.path().join("atoll.json"), config.to_string()).expect("a writable folder");
        let mut gateway = Self {
            machine,
            state,
            program: None,
        };
        gateway.run(lan).await;
        gateway
    }

    async fn run(&mut self, lan: &Lan) {
        let mut command = lan.program(self.machine, "atoll", self.state.path());
        command.args(["gateway", "run", "--bind", "lan", "--port", "18789"]);
        command
            .env("ATOLL_STATE_DIR", self.state.path())
            .env("ATOLL_GATEWAY_TOKEN", TOKEN);
        let mut program = Program::start(&format!("gateway on machine {}", self.machine), command);
        until("the gateway to be ready", async || {
            assert!(program.ended().is_none(), "the gateway ended:\n{}", program.log());
            self.cli(lan, &["gateway", "health"])
                .await
                .status
                .success()
                .then_some(())
        })
        .await;
        self.program = Some(program);
    }

    async fn stop(&mut self) {
        self.program.take().expect("a running gateway").terminate().await;
    }

    /// Its owner's command line, on its own machine.
    async fn cli(&self, lan: &Lan, arguments: &[&str]) -> Output {
        self.cli_within(lan, PATIENCE, arguments).await
    }

    async fn cli_within(&self, lan: &Lan, patience: Duration, arguments: &[&str]) -> Output {
        let mut command = lan.program(self.machine, "atoll", self.state.path());
        command
            .env("ATOLL_STATE_DIR", self.state.path())
            .args(arguments)
            .kill_on_drop(true);
        within_time(&arguments.join(" "), patience, command.output())
            .await
            .expect("a program that was built")
    }

    async fn json(&self, lan: &Lan, arguments: &[&str]) -> Value {
        self.json_within(lan, PATIENCE, arguments).await
    }

    async fn json_within(&self, lan: &Lan, patience: Duration, arguments: &[&str]) -> Value {
        let output = self.cli_within(lan, patience, &[arguments, &["--json"]].concat()).await;
        let (said, complained) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{arguments:?}: {error} in {said}\n{complained}"))
    }

    /// Its short id.
    async fn key(&self, lan: &Lan) -> String {
        let status = self.json(lan, &["gateway", "status"]).await;
        status["deviceId"].as_str().expect("an id")[..10].to_owned()
    }

    async fn pending(&self, lan: &Lan) -> Vec<Value> {
        let list = self.json(lan, &["devices", "list"]).await;
        list["pending"].as_array().expect("a list").clone()
    }
}

/// A node on a machine of the network, whose owner lets it run anything.
struct Node {
    machine: usize,
    state: TempDir,
}

impl Node {
    fn new(machine: usize) -> Self {
        let state = tempfile::tempdir().expect("a temporary folder");
        let path = state.path().join("exec-approvals.json");
        let consent = json!({"version": 1, "defaults": {"security": "full", "ask": "off"}});
        std::fs::write(&path, consent.to_string()).expect("a writable folder");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("a file of our own");
        Self { machine, state }
    }

    /// Told nothing but its name.
    fn run(&self, lan: &Lan) -> Program {
        let mut command = lan.program(self.machine, "atoll-node", self.state.path());
        command
            .args(["run", "--name", "laptop", "--state-dir"])
            .arg(self.state.path());
        Program::start("atoll-node", command)
    }

    async fn discover(&self, lan: &Lan) -> Value {
        let mut command = lan.program(self.machine, "atoll-node", self.state.path());
        command
            .args(["discover", "--json", "--state-dir"])
            .arg(self.state.path());
        let output = within("atoll-node discover", command.output())
            .await
            .expect("a program that was built");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

/// What the node asks for, once it does.
async fn request(lan: &Lan, gateway: &Gateway) -> Value {
    let request = until("the node to ask", async || gateway.pending(lan).await.pop()).await;
    assert_eq!(request["displayName"], "laptop");
    request
}

/// The owner reads the digits off the node and types them at the gateway.
async fn approve(lan: &Lan, gateway: &Gateway, request: &Value, node: &Program) {
    let shown = node.line("these digits").await;
    let digits = shown.rsplit(": ").next().unwrap_or_default().replace(' ', "");
    assert_eq!(request["code"], digits, "{shown}");
    let id = request["requestId"].as_str().expect("an id");
    let approved = gateway.cli(lan, &["devices", "approve", id, "--code", &digits]).await;
    assert!(approved.status.success(), "{approved:?}");
}

/// `system.run` with these parameters, on the node of that name.
fn run_on_laptop(params: &str) -> [&str; 8] {
    [
        "nodes",
        "invoke",
        "--node",
        "laptop",
        "--command",
        "system.run",
        "--params",
        params,
    ]
}

#[tokio::test]
async fn a_node_finds_its_gateway_is_approved_and_runs_a_command() {
    let lan = Lan::new(2).await;
    let gateway = Gateway::start(&lan, 0).await;
    let node = Node::new(1);
    let mut program = node.run(&lan);
    let found = program.line("Found ").await;
    let (address, key) = (Lan::address(0).to_string(), gateway.key(&lan).await);
    assert!(found.contains(&address) && found.contains(&key), "{found}");

    let request = request(&lan, &gateway).await;
    let near = until_time("the node to be seen", PATIENCE * LOOKS, async || {
        let found = gateway.json(&lan, &["gateway", "discover"]).await;
        found["nodes"].get(0).cloned()
    })
    .await;
    assert_eq!(
        (&near["displayName"], &near["paired"]),
        (&json!("laptop"), &json!(false))
    );
    assert_eq!(near["deviceId"], request["deviceId"]);

    approve(&lan, &gateway, &request, &program).await;
    program.line("Connected").await;
    let params = json!({"command": ["uname", "-a"]}).to_string();
    let ran = gateway.json(&lan, &run_on_laptop(&params)).await;
    let said = ran["payload"]["stdout"].as_str().unwrap_or_default();
    assert!(said.starts_with("Linux"), "{ran}");

    until_time("the node to be silent", PATIENCE * LOOKS, async || {
        let found = gateway.json(&lan, &["gateway", "discover"]).await;
        found["nodes"].as_array().is_some_and(Vec::is_empty).then_some(())
    })
    .await;
    let seen = node.discover(&lan).await;
    let seen = &seen["gateways"][0];
    assert_eq!((&seen["paired"], &seen["kind"]), (&json!(true), &json!("atoll")));
    program.terminate().await;
}

#[tokio::test]
async fn a_gateway_that_has_moved_is_found_again_and_a_restarted_node_remembers_it() {
    let lan = Lan::new(2).await;
    let mut gateway = Gateway::start(&lan, 0).await;
    let node = Node::new(1);
    let mut program = node.run(&lan);
    let asked = request(&lan, &gateway).await;
    approve(&lan, &gateway, &asked, &program).await;
    program.line("Connected").await;

    gateway.stop().await;
    lan.readdress(0, Ipv4Addr::new(10, 77, 0, 200)).await;
    gateway.run(&lan).await;
    until_time("the node to be back", PATIENCE * LOOKS, async || {
        let nodes = gateway.json(&lan, &["nodes", "list"]).await;
        (nodes["nodes"][0]["connected"] == true).then_some(())
    })
    .await;

    program.terminate().await;
    let mut again = node.run(&lan);
    again.line("Connected").await;
    let log = again.log();
    assert!(!log.contains("Found "), "it remembers where to go:\n{log}");
    again.terminate().await;
}

#[tokio::test]
async fn two_gateways_of_one_name_are_a_question_that_nobody_answers_for_its_owner() {
    let lan = Lan::new(3).await;
    let home = Gateway::start(&lan, 0).await;
    let rogue = Gateway::start(&lan, 2).await;
    let node = Node::new(1);
    until_time("both to be seen", PATIENCE * LOOKS, async || {
        let seen = node.discover(&lan).await;
        let seen = seen["gateways"].as_array()?.clone();
        assert!(seen.iter().all(|gateway| gateway["paired"] == false), "{seen:?}");
        let is_one_name = seen.len() == 2 && seen[0]["name"] == seen[1]["name"];
        is_one_name.then_some(())
    })
    .await;
    let mut program = node.run(&lan);
    assert!(!program.exit().await.success());
    for (gateway, machine) in [(&home, 0), (&rogue, 2)] {
        let typed = format!("atoll-node run --gateway atoll://{}:18789 ", Lan::address(machine));
        let row = program.line(&typed).await;
        assert!(row.contains(&gateway.key(&lan).await), "{row}");
        assert_eq!(gateway.pending(&lan).await, Vec::<Value>::new());
    }
}

async fn well_known(mesh: &Mesh) -> Value {
    let url = format!("http://127.0.0.1:{}/.well-known/atoll", mesh.target().port);
    let answer = within("the page", reqwest::get(url)).await.expect("an answer");
    answer.json().await.expect("JSON")
}

/// Whether the gateway shows this certificate to an ordinary client.
async fn shows(mesh: &Mesh, sha256: &str) -> bool {
    let url = format!("wss://127.0.0.1:{}", mesh.target().port);
    let token = mesh.state().join("token");
    std::fs::write(&token, TOKEN).expect("a writable folder");
    let token = token.display().to_string();
    let reach = ["--url", &url, "--token-file", &token, "--tls-fingerprint", sha256];
    mesh.cli(&[&["gateway", "health"][..], &reach].concat())
        .await
        .status
        .success()
}

#[tokio::test]
async fn what_is_published_is_what_is_shown_and_the_owners_certificate_takes_its_place() {
    let mesh = Mesh::start().await;
    let page = well_known(&mesh).await;
    let status = mesh.cli_json(&["gateway", "status", "--json"]).await;
    let made = page["certificates"][0]["sha256"]
        .as_str()
        .expect("a fingerprint")
        .to_owned();
    assert_eq!(status["tlsSha256"], format!("sha256:{made}"));
    let (_wire, hello) = Wire::connect(&mesh.target(), operator(TOKEN, &ALL_SCOPES), None)
        .await
        .expect("let in");
    assert_eq!(hello["server"]["tlsSha256"], status["tlsSha256"]);
    assert_eq!(page["port"], mesh.target().port);
    assert!(page["deviceKey"].as_str().is_some_and(|key| key.len() == 43), "{page}");
    assert!(
        page["certificates"][0]["notAfterMs"]
            .as_u64()
            .is_some_and(|end| end > 1_700_000_000_000),
        "{page}"
    );
    assert!(shows(&mesh, &made).await);

    let path = |name: &str| -> PathBuf { mesh.state().join(name) };
    let config = json!({"gateway": {"tls": {"certPath": path("own-cert.pem"), "keyPath": path("own-key.pem")}}});
    std::fs::write(path("atoll.json"), config.to_string()).expect("a writable folder");
    let own = until("the owner's certificate", async || {
        let page = well_known(&mesh).await;
        let now = page["certificates"][0]["sha256"].as_str()?.to_owned();
        (now != made).then_some(now)
    })
    .await;
    until("it to be shown", async || shows(&mesh, &own).await.then_some(())).await;
    assert!(!shows(&mesh, &made).await);
}
