//! `node.*`: parameters and replies.

use serde::{Deserialize, Deserializer, de};

use crate::json::Json;
use crate::limits;
use crate::method::Text;
use crate::strict::closed;

closed! {
    /// `node.invoke.result`, from a node.
    pub struct InvokeResult {
        /// The call.
        id: Text,
        /// The node's own device id.
        node_id: Text,
        /// Whether there is a payload or an error.
        ok: bool;
        /// The payload as a value.
        payload?: Json,
        /// The payload as JSON text; it wins.
        #[serde(rename = "payloadJSON")]
        payload_json?: String,
        /// Why there is none.
        error?: NodeFault,
    }

    /// Why a node gives no payload.
    pub struct NodeFault {;
        /// An upper-case word.
        code?: Text,
        /// One sentence.
        message?: Text,
    }

    /// `node.invoke.progress`, from a node.
    pub struct InvokeProgress {
        /// The call.
        invoke_id: Text,
        /// The node's own device id.
        node_id: Text,
        /// From 0.
        seq: u64,
        /// Text of at most [`limits::PROGRESS_CHUNK`] characters.
        #[serde(deserialize_with = "chunk")]
        chunk: String;
    }
}

fn chunk<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > limits::PROGRESS_CHUNK && text.chars().count() > limits::PROGRESS_CHUNK {
        let limit = limits::PROGRESS_CHUNK;
        return Err(de::Error::custom(format!("must NOT have more than {limit} characters")));
    }
    Ok(text)
}
