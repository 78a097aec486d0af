//! `atoll gateway …`: run it, ask it, find others, stop it.

mod discover;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Client;
use super::output::{self, text};
use super::{CliError, Reach};
use crate::clock;

#[derive(Debug, Subcommand)]
pub(super) enum Gateway {
    /// Be the gateway, in the foreground
    Run(Run),
    /// What it is doing
    Status,
    /// Whether it is well
    Health,
    /// Who announces itself in the local network: gateways, and nodes that wait for one
    Discover(discover::Discover),
    /// Call any method
    #[command(after_help = "Example: atoll gateway call node.describe --params '{\"nodeId\":\"4cac…\"}'")]
    Call {
        /// The method
        method: String,
        /// Its parameters, JSON
        #[arg(long, default_value = "{}")]
        params: String,
        /// Wait for the end of what is only accepted at first, e.g. of `agent`
        #[arg(long)]
        expect_final: bool,
    },
    /// End it, letting go of every link in order
    Stop,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll gateway run --bind lan   (needs ATOLL_GATEWAY_TOKEN, 32 characters or more)")]
pub(super) struct Run {
    /// TCP port; 0 takes a free one (see gateway.port in the state folder)
    #[arg(long)]
    port: Option<u16>,
    /// Where to listen: loopback, lan, tailnet, custom, auto
    #[arg(long)]
    bind: Option<String>,
    /// The shared token; others here can see it, so better: ATOLL_GATEWAY_TOKEN
    #[arg(long, hide_env_values = true)]
    token: Option<String>,
}

impl Gateway {
    pub(super) async fn run(self, reach: &Reach) -> Result<(), CliError> {
        match self {
            Self::Run(run) => run.run(reach).await,
            Self::Status => {
                let status = Client::connect(reach).await?.call("status", json!({})).await?;
                if reach.json {
                    output::json(&status)
                } else {
                    output::line(told(&status, clock::now_ms()))
                }
            }
            Self::Health => {
                let health = Client::connect(reach).await?.call("health", json!({})).await?;
                if reach.json {
                    output::json(&health)
                } else {
                    show_health(&health)
                }
            }
            Self::Discover(discover) => discover.run(reach).await,
            Self::Call {
                method,
                params,
                expect_final,
            } => {
                let params = output::params(&params)?;
                let mut client = Client::connect(reach).await?;
                let reply = if expect_final {
                    client.call_to_the_end(&method, params).await?
                } else {
                    client.call(&method, params).await?
                };
                output::json(&reply)
            }
            Self::Stop => stop(reach).await,
        }
    }
}

/// The status in a few lines.
fn told(status: &Value, now: u64) -> String {
    let number = |field: &str| status.get(field).and_then(Value::as_u64).unwrap_or_default();
    let memory = status
        .pointer("/processMemory/rssBytes")
        .and_then(Value::as_u64)
        .unwrap_or_default();
    let lanes = output::list(status, "lanes");
    let running = lanes.iter().filter(|lane| !text(lane, "running").is_empty());
    let mut lines = vec![
        format!(
            "atoll {}, process {}, up {}, {} MB",
            text(status, "runtimeVersion"),
            number("pid"),
            output::ago(Some(now.saturating_sub(number("uptimeMs"))), now),
            memory / (1024 * 1024),
        ),
        format!("port {}, state in {}", number("port"), text(status, "stateDir")),
        format!("key {}", text(status, "deviceId")),
        format!("certificate {}", text(status, "tlsSha256")),
        format!(
            "nodes connected: {}, calls: {}, turns running: {}, messages to deliver: {}",
            number("nodesConnected"),
            number("callsInFlight"),
            running.count(),
            number("outboxWaiting"),
        ),
    ];
    let unstored = number("outcomesUnstored");
    if unstored > 0 {
        lines.push(format!(
            "{unstored} outcomes cannot be stored, so their chats wait: check the disk, and `atoll logs`"
        ));
    }
    let problems = output::list(status, "configProblems").iter().filter_map(Value::as_str);
    lines.extend(
        problems.map(|problem| format!("atoll.json is wrong, and an earlier version of it is in force: {problem}")),
    );
    lines.join("\n")
}

fn show_health(health: &Value) -> Result<(), CliError> {
    let is_ok = health.get("ok").and_then(Value::as_bool).unwrap_or_default();
    if is_ok {
        return output::line("ok");
    }
    Err(CliError::Failed {
        message: format!("not well: {}", text(health, "reason")),
        code: 1,
    })
}

async fn stop(reach: &Reach) -> Result<(), CliError> {
    let mut client = Client::connect(reach).await?;
    let status = client.call("status", json!({})).await?;
    let pid = status
        .get("pid")
        .and_then(Value::as_i64)
        .and_then(|pid| i32::try_from(pid).ok());
    let pid = pid
        .and_then(rustix::process::Pid::from_raw)
        .filter(|_| client.is_local());
    let Some(pid) = pid else {
        return Err(CliError::Usage(
            "a gateway on another machine is stopped there".to_owned(),
        ));
    };
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).map_err(CliError::local)?;
    while client.event().await.is_ok() {}
    output::line("stopped")
}

impl Run {
    async fn run(self, reach: &Reach) -> Result<(), CliError> {
        if self.token.is_some() {
            output::aside("a token on the command line can be seen by others here; set ATOLL_GATEWAY_TOKEN instead\n");
        }
        let options = crate::Options {
            state_dir: reach.state_dir.clone(),
            port: self.port,
            bind: self.bind,
            token: self.token.map(Into::into),
        };
        crate::run(options, crate::until_signalled())
            .await
            .map_err(|error| CliError::Local(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_told_in_lines_that_fit() {
        let status = json!({
            "runtimeVersion": "0.1.0", "uptimeMs": 125_000, "pid": 7, "port": 18789, "stateDir": "/home/a/.atoll", "deviceId": "c".repeat(64),
            "nodesConnected": 2, "callsInFlight": 1, "outboxWaiting": 3, "tlsSha256": format!("sha256:{}", "a".repeat(64)),
            "lanes": [{"running": "a"}, {"running": null}, {"running": "b"}], "processMemory": {"rssBytes": 12_582_912},
        });
        let lines = told(&status, 1_000_000_000);
        assert!(
            lines.starts_with("atoll 0.1.0, process 7, up 2m, 12 MB\nport 18789, state in /home/a/.atoll\n"),
            "{lines}"
        );
        assert!(
            lines.ends_with("nodes connected: 2, calls: 1, turns running: 2, messages to deliver: 3"),
            "{lines}"
        );
        assert!(lines.lines().all(|line| line.chars().count() <= 84), "{lines}");
    }
}
