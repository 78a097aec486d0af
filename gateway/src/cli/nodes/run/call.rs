//! One command on one node: sent, heard while it runs, called off. Asks a person where the node wants that.

use std::collections::BTreeMap;
use std::time::Duration;

use atoll_protocol::error::WireError;
use atoll_protocol::limits;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::ask::{self, Manner};
use super::output::Output;
use super::{STOPPED, Stop, UNREAD};
use crate::cli::client::{Client, Heard};
use crate::cli::output::text;
use crate::cli::{CliError, Reach};
use crate::select::Candidate;

/// What runs a program there.
pub(super) const COMMAND: &str = "system.run";

/// The event of a call that says something.
const SAYS: &str = "node.invoke.progress";

/// What the call may take on top of the program's own time, which ends it there.
const SLACK: Duration = Duration::from_secs(5);

/// What shall run.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) argv: Vec<String>,
    pub(super) cwd: Option<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) stdin: Option<String>,
    pub(super) time: Option<Duration>,
}

/// Where.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: String,
    pub(super) name: String,
}

impl Place {
    pub(super) fn of(node: &Candidate) -> Self {
        let name = if node.name.is_empty() {
            node.node.short().to_string()
        } else {
            node.name.clone()
        };
        Self {
            id: node.node.to_string(),
            name,
        }
    }
}

/// One command on one node, over a link of its own: who asks for an approval is who uses it.
pub(super) struct Running<'a> {
    pub(super) client: Client,
    pub(super) place: &'a Place,
    pub(super) wish: &'a Wish,
    pub(super) stop: &'a Stop,
    /// Where it goes while it runs, if it does.
    pub(super) output: Option<Output>,
}

impl Running<'_> {
    /// What the node says of its end.
    pub(super) async fn until_its_end(&mut self, reach: &Reach, manner: Manner) -> Result<Value, CliError> {
        match self.once(None).await {
            Err(CliError::Refused(error)) if wants_approval(&error) => {
                let approval = ask::approval(self, reach, manner).await?;
                self.once(Some(&approval)).await
            }
            ended => ended,
        }
    }

    /// The parameters that say what runs.
    pub(super) fn params(&self) -> Value {
        let Wish { argv, cwd, env, .. } = self.wish;
        let mut params = json!({"command": argv});
        if let Some(cwd) = cwd {
            params["cwd"] = json!(cwd);
        }
        if !env.is_empty() {
            params["env"] = json!(env);
        }
        params
    }

    async fn once(&mut self, approval: Option<&str>) -> Result<Value, CliError> {
        let mut params = self.params();
        if let Some(stdin) = &self.wish.stdin {
            params["stdin"] = json!(stdin);
        }
        if let Some(time) = self.wish.time {
            params["timeoutMs"] = json!(millis(time));
        }
        if let Some(id) = approval {
            // The word counts for nothing by itself: the gateway looks whether there is a yes of that name for exactly this.
            params["runId"] = json!(id);
            params["approved"] = json!(true);
        }
        let time = self.wish.time.map_or(limits::CALL_DEADLINE_MAX, |time| time + SLACK);
        let key = uuid::Uuid::new_v4().to_string();
        let ask = json!({
            "nodeId": self.place.id, "command": COMMAND, "params": params, "idempotencyKey": key,
            "timeoutMs": millis(time.min(limits::CALL_DEADLINE_MAX)), "progress": true,
        });
        self.follow(ask, &key, Instant::now() + time + SLACK).await
    }

    async fn follow(&mut self, ask: Value, key: &str, until: Instant) -> Result<Value, CliError> {
        let sent = self.client.send("node.invoke", ask).await?;
        let mut call = String::new();
        // Once it is called off: as what.
        let mut stopping = None;
        loop {
            let heard = tokio::select! {
                heard = self.client.heard() => heard?,
                () = self.stop.asked(), if stopping.is_none() && !call.is_empty() => {
                    stopping = Some(stopped());
                    self.client.send("node.invoke.cancel", json!({"callId": call})).await?;
                    continue;
                }
                () = sleep_until(until) => return Err(CliError::Unreachable(
                    "the gateway did not say how it ended\nnext: see `atoll nodes calls`".to_owned()
                )),
            };
            match heard {
                Heard::Event(event) if event.name == SAYS && text(&event.payload, "idempotencyKey") == key => {
                    text(&event.payload, "callId").clone_into(&mut call);
                    let is_heard = match &mut self.output {
                        Some(output) => output.take(&event.payload).await,
                        None => true,
                    };
                    if !is_heard && stopping.is_none() {
                        stopping = Some(unread());
                        self.client.send("node.invoke.cancel", json!({"callId": call})).await?;
                    }
                }
                Heard::Answer(answer) if answer.id == sent => {
                    return match (stopping, answer.result) {
                        (Some(why), _) => Err(why),
                        (None, Ok(reply)) => Ok(reply.tree()["payload"].take()),
                        (None, Err(error)) => Err(CliError::Refused(error)),
                    };
                }
                Heard::Event(_) | Heard::Answer(_) => {}
            }
        }
    }
}

/// It was called off.
pub(super) fn stopped() -> CliError {
    CliError::Failed {
        message: "stopped".to_owned(),
        code: STOPPED,
    }
}

/// Nobody reads it, so nobody wants it any longer.
pub(super) fn unread() -> CliError {
    CliError::Failed {
        message: String::new(),
        code: UNREAD,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a yes would help: a node that never runs it says so in other words.
fn wants_approval(error: &WireError) -> bool {
    let details = error.details.as_ref().map(|details| details.tree()).unwrap_or_default();
    let node = &details["nodeError"];
    text(node, "code") == "SYSTEM_RUN_DENIED" && text(node, "message").contains("approval required")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_asks_is_asked_about() {
        for (code, message, expected) in [
            (
                "SYSTEM_RUN_DENIED",
                "SYSTEM_RUN_DENIED: approval required: it is not on the list",
                true,
            ),
            (
                "SYSTEM_RUN_DENIED",
                "SYSTEM_RUN_DENIED: this device runs nothing",
                false,
            ),
            ("TIMEOUT", "approval required", false),
        ] {
            let details = json!({"nodeError": {"code": code, "message": message}});
            let error = WireError::unavailable(message).with_details(&details);
            assert_eq!(wants_approval(&error), expected, "{code}: {message}");
        }
        assert!(!wants_approval(&WireError::unavailable("approval required")));
    }
}
