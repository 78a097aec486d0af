//! What a model or a person is told of a command: its output in words, bounded.

use atoll_agent::port::ToolReply;
use atoll_protocol::calls::Failure;
use atoll_protocol::json::Json;
use serde::Deserialize;

use super::NotRun;
use crate::journal::calls::{CallRow, CallState};
use crate::ring::CallRefused;

/// Characters of output that a reply holds; the rest is named.
const OUTPUT: usize = 32 * 1024;

/// What is said of a node that has no link.
const AWAY: &str = "not run: that node is not connected now";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ran {
    #[serde(default)]
    exit_code: Option<i64>,
    #[serde(default)]
    timed_out: bool,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    signal: Option<serde_json::Value>,
}

/// The end of a command that ran.
pub(super) fn of_payload(payload: Option<&Json>) -> ToolReply {
    let Some(ran) = payload.and_then(|payload| payload.read::<Ran>().ok()) else {
        return failed("the host answered, but not with the result of a command".to_owned());
    };
    let is_error = ran.timed_out || ran.exit_code != Some(0);
    let mut text = String::new();
    if ran.timed_out {
        text.push_str("[timed out; it was killed]\n");
    }
    match (ran.exit_code, &ran.signal) {
        (Some(0), _) => {}
        (Some(code), _) => text.push_str(&format!("[exit code {code}]\n")),
        (None, Some(signal)) if !signal.is_null() => text.push_str(&format!("[killed by signal {signal}]\n")),
        (None, _) => {}
    }
    if let Some(error) = &ran.error {
        text.push_str(&format!("[{error}]\n"));
    }
    text.push_str(&bounded(&ran.stdout));
    if !ran.stderr.is_empty() {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str("[stderr]\n");
        text.push_str(&bounded(&ran.stderr));
    }
    if text.is_empty() {
        text.push_str("[no output]");
    }
    ToolReply {
        is_error,
        ..ToolReply::ok(text)
    }
}

/// The end that was written down before a restart.
pub(super) fn of_row(row: &CallRow) -> ToolReply {
    let text = row.result.clone().unwrap_or_default();
    match row.state {
        CallState::Ok => of_payload(Json::parse(&text).ok().as_ref()),
        CallState::Uncertain => uncertain(text),
        CallState::NodeAway => failed(AWAY.to_owned()),
        CallState::TimedOut => uncertain(format!("timed out: {text}")),
        CallState::Queued | CallState::Sent | CallState::Running | CallState::Error | CallState::Cancelled => {
            failed(text)
        }
    }
}

/// Why it did not run, or not to its end.
pub(super) fn of_error(error: &NotRun) -> ToolReply {
    match error {
        NotRun::No(reason) => failed(format!("not run: {reason}")),
        NotRun::Call(CallRefused::Failed(failure)) => of_failure(failure),
        NotRun::Call(CallRefused::Away) => failed(AWAY.to_owned()),
        NotRun::Call(other @ (CallRefused::Denied(_) | CallRefused::Unknown | CallRefused::Journal(_))) => {
            failed(format!("not run: {other}"))
        }
        NotRun::Approval(refused) => failed(format!("not run: {refused}")),
        NotRun::Stopped => failed("not run: stopped".to_owned()),
    }
}

fn of_failure(failure: &Failure) -> ToolReply {
    if *failure == Failure::NotConnected {
        failed(AWAY.to_owned())
    } else if failure.is_uncertain() {
        uncertain(failure.to_string())
    } else {
        failed(failure.to_string())
    }
}

/// A failure in words.
pub(super) fn failed(text: String) -> ToolReply {
    ToolReply::error(text)
}

fn uncertain(reason: String) -> ToolReply {
    let text =
        format!("uncertain: nobody knows whether the command ran, or how far ({reason}); it will not be run again");
    ToolReply {
        uncertain: true,
        ..ToolReply::error(text)
    }
}

fn bounded(text: &str) -> String {
    let count = text.chars().count();
    if count <= OUTPUT {
        return text.to_owned();
    }
    let head: String = text.chars().take(OUTPUT / 2).collect();
    let tail: String = text.chars().skip(count - OUTPUT / 2).collect();
    format!("{head}\n[{} characters left out]\n{tail}", count - OUTPUT)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_command_is_told_by_its_output_and_its_exit() {
        let told = |payload: serde_json::Value| of_payload(Some(&payload.into()));
        let plain = told(json!({"exitCode": 0, "stdout": "hi\n", "stderr": "", "success": true, "timedOut": false}));
        assert_eq!((plain.text.as_str(), plain.is_error), ("hi\n", false));
        let broken = told(json!({"exitCode": 2, "stdout": "", "stderr": "no\n", "timedOut": false}));
        assert_eq!(
            (broken.text.as_str(), broken.is_error),
            ("[exit code 2]\n[stderr]\nno\n", true)
        );
        assert_eq!(told(json!({"exitCode": 0})).text, "[no output]");
        assert!(told(json!([1])).is_error);
    }

    #[test]
    fn what_may_have_run_is_called_uncertain() {
        assert!(of_error(&CallRefused::Failed(Failure::Lost).into()).uncertain);
        assert!(of_error(&CallRefused::Failed(Failure::TimedOut { sent: true }).into()).uncertain);
        assert!(!of_error(&CallRefused::Away.into()).uncertain);
    }

    #[test]
    fn huge_output_keeps_its_ends() {
        let text = format!("{}{}", "a".repeat(OUTPUT), "b".repeat(OUTPUT));
        let kept = bounded(&text);
        assert!(kept.starts_with("aaa") && kept.ends_with("bbb") && kept.contains("characters left out"));
        assert!(kept.len() < OUTPUT + 100);
    }
}
