//! The JSON messages themselves, field by field. Never decides what is said.

use serde::{Deserialize, Serialize};

use crate::error::WireError;
use crate::frame::StateVersion;
use crate::id::DeviceId;
use crate::json::Json;
use crate::method::Text;
use crate::strict;

/// The word that a request begins with.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum RequestType {
    #[serde(rename = "req")]
    Request,
}

/// A request as it comes in: closed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RequestText {
    #[serde(rename = "type")]
    _type: RequestType,
    pub(crate) id: Text,
    pub(crate) method: Text,
    #[serde(default, deserialize_with = "strict::present")]
    pub(crate) params: Option<Json>,
    #[serde(default, deserialize_with = "strict::present", rename = "traceparent")]
    _traceparent: Option<String>,
    #[serde(default, deserialize_with = "strict::present", rename = "expectedProfileId")]
    _expected_profile_id: Option<String>,
}

impl RequestText {
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        strict::read(text)
    }
}

#[derive(Serialize)]
struct RequestOut<'a, P: Serialize + ?Sized> {
    r#type: RequestType,
    id: &'a str,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<&'a P>,
}

#[derive(Serialize)]
struct ResponseOut<'a, I: Serialize + ?Sized> {
    r#type: &'static str,
    id: &'a I,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorOut<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorOut<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventOut<'a, P: Serialize + ?Sized> {
    r#type: &'static str,
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_version: Option<StateVersion>,
}

/// `node.invoke.request`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InvokeText<'a> {
    pub(crate) id: &'a str,
    pub(crate) node_id: DeviceId,
    pub(crate) command: &'a str,
    /// Text or null, never absent.
    #[serde(rename = "paramsJSON")]
    pub(crate) params_json: Option<&'a str>,
    pub(crate) timeout_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idempotency_key: Option<&'a str>,
}

/// `node.invoke.cancel`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CancelText<'a> {
    pub(crate) invoke_id: &'a str,
    pub(crate) node_id: DeviceId,
}

/// `node.invoke.input`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InputText<'a> {
    pub(crate) id: &'a str,
    pub(crate) node_id: DeviceId,
    pub(crate) seq: u64,
    #[serde(rename = "payloadJSON")]
    pub(crate) payload_json: &'a str,
}

/// A request.
pub(crate) fn request<P: Serialize + ?Sized>(id: &str, method: &str, params: Option<&P>) -> String {
    write(&RequestOut {
        r#type: RequestType::Request,
        id,
        method,
        params,
    })
}

/// A response.
pub(crate) fn response(id: &str, result: Result<&Json, &WireError>) -> String {
    respond(id, result)
}

/// An error to an id of any shape.
pub(crate) fn error_to(id: &Json, error: &WireError) -> String {
    respond(id, Err(error))
}

fn respond<I: Serialize + ?Sized>(id: &I, result: Result<&Json, &WireError>) -> String {
    write(&ResponseOut {
        r#type: "res",
        id,
        ok: result.is_ok(),
        payload: result.ok(),
        error: result.err().map(|error| ErrorOut {
            code: error.code.as_str(),
            message: &error.message,
            details: error.details.as_ref(),
            retryable: error.retryable,
            retry_after_ms: error.retry_after_ms,
        }),
    })
}

/// An event.
pub(crate) fn event<P: Serialize + ?Sized>(
    name: &str,
    payload: Option<&P>,
    seq: Option<u64>,
    state_version: Option<StateVersion>,
) -> String {
    write(&EventOut {
        r#type: "event",
        event: name,
        payload,
        seq,
        state_version,
    })
}

/// The payload that says an outcome or progress has arrived.
pub(crate) fn taken(ignored: bool) -> Json {
    if ignored {
        serde_json::json!({ "ok": true, "ignored": true }).into()
    } else {
        serde_json::json!({ "ok": true }).into()
    }
}

/// The `id` of a broken frame as it was sent, when it is text or a number; else the word `invalid`.
pub(crate) fn id_as_sent(text: &str) -> Json {
    #[derive(Deserialize)]
    struct OnlyId {
        id: Option<Json>,
    }
    serde_json::from_str::<OnlyId>(text)
        .ok()
        .and_then(|only| only.id)
        .filter(|id| id.as_str().len() <= crate::limits::ID_CHARS)
        // Read, and not only looked at: half a surrogate pair would make the answer a text that strict clients refuse.
        .filter(|id| {
            matches!(
                id.read(),
                Ok(serde_json::Value::String(_) | serde_json::Value::Number(_))
            )
        })
        .unwrap_or_else(|| serde_json::Value::from("invalid").into())
}

fn write<T: Serialize>(message: &T) -> String {
    serde_json::to_string(message).expect("a message has text keys and checked JSON, so it always serialises")
}
