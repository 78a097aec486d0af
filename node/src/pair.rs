//! `atoll-node pair`: comes in by an invitation, without a question, and remembers whom it was let in by.
//!
//! Dials the addresses of the invitation in turn, each once. Never keeps the code.

use std::sync::Arc;

use atoll_capabilities::mcp::Mcp;
use atoll_pairing::dial::{Dial, DialError, Dialled, Speak, Target, dial};
use atoll_pairing::invitation::{ForeignInvitation, Invitation, NativeInvitation};
use atoll_pairing::proven::Offered;
use atoll_pairing::tls::Fingerprint;
use secrecy::ExposeSecret;
use std::path::PathBuf;
use tokio::sync::oneshot;

use crate::ask::Ways;
use crate::config::Dialect;
use crate::consent::Consent;
use crate::daemon::{ask_of, capabilities};
use crate::desk::Desk;
use crate::guard::Owner;
use crate::state::{StateDir, StateError, Way, unix_ms};

/// What comes of an invitation.
#[derive(Debug)]
pub struct Paired {
    /// The address that worked, and is remembered.
    pub address: Target,
    /// What is spoken there.
    pub dialect: Dialect,
    /// The certificate to insist on there (dialect over TLS).
    pub certificate: Option<Fingerprint>,
    /// The short id of the gateway's key; none in the dialect.
    pub gateway: Option<String>,
    /// The commands in force.
    pub commands: Vec<String>,
}

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// The folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The gateway was there and did not take the code, or something is wrong here.
    #[error(transparent)]
    Dial(DialError),
    /// No address worked.
    #[error("the gateway was not reached:\n{}", tries.join("\n"))]
    Unreachable {
        /// Each address and what was wrong with it.
        tries: Vec<String>,
    },
    /// The gateway asks its owner all the same.
    #[error("the gateway did not take the code for an answer; its owner has to approve request {request}")]
    Asked {
        /// The request.
        request: String,
    },
}

/// Comes in by an invitation, as the device of that folder and under that name.
///
/// # Errors
/// See [`PairError`]; nothing is remembered then.
pub async fn pair(state_dir: PathBuf, name: &str, invitation: &Invitation) -> Result<Paired, PairError> {
    let state = StateDir::open(&state_dir)?;
    let _lock = state.lock()?;
    let identity = Arc::new(state.identity()?);
    let dialect = match invitation {
        Invitation::Native(_) => Dialect::Native,
        Invitation::Foreign(_) => Dialect::Openclaw,
    };
    let consent = Arc::new(Consent::new(identity.device_id()));
    let owner = Arc::new(Owner::new(state.path(), consent.clone(), Ways::default()));
    let mcp = Arc::new(Mcp::new(state.path()));
    let desk = Desk::new(
        identity.device_id(),
        dialect,
        capabilities(&state, &consent, &owner, name, mcp),
    );
    let (addresses, speak) = match invitation {
        Invitation::Native(native) => (&native.addresses, speak_native(native)),
        Invitation::Foreign(foreign) => (&foreign.addresses, speak_foreign(foreign)),
    };
    let mut tries = Vec::new();
    for address in addresses {
        let how = Dial {
            target: address.clone(),
            first: None,
            identity: Some(Arc::clone(&identity)),
            ask: ask_of(dialect, name, &desk),
            speak: speak.clone(),
        };
        match knock(&how).await {
            Ok(dialled) => return remember(&state, address, dialect, invitation, dialled).await,
            // A gateway that knows better than we do what is wrong with the code says the same everywhere.
            Err(PairError::Dial(error @ DialError::Refused(_))) => return Err(PairError::Dial(error)),
            Err(PairError::Dial(error)) => tries.push(format!("  {address}: {error}")),
            Err(error) => return Err(error),
        }
    }
    Err(PairError::Unreachable { tries })
}

fn speak_native(invitation: &NativeInvitation) -> Speak {
    Speak::Native {
        pin: Some(invitation.gateway),
        token: None,
        setup_code: Some(invitation.code.clone()),
    }
}

fn speak_foreign(invitation: &ForeignInvitation) -> Speak {
    Speak::Dialect {
        credentials: Offered {
            bootstrap_token: Some(invitation.code.clone()),
            ..Offered::default()
        },
        certificate: invitation.certificate,
    }
}

/// Dials once. A code asks no question, so a gateway that lets this device wait is no success.
async fn knock(how: &Dial) -> Result<Dialled, PairError> {
    let (asked, mut waits) = oneshot::channel();
    let mut asked = Some(asked);
    let dialling = dial(how, |waiting| {
        if let Some(asked) = asked.take() {
            let _ = asked.send(waiting.request.to_string());
        }
    });
    tokio::select! {
        dialled = dialling => dialled.map_err(|error| match error.needs_pairing() {
            Some(request) => PairError::Asked { request },
            None => PairError::Dial(error),
        }),
        Ok(request) = &mut waits => Err(PairError::Asked { request }),
    }
}

async fn remember(
    state: &StateDir,
    address: &Target,
    dialect: Dialect,
    invitation: &Invitation,
    dialled: Dialled,
) -> Result<Paired, PairError> {
    let Dialled { link, pipe, outcome } = dialled;
    let mut gateways = state.gateways()?;
    let text = address.place();
    if let Some(gateway) = outcome.gateway {
        gateways.adopt(&text, gateway.public_key)?;
    }
    if let Some(token) = &outcome.device_token {
        gateways.set_device_token(&text, Some(token.expose_secret().to_owned()))?;
    }
    gateways.set_pipe(&text, pipe)?;
    let certificate = match invitation {
        Invitation::Native(_) => None,
        Invitation::Foreign(foreign) => foreign.certificate,
    };
    let way = Way {
        address: address.to_string(),
        dialect,
        tls_fingerprint: certificate.map(|certificate| certificate.to_string()),
    };
    gateways.used(&text, way, unix_ms())?;
    let (mut tx, _rx) = link.split();
    tx.close(1000, "paired").await;
    Ok(Paired {
        address: address.clone(),
        dialect,
        certificate,
        gateway: outcome.gateway.map(|gateway| gateway.id.short()),
        commands: outcome.admitted.surface.commands,
    })
}
