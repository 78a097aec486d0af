//! What people see of a turn while it runs: the events `chat` and `agent`. Best effort; nothing durable depends on it.

use std::sync::atomic::{AtomicU64, Ordering};

use atoll_agent::port::{Progress, Watch};
use atoll_agent::turn::Outcome;
use atoll_protocol::id::{AgentId, RunId, SessionKey};
use atoll_protocol::scope::Scope;
use serde_json::{Value, json};

use crate::clock;
use crate::hub::{Broadcast, Hub};

/// Tells everybody with `operator.read` how one turn goes.
pub(crate) struct Broadcaster {
    hub: Hub,
    agent: AgentId,
    seq: AtomicU64,
}

impl Broadcaster {
    /// For a turn of this agent.
    pub(crate) fn new(hub: Hub, agent: AgentId) -> Self {
        Self {
            hub,
            agent,
            seq: AtomicU64::new(0),
        }
    }

    /// The turn is over; what is said is said as the last event of `chat`.
    pub(crate) fn ended(&self, run: &RunId, session: &SessionKey, outcome: &Outcome) {
        let (phase, facts) = match outcome {
            Outcome::Failed { message } => ("error", json!({"state": "error", "errorMessage": message})),
            Outcome::Aborted { message } => ("end", json!({"state": "aborted", "message": message_of(message)})),
            Outcome::Answer { text } | Outcome::Uncertain { text, .. } => {
                ("end", json!({"state": "final", "message": message_of(text)}))
            }
            Outcome::Silent => ("end", json!({"state": "final"})),
        };
        self.agent(
            run,
            session,
            "lifecycle",
            json!({"phase": phase, "endedAt": clock::now_ms()}),
        );
        self.chat(run, session, facts);
    }

    fn chat(&self, run: &RunId, session: &SessionKey, facts: Value) {
        let mut payload = json!({"runId": run, "sessionKey": session, "agentId": self.agent, "seq": self.next()});
        if let (Some(payload), Value::Object(facts)) = (payload.as_object_mut(), facts) {
            payload.extend(facts);
        }
        self.hub
            .broadcast_now(Broadcast::to_scope("chat", payload, Scope::Read));
    }

    fn agent(&self, run: &RunId, session: &SessionKey, stream: &str, data: Value) {
        let payload = json!({
            "runId": run, "sessionKey": session, "seq": self.next(), "stream": stream, "ts": clock::now_ms(), "data": data,
        });
        self.hub
            .broadcast_now(Broadcast::to_scope("agent", payload, Scope::Read));
    }

    fn next(&self) -> u64 {
        self.seq.fetch_add(1, Ordering::Relaxed)
    }
}

impl Watch for Broadcaster {
    fn progress(&self, run: &RunId, session: &SessionKey, progress: Progress) {
        match progress {
            Progress::Started => {
                self.agent(
                    run,
                    session,
                    "lifecycle",
                    json!({"phase": "start", "startedAt": clock::now_ms()}),
                );
            }
            Progress::Text { delta, text } => {
                self.agent(run, session, "assistant", json!({"text": text, "delta": delta}));
                self.chat(
                    run,
                    session,
                    json!({"state": "delta", "message": message_of(&text), "deltaText": delta}),
                );
            }
            Progress::ToolStarted { id, name, args } => {
                self.agent(
                    run,
                    session,
                    "tool",
                    json!({"phase": "start", "name": name, "toolCallId": id, "args": args}),
                );
            }
            Progress::ToolEnded { id, name, is_error } => {
                let data = json!({"phase": "result", "name": name, "toolCallId": id, "isError": is_error});
                self.agent(run, session, "tool", data);
            }
        }
    }
}

fn message_of(text: &str) -> Value {
    json!({"role": "assistant", "content": [{"type": "text", "text": text}], "timestamp": clock::now_ms()})
}
