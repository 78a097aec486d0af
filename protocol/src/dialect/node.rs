//! The end of a node, or of an operator's program, on an admitted link. Reads loosely: a later gateway says more.

use serde::{Deserialize, Serialize};

use super::{name, text};
use crate::error::{ErrorCode, WireError};
use crate::frame::{Acknowledge, Event, Frame, Input, Invoke, Outcome, Progress, Response, StateVersion};
use crate::id::{CallId, DeviceId, RequestId};
use crate::json::Json;
use crate::limits;

const RESULT_PREFIX: &str = "result:";
const PROGRESS_PREFIX: &str = "progress:";

/// The client's end of an admitted link.
///
/// An operator's program says nothing that names a node, so there any id will do.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// The device that this end is.
    pub node: DeviceId,
}

/// Text that no gateway of this protocol says. The link can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadText {
    /// Not JSON, or not an object with the fields of a message.
    #[error("not a message of the protocol")]
    Malformed,
    /// `type` is something else than `res` or `event`.
    #[error("a message of an unknown type")]
    UnknownType,
    /// A `node.invoke.*` event whose payload is not what it must be.
    #[error("a call that cannot be read")]
    BadCall,
}

impl Node {
    /// Reads one message of the gateway; none when it needs no attention.
    ///
    /// # Errors
    /// See [`BadText`].
    pub fn read(&self, text: &str) -> Result<Option<Frame>, BadText> {
        let message: Incoming = serde_json::from_str(text).map_err(|_| BadText::Malformed)?;
        match message.r#type.as_str() {
            "res" => read_response(message),
            "event" => self.read_event(message).map(Some),
            _ => Err(BadText::UnknownType),
        }
    }

    /// Writes one frame; none for what this language has no words for.
    pub fn write(&self, frame: &Frame) -> Option<String> {
        match frame {
            Frame::Request(request) => Some(text::request(
                request.id.as_str(),
                &request.method,
                request.params.as_ref(),
            )),
            Frame::Outcome(outcome) => Some(self.write_outcome(outcome)),
            Frame::Progress(progress) => Some(self.write_progress(progress)),
            Frame::Hello(_)
            | Frame::Challenge(_)
            | Frame::Proof(_)
            | Frame::Waiting(_)
            | Frame::Admitted(_)
            | Frame::Refused(_)
            | Frame::Response(_)
            | Frame::Event(_)
            | Frame::Invoke(_)
            | Frame::Input(_)
            | Frame::Cancel(_)
            | Frame::Acknowledge(_)
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

    fn read_event(&self, message: Incoming) -> Result<Frame, BadText> {
        let event = message.event.ok_or(BadText::Malformed)?;
        let payload = message.payload.unwrap_or_else(null);
        match event.as_str() {
            name::REQUEST => self.read_invoke(&payload),
            name::CANCEL => read_cancel(&payload),
            name::INPUT => read_input(&payload),
            _ => Ok(Frame::Event(Event {
                name: event,
                payload,
                seq: message.seq,
                state: message.state_version,
            })),
        }
    }

    fn read_invoke(&self, payload: &Json) -> Result<Frame, BadText> {
        let invoke: InvokeIn = payload.read().map_err(|_| BadText::BadCall)?;
        let params = match invoke.params_json {
            Some(text) => Some(Json::parse(&text).map_err(|_| BadText::BadCall)?),
            None => None,
        };
        let default = u64::try_from(limits::CALL_DEADLINE.as_millis()).unwrap_or(u64::MAX);
        Ok(Frame::Invoke(Invoke {
            call: invoke.id,
            node: invoke.node_id.unwrap_or(self.node),
            command: invoke.command,
            params,
            timeout_ms: invoke.timeout_ms.unwrap_or(default),
            idempotency_key: invoke.idempotency_key,
            plan: None,
        }))
    }

    fn write_outcome(&self, outcome: &Outcome) -> String {
        let (payload, error) = match &outcome.result {
            Ok(payload) => (payload.as_ref(), None),
            Err(error) => (
                None,
                Some(FaultOut {
                    code: &error.code,
                    message: &error.message,
                }),
            ),
        };
        let params = ResultOut {
            id: outcome.call.as_str(),
            node_id: self.node,
            ok: error.is_none(),
            payload_json: payload.map(Json::as_str),
            error,
        };
        let id = format!("{RESULT_PREFIX}{}", outcome.call);
        text::request(&id, name::RESULT, Some(&params))
    }

    fn write_progress(&self, progress: &Progress) -> String {
        let params = ProgressOut {
            invoke_id: progress.call.as_str(),
            node_id: self.node,
            seq: progress.seq,
            chunk: &progress.chunk,
        };
        let id = format!("{PROGRESS_PREFIX}{}:{}", progress.call, progress.seq);
        text::request(&id, name::PROGRESS, Some(&params))
    }
}

fn null() -> Json {
    serde_json::Value::Null.into()
}

fn read_response(message: Incoming) -> Result<Option<Frame>, BadText> {
    let id = message.id.ok_or(BadText::Malformed)?;
    if id.starts_with(PROGRESS_PREFIX) {
        return Ok(None);
    }
    let result = match (message.ok, message.error) {
        (Some(true), _) => Ok(message.payload.unwrap_or_else(null)),
        (Some(false) | None, error) => Err(error.unwrap_or_default().into()),
    };
    if let Some(call) = id.strip_prefix(RESULT_PREFIX).and_then(|call| CallId::new(call).ok()) {
        return Ok(acknowledged(call, &result));
    }
    let id = RequestId::new(id).map_err(|_| BadText::Malformed)?;
    Ok(Some(Frame::Response(Response { id, result })))
}

/// A result that the gateway refuses for good is as done as one that it took; one it may still take is kept.
fn acknowledged(call: CallId, result: &Result<Json, WireError>) -> Option<Frame> {
    let ignored = match result {
        Ok(payload) => payload.read::<TakenIn>().unwrap_or_default().ignored,
        Err(error) if error.retryable == Some(true) => return None,
        Err(_) => true,
    };
    Some(Frame::Acknowledge(Acknowledge {
        call,
        receipt: None,
        ignored,
    }))
}

fn read_cancel(payload: &Json) -> Result<Frame, BadText> {
    let cancel: CancelIn = payload.read().map_err(|_| BadText::BadCall)?;
    Ok(Frame::Cancel(cancel.invoke_id))
}

fn read_input(payload: &Json) -> Result<Frame, BadText> {
    let input: InputIn = payload.read().map_err(|_| BadText::BadCall)?;
    Ok(Frame::Input(Input {
        call: input.id,
        seq: input.seq,
        payload: Json::parse(&input.payload_json).map_err(|_| BadText::BadCall)?,
    }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Incoming {
    r#type: String,
    id: Option<String>,
    ok: Option<bool>,
    payload: Option<Json>,
    error: Option<ErrorIn>,
    event: Option<String>,
    seq: Option<u64>,
    state_version: Option<StateVersion>,
}

/// An error as any gateway may write it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ErrorIn {
    code: String,
    message: String,
    details: Option<Json>,
    retryable: Option<bool>,
    retry_after_ms: Option<u64>,
}

impl From<ErrorIn> for WireError {
    fn from(error: ErrorIn) -> Self {
        Self {
            code: class(&error.code),
            message: if error.message.is_empty() {
                error.code
            } else {
                error.message
            },
            details: error.details,
            retryable: error.retryable,
            retry_after_ms: error.retry_after_ms,
        }
    }
}

/// The class of a code; one that this build does not know means that something is not to be had.
fn class(code: &str) -> ErrorCode {
    [
        ErrorCode::InvalidRequest,
        ErrorCode::NotPaired,
        ErrorCode::Forbidden,
        ErrorCode::ApprovalNotFound,
    ]
    .into_iter()
    .find(|known| known.as_str() == code)
    .unwrap_or(ErrorCode::Unavailable)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InvokeIn {
    id: CallId,
    node_id: Option<DeviceId>,
    command: String,
    #[serde(rename = "paramsJSON")]
    params_json: Option<String>,
    timeout_ms: Option<u64>,
    idempotency_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CancelIn {
    invoke_id: CallId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InputIn {
    id: CallId,
    seq: u64,
    #[serde(rename = "payloadJSON")]
    payload_json: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TakenIn {
    ignored: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResultOut<'a> {
    id: &'a str,
    node_id: DeviceId,
    ok: bool,
    #[serde(rename = "payloadJSON", skip_serializing_if = "Option::is_none")]
    payload_json: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<FaultOut<'a>>,
}

#[derive(Serialize)]
struct FaultOut<'a> {
    code: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProgressOut<'a> {
    invoke_id: &'a str,
    node_id: DeviceId,
    seq: u64,
    chunk: &'a str,
}
