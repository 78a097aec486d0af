//! What a finished handshake knows for certain about the peer, and what the peer merely says.

use atoll_protocol::capability::Surface;
use atoll_protocol::frame::ClientInfo;
use atoll_protocol::id::DeviceId;
use atoll_protocol::scope::{Role, Scopes};
use secrecy::SecretString;

use crate::digits::Digits;

/// A peer that holds the private key it names (or came without a device), on this very channel.
///
/// Proof is not permission: the only thing to do with it is to ask [`crate::admission`].
#[must_use = "a proven peer is not admitted yet"]
#[derive(Debug)]
pub struct Proven {
    pub(crate) device: Option<DeviceKey>,
    pub(crate) claims: Claims,
    pub(crate) offered: Offered,
    pub(crate) language: Language,
    pub(crate) digits: Option<Digits>,
}

impl Proven {
    /// A program without a device that asks over HTTP, with the secret that it shows.
    pub fn program(scopes: Scopes, token: Option<SecretString>) -> Self {
        let client = ClientInfo {
            id: "cli".to_owned(),
            mode: "cli".to_owned(),
            ..ClientInfo::default()
        };
        Self {
            device: None,
            claims: Claims {
                role: Role::Operator,
                scopes,
                client,
                surface: Surface::default(),
                path_env: String::new(),
                protocol: 4,
            },
            offered: Offered {
                token,
                ..Offered::default()
            },
            language: Language::Dialect,
            digits: None,
        }
    }

    /// The device whose key signed; none for an operator's program without a device.
    pub fn device(&self) -> Option<&DeviceKey> {
        self.device.as_ref()
    }

    /// What the peer says of itself and asks for.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// What this peer shows to a person, unless somebody sits in between; none in the dialect.
    pub fn digits(&self) -> Option<Digits> {
        self.digits
    }

    /// The language that it speaks.
    pub fn language(&self) -> Language {
        self.language
    }
}

/// A device's public key and the id made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceKey {
    /// SHA-256 of the key.
    pub id: DeviceId,
    /// The raw Ed25519 key.
    pub public_key: [u8; 32],
}

/// What the peer says and asks for. It can narrow what the book holds and never widen it.
#[derive(Debug, Clone)]
pub struct Claims {
    /// The role asked for.
    pub role: Role,
    /// The scopes asked for.
    pub scopes: Scopes,
    /// Program, platform, names.
    pub client: ClientInfo,
    /// What a node offers.
    pub surface: Surface,
    /// A node's `PATH`.
    pub path_env: String,
    /// The version of the language in use: 1 for native; 3 or 4 for the dialect.
    pub protocol: u16,
}

/// Credentials that came along, none of them checked yet.
#[derive(Debug, Clone, Default)]
pub struct Offered {
    /// The shared secret, or a device token in its place.
    pub token: Option<SecretString>,
    /// The shared password.
    pub password: Option<SecretString>,
    /// A device token.
    pub device_token: Option<SecretString>,
    /// A setup code.
    pub bootstrap_token: Option<SecretString>,
}

impl Offered {
    /// Whether nothing came along.
    pub fn is_empty(&self) -> bool {
        self.token.is_none() && self.password.is_none() && self.device_token.is_none() && self.bootstrap_token.is_none()
    }
}

/// What is spoken on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// `atoll/1`, postcard in binary frames.
    Native,
    /// OpenClaw's JSON text frames.
    Dialect,
}

/// How the peer reached the gateway; found by the listener, never told by the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The address it came from, as text without the port; `unix` for the Unix socket. What lockouts count.
    pub address: String,
    /// A loopback address, no forwarding header, no `Origin` header: nothing between it and us that we can see.
    pub is_direct_loopback: bool,
    /// The peer process of the Unix socket runs as this user, which is the gateway's own.
    pub local_user: Option<u32>,
    /// The `Origin` header, checked against the list before this was made.
    pub browser: Option<String>,
    /// The user that a trusted proxy vouches for.
    pub proxy_user: Option<String>,
}

impl Origin {
    /// Whether the peer is on this machine, as far as can be seen.
    pub fn is_near(&self) -> bool {
        self.is_direct_loopback || self.local_user.is_some()
    }
}
