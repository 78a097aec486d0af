//! `atoll up`: gateway and local node started, paired and ready to be talked to.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::client::Client;
use super::conversation::MAIN;
use super::output::{self, list, text};
use super::prompt;
use super::{CliError, Reach};

/// Gateway and node must each be there by then.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often to knock until the gateway's socket is there.
const KNOCK: Duration = Duration::from_millis(25);

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll up
         > /run <node> -- uname -a")]
pub(super) struct Up {
    /// TCP port of the gateway; 0 takes a free one
    #[arg(long)]
    port: Option<u16>,
    /// Name of the local node (default: the machine's)
    #[arg(long)]
    name: Option<String>,
    /// Leave gateway and node running, and give no prompt
    #[arg(long)]
    detach: bool,
}

/// What was started here, and ends here.
#[derive(Default)]
struct Started(Vec<Child>);

impl Up {
    pub(super) async fn run(self, reach: &Reach) -> Result<(), CliError> {
        let usage = |message: &str| Err(CliError::Usage(message.to_owned()));
        if reach.url.is_some() {
            return usage("`atoll up` starts a gateway on this machine; leave --url away");
        }
        if reach.json && !self.detach {
            return usage("the prompt speaks in words; give --json together with --detach");
        }
        let state = reach.state()?.root().to_owned();
        let mut rise = Rise {
            up: &self,
            reach,
            state,
            started: Started::default(),
        };
        let (mut client, ring) = match rise.all().await {
            Ok(risen) => risen,
            Err(error) => {
                rise.started.stop().await;
                return Err(error);
            }
        };
        if reach.json {
            return output::json(&ring.json());
        }
        if self.detach {
            let node = ring
                .node_pid
                .map(|pid| format!(", the node with `kill {pid}`"))
                .unwrap_or_default();
            return output::line(format!(
                "both keep running; talk with `atoll agent`\nend the gateway with `atoll gateway stop`{node}"
            ));
        }
        output::line(format!(
            "Type a message, /help, or: /run {} -- uname -a    Ctrl-D leaves.",
            ring.node_name
        ))?;
        let talked = prompt::talk(&mut client, MAIN).await;
        rise.started.stop().await;
        talked
    }
}

/// What runs in the end.
struct Ring {
    port: u64,
    state: PathBuf,
    node: String,
    node_name: String,
    /// Its process, where it was started here.
    node_pid: Option<u32>,
}

impl Ring {
    fn json(&self) -> Value {
        json!({
            "ok": true, "url": format!("ws://127.0.0.1:{}", self.port), "port": self.port, "stateDir": self.state,
            "node": {"nodeId": self.node, "displayName": self.node_name, "pid": self.node_pid},
        })
    }
}

/// The way there.
struct Rise<'a> {
    up: &'a Up,
    reach: &'a Reach,
    state: PathBuf,
    started: Started,
}

impl Rise<'_> {
    async fn all(&mut self) -> Result<(Client, Ring), CliError> {
        let mut client = match Client::connect(self.reach).await {
            Ok(client) => {
                self.tell("gateway: was running already")?;
                client
            }
            Err(CliError::Unreachable(_)) => self.start_gateway().await?,
            Err(error) => return Err(error),
        };
        let status = client.call("status", json!({})).await?;
        let port = status
            .get("port")
            .and_then(Value::as_u64)
            .context("the gateway tells no port")?;
        self.tell(&format!(
            "gateway: ws://127.0.0.1:{port}, state in {}",
            self.state.display()
        ))?;
        let before = self.started.0.len();
        let (node, node_name) = self.start_node(&mut client, port).await?;
        let node_pid = self.started.0.get(before).and_then(Child::id);
        Ok((
            client,
            Ring {
                port,
                state: self.state.clone(),
                node,
                node_name,
                node_pid,
            },
        ))
    }

    /// Says what was done; beside JSON it goes to standard error.
    fn tell(&self, text: &str) -> Result<(), CliError> {
        if self.reach.json {
            output::aside(format_args!("{text}\n"));
            return Ok(());
        }
        output::line(text)
    }

    async fn start_gateway(&mut self) -> Result<Client, CliError> {
        let log = self.state.join("logs").join("gateway.out");
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["gateway", "run", "--state-dir"]).arg(&self.state);
        if let Some(port) = self.up.port {
            command.args(["--port", &port.to_string()]);
        }
        self.started.spawn(command, &log, self.up.detach)?;
        let until = Instant::now() + PATIENCE;
        loop {
            match Client::connect(self.reach).await {
                Ok(client) => return Ok(client),
                Err(CliError::Unreachable(_)) if Instant::now() < until => {}
                Err(error) => {
                    let log = log.display();
                    return Err(CliError::Local(anyhow!(
                        "the gateway did not start ({error}); see {log}"
                    )));
                }
            }
            if let Some(status) = self.started.ended()? {
                let lines = last_lines(&log);
                return Err(CliError::Local(anyhow!(
                    "the gateway ended at once ({status}):\n{lines}"
                )));
            }
            tokio::time::sleep(KNOCK).await;
        }
    }

    /// The local node's id and name, once it is linked.
    async fn start_node(&mut self, client: &mut Client, port: u64) -> Result<(String, String), CliError> {
        let program = node_program()?;
        let node_state = self.state.join("local-node");
        let device = device_id(&program, &node_state).await?;
        if let Some(name) = connected_name(client, &device).await? {
            self.tell(&format!("node: {name} was running already"))?;
            return Ok((device, name));
        }
        let mut command = Command::new(&program);
        command
            .args(["run", "--gateway", &format!("ws://127.0.0.1:{port}"), "--state-dir"])
            .arg(&node_state);
        if let Some(name) = &self.up.name {
            command.args(["--name", name]);
        }
        let log = self.state.join("logs").join("local-node.out");
        self.started.spawn(command, &log, self.up.detach)?;
        let admitted = tokio::time::timeout(PATIENCE, self.admit(client, &device)).await;
        let name = admitted.map_err(|_| {
            CliError::Local(anyhow!(
                "the local node did not come up; its last words:\n{}",
                last_lines(&log)
            ))
        })??;
        self.tell(&format!("node: {name} is connected"))?;
        Ok((device, name))
    }

    /// Approves the device as soon as it asks, and returns its name once it is linked.
    async fn admit(&self, client: &mut Client, device: &str) -> Result<String, CliError> {
        loop {
            let devices = client.call("device.pair.list", json!({})).await?;
            let pending = list(&devices, "pending")
                .iter()
                .find(|request| text(request, "deviceId") == device);
            if let Some(request) = pending {
                let approve = json!({"requestId": text(request, "requestId")});
                client.call("device.pair.approve", approve).await?;
                self.tell(&format!("node: approved {}", output::short(device)))?;
            }
            if let Some(name) = connected_name(client, device).await? {
                return Ok(name);
            }
            client.event().await?;
        }
    }
}

/// The name of a node that is linked and approved.
async fn connected_name(client: &mut Client, device: &str) -> Result<Option<String>, CliError> {
    let nodes = client.call("node.list", json!({})).await?;
    let is_meant = |node: &&Value| {
        let connected = node.get("connected").and_then(Value::as_bool).unwrap_or_default();
        text(node, "nodeId") == device && connected && text(node, "approvalState") == "approved"
    };
    Ok(list(&nodes, "nodes")
        .iter()
        .find(is_meant)
        .map(|node| match text(node, "displayName") {
            "" => output::short(device),
            name => name.to_owned(),
        }))
}

async fn device_id(program: &Path, state: &Path) -> Result<String, CliError> {
    let output = Command::new(program)
        .args(["identity", "--json", "--state-dir"])
        .arg(state)
        .output()
        .await?;
    if !output.status.success() {
        return Err(CliError::Local(anyhow!(
            "{}",
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    let identity: Value = serde_json::from_slice(&output.stdout).context("atoll-node told no identity")?;
    Ok(text(&identity, "deviceId").to_owned())
}

/// The node's program lies beside this one.
fn node_program() -> Result<PathBuf, CliError> {
    let beside = std::env::current_exe()?.with_file_name(format!("atoll-node{}", std::env::consts::EXE_SUFFIX));
    if beside.exists() {
        return Ok(beside);
    }
    Err(CliError::Local(anyhow!(
        "{} is missing; build or install it beside atoll",
        beside.display()
    )))
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

impl Started {
    fn spawn(&mut self, mut command: Command, log: &Path, detach: bool) -> Result<(), CliError> {
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let log = std::fs::File::create(log)?;
        // A group of its own: Ctrl-C at the prompt stops a turn, not the gateway.
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(!detach);
        self.0.push(command.spawn()?);
        Ok(())
    }

    /// The first one that has ended.
    fn ended(&mut self) -> Result<Option<std::process::ExitStatus>, CliError> {
        for child in &mut self.0 {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
        }
        Ok(None)
    }

    /// Asks each to end, the node first, and waits.
    async fn stop(&mut self) {
        for child in self.0.iter_mut().rev() {
            let pid = child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            if tokio::time::timeout(Duration::from_secs(10), child.wait())
                .await
                .is_err()
            {
                let _ = child.kill().await;
            }
        }
    }
}
