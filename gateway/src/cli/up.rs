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
        if reach.url.is_some() {
            return Err(CliError::Usage(
                "`atoll up` starts a gateway on this machine; leave --url away".to_owned(),
            ));
        }
        let state = reach.state()?.root().to_owned();
        let mut started = Started::default();
        let result = self.bring_up(reach, &state, &mut started).await;
        let mut client = match result {
            Ok(client) => client,
            Err(error) => {
                started.stop().await;
                return Err(error);
            }
        };
        if self.detach {
            return output::line(
                "both keep running; talk to them with `atoll agent`, end them with `atoll gateway stop`",
            );
        }
        output::line("Type a message, or /help. Ctrl-D leaves.")?;
        let talked = prompt::talk(&mut client, MAIN).await;
        started.stop().await;
        talked
    }

    async fn bring_up(&self, reach: &Reach, state: &Path, started: &mut Started) -> Result<Client, CliError> {
        let mut client = match Client::connect(reach).await {
            Ok(client) => {
                output::line("gateway: was running already")?;
                client
            }
            Err(CliError::Unreachable(_)) => self.start_gateway(reach, state, started).await?,
            Err(error) => return Err(error),
        };
        let status = client.call("status", json!({})).await?;
        let port = status
            .get("port")
            .and_then(Value::as_u64)
            .context("the gateway tells no port")?;
        output::line(format!("gateway: ws://127.0.0.1:{port}, state in {}", state.display()))?;
        self.start_node(&mut client, state, port, started).await?;
        Ok(client)
    }

    async fn start_gateway(&self, reach: &Reach, state: &Path, started: &mut Started) -> Result<Client, CliError> {
        let log = state.join("logs").join("gateway.out");
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["gateway", "run", "--state-dir"]).arg(state);
        if let Some(port) = self.port {
            command.args(["--port", &port.to_string()]);
        }
        started.spawn(command, &log, self.detach)?;
        let until = Instant::now() + PATIENCE;
        loop {
            match Client::connect(reach).await {
                Ok(client) => return Ok(client),
                Err(CliError::Unreachable(_)) if Instant::now() < until => {}
                Err(error) => {
                    return Err(CliError::Local(anyhow!(
                        "the gateway did not start ({error}); see {}",
                        log.display()
                    )));
                }
            }
            if let Some(status) = started.ended()? {
                return Err(CliError::Local(anyhow!(
                    "the gateway ended at once ({status}): {}",
                    last_lines(&log)
                )));
            }
            tokio::time::sleep(KNOCK).await;
        }
    }

    async fn start_node(
        &self,
        client: &mut Client,
        state: &Path,
        port: u64,
        started: &mut Started,
    ) -> Result<(), CliError> {
        let program = node_program()?;
        let node_state = state.join("local-node");
        let device = device_id(&program, &node_state).await?;
        if is_connected(client, &device).await? {
            return output::line("node: was running already");
        }
        let mut command = Command::new(&program);
        command
            .args(["run", "--gateway", &format!("ws://127.0.0.1:{port}"), "--state-dir"])
            .arg(&node_state);
        if let Some(name) = &self.name {
            command.args(["--name", name]);
        }
        let log = state.join("logs").join("local-node.out");
        started.spawn(command, &log, self.detach)?;
        tokio::time::timeout(PATIENCE, admit(client, &device))
            .await
            .map_err(|_| CliError::Local(anyhow!("the local node did not come up; see {}", log.display())))?
    }
}

/// Approves the device as soon as it asks, and returns once it is linked.
async fn admit(client: &mut Client, device: &str) -> Result<(), CliError> {
    loop {
        let devices = client.call("device.pair.list", json!({})).await?;
        let pending = list(&devices, "pending")
            .iter()
            .find(|request| text(request, "deviceId") == device);
        if let Some(request) = pending {
            client
                .call("device.pair.approve", json!({"requestId": text(request, "requestId")}))
                .await?;
            output::line(format!("node: approved {}", output::short(device)))?;
        }
        if is_connected(client, device).await? {
            return output::line("node: connected");
        }
        client.event().await?;
    }
}

async fn is_connected(client: &mut Client, device: &str) -> Result<bool, CliError> {
    let nodes = client.call("node.list", json!({})).await?;
    let node = list(&nodes, "nodes").iter().find(|node| text(node, "nodeId") == device);
    Ok(node.is_some_and(|node| {
        node.get("connected").and_then(Value::as_bool).unwrap_or_default() && text(node, "approvalState") == "approved"
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
