//! `atoll gateway …`: run it, ask it, stop it.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::Client;
use super::output::{self, text};
use super::{CliError, Reach};

#[derive(Debug, Subcommand)]
pub(super) enum Gateway {
    /// Be the gateway, in the foreground
    Run(Run),
    /// What it is doing
    Status,
    /// Whether it is well
    Health,
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
    /// TCP port; 0 takes a free one and writes it to gateway.port in the state folder
    #[arg(long)]
    port: Option<u16>,
    /// Where to listen: loopback, lan, tailnet, custom, auto
    #[arg(long)]
    bind: Option<String>,
    /// The shared token. Others on this machine can see it here; better: ATOLL_GATEWAY_TOKEN
    #[arg(long, hide_env_values = true)]
    token: Option<String>,
}

impl Gateway {
    pub(super) async fn run(self, reach: &Reach) -> Result<(), CliError> {
        match self {
            Self::Run(run) => run.run(reach).await,
            Self::Status => output::json(&Client::connect(reach).await?.call("status", json!({})).await?),
            Self::Health => {
                let health = Client::connect(reach).await?.call("health", json!({})).await?;
                if reach.json {
                    output::json(&health)
                } else {
                    show_health(&health)
                }
            }
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
            eprintln!("a token on the command line can be seen by others here; set ATOLL_GATEWAY_TOKEN instead");
        }
        let options = crate::Options {
            state_dir: reach.state_dir.clone(),
            port: self.port,
            bind: self.bind,
            token: self.token.map(Into::into),
        };
        crate::run(options, crate::until_signalled())
            .await
            .map_err(CliError::Local)
    }
}
