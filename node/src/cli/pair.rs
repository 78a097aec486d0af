//! `atoll-node pair`: reads the invitation, or fetches it where a join link leads.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use atoll_pairing::invitation::{ForeignInvitation, Invitation, is_join_link};
use clap::Args;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Folder, listed};
use crate::config::{Dialect, host_name};
use crate::pair::{Paired, pair};

/// How long a join link may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of the longest answer of a join link.
const ANSWER: u64 = 16 * 1024;

#[derive(Debug, Args)]
#[command(after_help = "Example: atoll-node pair 'atoll://pair?key=…'")]
pub(super) struct Pair {
    /// The link that `atoll devices invite` printed; or an OpenClaw setup code or join link
    #[arg(env = "ATOLL_SETUP_CODE", hide_env_values = true)]
    invitation: String,
    /// What to call this device [default: the host's name]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    folder: Folder,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Pair {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let invitation = read(&self.invitation).await?;
        let name = self.name.unwrap_or_else(host_name);
        let paired = pair(self.folder.path()?, &name, &invitation).await?;
        let mut out = io::stdout();
        if self.json {
            let value = json!({
                "address": paired.address.to_string(), "dialect": paired.dialect.as_str(), "gateway": paired.gateway,
                "commands": paired.commands,
            });
            writeln!(out, "{value}")?;
        } else {
            writeln!(out, "{}", told(&paired))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn told(paired: &Paired) -> String {
    let whom = match &paired.gateway {
        Some(id) => format!("gateway {id} at {}", paired.address),
        None => format!("the gateway at {}", paired.address),
    };
    let mut start = format!("atoll-node run --gateway {}", paired.address);
    if paired.dialect == Dialect::Openclaw {
        start.push_str(" --dialect openclaw");
    }
    if let Some(certificate) = paired.certificate {
        start.push_str(&format!(" --tls-fingerprint {certificate}"));
    }
    format!(
        "Paired with {whom}, may serve {}\nNow run:\n  {start}",
        listed(&paired.commands)
    )
}

async fn read(text: &str) -> Result<Invitation> {
    if !is_join_link(text) {
        return Ok(text.parse()?);
    }
    let answer = tokio::time::timeout(PATIENCE, fetch(text.trim())).await;
    let body = answer.context("the join link took too long to answer")??;
    Ok(Invitation::Foreign(ForeignInvitation::read(&body)?))
}

/// One plain request. What it brings is a secret, so that it goes to this machine only, as with an SSH tunnel.
async fn fetch(link: &str) -> Result<Vec<u8>> {
    let rest = link.strip_prefix("http://").context(
        "a join link over https:// is not followed here, since nothing says whose certificate to expect; \
         open it in a browser and hand the setup code in it to this command",
    )?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let is_here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    ensure!(is_here, "a join link over http:// is followed on this machine only");
    let mut stream = TcpStream::connect(authority)
        .await
        .context("the join link leads nowhere")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer).await?;
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(split) = split.filter(|_| answer.starts_with(b"HTTP/1.1 200")) else {
        bail!("the join link answers nothing any more: it works once, and for ten minutes");
    };
    Ok(answer.split_off(split + 4))
}
