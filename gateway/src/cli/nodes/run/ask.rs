//! A node that asks: the question is put to whoever may answer it, and this end says what waits and how it is answered. Whoever asks
//! cannot answer; the user of the gateway's machine can, over a second link, as with `atoll approvals approve`. The gateway withdraws the
//! question when this link ends, however this program does.

use std::io::{BufRead, IsTerminal};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::NOT_RUN;
use super::call::{Running, Wish, stopped};
use crate::cli::client::{Client, Heard};
use crate::cli::output::{self, text, visible};
use crate::cli::{CliError, Reach};

/// How long a node may take to say what exactly it would run, milliseconds.
const PREPARE: u64 = 15_000;

/// How the person here is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// They are asked, as they sit at the gateway's machine.
    Question,
    /// They are told.
    Notice,
}

impl Manner {
    pub(super) fn of_terminal(reach: &Reach, wish: &Wish) -> Self {
        let is_seen = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        if is_seen && reach.url.is_none() && !reach.json && wish.stdin.is_none() {
            Self::Question
        } else {
            Self::Notice
        }
    }
}

/// Asks, and waits for a yes; gives its name.
pub(super) async fn approval(running: &mut Running<'_>, reach: &Reach, manner: Manner) -> Result<String, CliError> {
    if running.wish.stdin.is_some() {
        return Err(no(
            "it has to be approved there, and an approval covers no standard input\n\
            next: run it without --stdin, or let the owner of that device allow it",
        ));
    }
    let stop = running.stop;
    let ask = tokio::select! {
        ask = question(running) => ask?,
        () = stop.asked() => return Err(stopped()),
    };
    // Opened first: somebody who could answer must be there when it is asked.
    let mut approver = if running.client.is_local() {
        Some(Client::connect(reach).await?)
    } else {
        None
    };
    let shown = visible(text(&ask, "command")).replace('\n', "\n    | ");
    let sent = running.client.send("exec.approval.request", ask).await?;
    let mut typed: Option<oneshot::Receiver<String>> = None;
    let mut id = String::new();
    loop {
        let heard = tokio::select! {
            heard = running.client.heard() => heard?,
            line = line(&mut typed) => {
                typed = None;
                let decision = decision(&line);
                if let Some(approver) = &mut approver {
                    approver.call("exec.approval.resolve", json!({"id": id, "decision": decision})).await?;
                }
                continue;
            }
            () = running.stop.asked() => return Err(stopped()),
        };
        let Heard::Answer(answer) = heard else { continue };
        if answer.id != sent {
            continue;
        }
        let reply = answer.result.map_err(CliError::Refused)?.tree();
        if text(&reply, "status") != "accepted" {
            return decided(&reply);
        }
        text(&reply, "id").clone_into(&mut id);
        let name = visible(&running.place.name);
        output::aside(format_args!("{name} wants a yes before it runs this:\n  {shown}\n"));
        match manner {
            Manner::Question if approver.is_some() => {
                output::aside("Let it run once? [y/N] ");
                typed = Some(read_line());
            }
            Manner::Question | Manner::Notice => {
                output::aside(format_args!(
                    "waiting for: atoll approvals approve {id}\n         or: atoll approvals deny {id}\n"
                ));
            }
        }
    }
}

/// What is asked: the plan that the node itself spelled out.
async fn question(running: &mut Running<'_>) -> Result<Value, CliError> {
    let params = running.params();
    let env = params.get("env").cloned();
    let prepared = running
        .client
        .invoke(&running.place.id, "system.run.prepare", params, PREPARE)
        .await?;
    let plan = &prepared["plan"];
    let mut ask = json!({
        "host": "node", "nodeId": running.place.id, "twoPhase": true, "boundToLink": true, "systemRunPlan": plan,
        "command": plan["commandText"], "commandArgv": plan["argv"], "cwd": plan["cwd"],
    });
    if let Some(env) = env {
        ask["env"] = env;
    }
    Ok(ask)
}

fn decided(reply: &Value) -> Result<String, CliError> {
    match (text(reply, "decision"), text(reply, "terminalReason")) {
        ("allow-once" | "allow-always", _) => Ok(text(reply, "id").to_owned()),
        ("deny", _) => Err(no("denied")),
        (_, "no-route") => Err(no("it has to be approved there, and nobody is connected who may\n\
            next: run this on the gateway's own machine, or name an owner in commands.ownerAllowFrom")),
        _ => Err(no("nobody approved it in time")),
    }
}

fn no(message: &str) -> CliError {
    CliError::Failed {
        message: message.to_owned(),
        code: NOT_RUN,
    }
}

/// Only a clear yes is one.
fn decision(line: &str) -> &'static str {
    match line.trim().to_lowercase().as_str() {
        "y" | "yes" => "allow-once",
        _ => "deny",
    }
}

/// A thread of its own, as reading a terminal cannot be called off; it ends with the process.
fn read_line() -> oneshot::Receiver<String> {
    let (send, line) = oneshot::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = std::io::stdin().lock().read_line(&mut text);
        let _ = send.send(text);
    });
    line
}

/// The line that was typed; never, where none is asked for.
async fn line(typed: &mut Option<oneshot::Receiver<String>>) -> String {
    match typed {
        Some(line) => line.await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_is_one() {
        for (line, expected) in [
            ("y\n", "allow-once"),
            (" YES ", "allow-once"),
            ("", "deny"),
            ("yo", "deny"),
        ] {
            assert_eq!(decision(line), expected, "{line:?}");
        }
        let reply = |decision: Value, reason: &str| json!({"id": "a", "decision": decision, "terminalReason": reason});
        assert_eq!(decided(&reply(json!("allow-always"), "user")).expect("a yes"), "a");
        for (reply, word) in [
            (reply(json!("deny"), "user"), "denied"),
            (reply(Value::Null, "no-route"), "gateway's own machine"),
            (reply(Value::Null, "expired"), "in time"),
        ] {
            let error = decided(&reply).expect_err("no yes").to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
