//! `atoll-node asks` and `atoll-node answer`: the questions that wait on this device.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::{Folder, Show};
use crate::ask::board::Board;
use crate::state::{StateDir, unix_ms};

#[derive(Debug, Args)]
pub(super) struct AnswerIt {
    /// The question, as `atoll-node asks` shows it
    #[arg(value_name = "ID")]
    id: String,
    /// Whether the call may run
    answer: YesNo,
    #[command(flatten)]
    folder: Folder,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum YesNo {
    Yes,
    No,
}

/// The questions, and whether there is a daemon that waits for answers.
fn open(folder: &Folder) -> Result<(Board, bool)> {
    let state = StateDir::open(&folder.path()?)?;
    Ok((Board::new(state.path()), state.is_in_use()))
}

pub(super) fn list(show: &Show) -> Result<ExitCode> {
    let (board, is_running) = open(&show.folder)?;
    let waiting = if is_running { board.waiting() } else { Vec::new() };
    let mut out = io::stdout().lock();
    if show.json {
        writeln!(out, "{}", json!({"asks": waiting, "running": is_running}))?;
        return Ok(ExitCode::SUCCESS);
    }
    if waiting.is_empty() {
        let why = if is_running {
            ""
        } else {
            "; atoll-node does not run here"
        };
        writeln!(out, "No question waits{why}.")?;
    }
    for one in waiting {
        let left = one.expires_at_ms.saturating_sub(unix_ms()) / 1000;
        let about = if one.about.is_empty() {
            String::new()
        } else {
            format!(" ({})", one.about)
        };
        writeln!(
            out,
            "{}  {left:>2} s  {} wants {}{about}",
            one.id, one.gateway, one.command
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

impl AnswerIt {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let (board, is_running) = open(&self.folder)?;
        if !is_running {
            bail!("atoll-node does not run here, so no question waits");
        }
        let yes = matches!(self.answer, YesNo::Yes);
        let answered = board.answer(&self.id, yes)?;
        let word = if yes { "allowed" } else { "denied" };
        writeln!(io::stdout(), "{} {word}", answered.command)?;
        Ok(ExitCode::SUCCESS)
    }
}
