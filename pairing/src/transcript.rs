//! The exact bytes that both sides sign in the native handshake. Never signs or sends anything itself.

use atoll_protocol::frame::{Challenge, Frame, Hello};

/// Starts what the gateway signs.
pub(crate) const GATEWAY: &[u8] = b"atoll/1 gateway\0";

/// Starts what the other side signs, so that neither signature can be sent back as the other.
pub(crate) const PEER: &[u8] = b"atoll/1 peer\0";

/// Everything that both sides said and the channel on which they said it, each part with its length in front.
///
/// The whole Hello is in it: versions, role, scopes, key, commitment, client and surface. Whoever changes a bit
/// of it on the way breaks both signatures.
pub(crate) struct Transcript(Vec<u8>);

impl Transcript {
    /// What is agreed once the gateway has chosen. `exporter` is the TLS exporter of this very connection, or none
    /// where there is no TLS. The challenge's signature is not part of it.
    pub(crate) fn new(hello: &Hello, challenge: &Challenge, exporter: Option<&[u8; 32]>) -> Option<Self> {
        let hello = Frame::Hello(hello.clone()).encode().ok()?;
        let mut bytes = Vec::with_capacity(hello.len() + 128);
        push(&mut bytes, &hello);
        push(&mut bytes, &challenge.version.to_be_bytes());
        push(&mut bytes, &challenge.public_key);
        push(&mut bytes, &challenge.nonce);
        // Absence is an empty part, which no exporter is.
        push(&mut bytes, exporter.map_or(&[][..], |exporter| &exporter[..]));
        Some(Self(bytes))
    }

    /// What the gateway signs.
    pub(crate) fn of_gateway(&self) -> &[u8] {
        &self.0
    }

    /// What the peer signs: the nonce that it reveals, and its credentials too, so that nobody can slip another one in or
    /// take one out.
    pub(crate) fn of_peer(&self, nonce: &[u8; 32], token: Option<&str>, setup_code: Option<&str>) -> Vec<u8> {
        let mut bytes = self.0.clone();
        push(&mut bytes, nonce);
        for credential in [token, setup_code] {
            bytes.push(u8::from(credential.is_some()));
            push(&mut bytes, credential.unwrap_or_default().as_bytes());
        }
        bytes
    }
}

fn push(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
    bytes.extend_from_slice(part);
}
