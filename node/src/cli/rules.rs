//! `atoll-node allow|ask|deny|unset|rules`: what this device's owner says of commands, in `node.json`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use atoll_capabilities::Capabilities;
use atoll_capabilities::mcp::Mcp;
use clap::Args;
use jiff::{SignedDuration, Timestamp, Unit};
use serde_json::{Value, json};

use super::{Folder, Show};
use crate::ask::Ways;
use crate::consent::Consent;
use crate::daemon::capabilities;
use crate::guard::Owner;
use crate::rules::document::{InForce, Rule, covers};
use crate::rules::edit::{Change, check_names, edit, is_known, nearest};
use crate::state::StateDir;

/// Longest time of a rule: what lasts longer is a rule for ever that somebody forgets.
const LONGEST: SignedDuration = SignedDuration::from_hours(366 * 24);

#[derive(Debug, Args)]
pub(super) struct Set {
    /// Commands or families of such, e.g. camera.snap or camera
    #[arg(required = true, value_name = "COMMAND")]
    commands: Vec<String>,
    /// For this long, e.g. 30m or 2h; then the rule before is in force again
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    limited: Option<SignedDuration>,
    #[command(flatten)]
    folder: Folder,
}

#[derive(Debug, Args)]
pub(super) struct Unset {
    /// Commands or families of such, as `atoll-node rules` shows them
    #[arg(required = true, value_name = "COMMAND")]
    commands: Vec<String>,
    #[command(flatten)]
    folder: Folder,
}

fn time(text: &str) -> Result<SignedDuration, String> {
    let time: SignedDuration = text
        .parse()
        .map_err(|_| "a time looks like 30m, 2h or 1h30m".to_owned())?;
    if time < SignedDuration::from_secs(1) || time > LONGEST {
        return Err("from one second to a year".to_owned());
    }
    Ok(time)
}

/// What this device can do under its owner's rules.
pub(super) struct Device {
    pub(super) owner: Arc<Owner>,
    pub(super) capabilities: Capabilities,
    mcp: Arc<Mcp>,
}

impl Device {
    pub(super) fn open(folder: &Folder) -> Result<Self> {
        let state = StateDir::open(&folder.path()?)?;
        let consent = Arc::new(Consent::new(state.identity()?.device_id()));
        let owner = Arc::new(Owner::new(state.path(), consent.clone(), Ways::default()));
        let mcp = Arc::new(Mcp::new(state.path()));
        let capabilities = capabilities(&state, &consent, &owner, "", Arc::clone(&mcp));
        Ok(Self {
            owner,
            capabilities,
            mcp,
        })
    }

    /// Every command of it, those that cannot work included, and the rules' names for its MCP servers.
    fn known(&self) -> Vec<String> {
        let described = self.capabilities.iter().map(|it| it.describe());
        let names = described.flat_map(|it| {
            let missing = it.missing.into_iter().map(|(command, _)| command.to_string());
            it.commands
                .into_iter()
                .map(|command| command.to_string())
                .chain(missing)
                .collect::<Vec<_>>()
        });
        let servers = self.mcp.servers().into_iter().map(|server| format!("mcp.{server}"));
        let mut names: Vec<String> = names.chain(servers).collect();
        names.sort();
        names.dedup();
        names
    }

    /// What the owner's file names that is no command here, a line for each.
    pub(super) fn strange(&self) -> Vec<String> {
        let known = self.known();
        let named = self.owner.rules.names().into_iter();
        let strange = named.filter(|name| !is_known(name, &known));
        strange
            .map(|name| {
                let meant = nearest(&name, &known).map(|nearest| format!("; is {nearest} meant?"));
                let path = self.owner.rules.path().display();
                format!(
                    "{path} names {name}, which is not a command of this device{}",
                    meant.unwrap_or_default()
                )
            })
            .collect()
    }

    fn change(&self, commands: &[String], change: Change) -> Result<ExitCode> {
        let path = self.owner.rules.path().to_owned();
        edit(path.clone(), commands, change, Timestamp::now())?;
        let mut out = io::stdout();
        let known = self.known();
        for name in commands {
            let affected = known
                .iter()
                .filter(|command| covers(crate::rules::document::plain(name), command));
            for command in affected {
                let found = self.owner.rules.in_force(command, Timestamp::now());
                let found = found.map_err(anyhow::Error::msg)?;
                writeln!(out, "{command:<26} {}", described(&found))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Set {
    pub(super) fn run(&self, rule: Rule) -> Result<ExitCode> {
        let device = Device::open(&self.folder)?;
        check_names(&self.commands, &device.known())?;
        let change = match self.limited {
            None => Change::Always(rule),
            Some(time) => {
                let until = Timestamp::now().checked_add(time).context("that is too far away")?;
                Change::Until(rule, until.round(Unit::Second).context("that is too far away")?)
            }
        };
        device.change(&self.commands, change)
    }
}

impl Unset {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let device = Device::open(&self.folder)?;
        let written = device.owner.rules.ruled();
        let is_written = |name: &String| written.iter().any(|one| one == crate::rules::document::plain(name));
        if let Some(name) = self.commands.iter().find(|name| !is_written(name)) {
            let path = device.owner.rules.path().display();
            bail!("{path} has no rule for {name}; `atoll-node rules` lists those that it has");
        }
        device.change(&self.commands, Change::Unset)
    }
}

/// `atoll-node rules`: what is in force for each command.
pub(super) fn list(show: &Show) -> Result<ExitCode> {
    let device = Device::open(&show.folder)?;
    let now = Timestamp::now();
    let mut rows = Vec::new();
    for command in device.known() {
        let found = device.owner.rules.in_force(&command, now).map_err(anyhow::Error::msg)?;
        rows.push((command, found));
    }
    let mut out = io::stdout().lock();
    if show.json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(command, found)| {
                json!({"command": command, "rule": found.rule.as_str(), "from": found.from,
                    "until": found.until.map(|until| until.to_string())})
            })
            .collect();
        writeln!(out, "{}", json!({"rules": rows, "strange": device.strange()}))?;
        return Ok(ExitCode::SUCCESS);
    }
    for (command, found) in &rows {
        writeln!(out, "{command:<26} {}", described(found))?;
    }
    for line in device.strange() {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn described(found: &InForce) -> String {
    let until = found.until.map(|until| {
        let local = until.to_zoned(jiff::tz::TimeZone::system());
        format!(" until {}", local.strftime("%Y-%m-%d %H:%M:%S"))
    });
    let from = found
        .from
        .as_deref()
        .map_or("default".to_owned(), |name| format!("rule {name}"));
    format!("{:<5} ({from}{})", found.rule.as_str(), until.unwrap_or_default())
}
