//! The real programs as a mesh on the loopback address: one gateway in a temporary state folder, nodes in theirs.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::program::{Program, built};
use crate::wait::{PATIENCE, until, until_time, within};
use crate::wire::{ALL_SCOPES, Refusal, Target, Wire, operator};

mod cli;

/// The shared secret of every mesh; long enough to be allowed anywhere.
pub const TOKEN: &str = "a-shared-secret-of-the-tests-0123456789abcdef";

/// How a node reaches its gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipe {
    /// Plain WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// QUIC.
    Quic,
    /// Whichever of the two that encrypt works.
    Any,
}

impl Pipe {
    /// Those that a node can be told to use.
    pub const EACH: [Self; 3] = [Self::Ws, Self::Wss, Self::Quic];

    /// The scheme of its addresses, and what lists call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Quic => "quic",
            Self::Any => "atoll",
        }
    }

    /// The address of a gateway.
    pub fn address(self, port: u16) -> String {
        format!("{}://127.0.0.1:{port}", self.name())
    }
}

/// The same scenario over every pipe that a node can use: an `async fn` of a [`Pipe`] becomes a module of three tests.
#[macro_export]
macro_rules! over_every_pipe {
    ($($name:ident),* $(,)?) => {$(
        mod $name {
            use $crate::mesh::Pipe;

            #[tokio::test]
            async fn over_ws() {
                super::$name(Pipe::Ws).await;
            }

            #[tokio::test]
            async fn over_wss() {
                super::$name(Pipe::Wss).await;
            }

            #[tokio::test]
            async fn over_quic() {
                super::$name(Pipe::Quic).await;
            }
        }
    )*};
}

/// One gateway, running or stopped, that keeps its port and state between runs.
#[derive(Debug)]
pub struct Mesh {
    state: TempDir,
    port: u16,
    environment: Vec<(String, String)>,
    gateway: Option<Program>,
    pipe: Pipe,
}

/// A port that is free for TCP and UDP and stays so while its gateway is away: systems give none of these to whoever asks for any port.
fn lasting_port() -> u16 {
    let is_free = |port: &u16| {
        let address = ("127.0.0.1", *port);
        std::net::TcpListener::bind(address).is_ok() && std::net::UdpSocket::bind(address).is_ok()
    };
    let chance = || 10_000 + u16::try_from(uuid::Uuid::new_v4().as_u128() % 22_000).expect("small");
    std::iter::repeat_with(chance).find(is_free).expect("one of many")
}

impl Mesh {
    /// A gateway with the default configuration, ready.
    pub async fn start() -> Self {
        Self::with(&json!({})).await
    }

    /// A gateway with this `atoll.json`, ready.
    pub async fn with(config: &Value) -> Self {
        Self::build(config, Vec::new()).await
    }

    /// [`Mesh::with`], with more environment variables.
    ///
    /// # Panics
    /// When the gateway does not become ready.
    pub async fn with_environment(config: &Value, environment: &[(&str, impl AsRef<str>)]) -> Self {
        Self::build(config, owned(environment)).await
    }

    async fn build(config: &Value, environment: Vec<(String, String)>) -> Self {
        let mut mesh = Self {
            environment,
            ..Self::prepare(config)
        };
        mesh.run().await;
        mesh
    }

    /// The state folder of a gateway with this `atoll.json`, before it is started.
    ///
    /// # Panics
    /// When there is no room for a folder.
    pub fn prepare(config: &Value) -> Self {
        let state = tempfile::tempdir().expect("a temporary folder");
        let text = serde_json::to_string_pretty(config).expect("a tree");
        std::fs::write(state.path().join("atoll.json"), text).expect("a writable folder");
        Self {
            state,
            port: lasting_port(),
            environment: Vec::new(),
            gateway: None,
            pipe: Pipe::Ws,
        }
    }

    /// Its nodes use this from now on, in place of plain WebSocket.
    #[must_use]
    pub fn over(mut self, pipe: Pipe) -> Self {
        self.pipe = pipe;
        self
    }

    /// Starts the gateway (again, on the port it had) and waits until it is ready.
    ///
    /// # Panics
    /// When it ends or does not become ready.
    pub async fn run(&mut self) {
        self.launch();
        let mut gateway = self.gateway.take().expect("just launched");
        let port_file = self.state.path().join("gateway.port");
        let known = self.port;
        self.port = until("the gateway to be ready", async || {
            if let Some(status) = gateway.ended() {
                panic!("the gateway ended with {status}:\n{}", gateway.log());
            }
            let written = || std::fs::read_to_string(&port_file).ok()?.trim().parse().ok();
            let port = if known == 0 { written()? } else { known };
            let url = format!("http://127.0.0.1:{port}/readyz");
            let ready = reqwest::get(url).await.is_ok_and(|response| response.status() == 200);
            ready.then_some(port)
        })
        .await;
        self.gateway = Some(gateway);
    }

    /// Starts the gateway without waiting for anything.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn launch(&mut self) {
        let mut command = self.command();
        command.args(["gateway", "run", "--bind", "loopback", "--port", &self.port.to_string()]);
        command.arg("--state-dir").arg(self.state.path());
        self.gateway = Some(Program::start("atoll gateway run", command));
    }

    fn command(&self) -> Command {
        self.environment_of(Command::new(built("atoll")))
    }

    fn environment_of(&self, mut command: Command) -> Command {
        isolate(&mut command, self.state.path());
        command
            .env("ATOLL_STATE_DIR", self.state.path())
            .env("ATOLL_GATEWAY_TOKEN", TOKEN);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// How to reach it.
    pub fn target(&self) -> Target {
        Target {
            port: self.port,
            token: TOKEN.to_owned(),
        }
    }

    /// Its state folder.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// The gateway's process.
    ///
    /// # Panics
    /// When it is stopped.
    pub fn gateway(&mut self) -> &mut Program {
        self.gateway.as_mut().expect("a running gateway")
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.gateway().kill().await;
        self.gateway = None;
    }

    /// Asks the gateway to end and waits.
    pub async fn stop(&mut self) {
        self.gateway().terminate().await;
        self.gateway = None;
    }

    /// An operator with every scope, let in by the shared secret.
    pub async fn operator(&self) -> Wire {
        self.operator_with(&ALL_SCOPES).await
    }

    /// An operator with these scopes.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn operator_with(&self, scopes: &[&str]) -> Wire {
        let connected = Wire::connect(&self.target(), operator(TOKEN, scopes), None).await;
        connected
            .unwrap_or_else(|refusal| panic!("the operator was refused: {refusal:?}"))
            .0
    }

    /// Approves a refused device through an operator of its own.
    ///
    /// # Panics
    /// When there is nothing to approve.
    pub async fn approve(&self, refusal: &Refusal) -> Value {
        let mut operator = self.operator().await;
        let approved = operator
            .call("device.pair.approve", json!({"requestId": refusal.request_id()}))
            .await;
        approved.expect("an approval")
    }

    /// A real node of that name with the closed defaults: started, approved, connected.
    pub async fn node(&self, name: &str) -> Node {
        let mut node = Node::prepare(&self.target(), name, &[]).over(self.pipe);
        node.run();
        self.admit(name, node).await
    }

    /// A real node whose owner lets it run any argument vector unasked.
    pub async fn permissive_node(&self, name: &str) -> Node {
        let mut node = Node::prepare(&self.target(), name, &[]).over(self.pipe);
        node.consent(&json!({"version": 1, "defaults": {"security": "full", "ask": "off"}}));
        node.run();
        self.admit(name, node).await
    }

    /// Approves a node that was started, and waits until it is connected.
    pub async fn admit(&self, name: &str, node: Node) -> Node {
        admit(&mut self.operator().await, name, PATIENCE).await;
        node
    }

    /// Waits until a node of that name is connected and approved; gives its id.
    pub async fn connected(&self, name: &str) -> String {
        let mut operator = self.operator().await;
        until(&format!("{name} to be connected"), async || {
            connected(&mut operator, name).await
        })
        .await
    }
}

/// Approves whatever a node of that name asks for, until it is connected with an approved surface; gives its id. Works
/// with one approval as with two.
pub async fn admit(operator: &mut Wire, name: &str, patience: Duration) -> String {
    until_time(&format!("{name} to be connected"), patience, async || {
        for family in ["device.pair", "node.pair"] {
            let list = operator.call(&format!("{family}.list"), json!({})).await.ok()?;
            let named = list["pending"]
                .as_array()?
                .iter()
                .filter(|pending| pending["displayName"] == name);
            for pending in named {
                let request = json!({"requestId": pending["requestId"]});
                // Refused only when the other view's approval was enough.
                let _ = operator.call(&format!("{family}.approve"), request).await;
            }
        }
        connected(operator, name).await
    })
    .await
}

async fn connected(operator: &mut Wire, name: &str) -> Option<String> {
    let list = operator.call("node.list", json!({})).await.ok()?;
    let mut rows = list["nodes"].as_array()?.iter();
    let row = rows.find(|row| row["displayName"] == name && row["connected"] == true)?;
    (row["approvalState"] == "approved").then(|| row["nodeId"].as_str().map(str::to_owned))?
}

/// A real node in a state folder of its own.
#[derive(Debug)]
pub struct Node {
    state: TempDir,
    target: Target,
    /// Where it finds its gateway.
    address: String,
    name: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    built_as: &'static str,
    /// Bytes, if it has a disk of its own.
    disk: Option<u64>,
    program: Option<Program>,
}

impl Node {
    /// Starts `atoll-node run` with these further arguments; it still has to be approved.
    pub fn start(target: &Target, name: &str, arguments: &[&str]) -> Self {
        let mut node = Self::prepare(target, name, arguments);
        node.run();
        node
    }

    /// Its empty state folder, before [`Node::run`].
    ///
    /// # Panics
    /// When there is no room for a folder.
    pub fn prepare(target: &Target, name: &str, arguments: &[&str]) -> Self {
        Self {
            state: tempfile::tempdir().expect("a temporary folder"),
            target: target.clone(),
            address: target.ws(),
            name: name.to_owned(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            environment: Vec::new(),
            built_as: "atoll-node",
            disk: None,
            program: None,
        }
    }

    /// It reaches its gateway by this pipe.
    #[must_use]
    pub fn over(self, pipe: Pipe) -> Self {
        let port = self.target.port;
        self.at(&pipe.address(port))
    }

    /// It finds its gateway there.
    #[must_use]
    pub fn at(mut self, address: &str) -> Self {
        address.clone_into(&mut self.address);
        self
    }

    /// With more environment variables.
    #[must_use]
    pub fn with_environment(mut self, environment: &[(&str, impl AsRef<str>)]) -> Self {
        self.environment = owned(environment);
        self
    }

    /// Its state folder lies on a disk of its own that has so many bytes, which only the node and its processes see.
    pub fn on_a_disk_of(&mut self, bytes: u64) -> &mut Self {
        self.disk = Some(bytes);
        self
    }

    /// Opens a folder to callers, before [`Node::run`].
    ///
    /// # Panics
    /// When its state folder cannot be written.
    pub fn open_folder(&self, folder: &Path) {
        self.write("files.json", &json!({"roots": [{"path": folder, "write": true}]}));
    }

    /// Writes which programs its owner allows.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn consent(&self, document: &Value) {
        self.write("exec-approvals.json", document);
    }

    /// Writes which commands its owner allows, and how cameras are had.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn rules(&self, document: &Value) {
        self.write("node.json", document);
    }

    fn write(&self, name: &str, document: &Value) {
        let path = self.state.path().join(name);
        std::fs::write(&path, document.to_string()).expect("a writable folder");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, private).expect("a file of our own");
    }

    /// What `atoll-node status --json` says of it.
    ///
    /// # Panics
    /// When it says anything else.
    pub async fn status(&self) -> Value {
        self.says("status").await
    }

    /// What `atoll-node doctor --json` says of it.
    ///
    /// # Panics
    /// When it says anything else.
    pub async fn doctor(&self) -> Value {
        self.says("doctor").await
    }

    async fn says(&self, word: &str) -> Value {
        let output = self.cli(&[word, "--json"]).await;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("atoll-node {word}: {error} in {text}"))
    }

    /// Runs `atoll-node` with these words on its folder, as its owner does in another terminal of the device.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn cli(&self, words: &[&str]) -> Output {
        let mut command = Command::new(built("atoll-node"));
        isolate(&mut command, self.state.path());
        command.args(words).arg("--state-dir").arg(self.state.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).kill_on_drop(true);
        within(&format!("atoll-node {}", words.join(" ")), command.output())
            .await
            .expect("a program that was built")
    }

    /// Runs `atoll-node pair` with what its owner was given, without any token.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn pair(&self, invitation: &str) -> Output {
        let mut command = Command::new(built("atoll-node"));
        isolate(&mut command, self.state.path());
        command.args(["pair", invitation, "--name", &self.name, "--state-dir"]);
        command.arg(self.state.path()).stdin(Stdio::null()).kill_on_drop(true);
        within("atoll-node pair", command.output())
            .await
            .expect("a program that was built")
    }

    /// It was built under another name.
    pub fn built_as(&mut self, name: &'static str) -> &mut Self {
        self.built_as = name;
        self
    }

    /// Starts it (again).
    pub fn run(&mut self) {
        let mut command = match self.disk {
            None => Command::new(built(self.built_as)),
            Some(bytes) => on_disk(self.state.path(), bytes),
        };
        isolate(&mut command, self.state.path());
        command
            .arg("run")
            .args(["--gateway", &self.address, "--name", &self.name]);
        command.arg("--state-dir").arg(self.state.path()).args(&self.arguments);
        // Not as an argument: every user of a machine can read those.
        command.env("ATOLL_GATEWAY_TOKEN", &self.target.token);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.program = Some(Program::start(&format!("atoll-node {}", self.name), command));
    }

    /// Its state folder.
    pub fn state(&self) -> PathBuf {
        self.state.path().to_path_buf()
    }

    /// Its process.
    ///
    /// # Panics
    /// When it is stopped.
    pub fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("a running node")
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.program().kill().await;
        self.program = None;
    }

    /// Asks it to end and waits.
    pub async fn stop(&mut self) {
        self.program().terminate().await;
        self.program = None;
    }
}

/// The node, on a disk in memory over this folder, with what lies in the folder.
fn on_disk(state: &Path, bytes: u64) -> Command {
    let script = format!(
        "exec 3<. && mount -t tmpfs -o size={bytes},mode=700 tmpfs \"$0\" && cp -a /proc/self/fd/3/. \"$0\" && cd \"$0\" && exec 3<&- && exec \"$@\""
    );
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "sh", "-c", &script]);
    command.arg(state).arg(built("atoll-node"));
    command
}

fn owned(environment: &[(&str, impl AsRef<str>)]) -> Vec<(String, String)> {
    let pairs = environment.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), value.as_ref().to_owned()))
        .collect()
}

/// Nothing of this machine's user leaks into a program under test, and nothing of it into the user's folders.
pub(crate) fn isolate(command: &mut Command, home: &Path) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", home)
        .env("TMPDIR", std::env::temp_dir());
    command.env("LANG", "C.UTF-8").env("NO_COLOR", "1").current_dir(home);
    for name in ["RUST_LOG", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}
