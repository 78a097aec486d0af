//! The names things go by on the wire. Owns their shape and bounds; never makes one up (no randomness here).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::hex::{self, Hex};

/// A device: SHA-256 of its raw Ed25519 public key. Written as 64 lower-case hex digits.
///
/// A node's `nodeId` is its device id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId([u8; 32]);

impl DeviceId {
    /// Wraps a digest that the caller computed from a public key.
    pub const fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The 32 bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first ten hex digits: enough for a person, the form that logs use.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..5])
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceId({})", self.short())
    }
}

/// Not 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a device id is 64 hex digits")]
pub struct BadDeviceId;

impl FromStr for DeviceId {
    type Err = BadDeviceId;

    fn from_str(text: &str) -> Result<Self, BadDeviceId> {
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return Err(BadDeviceId);
        }
        let mut digest = [0; 32];
        for (out, pair) in digest.iter_mut().zip(bytes.chunks_exact(2)) {
            *out = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Ok(Self(digest))
    }
}

fn hex_digit(digit: u8) -> Result<u8, BadDeviceId> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(BadDeviceId),
    }
}

impl Serialize for DeviceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for DeviceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
            text.parse().map_err(de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

/// An id that would be empty or longer than [`crate::limits::ID_CHARS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id has 1 to {} characters", crate::limits::ID_CHARS)]
pub struct BadId;

macro_rules! text_ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// Takes a name from outside, checking its length.
            pub fn new(text: impl Into<Box<str>>) -> Result<Self, BadId> {
                let text = text.into();
                if text.is_empty() || text.len() > $crate::limits::ID_CHARS {
                    return Err(BadId);
                }
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<uuid::Uuid> for $name {
            fn from(id: uuid::Uuid) -> Self {
                Self(id.to_string().into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(Box::<str>::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    )*};
}

text_ids! {
    /// One request of one peer; chosen by the peer that asks, unique only to it.
    RequestId;
    /// One call of a command on a node; chosen by the gateway, unique for ever.
    CallId;
    /// One pending pairing request (device and command surface together).
    PairingId;
    /// A setup code, named where its secret must not stand.
    SetupId;
    /// One question to a person: may this run?
    ApprovalId;
    /// One agent turn.
    RunId;
    /// One conversation, e.g. `agent:main:telegram:group:-100123`.
    SessionKey;
    /// One agent, e.g. `main`.
    AgentId;
    /// Bytes that one end keeps for the other; chosen by whoever keeps them.
    BlobId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_id_survives_text_json_and_postcard() {
        let id = DeviceId::from_digest([0xab; 32]);
        assert_eq!(id.to_string().parse::<DeviceId>(), Ok(id));
        let json = serde_json::to_string(&id).expect("serialises");
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<DeviceId>(&json).expect("parses"), id);
        let bytes = postcard::to_stdvec(&id).expect("encodes");
        assert_eq!(bytes.len(), 32);
        assert_eq!(postcard::from_bytes::<DeviceId>(&bytes).expect("decodes"), id);
    }

    #[test]
    fn a_device_id_is_64_hex_digits_and_nothing_else() {
        for bad in [
            "",
            "ab",
            &"g".repeat(64),
            &"a".repeat(63),
            &"a".repeat(65),
            &"é".repeat(32),
        ] {
            assert_eq!(bad.parse::<DeviceId>(), Err(BadDeviceId), "{bad}");
        }
    }

    #[test]
    fn a_text_id_is_neither_empty_nor_huge() {
        assert!(CallId::new("").is_err());
        assert!(CallId::new("x".repeat(crate::limits::ID_CHARS + 1)).is_err());
        assert!(serde_json::from_str::<CallId>("\"\"").is_err());
        assert_eq!(CallId::new("c1").expect("fits").as_str(), "c1");
    }
}
