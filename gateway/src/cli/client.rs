//! The command line's end of a link to a gateway: calls with a deadline, and the events that come meanwhile. Never prints.

use std::collections::VecDeque;
use std::time::Duration;

use atoll_pairing::dial;
use atoll_pairing::link::{Link, LinkError, Received};
use atoll_protocol::frame::{Frame, Request, Response};
use atoll_protocol::id::RequestId;
use serde_json::{Value, json};

use super::reach::{self, Way};
use super::{CliError, Reach};

/// Events that came during calls and nobody has read yet. More: the oldest go.
const EVENTS: usize = 1024;

/// What a call may take on top of the time that is given to its work.
const SLACK: Duration = Duration::from_secs(2);

/// Something that happened at the gateway.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    /// Its name, e.g. `chat`.
    pub(super) name: String,
    /// Its facts.
    pub(super) payload: Value,
}

/// What came over a link.
#[derive(Debug)]
pub(super) enum Heard {
    /// Something happened.
    Event(Event),
    /// The answer to something that was sent.
    Answer(Response),
}

/// A link to a gateway, let in.
#[derive(Debug)]
pub(super) struct Client {
    link: Link,
    patience: Duration,
    is_local: bool,
    events: VecDeque<Event>,
}

impl Client {
    /// Over the socket in the state folder, which needs no token; or to `--url`.
    pub(super) async fn connect(reach: &Reach) -> Result<Self, CliError> {
        let way = Way::of(reach)?;
        let patience = reach.timeout();
        let dialling = tokio::time::timeout(patience, dial::dial(&way.dial, |_| {}));
        let dialled = match dialling.await {
            Ok(Ok(dialled)) => dialled,
            Ok(Err(error)) => return Err(reach::not_connected(&way, error)),
            Err(_) => return Err(reach::too_late(&way, patience)),
        };
        Ok(Self::over(dialled.link, patience, way.is_local))
    }

    fn over(link: Link, patience: Duration, is_local: bool) -> Self {
        Self {
            link,
            patience,
            is_local,
            events: VecDeque::new(),
        }
    }

    /// Whether the gateway runs on this machine, under this user.
    pub(super) fn is_local(&self) -> bool {
        self.is_local
    }

    /// Gives every later call so much time for its work, where it had less.
    pub(super) fn wait_at_least(&mut self, ms: u64) {
        self.patience = self.patience.max(Duration::from_millis(ms) + SLACK);
    }

    /// Calls a method and returns its first answer.
    pub(super) async fn call(&mut self, method: &str, params: Value) -> Result<Value, CliError> {
        self.ask(method, params, false).await
    }

    /// Calls a method and returns its last answer: one that says "accepted" is passed over.
    pub(super) async fn call_to_the_end(&mut self, method: &str, params: Value) -> Result<Value, CliError> {
        self.ask(method, params, true).await
    }

    /// The result of a command on a node, which gets `timeout` milliseconds; bytes are named in it where the node can.
    pub(super) async fn invoke(
        &mut self,
        node: &str,
        command: &str,
        params: Value,
        timeout: u64,
    ) -> Result<Value, CliError> {
        self.wait_at_least(timeout);
        let ask = json!({
            "nodeId": node, "command": command, "params": params, "timeoutMs": timeout, "blobs": "handles",
            "idempotencyKey": uuid::Uuid::new_v4().to_string(),
        });
        let mut reply = self.call("node.invoke", ask).await?;
        Ok(reply["payload"].take())
    }

    /// The same, and `hear` gets what is told of it while it runs.
    pub(super) async fn invoke_heard(
        &mut self,
        node: &str,
        command: &str,
        params: Value,
        timeout: u64,
        mut hear: impl FnMut(&Value),
    ) -> Result<Value, CliError> {
        self.wait_at_least(timeout);
        let (patience, key) = (self.patience, uuid::Uuid::new_v4().to_string());
        let ask = json!({
            "nodeId": node, "command": command, "params": params, "timeoutMs": timeout, "blobs": "handles",
            "idempotencyKey": key, "progress": true,
        });
        let answering = async {
            let sent = self.send("node.invoke", ask).await?;
            loop {
                match self.heard().await? {
                    Heard::Event(event) if event.payload["idempotencyKey"] == *key => hear(&event.payload),
                    Heard::Answer(answer) if answer.id == sent => {
                        let mut reply = answer.result.map_err(CliError::Refused)?.tree();
                        return Ok(reply["payload"].take());
                    }
                    Heard::Event(_) | Heard::Answer(_) => {}
                }
            }
        };
        let answered = tokio::time::timeout(patience, answering).await;
        answered.unwrap_or_else(|_| Err(late("node.invoke", patience)))
    }

    /// Sends a request without waiting; its answers are [`Self::heard`].
    pub(super) async fn send(&mut self, method: &str, params: Value) -> Result<RequestId, CliError> {
        let id: RequestId = uuid::Uuid::new_v4().into();
        let request = Request {
            id: id.clone(),
            method: method.to_owned(),
            params: Some(params.into()),
        };
        let sent = self.link.send(&Frame::Request(request)).await;
        sent.map(|()| id).map_err(|error| lost(&error))
    }

    /// What comes next, for as long as it takes. Dropping the future loses nothing.
    pub(super) async fn heard(&mut self) -> Result<Heard, CliError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Heard::Event(event));
            }
            if let Some(response) = self.next().await? {
                return Ok(Heard::Answer(response));
            }
        }
    }

    /// The next event. Dropping the future loses nothing.
    pub(super) async fn event(&mut self) -> Result<Event, CliError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            // An answer that comes now is to a call that was given up.
            let _late = self.next().await?;
        }
    }

    async fn ask(&mut self, method: &str, params: Value, to_the_end: bool) -> Result<Value, CliError> {
        let patience = self.patience;
        let answering = async {
            let id = self.send(method, params).await?;
            loop {
                let Some(response) = self.next().await? else { continue };
                if response.id == id && !(to_the_end && is_accepted(&response)) {
                    return response.result.map(|reply| reply.tree()).map_err(CliError::Refused);
                }
            }
        };
        let answered = tokio::time::timeout(patience, answering).await;
        answered.unwrap_or_else(|_| Err(late(method, patience)))
    }

    /// Reads one message: an answer is returned, an event is kept.
    async fn next(&mut self) -> Result<Option<Response>, CliError> {
        let received = self.link.recv().await.map_err(|error| lost(&error))?;
        if let Received::Frame(Frame::Response(response)) = received {
            return Ok(Some(response));
        }
        if let Received::Frame(Frame::Event(event)) = received {
            if self.events.len() == EVENTS {
                self.events.pop_front();
            }
            self.events.push_back(Event {
                name: event.name,
                payload: event.payload.tree(),
            });
        }
        Ok(None)
    }
}

fn is_accepted(response: &Response) -> bool {
    let reply = response.result.as_ref().map(|reply| reply.tree());
    reply.is_ok_and(|reply| reply.get("status").and_then(Value::as_str) == Some("accepted"))
}

fn late(method: &str, patience: Duration) -> CliError {
    let ms = patience.as_millis();
    CliError::Unreachable(format!(
        "the gateway did not answer {method} within {ms} ms\nnext: give it longer with --timeout, or see `atoll logs`"
    ))
}

fn lost(error: &LinkError) -> CliError {
    CliError::Unreachable(format!(
        "the gateway is gone: {error}\nnext: see `atoll gateway status`, then try again"
    ))
}

#[cfg(test)]
mod tests {
    use atoll_pairing::link::{Codec, Facts, memory};
    use atoll_protocol::error::WireError;
    use atoll_protocol::frame;
    use serde_json::json;

    use super::*;

    fn pair() -> (Client, Link) {
        let (here, there) = memory::pair(Facts::default());
        let client = Client::over(Link::new(here, Codec::Native), Duration::from_secs(5), true);
        (client, Link::new(there, Codec::Native))
    }

    fn event(number: usize) -> Frame {
        let payload = json!({"number": number}).into();
        Frame::Event(frame::Event {
            name: "tick".to_owned(),
            payload,
            seq: None,
            state: None,
        })
    }

    async fn request(gateway: &mut Link) -> Request {
        let Received::Frame(Frame::Request(request)) = gateway.recv().await.expect("a message") else {
            panic!("not a request");
        };
        request
    }

    async fn answer(gateway: &mut Link, id: &RequestId, result: Result<Value, WireError>) {
        let response = Response {
            id: id.clone(),
            result: result.map(Into::into),
        };
        gateway.send(&Frame::Response(response)).await.expect("sent");
    }

    #[tokio::test]
    async fn a_call_gets_its_own_answer_and_keeps_the_events_in_order() {
        let (mut client, mut gateway) = pair();
        let serving = async {
            let request = request(&mut gateway).await;
            assert_eq!(request.method, "health");
            gateway.send(&event(1)).await.expect("sent");
            answer(&mut gateway, &uuid::Uuid::new_v4().into(), Ok(json!("another's"))).await;
            gateway.send(&event(2)).await.expect("sent");
            answer(&mut gateway, &request.id, Ok(json!({"ok": true}))).await;
        };
        let (reply, ()) = tokio::join!(client.call("health", json!({})), serving);
        assert_eq!(reply.expect("answered"), json!({"ok": true}));
        for number in [1, 2] {
            assert_eq!(client.event().await.expect("kept").payload["number"], number);
        }
    }

    #[tokio::test]
    async fn accepted_is_an_answer_only_for_who_does_not_wait_for_the_end() {
        for (to_the_end, expected) in [(false, "accepted"), (true, "ok")] {
            let (mut client, mut gateway) = pair();
            let serving = async {
                let request = request(&mut gateway).await;
                answer(&mut gateway, &request.id, Ok(json!({"status": "accepted"}))).await;
                answer(&mut gateway, &request.id, Ok(json!({"status": "ok"}))).await;
            };
            let (reply, ()) = tokio::join!(client.ask("agent", json!({}), to_the_end), serving);
            assert_eq!(reply.expect("answered")["status"], expected);
        }
    }

    #[tokio::test]
    async fn a_refusal_and_a_lost_link_are_told_apart() {
        let (mut client, mut gateway) = pair();
        let serving = async {
            let request = request(&mut gateway).await;
            answer(&mut gateway, &request.id, Err(WireError::invalid("no"))).await;
        };
        let (reply, ()) = tokio::join!(client.call("x", json!({})), serving);
        assert!(matches!(reply, Err(CliError::Refused(error)) if error.message == "no"));
        drop(gateway);
        assert!(matches!(
            client.call("x", json!({})).await,
            Err(CliError::Unreachable(_))
        ));
        assert!(matches!(client.event().await, Err(CliError::Unreachable(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_does_not_answer_is_not_waited_for_longer_than_was_said() {
        let (mut client, _gateway) = pair();
        let started = tokio::time::Instant::now();
        assert!(
            matches!(client.call("x", json!({})).await, Err(CliError::Unreachable(text)) if text.contains("--timeout"))
        );
        assert_eq!(started.elapsed().as_secs(), 5);
        client.wait_at_least(60_000);
        assert!(client.call("x", json!({})).await.is_err());
        assert_eq!(started.elapsed().as_secs(), 5 + 62);
    }

    #[tokio::test]
    async fn events_that_nobody_reads_are_bounded_and_the_oldest_go() {
        let (mut client, mut gateway) = pair();
        let serving = async {
            let request = request(&mut gateway).await;
            for number in 0..EVENTS + 3 {
                gateway.send(&event(number)).await.expect("sent");
            }
            answer(&mut gateway, &request.id, Ok(json!({}))).await;
        };
        let (reply, ()) = tokio::join!(client.call("x", json!({})), serving);
        reply.expect("answered");
        assert_eq!(client.events.len(), EVENTS);
        assert_eq!(client.event().await.expect("kept").payload["number"], 3);
    }
}
