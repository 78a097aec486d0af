//! The real OpenClaw programs as peers, kept offline and quiet: gateway, command line and node, each in a folder of
//! its own below one temporary folder. `scripts/test` installs them.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::mesh::isolate;
use crate::program::{Program, printed};
use crate::wait::{until_time, within_time};
use crate::wire::Target;

/// Starting one of these programs takes seconds where ours take milliseconds.
pub const SLOW: Duration = Duration::from_secs(90);

/// The shared secret of their gateway.
const TOKEN: &str = "a-shared-secret-of-the-other-gateway-0123456789";

/// Where the programs run, and who they talk to.
#[derive(Debug)]
pub struct OpenClaw {
    folder: TempDir,
    target: Target,
}

impl OpenClaw {
    /// Their command line and node, set up to talk to `target`.
    ///
    /// # Panics
    /// When a folder cannot be written.
    pub fn beside(target: &Target) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let peer = Self {
            folder,
            target: target.clone(),
        };
        let remote = json!({"url": target.ws(), "token": target.token});
        peer.configure("cli", &json!({"gateway": {"mode": "remote", "remote": remote}}));
        peer
    }

    fn configure(&self, who: &str, config: &Value) {
        let folder = self.folder.path().join(who);
        std::fs::create_dir_all(&folder).expect("a writable folder");
        std::fs::write(folder.join("openclaw.json"), config.to_string()).expect("a writable folder");
    }

    fn command(&self, who: &str) -> Command {
        let (node, openclaw) = installed();
        let state = self.folder.path().join(who);
        std::fs::create_dir_all(&state).expect("a writable folder");
        let mut command = Command::new(&node);
        isolate(&mut command, self.folder.path());
        let bin = node.parent().expect("a program lies in a folder").to_path_buf();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path)));
        command.env("PATH", path.expect("a search path")).arg(openclaw);
        command
            .env("TMPDIR", self.folder.path())
            .env("OPENCLAW_NO_AUTO_UPDATE", "1");
        command
            .env("OPENCLAW_SKIP_CHANNELS", "1")
            .env("OPENCLAW_DISABLE_BONJOUR", "1");
        command
            .env("OPENCLAW_CONFIG_PATH", state.join("openclaw.json"))
            .env("OPENCLAW_STATE_DIR", state);
        command
    }

    /// Runs a command of theirs as the operator.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = self.command("cli");
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let what = format!("openclaw {}", arguments.join(" "));
        within_time(&what, SLOW, command.output())
            .await
            .expect("an installed program")
    }

    /// [`OpenClaw::cli`] with a command that succeeds and prints JSON.
    ///
    /// # Panics
    /// When it fails or prints anything else.
    pub async fn cli_json(&self, arguments: &[&str]) -> Value {
        let shown = format!("openclaw {}", arguments.join(" "));
        let text = printed(&shown, &self.cli(arguments).await);
        let start = text
            .find(['{', '['])
            .unwrap_or_else(|| panic!("{shown}: no JSON in {text}"));
        serde_json::from_str(&text[start..]).unwrap_or_else(|error| panic!("{shown}: {error} in {text}"))
    }

    /// Their headless node, with a setup code and nothing else.
    pub fn node_by_code(&self, name: &str, code: &str) -> Program {
        let mut command = self.command("node");
        command.args(["node", "run", "--pair", code, "--display-name", name]);
        Program::start("openclaw node run --pair", command)
    }

    /// [`OpenClaw::node`] with this configuration.
    pub fn node_with(&self, name: &str, config: &Value) -> Program {
        self.configure("node", config);
        self.node(name)
    }

    /// Their headless node, on its way to the target.
    pub fn node(&self, name: &str) -> Program {
        let mut command = self.command("node");
        command.args([
            "node",
            "run",
            "--host",
            "127.0.0.1",
            "--port",
            &self.target.port.to_string(),
        ]);
        command
            .args(["--display-name", name])
            .env("OPENCLAW_GATEWAY_TOKEN", &self.target.token);
        Program::start("openclaw node run", command)
    }
}

/// Their gateway.
#[derive(Debug)]
pub struct OpenClawGateway {
    /// Its operator's command line.
    pub peer: OpenClaw,
    program: Option<Program>,
}

impl OpenClawGateway {
    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start() -> Self {
        Self::allowing(&[]).await
    }

    /// [`OpenClawGateway::start`], where more commands of nodes are allowed than by its defaults.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn allowing(commands: &[&str]) -> Self {
        let target = Target {
            port: unused_port(),
            token: TOKEN.to_owned(),
        };
        let peer = OpenClaw::beside(&target);
        peer.configure("gateway", &gateway_config(&target, peer.folder.path(), commands));
        let mut gateway = Self { peer, program: None };
        gateway.run().await;
        gateway
    }

    /// Starts it (again) on the same port and state.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn run(&mut self) {
        let mut command = self.peer.command("gateway");
        command.args(["gateway", "run"]);
        let mut program = Program::start("openclaw gateway run", command);
        let ready = format!("{}/readyz", self.target().http());
        until_time("the other gateway to be ready", SLOW, async || {
            if let Some(status) = program.ended() {
                panic!("the other gateway ended with {status}:\n{}", program.log());
            }
            let answered = reqwest::get(&ready)
                .await
                .is_ok_and(|response| response.status() == 200);
            (answered && program.log().contains("[gateway] ready")).then_some(())
        })
        .await;
        self.program = Some(program);
    }

    /// How to reach it.
    pub fn target(&self) -> &Target {
        &self.peer.target
    }

    /// Asks it to end and waits.
    ///
    /// # Panics
    /// When it is not running.
    pub async fn stop(&mut self) {
        self.program.take().expect("a running gateway").terminate().await;
    }
}

fn gateway_config(target: &Target, folder: &Path, allowed: &[&str]) -> Value {
    json!({
        "gateway": {"mode": "local", "port": target.port, "bind": "loopback",
            "auth": {"mode": "token", "token": target.token},
            // Every pairing step is visible, as it is between two machines.
            "nodes": {"pairing": {"autoApproveLocal": false, "sshVerify": false}, "commands": {"allow": allowed}}},
        "agents": {"defaults": {"heartbeat": {"every": "0m"}}},
        "tools": {"exec": {"notifyOnExit": false}},
        "discovery": {"mdns": {"mode": "off"}},
        "logging": {"file": folder.join("gateway.log")},
        "update": {"checkOnStart": false},
    })
}

/// How to start an MCP server that is made with the official SDK, which their program brings along.
pub fn official_mcp_server() -> Value {
    let (node, openclaw) = installed();
    let modules = openclaw
        .ancestors()
        .nth(2)
        .expect("it lies in a folder of modules")
        .to_path_buf();
    let script = crate::tree::root().join("tests/programs/mcp_server.mjs");
    json!({"command": node, "args": [script, modules]})
}

/// A port that is free now. Their gateway cannot be asked to choose one itself.
fn unused_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

/// Their Node.js and their program.
fn installed() -> (PathBuf, PathBuf) {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let modules = cache.unwrap_or_default().join("atoll-tests/node_modules");
    let (node, openclaw) = (modules.join("node/bin/node"), modules.join("openclaw/openclaw.mjs"));
    assert!(
        node.is_file() && openclaw.is_file(),
        "not in {}: scripts/test installs them",
        modules.display()
    );
    (node, openclaw)
}
