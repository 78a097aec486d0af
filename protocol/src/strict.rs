//! Reads JSON of a closed shape and says what is wrong in the words that clients of the dialect know.
//!
//! The sentences are those of a JSON schema validator, with the place as a JSON pointer: `at /client/id: must be string`.
//! Only the first fault is named. Never decides what a shape is: that is the type's business.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

/// Declares a type of a closed shape: required fields, then a semicolon, then optional ones marked with `?`.
///
/// An unknown key is an error, and so is `null` for an optional field: absent is absent.
macro_rules! closed {
    ($($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty),* $(,)? ;
        $($(#[$optional_meta:meta])* $optional:ident?: $optional_type:ty),* $(,)?
    })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        $vis struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            $(
                $(#[$optional_meta])*
                #[serde(
                    default,
                    deserialize_with = "crate::strict::present",
                    skip_serializing_if = "Option::is_none"
                )]
                pub $optional: Option<$optional_type>,
            )*
        }
    )*};
}
pub(crate) use closed;

/// Declares a type that is written with what is known and read with whatever else is there: replies and events.
macro_rules! open {
    ($($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$field_meta:meta])* $field:ident: $type:ty),* $(,)? ;
        $($(#[$optional_meta:meta])* $optional:ident?: $optional_type:ty),* $(,)?
    })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        $vis struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            $(
                $(#[$optional_meta])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $optional: Option<$optional_type>,
            )*
        }
    )*};
}
pub(crate) use open;

/// Declares a closed set of words.
macro_rules! words {
    ($($(#[$meta:meta])* $name:ident { $($(#[$word_meta:meta])* $variant:ident = $text:literal,)* })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$word_meta])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// The word on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }
    )*};
}
pub(crate) use words;

/// Reads a field that is there: `null` is a value like any other, and mostly a wrong one.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Whether the text is one JSON value.
pub(crate) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Reads an object of a closed shape.
///
/// # Errors
/// One sentence that names the place and the fault, never the value.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    if !text.trim_start().starts_with('{') {
        return Err("must be object".to_owned());
    }
    // The happy way costs nothing extra; only a faulty text is read again for the place.
    serde_json::from_str(text).map_err(|_| {
        let mut source = serde_json::Deserializer::from_str(text);
        match serde_path_to_error::deserialize::<_, T>(&mut source) {
            Ok(_) => "must be one JSON object".to_owned(),
            Err(fault) => explain(&fault),
        }
    })
}

fn explain(fault: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let message = fault.inner().to_string();
    let message = message
        .rfind(" at line ")
        .map_or(message.as_str(), |end| &message[..end]);
    let mut place: Vec<String> = fault
        .path()
        .iter()
        .filter(|segment| !matches!(segment, serde_path_to_error::Segment::Unknown))
        .map(ToString::to_string)
        .collect();
    if let Some(key) = quoted(message, "unknown field `") {
        if place.last().is_some_and(|last| last == key) {
            place.pop();
        }
        let at = if place.is_empty() {
            "root".to_owned()
        } else {
            pointer(&place)
        };
        return format!("at {at}: unexpected property '{key}'");
    }
    let sentence = validator_sentence(message);
    if place.is_empty() {
        sentence
    } else {
        format!("at {}: {sentence}", pointer(&place))
    }
}

fn pointer(place: &[String]) -> String {
    place
        .iter()
        // A sequence index is shown by its path as `[3]`.
        .map(|segment| format!("/{}", segment.trim_start_matches('[').trim_end_matches(']')))
        .collect()
}

fn quoted<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    let rest = message.strip_prefix(before)?;
    rest.find('`').map(|end| &rest[..end])
}

fn validator_sentence(message: &str) -> String {
    if let Some(field) = quoted(message, "missing field `") {
        return format!("must have required property '{field}'");
    }
    if message.starts_with("unknown variant") {
        return "must be equal to one of the allowed values".to_owned();
    }
    let Some((found, expected)) = message.split_once(", expected ") else {
        return message.to_owned();
    };
    if found.starts_with("invalid value: integer `-") {
        return "must be >= 0".to_owned();
    }
    if !found.starts_with("invalid type") && !found.starts_with("invalid value") {
        return message.to_owned();
    }
    format!("must be {}", schema_type(expected))
}

/// The validator's word for what serde wanted.
fn schema_type(expected: &str) -> &str {
    match expected {
        "a boolean" => "boolean",
        "a map" => "object",
        "a sequence" => "array",
        "f32" | "f64" => "number",
        _ if expected.starts_with("struct ") => "object",
        _ if expected.contains("string") => "string",
        _ if expected.starts_with(['u', 'i']) => "integer",
        _ => expected,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::json::Json;
    use crate::method::Text;

    closed! {
        /// Every kind of field.
        struct Sample {
            /// Required.
            id: Text,
            /// Nested.
            inner: Inner;
            /// Any value, null included.
            params?: Json,
            /// A number.
            count?: u64,
            /// A list.
            names?: Vec<Text>,
            /// A map.
            flags?: BTreeMap<String, bool>,
        }

        /// Inside.
        struct Inner {
            /// Required.
            kind: Kind;
            /// Optional.
            note?: String,
        }
    }

    /// A closed set.
    #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        /// One.
        Cli,
    }

    #[test]
    fn faults_are_named_with_their_place_in_the_words_of_a_schema_validator() {
        let cases = [
            ("[]", "must be object"),
            ("{}", "must have required property 'id'"),
            (r#"{"id":1}"#, "at /id: must be string"),
            (r#"{"id":""}"#, "at /id: must not have fewer than 1 characters"),
            (
                r#"{"id":"a","inner":{}}"#,
                "at /inner: must have required property 'kind'",
            ),
            (r#"{"id":"a","inner":5}"#, "at /inner: must be object"),
            (
                r#"{"id":"a","inner":{"kind":"ui"}}"#,
                "at /inner/kind: must be equal to one of the allowed values",
            ),
            (
                r#"{"id":"a","inner":{"kind":"cli","x":1}}"#,
                "at /inner: unexpected property 'x'",
            ),
            (
                r#"{"id":"a","inner":{"kind":"cli","note":null}}"#,
                "at /inner/note: must be string",
            ),
            (r#"{"id":"a","x":1}"#, "at root: unexpected property 'x'"),
            (r#"{"id":"a","count":-1}"#, "at /count: must be >= 0"),
            (r#"{"id":"a","count":1.5}"#, "at /count: must be integer"),
            (r#"{"id":"a","names":"b"}"#, "at /names: must be array"),
            (r#"{"id":"a","names":["b",5]}"#, "at /names/1: must be string"),
            (r#"{"id":"a","flags":{"b":5}}"#, "at /flags/b: must be boolean"),
            (r#"{"id":"a","inner":{"kind":"cli"}} x"#, "must be one JSON object"),
        ];
        for (text, expected) in cases {
            assert_eq!(read::<Sample>(text).expect_err(text), expected, "{text}");
        }
    }

    #[test]
    fn an_open_field_keeps_its_text_and_null_is_a_value() {
        let sample: Sample = read(r#"{"id":"a","inner":{"kind":"cli"},"params":null}"#).expect("fits");
        assert!(sample.params.expect("present").is_null());
        let sample: Sample = read(r#"{"params":{"a": 1.50},"id":"a","inner":{"kind":"cli"}}"#).expect("fits");
        assert_eq!(sample.params.expect("present").as_str(), r#"{"a": 1.50}"#);
    }
}
