//! `atoll nodes run`: a program on a node as if it ran here: its output as it comes, its exit code, Ctrl-C. Or on many nodes at once.

mod all;
mod ask;
mod call;
mod output;

use std::collections::BTreeMap;
use std::io::Read;

use clap::Args;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::super::client::Client;
use super::super::{CliError, Reach};
use crate::cli::output as print;
use crate::cli::output::text;
use call::{Place, Running, Wish};
use output::Output;

/// It did not run, or nobody knows how it ended.
const NOT_RUN: u8 = 125;

/// There is no such program there.
const NO_PROGRAM: u8 = 127;

/// Its time was over; as the command `timeout` has it.
const OUT_OF_TIME: u8 = 124;

/// Nobody reads its output any more, as of a program that `SIGPIPE` ended.
const UNREAD: u8 = 128 + 13;

/// It was stopped with Ctrl-C.
const STOPPED: u8 = 128 + 2;

/// Standard input that goes along, bytes. More: an error before anything runs.
const STDIN: u64 = 512 * 1024;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  atoll nodes run laptop -- uname -a
  atoll nodes run --all os=linux --timeout 30s -- uptime

Exit codes: that of the program; 128 and the number of the signal that ended it; 124 its
--timeout was over; 127 there is no such program there; 125 it did not run, or nobody knows
how it ended: no gateway, the node is away, its policy or a person said no.")]
pub(in crate::cli) struct Run {
    /// The node: name, beginning of its id, address, or e.g. any,os=linux
    node: Option<String>,
    /// On every node that is meant; the code is 0 if it is on all of them
    #[arg(long)]
    all: bool,
    /// The folder to run it in [default: the home folder there]
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// One more variable for it; can be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Give it what comes in here, which is read to its end first
    #[arg(long)]
    stdin: bool,
    /// The program and its arguments; nothing is read by a shell
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

/// Ctrl-C: the first one stops what runs, the second leaves at once.
#[derive(Debug, Clone, Default)]
struct Stop(CancellationToken);

impl Stop {
    fn listen() -> Self {
        let stop = Self::default();
        let asked = stop.0.clone();
        tokio::spawn(async move {
            let _ = tokio::signal::ctrl_c().await;
            asked.cancel();
            let _ = tokio::signal::ctrl_c().await;
            std::process::exit(i32::from(STOPPED));
        });
        stop
    }

    fn is_asked(&self) -> bool {
        self.0.is_cancelled()
    }

    async fn asked(&self) {
        self.0.cancelled().await;
    }
}

impl Run {
    pub(in crate::cli) async fn run(self, reach: &Reach) -> Result<(), CliError> {
        self.run_it(reach).await.map_err(|error| match error {
            ended @ CliError::Failed { .. } => ended,
            error @ (CliError::Usage(_) | CliError::Unreachable(_) | CliError::Refused(_) | CliError::Local(_)) => {
                CliError::Failed {
                    message: error.to_string(),
                    code: NOT_RUN,
                }
            }
        })
    }

    async fn run_it(self, reach: &Reach) -> Result<(), CliError> {
        let wish = Wish {
            stdin: if self.stdin { Some(read_stdin()?) } else { None },
            argv: self.argv,
            cwd: self.cwd,
            env: self.env.into_iter().collect::<BTreeMap<_, _>>(),
            time: reach.given_timeout(),
        };
        let mut client = Client::connect(reach).await?;
        let stop = Stop::listen();
        if self.all {
            let nodes = super::find_all(&mut client, self.node.as_deref(), call::COMMAND).await?;
            return all::run(reach, nodes, &wish, &stop).await;
        }
        let meant = super::find_one(&mut client, self.node.as_deref()).await?;
        let place = Place::of(&meant);
        let mut running = Running {
            client,
            place: &place,
            wish: &wish,
            stop: &stop,
            output: (!reach.json).then(Output::open),
        };
        let manner = ask::Manner::of_terminal(reach, &wish);
        let result = match running.until_its_end(reach, manner).await {
            Ok(result) => result,
            Err(error) => {
                if let Some(output) = running.output {
                    output.close().await;
                }
                return Err(error);
            }
        };
        if reach.json {
            print::json(&described(&place, &result))?;
        }
        let complete = match running.output {
            Some(output) => output.finish(&result).await,
            None => Ok(()),
        };
        ended(&result).and(complete)
    }
}

/// The result for programs: what the node said, and who said it.
fn described(place: &Place, result: &Value) -> Value {
    let mut shown = result.clone();
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("nodeId".to_owned(), json!(place.id));
        fields.insert("node".to_owned(), json!(place.name));
    }
    shown
}

/// How it ended, as this program's own end.
fn ended(result: &Value) -> Result<(), CliError> {
    let failed = |code, message: String| Err(CliError::Failed { message, code });
    if result["timedOut"] == true {
        return failed(OUT_OF_TIME, "its time was over; it was stopped".to_owned());
    }
    if let Some(code) = result["exitCode"].as_i64() {
        return match u8::try_from(code) {
            Ok(0) => Ok(()),
            Ok(code) => failed(code, String::new()),
            Err(_) => failed(1, format!("it exited with {code}")),
        };
    }
    match text(result, "signal") {
        "" if result["success"] == true => Ok(()),
        "" => failed(NO_PROGRAM, text(result, "error").to_owned()),
        signal => failed(128 + number(signal), format!("it was ended by {signal}")),
    }
}

/// The number of a signal on the systems that have them.
fn number(signal: &str) -> u8 {
    const NAMES: [(&str, u8); 12] = [
        ("SIGHUP", 1),
        ("SIGINT", 2),
        ("SIGQUIT", 3),
        ("SIGILL", 4),
        ("SIGTRAP", 5),
        ("SIGABRT", 6),
        ("SIGFPE", 8),
        ("SIGKILL", 9),
        ("SIGSEGV", 11),
        ("SIGPIPE", 13),
        ("SIGALRM", 14),
        ("SIGTERM", 15),
    ];
    let known = NAMES
        .iter()
        .find(|(name, _)| *name == signal)
        .map(|(_, number)| *number);
    let told = || signal.strip_prefix("signal ")?.parse().ok();
    known.or_else(told).filter(|number| *number < 128).unwrap_or_default()
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("\"{text}\" is no variable; write NAME=VALUE")),
    }
}

fn read_stdin() -> Result<String, CliError> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(STDIN + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > STDIN {
        return Err(CliError::Usage(format!(
            "standard input is larger than {} KiB\nnext: bring it there with `atoll nodes put`",
            STDIN / 1024
        )));
    }
    String::from_utf8(bytes).map_err(|_| {
        CliError::Usage("standard input is not text\nnext: bring it there with `atoll nodes put`".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_program_ended_there_is_how_this_one_ends() {
        for (result, expected) in [
            (json!({"exitCode": 0, "success": true}), None),
            (json!({"exitCode": null, "success": true}), None),
            (json!({"exitCode": 3}), Some(3)),
            (json!({"exitCode": 124, "timedOut": true}), Some(124)),
            (json!({"exitCode": -1}), Some(1)),
            (json!({"exitCode": 256}), Some(1)),
            (json!({"signal": "SIGKILL"}), Some(137)),
            (json!({"signal": "signal 34"}), Some(162)),
            (json!({"error": "nothing of that name"}), Some(127)),
        ] {
            let code = match ended(&result) {
                Ok(()) => None,
                Err(CliError::Failed { code, .. }) => Some(code),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(code, expected, "{result}");
        }
    }

    #[test]
    fn a_variable_has_a_name() {
        assert_eq!(variable("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(variable("A="), Ok(("A".to_owned(), String::new())));
        assert!(variable("=b").is_err() && variable("A").is_err());
    }
}
