//! `atoll-node log`: what this device wrote down of the calls that came to it.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Folder;
use crate::ledger::{Ledger, Record};
use crate::state::StateDir;

/// How often a file that is followed is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Columns of a terminal.
const WIDTH: usize = 80;

#[derive(Debug, Args)]
pub(super) struct Log {
    /// Go on with what comes, until stopped
    #[arg(long, short)]
    follow: bool,
    /// How many of the last calls to begin with
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
    /// Print JSON, a line for each call
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    folder: Folder,
}

impl Log {
    pub(super) fn run(&self) -> Result<ExitCode> {
        let state = StateDir::open(&self.folder.path()?)?;
        let ledger = Ledger::new(state.path());
        let mut out = io::stdout();
        if !self.json {
            writeln!(out, "{}", row(["TIME", "COMMAND", "END", "MS", "WHY"]))?;
        }
        let mut tail = Tail::open(ledger.path());
        let before = if tail.lines.len() < self.limit {
            whole(&ledger.before())
        } else {
            Vec::new()
        };
        let lines: Vec<String> = before.into_iter().chain(std::mem::take(&mut tail.lines)).collect();
        for line in lines.iter().skip(lines.len().saturating_sub(self.limit)) {
            self.show(&mut out, line)?;
        }
        if !self.follow {
            return Ok(ExitCode::SUCCESS);
        }
        loop {
            std::thread::sleep(LOOK);
            for line in tail.more(ledger.path()) {
                self.show(&mut out, &line)?;
            }
        }
    }

    fn show(&self, out: &mut impl Write, line: &str) -> io::Result<()> {
        if self.json {
            return writeln!(out, "{line}");
        }
        // A line that was torn by a loss of power is none.
        match serde_json::from_str::<Record>(line) {
            Ok(record) => writeln!(out, "{}", shown(&record)),
            Err(_) => Ok(()),
        }
    }
}

fn shown(record: &Record) -> String {
    let at = record
        .at
        .parse::<Timestamp>()
        .unwrap_or_default()
        .to_zoned(TimeZone::system());
    let why = match &record.code {
        Some(code) if record.end == "failed" => format!("{code}; {}", record.because),
        Some(_) | None => record.because.clone(),
    };
    let ms = record.duration_ms.to_string();
    row([
        &at.strftime("%m-%d %H:%M:%S").to_string(),
        &record.command,
        &record.end,
        &ms,
        &why,
    ])
}

/// A row of the table, no wider than a terminal.
fn row([time, command, end, ms, why]: [&str; 5]) -> String {
    let row = format!("{time:<14}  {:<20}  {end:<9}  {ms:>7}  {why}", cut(command, 20));
    cut(row.trim_end(), WIDTH)
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn whole(path: &Path) -> Vec<String> {
    Tail::open(path).lines
}

/// A file that grows, and is now and then begun anew under the same name.
struct Tail {
    file: Option<File>,
    /// Whole lines that nobody has taken.
    lines: Vec<String>,
    /// The beginning of the next.
    rest: Vec<u8>,
}

impl Tail {
    fn open(path: &Path) -> Self {
        let mut tail = Self {
            file: File::open(path).ok(),
            lines: Vec::new(),
            rest: Vec::new(),
        };
        tail.read();
        tail
    }

    /// What has come since.
    fn more(&mut self, path: &Path) -> Vec<String> {
        self.read();
        // What was begun anew is shorter than what was read; the old one has been read to its end.
        let length = std::fs::metadata(path).map_or(0, |data| data.len());
        let read = self.file.as_mut().and_then(|file| file.stream_position().ok());
        if read.is_none_or(|read| length < read) {
            self.file = File::open(path).ok();
            self.rest.clear();
            self.read();
        }
        std::mem::take(&mut self.lines)
    }

    fn read(&mut self) {
        let Some(file) = &mut self.file else { return };
        // What cannot be read now is read next time.
        let _ = file.read_to_end(&mut self.rest);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            self.lines.push(String::from_utf8_lossy(&line[..end]).into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_fits_a_terminal() {
        let record = Record {
            at: "2026-11-30T17:20:11.123Z".to_owned(),
            gateway: "ab12".to_owned(),
            call: "c".to_owned(),
            command: "mcp.a-server-with-a-name.a-tool-with-a-long-one".to_owned(),
            decision: "allowed".to_owned(),
            because: "camera: ask until 2026-11-30T18:20:11Z, yes by atoll-node answer".to_owned(),
            end: "failed".to_owned(),
            code: Some("CAMERA_UNAVAILABLE".to_owned()),
            duration_ms: 86_400_000,
            left_out: 0,
        };
        let shown = shown(&record);
        assert_eq!(shown.chars().count(), WIDTH, "{shown}");
        assert!(shown.contains("86400000") || shown.contains("CAMERA"), "{shown}");
    }

    #[test]
    fn a_file_that_is_begun_anew_is_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, before) = (folder.path().join("now"), folder.path().join("before"));
        std::fs::write(&path, "one\ntwo\nth").expect("room");
        let mut tail = Tail::open(&path);
        assert_eq!(std::mem::take(&mut tail.lines), ["one", "two"]);
        std::fs::write(&path, "one\ntwo\nthree\n").expect("room");
        assert_eq!(tail.more(&path), ["three"]);
        std::fs::rename(&path, &before).expect("ours");
        std::fs::write(&path, "four\n").expect("room");
        assert_eq!(tail.more(&path), ["four"]);
        assert_eq!(tail.more(&path), [] as [String; 0]);
    }
}
