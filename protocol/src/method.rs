//! Parameters and replies of the gateway's methods: types only, the same for both ends.

pub mod node;

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
            .ok_or_else(|| de::Error::custom("must NOT have fewer than 1 characters"))
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
