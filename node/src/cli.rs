//! The command line of `atoll-node`: reads arguments and the environment, runs a command, tells a person how it went.

mod asks;
mod choose;
mod discover;
mod doctor;
mod log;
mod pair;
mod rules;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use atoll_capabilities::capture::{self, HELPER_ARGUMENT};
use atoll_pairing::dial::Target;
use atoll_pairing::discovery::Air;
use atoll_pairing::tls::Fingerprint;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::ask::Ways;
use crate::config::{Config, Dialect, QUIC_PAUSE, host_name};
use crate::daemon::{self, Notice, RunError};
use crate::find;
use crate::rules::document::Rule;
use crate::state::{Phase, StateDir, StateError, Status};

/// A device of your ring: serves commands to your gateway, under the rules in its own folder.
#[derive(Debug, Parser)]
#[command(
    name = "atoll-node",
    version,
    after_help = "Example:\n  ATOLL_GATEWAY_TOKEN=… atoll-node run --gateway atoll://gateway.example\n  atoll-node ask camera\n\
                  \x20 atoll-node allow camera.snap --for 1h\n\n\
                  Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 not connected (status)"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Connect to a gateway and serve it until stopped
    Run(Run),
    /// Show which gateways announce themselves in the local network
    Discover(discover::Discover),
    /// Come into a ring by the link that its owner gave you
    Pair(pair::Pair),
    /// Show who this device is
    Identity(Show),
    /// Show how the daemon is doing; exit code 3 when it is not connected
    Status(Show),
    /// Show what this device can do, what it cannot, and why
    Doctor(Show),
    /// Let commands run, now and without asking
    Allow(rules::Set),
    /// Ask on this device each time a command is called
    Ask(rules::Set),
    /// Let commands not run; calls that run are ended
    Deny(rules::Set),
    /// Take back what was said of commands, so that their family's rule or the default counts
    Unset(rules::Unset),
    /// Show which rule is in force for each command
    Rules(Show),
    /// Show which questions wait for an answer
    Asks(Show),
    /// Answer a question that waits
    Answer(asks::AnswerIt),
    /// Show which calls came to this device, why they ran or did not, and how they ended
    Log(log::Log),
    /// One job of a camera or a screen, in a process of its own
    #[command(name = HELPER_ARGUMENT, hide = true)]
    CaptureHelper,
}

#[derive(Debug, Args)]
struct Run {
    /// The gateway: atoll://host:port, or one pipe: quic://, wss://, ws:// (this machine or an SSH tunnel) [default: the one it
    /// served last, else one in the local network]
    #[arg(long, env = "ATOLL_GATEWAY")]
    gateway: Option<Target>,
    /// The gateway's token, the first time; better in the environment as ATOLL_GATEWAY_TOKEN
    #[arg(long, value_name = "TOKEN")]
    token: Option<SecretString>,
    /// What to call this device [default: the host's name]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    folder: Folder,
    /// The language: native, or openclaw for an OpenClaw gateway [default: as spoken last, else native]
    #[arg(long)]
    dialect: Option<Dialect>,
    /// SHA-256 fingerprint of the gateway's certificate (dialect openclaw over wss)
    #[arg(long, value_name = "SHA256")]
    tls_fingerprint: Option<Fingerprint>,
}

#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    folder: Folder,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Folder {
    /// Where this device keeps its key and its rules [default: ~/.atoll-node]
    #[arg(long, env = "ATOLL_NODE_STATE_DIR")]
    state_dir: Option<PathBuf>,
}

impl Folder {
    fn path(&self) -> Result<PathBuf> {
        if let Some(path) = &self.state_dir {
            return Ok(path.clone());
        }
        let home = std::env::home_dir().context("there is no home folder; name one with --state-dir")?;
        Ok(home.join(".atoll-node"))
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Run(run) => run.run(),
        Command::Pair(pair) => runtime().and_then(|runtime| runtime.block_on(pair.run())),
        Command::Discover(discover) => runtime().and_then(|runtime| runtime.block_on(discover.run())),
        Command::Identity(show) => identity(&show),
        Command::Status(show) => status(&show),
        Command::Doctor(show) => doctor::run(&show),
        Command::Allow(set) => set.run(Rule::Allow),
        Command::Ask(set) => set.run(Rule::Ask),
        Command::Deny(set) => set.run(Rule::Deny),
        Command::Unset(unset) => unset.run(),
        Command::Rules(show) => rules::list(&show),
        Command::Asks(show) => asks::list(&show),
        Command::Answer(answer) => answer.run(),
        Command::Log(log) => log.run(),
        Command::CaptureHelper => capture::helper_main()
            .map(|()| ExitCode::SUCCESS)
            .context("capture helper"),
    };
    done.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "atoll-node: {error:#}");
        ExitCode::FAILURE
    })
}

impl Run {
    fn run(self) -> Result<ExitCode> {
        log_to_stderr();
        let runtime = runtime()?;
        let done = runtime.block_on(async {
            let stop = CancellationToken::new();
            let signals = tokio::spawn(stop_on_signal(stop.clone()));
            let done = self.serve(stop).await;
            signals.abort();
            done
        });
        runtime.shutdown_timeout(std::time::Duration::from_secs(1));
        done.map(|()| ExitCode::SUCCESS)
    }

    async fn serve(self, stop: CancellationToken) -> Result<()> {
        let place = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            place = self.place() => place?,
        };
        let config = self.config(place)?;
        daemon::run(config, stop, show).await.map_err(explain)
    }

    /// Where to go, and how that was found.
    async fn place(&self) -> Result<find::Place> {
        if let Some(target) = &self.gateway {
            return Ok(find::Place {
                target: target.clone(),
                found: None,
                dialect: self.dialect.unwrap_or(Dialect::Native),
                tls_fingerprint: None,
            });
        }
        let state = StateDir::open(&self.folder.path()?)?;
        let name = self.name.clone().unwrap_or_else(host_name);
        Ok(find::find(Air::lan(), &state, &name, self.dialect, searching(), choose::choose).await?)
    }

    fn config(self, place: find::Place) -> Result<Config> {
        if self.token.is_some() {
            tracing::warn!(
                "a token among the arguments can be seen by everybody on this machine; use ATOLL_GATEWAY_TOKEN"
            );
        }
        let from_environment = || {
            ["ATOLL_GATEWAY_TOKEN", "OPENCLAW_GATEWAY_TOKEN"]
                .iter()
                .find_map(|name| std::env::var(name).ok().filter(|token| !token.is_empty()))
                .map(SecretString::from)
        };
        let state_dir = self.folder.path()?;
        Ok(Config {
            ways: Ways::here(&state_dir),
            gateway: place.target,
            found: place.found,
            dialect: place.dialect,
            token: self.token.or_else(from_environment),
            name: self.name.unwrap_or_else(host_name),
            state_dir,
            tls_fingerprint: self.tls_fingerprint.or(place.tls_fingerprint),
            quic_pause: QUIC_PAUSE,
        })
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    // One thread for everything that waits; disk work has a few more when it needs them.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_keep_alive(std::time::Duration::from_secs(1))
        .build()
        .context("no runtime")
}

/// The next step for the errors that end the daemon.
fn explain(error: RunError) -> anyhow::Error {
    let step = match &error {
        RunError::Dial(error) if error.is_retryable() => "",
        RunError::Dial(atoll_pairing::dial::DialError::Refused(_)) => {
            "give this device the gateway's token in ATOLL_GATEWAY_TOKEN, or a setup code"
        }
        RunError::Dial(_) | RunError::State(_) | RunError::OtherKey { .. } => "",
    };
    match step {
        "" => error.into(),
        step => anyhow::anyhow!("{error}\nNext: {step}"),
    }
}

fn log_to_stderr() {
    let given = std::env::var("ATOLL_LOG").ok();
    let filter = given
        .and_then(|words| words.parse().ok())
        .unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let _ = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init();
}

#[cfg(unix)]
async fn stop_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
}

#[cfg(not(unix))]
async fn stop_on_signal(stop: CancellationToken) {
    if tokio::signal::ctrl_c().await.is_ok() {
        stop.cancel();
    }
}

/// Tells a person how the search goes; that nobody answers, once.
fn searching() -> impl FnMut(find::Search) {
    let mut told = false;
    move |search| {
        let text = match search {
            find::Search::Nobody if std::mem::replace(&mut told, true) => return,
            find::Search::Nobody => {
                "No gateway announces itself here yet; looking on. One that is elsewhere is named with --gateway"
                    .to_owned()
            }
            find::Search::Last(target, others) => format!(
                "Going to {target}, the gateway used last; {others} more let this device in before. Another one is named with --gateway"
            ),
            find::Search::Found(one) => format!("Found {} at {}, key {}", one.name, one.target, one.id.short()),
        };
        let _ = writeln!(io::stdout(), "{text}");
    }
}

/// Tells a person. Output that nobody takes is no reason to stop.
fn show(notice: Notice) {
    let text = match notice {
        Notice::Started { device, identity } => format!("This device is {device}\nIts key is in {identity}"),
        Notice::Waiting {
            request,
            digits,
            is_held,
        } => {
            let after = if is_held {
                "It continues here by itself"
            } else {
                "It is tried again until then"
            };
            let compare = digits.map(|digits| {
                let digits = digits.spaced();
                format!("\nThe gateway must show these digits too, else somebody is in between: {digits}")
            });
            let compare = compare.unwrap_or_default();
            format!("Waiting to be approved. On the gateway run:\n  atoll devices approve {request}{compare}\n{after}.")
        }
        Notice::Connected {
            gateway,
            pipe,
            commands,
        } => {
            let gateway = gateway.map(|id| format!(" to gateway {id}")).unwrap_or_default();
            format!("Connected{gateway} over {pipe}, serving {}", listed(&commands))
        }
        Notice::Granted { commands } => format!("Now serving {}", listed(&commands)),
        Notice::Retrying { why, wait } => format!("Not connected: {why}. Next try in {:.1} s", wait.as_secs_f64()),
        Notice::WrongGateway { why, pins } => format!(
            "WARNING: {why}.\nNothing secret was sent. If you set the gateway up anew, remove its entry from {pins} and pair again"
        ),
    };
    let _ = writeln!(io::stdout(), "{text}");
}

fn listed(commands: &[String]) -> String {
    if commands.is_empty() {
        "nothing yet (the gateway's owner has to approve its commands)".to_owned()
    } else {
        commands.join(", ")
    }
}

fn identity(show: &Show) -> Result<ExitCode> {
    let state = StateDir::open(&show.folder.path()?)?;
    let identity = state.identity()?;
    // As gateways list it.
    let public_key = URL_SAFE_NO_PAD.encode(identity.public_key());
    let mut out = io::stdout();
    if show.json {
        let value = json!({ "deviceId": identity.device_id(), "publicKey": public_key });
        writeln!(out, "{value}")?;
    } else {
        writeln!(out, "device      {}", identity.device_id())?;
        writeln!(out, "public key  {public_key}")?;
        writeln!(out, "kept in     {}", state.identity_path().display())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn status(show: &Show) -> Result<ExitCode> {
    let state = StateDir::open(&show.folder.path()?)?;
    let is_running = match state.lock() {
        Ok(_) => false,
        Err(StateError::InUse { .. }) => true,
        Err(error) => return Err(error.into()),
    };
    let status = state.status()?;
    let is_connected = is_running && status.as_ref().is_some_and(|status| status.phase == Phase::Connected);
    let mut out = io::stdout();
    if show.json {
        let value = json!({ "running": is_running, "connected": is_connected, "status": status });
        writeln!(out, "{value}")?;
    } else {
        writeln!(out, "{}", describe(is_running, status.as_ref()))?;
    }
    Ok(if is_connected {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(3)
    })
}

fn describe(is_running: bool, status: Option<&Status>) -> String {
    let Some(status) = status else {
        return "It has never run here. Start it: atoll-node run".to_owned();
    };
    let phase = match (is_running, status.phase) {
        (false, Phase::Failed) => "not running; it gave up",
        (false, _) => "not running",
        (true, Phase::Connecting) => "running, not connected",
        (true, Phase::Waiting) => "running, waits to be approved",
        (true, Phase::Connected) => "connected",
        (true, Phase::Stopped | Phase::Failed) => "ending",
    };
    let paired = if status.paired { "yes" } else { "no" };
    let mut lines = vec![
        format!("state    {phase}"),
        format!("gateway  {} ({})", status.gateway, status.dialect),
        format!(
            "pipe     {}",
            status.pipe.map_or("none".to_owned(), |pipe| pipe.to_string())
        ),
        format!("paired   {paired}"),
        format!("device   {}", status.device_id),
        format!("calls    {}", status.calls),
    ];
    if let Some(request) = &status.request_id {
        lines.push(format!("approve  atoll devices approve {request}"));
    }
    if let Some(digits) = &status.digits {
        lines.push(format!("digits   {digits}"));
    }
    if let Some(error) = &status.last_error {
        lines.push(format!("error    {error}"));
    }
    lines.join("\n")
}
