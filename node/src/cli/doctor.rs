//! `atoll-node doctor`: what this device can do, what it cannot, and why. Connects to nothing.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use super::Show;
use crate::consent::Consent;
use crate::daemon::capabilities;
use crate::state::StateDir;

pub(super) fn run(show: &Show) -> Result<ExitCode> {
    let state = StateDir::open(&show.folder.path()?)?;
    let consent = Arc::new(Consent::new(state.identity()?.device_id()));
    let mut out = io::stdout().lock();
    let descriptions = capabilities(&state, &consent, "").into_iter().map(|it| it.describe());
    if show.json {
        let rows: Vec<Value> = descriptions
            .map(|it| {
                let missing: Vec<Value> = it
                    .missing
                    .iter()
                    .map(|(command, why)| json!({"command": command, "why": why}))
                    .collect();
                json!({"cap": it.cap, "commands": it.commands, "missing": missing})
            })
            .collect();
        writeln!(out, "{}", json!({"capabilities": rows}))?;
        return Ok(ExitCode::SUCCESS);
    }
    for it in descriptions {
        for command in &it.commands {
            writeln!(out, "{command:<26} yes")?;
        }
        for (command, why) in &it.missing {
            writeln!(out, "{command:<26} no: {why}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
