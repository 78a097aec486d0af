//! Bytes beside calls, on the real programs: files of a node to the command line and back, links that break in the middle, who may
//! have them, and what they cost.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atoll_tests::cutter::Cutter;
use atoll_tests::mesh::{Mesh, Node, Pipe, TOKEN};
use atoll_tests::wait::{GLANCE, until, until_time, within_time};
use atoll_tests::wire::Wire;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

atoll_tests::over_every_pipe! {
    a_file_comes_whole,
    a_large_blob_costs_no_memory_and_delays_no_call,
    a_gateway_that_is_killed_in_the_middle_leaves_nothing_half_and_serves_the_next,
    a_file_goes_to_a_node_and_replaces_none_unless_told,
    clients_that_know_no_blobs_get_and_give_base64,
    nothing_outside_of_the_open_folder_comes_or_goes,
    a_node_that_opens_nothing_declares_nothing,
}

mod live;
mod web;

const MIB: usize = 1024 * 1024;

/// What a large blob may take on a machine that is busy with other things too.
const LONG: Duration = Duration::from_secs(180);

/// A node with an open folder.
struct Shared {
    mesh: Mesh,
    node: Node,
    open: TempDir,
    here: TempDir,
}

impl Shared {
    async fn new(pipe: Pipe) -> Self {
        let mesh = Mesh::start().await.over(pipe);
        let port = mesh.target().port;
        Self::at(mesh, &pipe.address(port)).await
    }

    /// Its node comes by another way to the gateway.
    async fn at(mesh: Mesh, address: &str) -> Self {
        let open = tempfile::tempdir().expect("a folder");
        let mut node = Node::prepare(&mesh.target(), "desk", &[]).at(address);
        node.open_folder(open.path());
        node.consent(&json!({"version": 1, "defaults": {"security": "full", "ask": "off"}}));
        node.run();
        let node = mesh.admit("desk", node).await;
        let here = tempfile::tempdir().expect("a folder");
        Self { mesh, node, open, here }
    }

    fn there(&self, name: &str) -> PathBuf {
        self.open.path().join(name)
    }

    fn here(&self, name: &str) -> PathBuf {
        self.here.path().join(name)
    }

    /// `atoll nodes get`; gives what it printed.
    async fn get(&self, name: &str, to: &Path) -> Value {
        let from = format!("desk:{}", self.there(name).display());
        let to = to.display().to_string();
        let output = self
            .mesh
            .cli_within(LONG, &["nodes", "get", &from, &to, "--json"])
            .await;
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {complaint}", output.status);
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// `atoll nodes put`.
    async fn put(&self, from: &Path, name: &str) {
        let to = format!("desk:{}", self.there(name).display());
        let from = from.display().to_string();
        let output = self.mesh.cli_within(LONG, &["nodes", "put", &from, &to]).await;
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {complaint}", output.status);
    }

    async fn invoke(&self, operator: &mut Wire, command: &str, params: Value) -> Result<Value, Value> {
        let node = self.mesh.connected("desk").await;
        let key = uuid::Uuid::new_v4().to_string();
        let request = json!({
            "nodeId": node, "command": command, "params": params, "timeoutMs": 60_000, "idempotencyKey": key,
        });
        let answer = operator.call("node.invoke", request).await?;
        Ok(answer["payload"].clone())
    }
}

/// Bytes that no two places share for long.
fn content(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn write(path: &Path, len: usize) {
    std::fs::write(path, content(len)).expect("a writable folder");
}

fn digest(path: &Path) -> Vec<u8> {
    Sha256::digest(std::fs::read(path).expect("it is there")).to_vec()
}

/// A line of `/proc/<pid>/status`, bytes.
fn memory(pid: u32, line: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running program");
    let line = status.lines().find_map(|found| found.strip_prefix(line));
    let number = line.and_then(|rest| {
        rest.trim_start_matches(':')
            .split_whitespace()
            .next()?
            .parse::<usize>()
            .ok()
    });
    number.expect("a size in kB") * 1024
}

async fn a_file_comes_whole(pipe: Pipe) {
    let shared = Shared::new(pipe).await;
    write(&shared.there("film"), 32 * MIB);
    let told = shared.get("film", &shared.here("copy")).await;
    assert_eq!(told["size"], 32 * MIB);
    assert!(digest(&shared.here("copy")) == digest(&shared.there("film")));
    let left: Vec<_> = std::fs::read_dir(shared.here.path()).expect("lists").collect();
    assert_eq!(left.len(), 1, "no half file stays behind");
}

async fn a_large_blob_costs_no_memory_and_delays_no_call(pipe: Pipe) {
    const SIZE: usize = 96 * MIB;
    let mut shared = Shared::new(pipe).await;
    write(&shared.there("film"), SIZE);
    let pids = [shared.mesh.gateway().pid(), shared.node.program().pid()];
    let before = pids.map(|pid| memory(pid, "VmRSS"));
    let target = shared.here("copy");
    let mut operator = shared.mesh.operator().await;
    let (mut slowest, mut calls) = (Duration::ZERO, 0);
    {
        let getting = shared.get("film", &target);
        tokio::pin!(getting);
        loop {
            let calling = async {
                let started = Instant::now();
                let params = json!({"command": ["/bin/echo", "here"]});
                let result = shared.invoke(&mut operator, "system.run", params).await;
                assert_eq!(result.expect("it runs")["exitCode"], 0);
                started.elapsed()
            };
            tokio::select! {
                _ = &mut getting => break,
                took = calling => {
                    slowest = slowest.max(took);
                    calls += 1;
                }
            }
        }
    }
    assert!(calls > 3, "{calls} calls while the blob flowed");
    assert!(slowest < Duration::from_secs(3), "a call took {slowest:?}");
    let peaks = pids.map(|pid| memory(pid, "VmHWM"));
    for (before, peak) in before.into_iter().zip(peaks) {
        assert!(peak < before + 32 * MIB, "from {} to {} MiB", before / MIB, peak / MIB);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_breaks_in_the_middle_costs_only_what_was_under_way() {
    for pipe in [Pipe::Ws, Pipe::Wss] {
        break_in_the_middle(pipe).await;
    }
}

/// Only a connection of TCP can be cut; what datagrams suffer is in `faults`.
async fn break_in_the_middle(pipe: Pipe) {
    const SIZE: usize = 32 * MIB;
    let mesh = Mesh::start().await;
    let cutter = Cutter::start(mesh.target().port).await;
    let address = format!("{}://127.0.0.1:{}", pipe.name(), cutter.port());
    let shared = Shared::at(mesh, &address).await;
    write(&shared.there("film"), SIZE);
    let before = cutter.passed();
    cutter.cut_after(10 * MIB as u64);
    shared.get("film", &shared.here("copy")).await;
    assert!(!cutter.will_cut(), "it was cut");
    assert!(digest(&shared.here("copy")) == digest(&shared.there("film")));
    let passed = cutter.passed() - before;
    assert!(
        passed < (SIZE + 8 * MIB) as u64,
        "{} MiB passed for {} MiB",
        passed as usize / MIB,
        SIZE / MIB
    );
    let before = cutter.passed();
    cutter.cut_after(10 * MIB as u64);
    shared.put(&shared.here("copy"), "back").await;
    assert!(!cutter.will_cut(), "it was cut");
    assert!(digest(&shared.there("back")) == digest(&shared.there("film")));
    let passed = cutter.passed() - before;
    assert!(passed < (SIZE + 8 * MIB) as u64, "{} MiB passed", passed as usize / MIB);
}

/// How many different steps of a way were drawn.
fn steps(shown: &str, way: &str) -> usize {
    let frames = shown.split('\r').filter(|frame| frame.contains(way));
    frames
        .filter_map(|frame| frame.split(" %").next())
        .collect::<HashSet<_>>()
        .len()
}

#[tokio::test]
async fn a_terminal_shows_how_far_a_file_is_on_its_way_between_gateway_and_node() {
    let mesh = Mesh::start().await;
    let cutter = Cutter::start(mesh.target().port).await;
    let shared = Shared::at(mesh, &format!("ws://127.0.0.1:{}", cutter.port())).await;
    write(&shared.there("film"), 32 * MIB);
    let (there, here) = (
        format!("desk:{}", shared.there("film").display()),
        shared.here("copy").display().to_string(),
    );
    let back = format!("desk:{}", shared.there("back").display());
    for (words, way) in [
        (["nodes", "get", &there, &here], "to the gateway"),
        (["nodes", "put", &here, &back], "to the node"),
    ] {
        cutter.allow(0);
        let mut child = shared.mesh.cli_on_terminal(&words);
        let mut terminal = child.stdout.take().expect("a pipe");
        let (mut shown, mut part) = (String::new(), [0; 4096]);
        // A little passes at a time until it has been seen to move.
        within_time("it to be seen on its way", LONG, async {
            while steps(&shown, way) < 3 {
                cutter.allow(256 * 1024);
                if let Ok(read) = timeout(GLANCE, terminal.read(&mut part)).await {
                    let read = read.expect("a terminal");
                    assert!(read > 0, "{words:?} ended: {shown}");
                    shown.push_str(&String::from_utf8_lossy(&part[..read]));
                }
            }
        })
        .await;
        cutter.allow(u64::MAX);
        let rest = async { while terminal.read(&mut part).await.is_ok_and(|read| read > 0) {} };
        within_time("its end", LONG, rest).await;
        assert!(child.wait().await.expect("it ran").success(), "{words:?}");
    }
    assert!(digest(&shared.there("back")) == digest(&shared.there("film")));
}

async fn a_gateway_that_is_killed_in_the_middle_leaves_nothing_half_and_serves_the_next(pipe: Pipe) {
    let mut shared = Shared::new(pipe).await;
    // It takes no room until it comes, and longer than any test looks away.
    let film = std::fs::File::create(shared.there("film")).expect("a writable folder");
    film.set_len(1024 * MIB as u64).expect("room");
    let coming = shared.mesh.state().join("media/coming");
    let begun = async || {
        let mut files = std::fs::read_dir(&coming).ok()?.flatten();
        files
            .any(|file| file.metadata().is_ok_and(|data| data.len() > 1_000_000))
            .then_some(())
    };
    let from = format!("desk:{}", shared.there("film").display());
    let to = shared.here("copy").display().to_string();
    let arguments = ["nodes", "get", &from, &to];
    let output = tokio::select! {
        output = shared.mesh.cli_within(LONG, &arguments) => panic!("it should have taken longer: {output:?}"),
        () = until("the blob to flow", begun) => None::<()>,
    };
    assert!(output.is_none());
    shared.mesh.kill().await;
    assert!(
        std::fs::read_dir(&coming).expect("lists").count() > 0,
        "the test needs something half"
    );
    shared.mesh.run().await;
    assert_eq!(std::fs::read_dir(&coming).expect("lists").count(), 0);
    shared.mesh.connected("desk").await;
    write(&shared.there("small"), MIB);
    shared.get("small", &shared.here("small")).await;
    assert!(digest(&shared.here("small")) == digest(&shared.there("small")));
}

async fn a_file_goes_to_a_node_and_replaces_none_unless_told(pipe: Pipe) {
    let shared = Shared::new(pipe).await;
    let source = shared.here("film");
    write(&source, 32 * MIB);
    let to = format!("desk:{}", shared.there("film").display());
    let source_text = source.display().to_string();
    let put = async |further: &[&str]| {
        let arguments = [&["nodes", "put", &source_text, &to], further].concat();
        shared.mesh.cli_within(LONG, &arguments).await
    };
    let output = put(&[]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(digest(&source) == digest(&shared.there("film")));
    write(&source, 5);
    let output = put(&[]).await;
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("--force"), "{complaint}");
    assert!(put(&["--force"]).await.status.success());
    assert!(digest(&source) == digest(&shared.there("film")));
    let names: Vec<_> = std::fs::read_dir(shared.open.path()).expect("lists").collect();
    assert_eq!(names.len(), 1, "nothing else stays behind");
}

async fn clients_that_know_no_blobs_get_and_give_base64(pipe: Pipe) {
    let shared = Shared::new(pipe).await;
    write(&shared.there("photo.jpg"), 3 * MIB);
    let mut operator = shared.mesh.operator().await;
    let params = json!({"path": shared.there("photo.jpg")});
    let got = shared
        .invoke(&mut operator, "file.fetch", params)
        .await
        .expect("a result");
    let bytes = STANDARD
        .decode(got["base64"].as_str().expect("base64"))
        .expect("base64");
    assert!(bytes == content(3 * MIB));
    assert_eq!(
        (&got["mimeType"], &got["size"]),
        (&json!("image/jpeg"), &json!(3 * MIB))
    );
    assert!(got.get("blob").is_none());

    write(&shared.there("large"), 17 * MIB);
    let params = json!({"path": shared.there("large"), "maxBytes": 20 * MIB});
    let refused = shared
        .invoke(&mut operator, "file.fetch", params)
        .await
        .expect_err("too large");
    assert_eq!(refused["details"]["code"], "PAYLOAD_TOO_LARGE");

    let text = STANDARD.encode(content(2 * MIB));
    let params = json!({"path": shared.there("given"), "contentBase64": text});
    let wrote = shared
        .invoke(&mut operator, "file.write", params)
        .await
        .expect("a result");
    assert_eq!(
        (&wrote["ok"], &wrote["size"]),
        (&json!(true), &json!(2 * MIB)),
        "{wrote}"
    );
    assert!(std::fs::read(shared.there("given")).expect("it is there") == content(2 * MIB));
}

async fn nothing_outside_of_the_open_folder_comes_or_goes(pipe: Pipe) {
    let shared = Shared::new(pipe).await;
    let secret = shared.here("secret");
    std::fs::write(&secret, "secret").expect("writes");
    std::os::unix::fs::symlink(&secret, shared.there("link")).expect("links");
    std::os::unix::fs::symlink(shared.here.path(), shared.there("folder")).expect("links");
    let mut operator = shared.mesh.operator().await;
    for path in [
        shared.there("link"),
        shared.there("folder/secret"),
        secret.clone(),
        "/etc/hostname".into(),
    ] {
        for command in ["file.fetch", "file.stat", "dir.list"] {
            let result = shared.invoke(&mut operator, command, json!({"path": path})).await;
            assert_eq!(result.expect("a result")["ok"], false, "{command} {}", path.display());
        }
        let params = json!({"path": path, "contentBase64": "eA==", "overwrite": true});
        let result = shared.invoke(&mut operator, "file.write", params).await;
        assert_eq!(result.expect("a result")["ok"], false, "{}", path.display());
    }
    assert_eq!(std::fs::read(&secret).expect("reads"), b"secret");
    let from = format!("desk:{}", shared.there("link").display());
    let output = shared.mesh.cli(&["nodes", "get", &from, "--force"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("SYMLINK_REDIRECT"));
}

async fn a_node_that_opens_nothing_declares_nothing(pipe: Pipe) {
    let mesh = Mesh::start().await.over(pipe);
    let _node = mesh.node("closed").await;
    let mut operator = mesh.operator().await;
    let commands = until("its row", async || {
        let list = operator.call("node.list", json!({})).await.ok()?;
        list["nodes"][0]["commands"].as_array().cloned()
    })
    .await;
    let is_about_files = |name: &Value| ["file.", "dir."].iter().any(|word| name.to_string().contains(word));
    assert!(
        !commands.is_empty() && !commands.iter().any(is_about_files),
        "{commands:?}"
    );
}

/// A ticket of an operator with these scopes; the link must live as long as it is used.
async fn ticket(mesh: &Mesh, scopes: &[&str]) -> (Wire, String) {
    let mut operator = mesh.operator_with(scopes).await;
    let answer = operator.call("media.ticket", json!({})).await.expect("a ticket");
    (operator, answer["ticket"].as_str().expect("text").to_owned())
}

/// Until the gateway has noticed that a link is gone.
async fn refused(client: &reqwest::Client, url: &str, ticket: &str) {
    until_time("the ticket to be refused", LONG, async || {
        let response = client.get(url).bearer_auth(ticket).send().await.ok()?;
        (response.status() == 401).then_some(())
    })
    .await;
}

const fn token() -> &'static str {
    TOKEN
}
