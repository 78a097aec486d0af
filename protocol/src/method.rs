//! Parameters and replies of the gateway's methods: types only, the same for both ends.
//!
//! Parameters are of a closed shape, as clients of the dialect expect: an unknown key is an error that names it. Replies and
//! events are open: whoever reads them passes over what it does not know. All of them are JSON, inside the frames of
//! either language. Never says who may call what.

pub mod agent;
pub mod approval;
pub mod audit;
pub mod channel;
pub mod chat;
pub mod config;
pub mod device;
pub mod gateway;
pub mod node;
pub mod session;

use std::fmt;
use std::ops::Deref;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::error::WireError;
use crate::json::Json;
use crate::strict;

/// Text that is not empty, which is what nearly every name in the parameters must be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// Takes text; none when it is empty.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (!text.is_empty()).then_some(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, owned.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?)
            .ok_or_else(|| de::Error::custom("must not have fewer than 1 characters"))
    }
}

/// A whole number between `MIN` and `MAX`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Int<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Int<MIN, MAX> {
    /// Takes a number; none when it is out of bounds.
    pub fn new(number: u64) -> Option<Self> {
        (MIN..=MAX).contains(&number).then_some(Self(number))
    }

    /// The number.
    pub fn value(self) -> u64 {
        self.0
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Int<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            low if low < MIN => Err(de::Error::custom(format!("must be >= {MIN}"))),
            high if high > MAX => Err(de::Error::custom(format!("must be <= {MAX}"))),
            number => Ok(Self(number)),
        }
    }
}

/// A number that is at least one.
pub type Positive = Int<1, { u64::MAX }>;

strict::closed! {
    /// The parameters of a method that takes none.
    #[derive(Default)]
    pub struct NoParams {;}
}

strict::open! {
    /// The reply of a method that has nothing to say.
    pub struct Done {
        /// True.
        ok: bool;
    }
}

/// Reads the parameters of `method`; absent ones count as an empty object.
///
/// # Errors
/// `INVALID_REQUEST` `invalid <method> params: …`, with the place of the first fault.
pub fn read_params<T: DeserializeOwned>(method: &str, params: Option<&Json>) -> Result<T, WireError> {
    strict::read(params.map_or("{}", Json::as_str))
        .map_err(|fault| WireError::invalid(format!("invalid {method} params: {fault}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault<T: DeserializeOwned + fmt::Debug>(method: &str, params: &str) -> String {
        let params = Json::parse(params).expect("JSON");
        read_params::<T>(method, Some(&params)).expect_err(method).message
    }

    #[test]
    fn a_fault_in_the_parameters_names_the_method_and_the_field() {
        assert_eq!(
            fault::<node::NodeInvoke>("node.invoke", r#"{"nodeId":"n","command":"c"}"#),
            "invalid node.invoke params: must have required property 'idempotencyKey'"
        );
        assert_eq!(
            fault::<node::NodeInvoke>("node.invoke", r#"{"nodeId":"","command":"c","idempotencyKey":"k"}"#),
            "invalid node.invoke params: at /nodeId: must not have fewer than 1 characters"
        );
        assert_eq!(
            fault::<NoParams>("config.get", r#"{"x":1}"#),
            "invalid config.get params: at root: unexpected property 'x'"
        );
        assert_eq!(
            fault::<chat::ChatHistory>("chat.history", r#"{"sessionKey":"s","limit":1001}"#),
            "invalid chat.history params: at /limit: must be <= 1000"
        );
        assert_eq!(
            fault::<approval::ApprovalResolve>("exec.approval.resolve", r#"{"id":"a","decision":"maybe"}"#),
            "invalid exec.approval.resolve params: at /decision: must be equal to one of the allowed values"
        );
        assert_eq!(
            fault::<NoParams>("health", "[]"),
            "invalid health params: must be object"
        );
    }

    #[test]
    fn absent_parameters_are_an_empty_object() {
        assert!(read_params::<NoParams>("node.list", None).is_ok());
    }

    #[test]
    fn a_nullable_key_may_be_null_and_any_other_may_not() {
        let request = Json::parse(r#"{"cwd":null,"nodeId":null,"command":"ls"}"#).expect("JSON");
        let request: approval::ApprovalRequest = read_params("exec.approval.request", Some(&request)).expect("fits");
        assert_eq!((request.cwd, request.node_id), (Some(None), Some(None)));
        assert_eq!(
            fault::<approval::ApprovalRequest>("exec.approval.request", r#"{"command":null}"#),
            "invalid exec.approval.request params: at /command: must be string"
        );
    }

    #[test]
    fn what_a_caller_writes_is_what_a_gateway_reads() {
        let plan = approval::SystemRunPlan {
            argv: vec!["/bin/uname".to_owned()],
            cwd: None,
            command_text: "uname".to_owned(),
            agent_id: None,
            session_key: None,
            command_preview: None,
            policy_snapshot: None,
            mutable_file_operand: None,
        };
        let json = Json::of(&plan).expect("writes");
        assert_eq!(json.read::<approval::SystemRunPlan>().expect("reads"), plan);
    }
}
