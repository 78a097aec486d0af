//! What a blob of the store goes by.

use std::fmt;
use std::str::FromStr;

use atoll_protocol::hex::Hex;

/// The BLAKE3 of its bytes, written as 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Handle([u8; 32]);

impl Handle {
    /// Wraps a hash that was checked.
    pub(crate) fn of(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

/// Not 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a media handle is 64 lower-case hex digits")]
pub(crate) struct BadHandle;

impl FromStr for Handle {
    type Err = BadHandle;

    fn from_str(text: &str) -> Result<Self, BadHandle> {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(BadHandle),
        };
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(BadHandle);
        }
        let mut hash = [0; 32];
        for (out, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *out = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(hash))
    }
}
