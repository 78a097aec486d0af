//! Six digits that two people's eyes compare: the same at both ends of a handshake when nobody sits in between.
//!
//! The peer commits to its nonce before it learns the gateway's, and the gateway names its own before it learns the peer's.
//! So whoever sits in between has fixed all that it can choose, on each of its two links, before it knows what either end will
//! show: one try hits with one in [`MODULUS`]. How many tries there are is for [`crate::book`] to bound.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// How many values the digits take.
pub const MODULUS: u32 = 1_000_000;

/// Starts what is hashed into a commitment.
const COMMITMENT: &[u8] = b"atoll/1 nonce\0";

/// Starts what is hashed into digits.
const DIGITS: &[u8] = b"atoll/1 digits\0";

/// What a peer says of its nonce before it says the nonce.
pub(crate) fn commit(nonce: &[u8; 32]) -> [u8; 32] {
    Sha256::new()
        .chain_update(COMMITMENT)
        .chain_update(nonce)
        .finalize()
        .into()
}

/// Whether this nonce was committed to.
pub(crate) fn is_committed(nonce: &[u8; 32], commitment: &[u8; 32]) -> bool {
    commit(nonce).ct_eq(commitment).into()
}

/// What one end knows when a handshake is over, each part in the place of its role.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends<'a> {
    /// The key of the one who dialled.
    pub(crate) peer_key: &'a [u8; 32],
    /// The gateway's key.
    pub(crate) gateway_key: &'a [u8; 32],
    /// The nonce of the one who dialled.
    pub(crate) peer_nonce: &'a [u8; 32],
    /// The gateway's nonce.
    pub(crate) gateway_nonce: &'a [u8; 32],
}

/// The digits of one link.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digits(u32);

impl Digits {
    /// The digits of a link between these ends.
    pub(crate) fn of(ends: Ends<'_>) -> Self {
        Self(reduced(ends, MODULUS))
    }

    /// Whether these are the same; takes the same time either way.
    pub fn matches(self, other: Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// As a person reads them: `123 456`.
    pub fn spaced(self) -> String {
        format!("{:03} {:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// Every part has a length of its own kind, so no two different ends hash the same bytes.
fn reduced(ends: Ends<'_>, modulus: u32) -> u32 {
    let hash = Sha256::new()
        .chain_update(DIGITS)
        .chain_update(ends.peer_key)
        .chain_update(ends.gateway_key)
        .chain_update(ends.peer_nonce)
        .chain_update(ends.gateway_nonce)
        .finalize();
    // Of 128 bits, so that no value is noticeably likelier than another.
    let rest = hash
        .iter()
        .take(16)
        .fold(0_u64, |rest, byte| (rest * 256 + u64::from(*byte)) % u64::from(modulus));
    u32::try_from(rest).expect("less than the modulus")
}

/// As programs write them: `123456`.
impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06}", self.0)
    }
}

/// Digits are seen by people only: no log holds them.
impl fmt::Debug for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digits(…)")
    }
}

/// Not six digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a code is six digits, e.g. 123 456")]
pub struct BadDigits;

impl FromStr for Digits {
    type Err = BadDigits;

    /// With or without a space or hyphen between them.
    fn from_str(text: &str) -> Result<Self, BadDigits> {
        let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        let is_code = digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_code {
            digits.parse().map(Self).map_err(|_| BadDigits)
        } else {
            Err(BadDigits)
        }
    }
}

#[cfg(test)]
mod tests;
