//! The OpenClaw JSON language, protocols 3 and 4, mapped to the frames of [`crate::frame`].
//!
//! [`Gateway`] reads and writes at the gateway's end of an admitted link, [`Node`] at the end of a node or of an operator's
//! program. Both are stateless: what one message must remember of another travels in the frames as a receipt.
//! [`connect`] holds everything before that: challenge, connect, hello. [`refusal`] and [`denial`] hold the errors that real
//! clients act upon. Written from captures of the real programs. Never does I/O.

pub mod connect;
pub mod denial;
pub mod hello;
pub mod refusal;
pub mod signed;

mod node;
mod text;

pub use node::{BadText, Node};

use crate::error::{CallError, WireError};
use crate::frame::{Acknowledge, Event, Frame, Input, Invoke, Outcome, Progress, Request};
use crate::id::{CallId, DeviceId, RequestId};
use crate::json::Json;
use crate::method::node::{InvokeProgress, InvokeResult};
use crate::method::read_params;
use crate::scope::Role;
use text::RequestText;

/// How the protocol calls a node's answers and a gateway's orders.
pub(crate) mod name {
    pub(crate) const CONNECT: &str = "connect";
    pub(crate) const RESULT: &str = "node.invoke.result";
    pub(crate) const PROGRESS: &str = "node.invoke.progress";
    pub(crate) const REQUEST: &str = "node.invoke.request";
    pub(crate) const CANCEL: &str = "node.invoke.cancel";
    pub(crate) const INPUT: &str = "node.invoke.input";
}

/// The gateway's end of an admitted link.
#[derive(Debug, Clone, Copy)]
pub struct Gateway {
    /// What the peer is.
    pub peer: Role,
    /// The peer's device; none for an operator's program without one.
    pub own: Option<DeviceId>,
}

/// Text that does not become a frame.
///
/// Neither an answer nor a close means: ignore it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reject {
    /// What to send back.
    pub answer: Option<String>,
    /// Close code and reason, after the answer.
    pub close: Option<(u16, String)>,
}

impl Reject {
    fn with_error(id: &str, error: &WireError) -> Self {
        Self {
            answer: Some(text::response(id, Err(error))),
            close: None,
        }
    }
}

impl Gateway {
    /// Reads one message of the peer.
    ///
    /// # Errors
    /// What to answer when it is not a request this link takes; a broken message never closes an admitted link.
    pub fn read(&self, text: &str) -> Result<Frame, Reject> {
        let request = RequestText::read(text).map_err(|fault| malformed(text, &fault))?;
        match (self.peer, request.method.as_str()) {
            (Role::Operator | Role::Node, name::CONNECT) => Err(Reject::with_error(
                &request.id,
                &WireError::invalid("connect is only valid as the first request"),
            )),
            (Role::Node, name::RESULT) => self.read_outcome(&request),
            (Role::Node, name::PROGRESS) => self.read_progress(&request),
            (Role::Operator | Role::Node, _) => {
                let id = receipt(&request)?;
                Ok(Frame::Request(Request {
                    id,
                    method: request.method.into_string(),
                    params: request.params,
                }))
            }
        }
    }

    /// Writes one frame; none for what this language has no words for.
    ///
    /// A plan does not travel: the caller has put `approved` and `approvalDecision` into the parameters.
    pub fn write(&self, frame: &Frame) -> Option<String> {
        match frame {
            Frame::Response(response) => Some(text::response(response.id.as_str(), response.result.as_ref())),
            Frame::Event(event) => Some(write_event(event)),
            Frame::Invoke(invoke) => Some(write_invoke(invoke)),
            Frame::Cancel(call) => self.own.map(|node| write_cancel(call, node)),
            Frame::Input(input) => self.own.map(|node| write_input(input, node)),
            Frame::Acknowledge(acknowledge) => write_acknowledge(acknowledge),
            Frame::Hello(_)
            | Frame::Challenge(_)
            | Frame::Proof(_)
            | Frame::Waiting(_)
            | Frame::Admitted(_)
            | Frame::Refused(_)
            | Frame::Request(_)
            | Frame::Progress(_)
            | Frame::Outcome(_)
            | Frame::Resume(_)
            | Frame::Ping(_)
            | Frame::Pong(_)
            | Frame::Granted(_)
            | Frame::StreamOpen(_)
            | Frame::StreamChunk(_)
            | Frame::StreamWindow(_)
            | Frame::StreamClosed(_)
            | Frame::StreamAbandoned(_)
            | Frame::BlobDone(_)
            | Frame::Clock(_)
            | Frame::Output(_) => None,
        }
    }

    fn read_outcome(&self, request: &RequestText) -> Result<Frame, Reject> {
        let result: InvokeResult = self.params(request)?;
        self.check_node(request, &result.node_id)?;
        let Ok(call) = CallId::new(result.id.as_str()) else {
            return Err(not_ours(request));
        };
        let outcome = if result.ok {
            Ok(result
                .payload_json
                .flatten()
                .map(|text| carried(&text))
                .or(result.payload))
        } else {
            Err(node_fault(result.error.flatten()))
        };
        Ok(Frame::Outcome(Outcome {
            call,
            result: outcome,
            receipt: Some(receipt(request)?),
        }))
    }

    fn read_progress(&self, request: &RequestText) -> Result<Frame, Reject> {
        let progress: InvokeProgress = self.params(request)?;
        self.check_node(request, &progress.node_id)?;
        let Ok(call) = CallId::new(progress.invoke_id.as_str()) else {
            return Err(not_ours(request));
        };
        Ok(Frame::Progress(Progress {
            call,
            seq: progress.seq,
            chunk: progress.chunk,
            receipt: Some(receipt(request)?),
        }))
    }

    fn params<T: serde::de::DeserializeOwned>(&self, request: &RequestText) -> Result<T, Reject> {
        read_params(&request.method, request.params.as_ref()).map_err(|error| Reject::with_error(&request.id, &error))
    }

    fn check_node(&self, request: &RequestText, named: &str) -> Result<(), Reject> {
        let own = self.own.map(|own| own.to_string());
        if own.as_deref() == Some(named) {
            Ok(())
        } else {
            Err(Reject::with_error(&request.id, &WireError::invalid("nodeId mismatch")))
        }
    }
}

/// The validator's sentence for a broken frame, to whom it may concern; text that is not JSON is passed over.
fn malformed(text: &str, fault: &str) -> Reject {
    if !crate::strict::is_json(text) {
        return Reject::default();
    }
    Reject {
        answer: Some(text::error_to(
            &text::id_as_sent(text),
            &WireError::invalid(format!("invalid request frame: {fault}")),
        )),
        close: None,
    }
}

fn receipt(request: &RequestText) -> Result<RequestId, Reject> {
    RequestId::new(request.id.as_str()).map_err(|_| {
        let limit = crate::limits::ID_CHARS;
        let fault = format!("invalid request frame: at /id: must not have more than {limit} characters");
        Reject::with_error(&request.id, &WireError::invalid(fault))
    })
}

/// A call id that this gateway cannot have given.
fn not_ours(request: &RequestText) -> Reject {
    Reject {
        answer: Some(text::response(&request.id, Ok(&text::taken(true)))),
        close: None,
    }
}

/// What a node wrote as JSON text; text that is none is kept, wrapped.
fn carried(text: &str) -> Json {
    Json::parse(text).unwrap_or_else(|_| serde_json::json!({ "payloadJSON": text }).into())
}

fn node_fault(fault: Option<crate::method::node::NodeFault>) -> CallError {
    let (code, message) = fault.map_or((None, None), |fault| (fault.code, fault.message));
    CallError::new(
        code.map_or_else(|| "UNAVAILABLE".to_owned(), crate::method::Text::into_string),
        message.map_or_else(|| "node invoke failed".to_owned(), crate::method::Text::into_string),
    )
}

fn write_event(event: &Event) -> String {
    let payload = (!event.payload.is_null()).then_some(&event.payload);
    text::event(&event.name, payload, event.seq, event.state)
}

fn write_invoke(invoke: &Invoke) -> String {
    let payload = text::InvokeText {
        id: invoke.call.as_str(),
        node_id: invoke.node,
        command: &invoke.command,
        params_json: invoke.params.as_ref().map(Json::as_str),
        timeout_ms: invoke.timeout_ms,
        idempotency_key: invoke.idempotency_key.as_deref(),
    };
    text::event(name::REQUEST, Some(&payload), None, None)
}

fn write_cancel(call: &CallId, node: DeviceId) -> String {
    let payload = text::CancelText {
        invoke_id: call.as_str(),
        node_id: node,
    };
    text::event(name::CANCEL, Some(&payload), None, None)
}

fn write_input(input: &Input, node: DeviceId) -> String {
    let payload = text::InputText {
        id: input.call.as_str(),
        node_id: node,
        seq: input.seq,
        payload_json: input.payload.as_str(),
    };
    text::event(name::INPUT, Some(&payload), None, None)
}

fn write_acknowledge(acknowledge: &Acknowledge) -> Option<String> {
    let receipt = acknowledge.receipt.as_ref()?;
    Some(text::response(receipt.as_str(), Ok(&text::taken(acknowledge.ignored))))
}

#[cfg(test)]
mod tests;
