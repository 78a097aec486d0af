//! Device tokens: how they look, how they are kept, how they are compared. Makes none up: the random bytes come in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The SHA-256 of a secret's text; what is stored in its place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Hashes a secret.
    pub fn of(secret: &SecretString) -> Self {
        Self(Sha256::digest(secret.expose_secret().as_bytes()).into())
    }

    /// Whether this is the secret; takes the same time either way.
    pub fn matches(&self, offered: &SecretString) -> bool {
        self.0.ct_eq(&Self::of(offered).0).into()
    }

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// 32 fresh random bytes, to become a device token if one is needed.
pub struct FreshToken(pub [u8; 32]);

impl std::fmt::Debug for FreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FreshToken(…)")
    }
}

impl FreshToken {
    /// The token as it travels: 43 characters.
    pub fn text(&self) -> SecretString {
        URL_SAFE_NO_PAD.encode(self.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_43_characters_and_matches_only_itself() {
        let token = FreshToken([7; 32]).text();
        assert_eq!(token.expose_secret().len(), 43);
        let hash = SecretHash::of(&token);
        assert!(hash.matches(&token));
        assert!(!hash.matches(&FreshToken([8; 32]).text()));
        assert!(!hash.matches(&SecretString::from("")));
        assert!(!format!("{hash:?} {:?}", FreshToken([7; 32])).contains('7'));
    }
}
