//! One message to an agent and its answer, over a link to the gateway.

use serde_json::{Value, json};

use super::CliError;
use super::client::Client;
use super::output::{self, short, text, visible};

/// The session of the prompt, unless another is named.
pub(super) const MAIN: &str = "agent:main:main";

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// The turn.
    pub(super) run: String,
    /// All of the text.
    pub(super) text: String,
}

impl Answer {
    /// As OpenClaw's `agent --json` prints it.
    pub(super) fn json(&self) -> Value {
        json!({"runId": self.run, "status": "ok", "result": {"payloads": [{"text": self.text}]}})
    }
}

/// Says something and waits for the whole answer, however long it takes; Ctrl-C stops the turn. What waits for a yes is told on
/// standard error, so that the output is the answer alone.
pub(super) async fn say(client: &mut Client, session: &str, message: &str) -> Result<Answer, CliError> {
    let run = start(client, session, message).await?;
    loop {
        let event = tokio::select! {
            event = client.event() => event?,
            _ = tokio::signal::ctrl_c() => {
                abort(client, session, &run).await?;
                continue;
            }
        };
        match event.name.as_str() {
            "chat" if text(&event.payload, "runId") == run => {
                if let Some(end) = ending(&event.payload) {
                    return end.map(|text| Answer { run, text });
                }
            }
            "exec.approval.requested" => {
                let id = text(&event.payload, "id");
                let wish = visible(&wish(&event.payload));
                output::aside(format_args!(
                    "? {wish}\n  yes: atoll approvals approve {id}    no: atoll approvals deny {id}\n"
                ));
            }
            _ => {}
        }
    }
}

/// Hands a message to the agent and returns the run that it becomes.
pub(super) async fn start(client: &mut Client, session: &str, message: &str) -> Result<String, CliError> {
    let ask = json!({
        "sessionKey": session, "message": message, "idempotencyKey": uuid::Uuid::new_v4().to_string(),
    });
    let reply = client.call("chat.send", ask).await?;
    Ok(text(&reply, "runId").to_owned())
}

/// Stops a run; its last event still comes.
pub(super) async fn abort(client: &mut Client, session: &str, run: &str) -> Result<(), CliError> {
    client
        .call("chat.abort", json!({"sessionKey": session, "runId": run}))
        .await
        .map(drop)
}

/// How a turn ended, out of an event `chat`; none while it goes on.
pub(super) fn ending(payload: &Value) -> Option<Result<String, CliError>> {
    match text(payload, "state") {
        "final" => Some(Ok(said(payload))),
        "aborted" => Some(Err(CliError::Failed {
            message: "stopped".to_owned(),
            code: 130,
        })),
        "error" => Some(Err(CliError::Failed {
            message: text(payload, "errorMessage").to_owned(),
            code: 1,
        })),
        _ => None,
    }
}

fn said(payload: &Value) -> String {
    let content = payload.pointer("/message/content").and_then(Value::as_array);
    content
        .into_iter()
        .flatten()
        .map(|part| text(part, "text"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// What somebody wants to run, and where.
pub(super) fn wish(payload: &Value) -> String {
    let request = payload.get("request").unwrap_or(&Value::Null);
    let place = match text(request, "nodeId") {
        "" => "the gateway's machine".to_owned(),
        node => format!("node {}", short(node)),
    };
    let warning = match text(request, "warningText") {
        "" => String::new(),
        warning => format!("\n  {warning}"),
    };
    // A further line of the command must not look like a line of ours.
    let command = text(request, "command").replace('\n', "\n    | ");
    format!("on {place}: {command}{warning}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_event_of_a_turn_ends_it() {
        let content = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let told =
            |state: &str| ending(&json!({"state": state, "message": {"content": content}, "errorMessage": "why"}));
        assert!(told("delta").is_none());
        assert_eq!(told("final").expect("over").expect("said"), "a\nb");
        let codes = ["aborted", "error"].map(|state| match told(state) {
            Some(Err(CliError::Failed { code, .. })) => code,
            other => panic!("{other:?}"),
        });
        assert_eq!(codes, [130, 1]);
        assert_eq!(ending(&json!({"state": "final"})).expect("over").expect("silent"), "");
    }

    #[test]
    fn a_wish_names_where_and_what() {
        let there = json!({"request": {"nodeId": "0123456789abcdef", "command": "rm -r x", "warningText": "careful"}});
        assert_eq!(wish(&there), "on node 0123456789: rm -r x\n  careful");
        assert_eq!(
            wish(&json!({"request": {"command": "ls"}})),
            "on the gateway's machine: ls"
        );
    }
}
