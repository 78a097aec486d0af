//! A call whose caller hears what it says while it runs: events on the caller's own link, all of them before the answer.

use std::pin::pin;

use atoll_protocol::calls::Said;
use atoll_protocol::frame::{Event, Frame};
use atoll_protocol::json::Json;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::super::Ask;
use crate::house::House;
use crate::hub::{Outgoing, Part};
use crate::ring::{Call, CallRefused, Idempotency};

/// Parts on their way to one caller's link. More: they are missing, and the next one says how many.
const PARTS: usize = 128;

/// Makes a call. Its caller hears at once how the call is named, so that it can be called off.
pub(super) async fn first(house: &House, ask: &Ask, call: &mut Call) -> Result<Option<Json>, CallRefused> {
    let (sender, mut parts) = mpsc::channel(PARTS);
    call.progress = Some(sender);
    let key = call.idempotency.as_ref().map(|Idempotency { text, .. }| text.clone());
    let about = json!({"callId": call.id, "nodeId": call.node, "idempotencyKey": key});
    tell(ask, about.clone()).await;
    let mut end = pin!(super::first(house, ask, call));
    let end = loop {
        tokio::select! {
            biased;
            Some(part) = parts.recv() => tell(ask, told(&about, part)).await,
            end = &mut end => break end,
        }
    };
    while let Ok(part) = parts.try_recv() {
        tell(ask, told(&about, part)).await;
    }
    end
}

async fn tell(ask: &Ask, payload: Value) {
    let event = Event {
        name: "node.invoke.progress".to_owned(),
        payload: payload.into(),
        seq: None,
        state: None,
    };
    ask.replies.send(Outgoing::Frame(Box::new(Frame::Event(event)))).await;
}

/// What a program wrote is text where it is text, and base64 otherwise.
fn told(about: &Value, part: Part) -> Value {
    let mut payload = about.clone();
    if part.missed > 0 {
        payload["missed"] = json!(part.missed);
    }
    match part.said {
        Said::Words(text) => payload["text"] = json!(text),
        Said::Wrote(stream, bytes) => {
            payload["stream"] = json!(stream.as_str());
            match std::str::from_utf8(&bytes) {
                Ok(text) => payload["text"] = json!(text),
                Err(_) => payload["base64"] = json!(STANDARD.encode(&bytes)),
            }
        }
    }
    payload
}

#[cfg(test)]
mod tests {
    use atoll_protocol::frame::OutputStream;

    use super::*;

    #[test]
    fn bytes_are_told_as_they_are_and_from_which_stream() {
        let wrote = |bytes: &'static [u8]| Part {
            missed: 2,
            said: Said::Wrote(OutputStream::Stderr, bytes.into()),
        };
        let about = json!({"callId": "c"});
        assert_eq!(
            told(&about, wrote("é\n".as_bytes())),
            json!({"callId": "c", "missed": 2, "stream": "stderr", "text": "é\n"})
        );
        assert_eq!(
            told(&about, wrote(&[0xff, 0])),
            json!({"callId": "c", "missed": 2, "stream": "stderr", "base64": "/wA="})
        );
        let words = Part {
            missed: 0,
            said: Said::Words("half of it".to_owned()),
        };
        assert_eq!(told(&about, words), json!({"callId": "c", "text": "half of it"}));
    }
}
