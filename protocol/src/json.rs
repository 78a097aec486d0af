//! Open-ended arguments and replies: JSON text that was checked once and is then carried, not parsed again.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

/// One JSON value as text. Cheap to clone; valid by construction.
///
/// In JSON it is embedded as it stands; in postcard it travels as a string and is checked on arrival.
#[derive(Clone)]
pub struct Json(Arc<RawValue>);

impl Json {
    /// Writes any serialisable value.
    ///
    /// # Errors
    /// A map whose keys are not text, or a `Serialize` that fails by itself.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(|raw| Self(raw.into()))
    }

    /// Checks text that came from outside.
    ///
    /// # Errors
    /// Not one well-formed JSON value.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<Box<RawValue>>(text).map(|raw| Self(raw.into()))
    }

    /// Reads it as a type.
    ///
    /// # Errors
    /// The value has another shape.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.0.get())
    }

    /// The value as a tree; null when it nests deeper than the parser allows.
    pub fn tree(&self) -> serde_json::Value {
        self.read().unwrap_or(serde_json::Value::Null)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Whether it is the value `null`.
    pub fn is_null(&self) -> bool {
        self.as_str() == "null"
    }
}

impl From<&serde_json::Value> for Json {
    fn from(value: &serde_json::Value) -> Self {
        Self::of(value).expect("a JSON tree has text keys, so it always serialises")
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self::from(&value)
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments can hold secrets and megabytes: only the size is for logs.
        write!(f, "Json({} bytes)", self.as_str().len())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.0.serialize(serializer)
        } else {
            self.as_str().serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            Box::<RawValue>::deserialize(deserializer).map(|raw| Self(raw.into()))
        } else {
            let text = String::deserialize(deserializer)?;
            RawValue::from_string(text)
                .map(|raw| Self(raw.into()))
                .map_err(de::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_carried_as_it_stands_in_both_encodings() {
        let json = Json::parse(r#"{"b":1, "a":[1.50]}"#).expect("valid");
        assert_eq!(serde_json::to_string(&json).expect("writes"), r#"{"b":1, "a":[1.50]}"#);
        let bytes = postcard::to_stdvec(&json).expect("encodes");
        assert_eq!(postcard::from_bytes::<Json>(&bytes).expect("decodes"), json);
    }

    #[test]
    fn bad_text_is_refused_in_both_encodings() {
        assert!(Json::parse("{").is_err());
        assert!(Json::parse("1 2").is_err());
        let bytes = postcard::to_stdvec("{").expect("encodes");
        assert!(postcard::from_bytes::<Json>(&bytes).is_err());
    }
}
