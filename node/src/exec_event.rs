//! What a node tells an OpenClaw gateway about a command before its result: `exec.finished` or `exec.denied`. Pure.

use atoll_protocol::error::CallError;
use atoll_protocol::json::Json;
use serde::Deserialize;
use serde_json::{Value, json};

/// The end of the output that the event carries, characters.
const OUTPUT: usize = 20_000;

/// What is remembered of a `system.run` until it ends.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExecRun {
    run_id: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    raw_command: Option<String>,
    #[serde(default)]
    session_key: Option<String>,
    #[serde(default)]
    suppress_notify_on_exit: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Ended {
    exit_code: Option<i64>,
    timed_out: bool,
    success: bool,
    stdout: String,
    stderr: String,
    error: Option<String>,
}

impl ExecRun {
    /// Reads it from the parameters; none without a `runId`, which the gateway would not know what to do with.
    pub(crate) fn of(params: Option<&Json>) -> Option<Self> {
        params?.read().ok()
    }

    /// The name of the event and its payload.
    pub(crate) fn event(&self, result: &Result<Option<Json>, CallError>) -> (&'static str, Value) {
        let mut payload = json!({
            "sessionKey": self.session_key.as_deref().unwrap_or("node"),
            "runId": self.run_id,
            "host": "node",
            "command": self.raw_command.clone().unwrap_or_else(|| self.command.join(" ")),
            "suppressNotifyOnExit": self.suppress_notify_on_exit,
        });
        match result {
            Ok(reply) => {
                let ended: Ended = reply.as_ref().and_then(|reply| reply.read().ok()).unwrap_or_default();
                payload["timedOut"] = json!(ended.timed_out);
                payload["success"] = json!(ended.success);
                payload["output"] = json!(ended.output());
                if let Some(code) = ended.exit_code {
                    payload["exitCode"] = json!(code);
                }
                ("exec.finished", payload)
            }
            Err(error) => {
                payload["reason"] = json!(error.message);
                ("exec.denied", payload)
            }
        }
    }
}

impl Ended {
    /// Both streams and the error, the end of them.
    fn output(&self) -> String {
        let parts = [
            self.stdout.as_str(),
            self.stderr.as_str(),
            self.error.as_deref().unwrap_or_default(),
        ];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let text = parts.join("\n");
        let text = text.trim_end();
        let skip = text.chars().count().saturating_sub(OUTPUT);
        text.chars().skip(skip).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_run_is_told_as_the_real_node_tells_it() {
        let params = json!({"command":["sh","-c","echo out"],"rawCommand":"sh -c \"echo out\"","sessionKey":"agent:main:main","runId":"r-1"});
        let run = ExecRun::of(Some(&Json::from(params))).expect("has a run id");
        let reply =
            json!({"exitCode":3,"timedOut":false,"success":false,"stdout":"out\n","stderr":"err\n","error":null});
        let (name, payload) = run.event(&Ok(Some(Json::from(reply))));
        assert_eq!(name, "exec.finished");
        let expected = json!({"sessionKey":"agent:main:main","runId":"r-1","host":"node","command":"sh -c \"echo out\"",
            "suppressNotifyOnExit":false,"timedOut":false,"success":false,"output":"out\n\nerr","exitCode":3});
        assert_eq!(payload, expected);
    }

    #[test]
    fn a_refused_run_is_told_with_its_reason_and_a_run_without_id_not_at_all() {
        let run = ExecRun::of(Some(&Json::from(json!({"command":["ls"],"runId":"r"})))).expect("has a run id");
        let (name, payload) = run.event(&Err(CallError::new("SYSTEM_RUN_DENIED", "no")));
        assert_eq!(
            (name, &payload["reason"], &payload["sessionKey"]),
            ("exec.denied", &json!("no"), &json!("node"))
        );
        assert!(ExecRun::of(Some(&Json::from(json!({"command":["ls"]})))).is_none());
        assert!(ExecRun::of(None).is_none());
    }

    #[test]
    fn only_the_end_of_a_long_output_travels() {
        let ended = Ended {
            stdout: "ä".repeat(OUTPUT + 5),
            stderr: "end".to_owned(),
            ..Ended::default()
        };
        assert_eq!(ended.output().chars().count(), OUTPUT);
        assert!(ended.output().ends_with("\nend"));
    }
}
