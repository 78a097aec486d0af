//! `atoll-node doctor`: what this device can do, what it cannot, and why. Connects to nothing.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Show;
use super::rules::Device;
use crate::rules::document::Rule;

pub(super) fn run(show: &Show) -> Result<ExitCode> {
    let device = Device::open(&show.folder)?;
    let mut out = io::stdout().lock();
    let strange = device.strange();
    let asks = |command: &str| {
        let rule = device.owner.rules.in_force(command, Timestamp::now());
        rule.is_ok_and(|found| found.rule == Rule::Ask)
    };
    let descriptions = device.capabilities.iter().map(|it| it.describe());
    if show.json {
        let rows: Vec<Value> = descriptions
            .map(|it| {
                let missing: Vec<Value> = it
                    .missing
                    .iter()
                    .map(|(command, why)| json!({"command": command, "why": why}))
                    .collect();
                let asks: Vec<_> = it.commands.iter().filter(|command| asks(command)).collect();
                json!({"cap": it.cap, "commands": it.commands, "asks": asks, "missing": missing})
            })
            .collect();
        writeln!(out, "{}", json!({"capabilities": rows, "strange": strange}))?;
        return Ok(ExitCode::SUCCESS);
    }
    for it in descriptions {
        for command in &it.commands {
            let word = if asks(command) { "yes, asks each time" } else { "yes" };
            writeln!(out, "{command:<26} {word}")?;
        }
        for (command, why) in &it.missing {
            writeln!(out, "{command:<26} no: {why}")?;
        }
    }
    for line in strange {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}
