//! Cameras of a real node, called by operators through a real gateway: the test pattern and a program of the owner's, what happens when
//! they hang or die, and who may see anything.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use atoll_capabilities::camera::taken_at;
use atoll_tests::mesh::{Mesh, Node, Pipe};
use atoll_tests::wait::until;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

atoll_tests::over_every_pipe! {
    a_full_media_store_is_one_clear_error,
    a_helper_that_is_killed_in_the_middle_is_one_clear_error,
    a_node_that_is_killed_takes_its_helpers_along,
    pictures_come_whole_and_fresh,
    a_program_of_the_owner_takes_the_picture,
    a_camera_that_hangs_costs_one_call_and_leaves_no_process,
}

pub(crate) mod broken;
mod cli;
pub(crate) mod moving;

pub(crate) use broken::{reason, watch};
pub(crate) use moving::probe;

/// What a gateway's owner has to allow, besides the node's.
pub(crate) fn gateway_allows() -> Value {
    let commands = ["camera.snap", "camera.clip", "camera.stream"];
    json!({"gateway": {"nodes": {"commands": {"allow": commands}}}})
}

/// What a node's owner has to allow.
pub(crate) fn owner_allows(cameras: Value) -> Value {
    let commands = [
        "camera.list",
        "camera.snap",
        "camera.clip",
        "camera.stream",
        "audio.record",
    ];
    let commands: serde_json::Map<String, Value> = commands
        .iter()
        .map(|name| ((*name).to_owned(), json!("allow")))
        .collect();
    json!({"commands": commands, "camera": cameras})
}

/// A gateway, and a node with cameras.
pub(crate) struct Studio {
    pub(crate) mesh: Mesh,
    pub(crate) node: Node,
    id: String,
    /// Where the node's processes put what they do not keep.
    scratch: tempfile::TempDir,
}

impl Studio {
    pub(crate) async fn new(pipe: Pipe, cameras: Value) -> Self {
        Self::with(pipe, gateway_allows(), cameras).await
    }

    async fn with(pipe: Pipe, config: Value, cameras: Value) -> Self {
        Self::under(pipe, config, owner_allows(cameras)).await
    }

    /// Under the rules of both owners.
    pub(crate) async fn under(pipe: Pipe, config: Value, rules: Value) -> Self {
        Self::within(pipe, config, rules, &[]).await
    }

    /// With more in its environment.
    pub(crate) async fn within(pipe: Pipe, config: Value, rules: Value, environment: &[(&str, &str)]) -> Self {
        let mesh = Mesh::with(&config).await.over(pipe);
        let scratch = tempfile::tempdir().expect("a temporary folder");
        let mut node = Node::prepare(&mesh.target(), "studio", &[]).over(pipe);
        node = node.with_environment(&[environment, &[("TMPDIR", scratch.path().to_str().expect("text"))]].concat());
        node.rules(&rules);
        node.run();
        let node = mesh.admit("studio", node).await;
        let id = mesh.connected("studio").await;
        Self {
            mesh,
            node,
            id,
            scratch,
        }
    }

    pub(crate) async fn invoke(&mut self, command: &str, params: Value, timeout_ms: u64) -> Result<Value, Value> {
        self.ask(json!({"command": command, "params": params, "timeoutMs": timeout_ms}))
            .await
    }

    /// What has bytes is named, not written out.
    pub(crate) async fn invoke_for_handles(&mut self, command: &str, params: Value) -> Result<Value, Value> {
        self.ask(json!({"command": command, "params": params, "timeoutMs": 15_000, "blobs": "handles"}))
            .await
    }

    async fn ask(&mut self, mut request: Value) -> Result<Value, Value> {
        request["nodeId"] = json!(self.id);
        request["idempotencyKey"] = json!(uuid::Uuid::new_v4().to_string());
        // A new one each time: one that does nothing between two calls would not answer the gateway's pings.
        let mut operator = self.mesh.operator().await;
        let mut answer = operator.call("node.invoke", request).await?;
        Ok(answer["payload"].take())
    }

    async fn snap(&mut self, params: Value) -> Result<(Value, Vec<u8>), Value> {
        let result = self.invoke("camera.snap", params, 15_000).await?;
        let jpeg = STANDARD.decode(result["base64"].as_str().expect("base64"));
        Ok((result, jpeg.expect("base64")))
    }

    /// All processes below the node.
    pub(crate) fn children(&mut self) -> HashSet<u32> {
        descendants(self.node.program().pid())
    }

    /// Files and folders that its processes have not cleared away.
    pub(crate) fn left_behind(&self) -> usize {
        std::fs::read_dir(self.scratch.path()).expect("a folder").count()
    }

    pub(crate) async fn is_tidy(&mut self) {
        until("every process that the node started to be gone", async || {
            self.children().is_empty().then_some(())
        })
        .await;
        until("no file to be left behind", async || {
            (self.left_behind() == 0).then_some(())
        })
        .await;
    }
}

/// Parents of all processes, out of `/proc`; zombies are gone already.
pub(crate) fn descendants(root: u32) -> HashSet<u32> {
    let numbers = std::fs::read_dir("/proc").expect("a proc file system").flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let parents: Vec<(u32, u32)> = numbers.filter_map(|pid: u32| Some((pid, parent(pid)?))).collect();
    let mut found = HashSet::from([root]);
    loop {
        let before = found.len();
        found.extend(
            parents
                .iter()
                .filter(|(_, parent)| found.contains(parent))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        if found.len() == before {
            found.remove(&root);
            return found;
        }
    }
}

/// Who started a process that lives.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    (fields.next()? != "Z").then_some(())?;
    fields.next()?.parse().ok()
}

pub(crate) fn message(error: &Value) -> String {
    error["message"].as_str().unwrap_or_default().to_owned()
}

/// Milliseconds since a picture was taken.
fn age(taken: u32) -> u32 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    (now.as_millis() as u32).wrapping_sub(taken)
}

async fn pictures_come_whole_and_fresh(pipe: Pipe) {
    let mut studio = Studio::new(pipe, json!({"testPattern": true})).await;
    let list = studio.invoke("camera.list", json!({}), 15_000).await.expect("a list");
    let devices = list["devices"].as_array().expect("a list");
    let pattern = json!({"id": "test", "name": "Test pattern", "position": "unknown", "deviceType": "testPattern"});
    assert!(devices.contains(&pattern), "{list}");

    let (result, first) = studio.snap(json!({"deviceId": "test"})).await.expect("a picture");
    assert_eq!(
        (&result["format"], &result["width"], &result["height"]),
        (&json!("jpg"), &json!(640), &json!(360))
    );
    assert_eq!(result["deviceId"], "test");
    let small = json!({"deviceId": "test", "maxWidth": 320, "quality": 0.3, "delayMs": 300, "format": "jpg"});
    let began = Instant::now();
    let (result, second) = studio.snap(small).await.expect("a picture");
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!((&result["width"], &result["height"]), (&json!(320), &json!(180)));
    assert!(second.len() < first.len());
    let taken = [&first, &second].map(|jpeg| taken_at(jpeg).expect("the time is in it"));
    assert!(taken[1].wrapping_sub(taken[0]) >= 300, "{taken:?}");
    assert!(age(taken[1]) < 20_000, "{} ms old", age(taken[1]));

    if devices.len() == 1 {
        let error = studio
            .snap(json!({}))
            .await
            .expect_err("the pattern is for those who name it");
        assert!(message(&error).starts_with("CAMERA_UNAVAILABLE: no camera:"), "{error}");
    }
    let error = studio
        .snap(json!({"deviceId": "attic"}))
        .await
        .expect_err("no such camera");
    assert!(message(&error).contains("\"attic\""), "{error}");
    let error = studio.snap(json!({"facing": "up"})).await.expect_err("no such side");
    assert!(message(&error).contains("front or back"), "{error}");
}

/// A picture of the test pattern in a file, to be found by programs.
async fn photo(studio: &mut Studio) -> std::path::PathBuf {
    let (_, jpeg) = studio.snap(json!({"deviceId": "test"})).await.expect("a picture");
    let path = studio.node.state().join("photo.jpg");
    std::fs::write(&path, jpeg).expect("room");
    path
}

async fn a_program_of_the_owner_takes_the_picture(pipe: Pipe) {
    let cameras = json!({"testPattern": true, "commands": [
        {"id": "door", "name": "Front door", "position": "back", "snap": ["sh", "-c", "cat photo.jpg"]},
        {"id": "file", "snap": ["cp", "photo.jpg", "{file}"]},
        {"id": "torn", "snap": ["sh", "-c", "head -c 500 photo.jpg"]},
        {"id": "dark", "snap": ["sh", "-c", "echo no light >&2; exit 4"]},
        {"id": "spy", "snap": ["sh", "-c", "env >&2; exit 5"]},
    ]});
    let mut studio = Studio::new(pipe, cameras).await;
    let photo = photo(&mut studio).await;
    let same = std::fs::read(&photo).expect("there");
    for params in [json!({"facing": "back"}), json!({"deviceId": "file"})] {
        let (result, jpeg) = studio.snap(params.clone()).await.expect("a picture");
        assert_eq!(taken_at(&jpeg), taken_at(&same), "{params}");
        assert_eq!(result["width"], 640);
    }
    let (result, _) = studio
        .snap(json!({"deviceId": "door", "maxWidth": 100}))
        .await
        .expect("a picture");
    assert_eq!((&result["width"], &result["height"]), (&json!(100), &json!(56)));
    for (id, words) in [("torn", "no whole JPEG"), ("dark", "exit status: 4; it says: no light")] {
        let error = studio.snap(json!({"deviceId": id})).await.expect_err("no picture");
        assert!(message(&error).contains(words), "{error}");
    }
    let error = studio.snap(json!({"deviceId": "spy"})).await.expect_err("no picture");
    assert!(
        !message(&error).contains("ATOLL"),
        "nothing of the node's own environment: {error}"
    );
    studio.is_tidy().await;
}

async fn a_camera_that_hangs_costs_one_call_and_leaves_no_process(pipe: Pipe) {
    let cameras = json!({"testPattern": true, "commands": [{"id": "stuck", "snap": ["sh", "-c", "echo photo > $0; sleep 1000 & sleep 1000", "{file}"]}]});
    let mut studio = Studio::new(pipe, cameras).await;
    let began = Instant::now();
    let error = studio
        .invoke("camera.snap", json!({"deviceId": "stuck"}), 2_500)
        .await
        .expect_err("it hangs");
    assert!(
        message(&error).contains("CAMERA_UNAVAILABLE: the camera gave nothing within"),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(10));
    studio.is_tidy().await;
    studio.snap(json!({"deviceId": "test"})).await.expect("the others work");
}

/// The processes below a node whose arguments contain a word.
pub(crate) fn running(pids: &HashSet<u32>, word: &str) -> Option<u32> {
    let has = |pid: &&u32| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(word)
    };
    pids.iter().find(has).copied()
}

async fn a_helper_that_is_killed_in_the_middle_is_one_clear_error(pipe: Pipe) {
    let cameras = json!({"testPattern": true, "commands": [{"id": "slow", "snap": ["sleep", "1000"]}]});
    let mut studio = Studio::new(pipe, cameras).await;
    let root = studio.node.program().pid();
    let killing = async {
        let helper = until("the helper and its program", async || {
            let pids = descendants(root);
            running(&pids, "sleep").and(running(&pids, "capture-helper"))
        });
        let pid = rustix::process::Pid::from_raw(i32::try_from(helper.await).expect("a process id"));
        rustix::process::kill_process(pid.expect("a process id"), rustix::process::Signal::KILL).expect("it runs");
    };
    let (ended, ()) = tokio::join!(
        studio.invoke("camera.snap", json!({"deviceId": "slow"}), 15_000),
        killing
    );
    let error = ended.expect_err("it crashed");
    assert!(message(&error).contains("helper crashed (signal: 9"), "{error}");
    studio.is_tidy().await;
    studio
        .snap(json!({"deviceId": "test"}))
        .await
        .expect("the next one works");
}

async fn a_node_that_is_killed_takes_its_helpers_along(pipe: Pipe) {
    let cameras = json!({"commands": [{"id": "slow", "snap": ["sleep", "1000"]}]});
    let mut studio = Studio::new(pipe, cameras).await;
    let root = studio.node.program().pid();
    let killing = async {
        until("the helper and its program", async || {
            let pids = descendants(root);
            (pids.len() >= 2 && running(&pids, "sleep").is_some()).then_some(pids)
        })
        .await
    };
    let pids = tokio::select! {
        pids = killing => pids,
        ended = studio.invoke("camera.snap", json!({}), 15_000) => panic!("it ended: {ended:?}"),
    };
    studio.node.kill().await;
    until("the helper and its program to be gone", async || {
        let is_alive = |pid: &u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        (!pids.iter().any(is_alive)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nothing_is_seen_unless_both_owners_say_so() {
    let mesh = Mesh::with(&gateway_allows()).await;
    let mut shy = Node::prepare(&mesh.target(), "shy", &[]);
    shy.run();
    let shy = mesh.admit("shy", shy).await;
    let id = mesh.connected("shy").await;
    let mut operator = mesh.operator().await;
    let described = operator
        .call("node.describe", json!({"nodeId": id}))
        .await
        .expect("a node");
    let commands = described["commands"].to_string();
    assert!(!commands.contains("camera"), "{commands}");
    let doctor = shy.doctor().await;
    let rows = doctor["capabilities"].as_array().expect("rows");
    let row = rows.iter().find(|row| row["cap"] == "camera").expect("a row");
    assert_eq!(row["commands"], json!([]), "{row}");
    assert_eq!(row["missing"].as_array().expect("reasons").len(), 4, "{row}");

    let mut closed = Studio::with(Pipe::Ws, json!({}), json!({"testPattern": true})).await;
    let list = closed.invoke("camera.list", json!({}), 15_000).await;
    list.expect("names alone need no leave of the gateway's owner");
    let error = closed.snap(json!({"deviceId": "test"})).await.expect_err("not allowed");
    assert!(message(&error).contains("node command not allowed"), "{error}");

    // The node's owner changes his mind, and the gateway's opinion does not matter.
    let mut studio = Studio::new(Pipe::Ws, json!({"testPattern": true})).await;
    studio.snap(json!({"deviceId": "test"})).await.expect("allowed");
    studio.node.rules(&json!({"commands": {"camera.snap": "deny"}}));
    let error = studio.snap(json!({"deviceId": "test"})).await.expect_err("denied");
    assert!(
        message(&error).starts_with("CAMERA_DISABLED: camera.snap is denied"),
        "{error}"
    );
}

/// What a process holds: descriptors, threads and memory.
fn held(pid: u32) -> (usize, usize) {
    let count = |what: &str| {
        std::fs::read_dir(Path::new(&format!("/proc/{pid}/{what}")))
            .expect("it runs")
            .count()
    };
    (count("fd"), count("task"))
}

#[tokio::test]
async fn a_hundred_pictures_leave_nothing_behind() {
    let mut studio = Studio::new(Pipe::Quic, json!({"testPattern": true})).await;
    let params = json!({"deviceId": "test", "maxWidth": 160});
    for _ in 0..10 {
        studio.snap(params.clone()).await.expect("a picture");
    }
    let pid = studio.node.program().pid();
    let (before, memory) = (held(pid), studio.node.program().resident());
    for _ in 0..100 {
        studio.snap(params.clone()).await.expect("a picture");
    }
    studio.is_tidy().await;
    until("as few descriptors as before", async || {
        (held(pid).0 <= before.0 + 2).then_some(())
    })
    .await;
    let after = studio.node.program().resident();
    assert!(after < memory + 4 * 1024 * 1024, "from {memory} to {after} bytes");
    let left = std::fs::read_dir(studio.node.state()).expect("a folder").flatten();
    let left: Vec<_> = left
        .filter(|entry| entry.file_name().to_string_lossy().contains("clip"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

async fn a_full_media_store_is_one_clear_error(pipe: Pipe) {
    let mut config = gateway_allows();
    config["media"] = json!({"maxMb": 1});
    let cameras = json!({"testPattern": true, "commands": [{"id": "large", "snap": ["cat", "large.jpg"]}]});
    let mut studio = Studio::with(pipe, config, cameras).await;
    let small = photo(&mut studio).await;
    let mut large = std::fs::read(small).expect("there");
    // Coded bytes that nobody decodes: the picture is small enough to be passed on as it is.
    let end = large.len() - 2;
    large.splice(end..end, vec![0; 2 * 1024 * 1024]);
    std::fs::write(studio.node.state().join("large.jpg"), large).expect("room");
    let error = studio.snap(json!({"deviceId": "large"})).await.expect_err("no room");
    assert!(message(&error).contains("no room"), "{error}");
    studio
        .snap(json!({"deviceId": "test"}))
        .await
        .expect("a small one has room");
}
