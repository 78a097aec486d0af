//! The gateway's shell around the handshake: from a pipe to a proven guest, and from a verdict to a link.
//!
//! Owns the deadline, the nonces and the clock that the handshake takes. Never decides: the caller asks
//! [`crate::admission`] in between.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use atoll_protocol::dialect;
use atoll_protocol::dialect::hello::HelloOk;
use atoll_protocol::dialect::refusal::{PairingRefusal, Refusal};
use atoll_protocol::frame::Admitted;
use tokio::time::timeout_at;

use crate::handshake::{Gateway, Now, Step};
use crate::identity::Identity;
use crate::link::{Codec, Link, LinkError, Pipe};
use crate::proven::{Language, Proven};

/// A peer that has proven itself and waits for the verdict.
#[derive(Debug)]
pub struct Guest {
    pipe: Pipe,
    machine: Gateway,
    proven: Arc<Proven>,
}

/// Why a peer did not get as far as a verdict. It has been told what it may know.
#[derive(Debug, thiserror::Error)]
pub enum GreetError {
    /// The connection ended.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The handshake failed, and the link was closed with this code.
    #[error("the handshake failed ({code}{}{reason})", if reason.is_empty() { "" } else { ": " })]
    Refused {
        /// The close code.
        code: u16,
        /// The close reason.
        reason: String,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}

/// Does the handshake on a new pipe, within [`atoll_protocol::limits::HANDSHAKE`].
///
/// # Errors
/// See [`GreetError`]; the pipe is closed then.
pub async fn greet(pipe: Pipe, language: Language, identity: Arc<Identity>) -> Result<Guest, GreetError> {
    let (machine, steps) = match language {
        Language::Native => {
            let mut nonce = [0; 32];
            getrandom::fill(&mut nonce).map_err(|_| GreetError::Random)?;
            (
                Gateway::native(identity, nonce, pipe.facts().exporter, now()),
                Vec::new(),
            )
        }
        Language::Dialect => Gateway::dialect(uuid::Uuid::new_v4().to_string(), now()),
    };
    prove(pipe, machine, steps).await
}

async fn prove(mut pipe: Pipe, mut machine: Gateway, mut steps: Vec<Step>) -> Result<Guest, GreetError> {
    loop {
        for step in steps {
            match step {
                Step::Send(message) => pipe.send(message).await?,
                Step::Proven(proven) => {
                    let proven = Arc::from(proven);
                    return Ok(Guest { pipe, machine, proven });
                }
                Step::Close { code, reason } => {
                    pipe.close(code, &reason).await;
                    return Err(GreetError::Refused { code, reason });
                }
            }
        }
        steps = match machine.poll_timeout() {
            None => machine.handle(pipe.recv().await?, now()),
            Some((deadline, _)) => match timeout_at(deadline.into(), pipe.recv()).await {
                Ok(message) => machine.handle(message?, now()),
                Err(_) => machine.handle_timeout(),
            },
        };
    }
}

impl Guest {
    /// Who it is and what it asks for.
    pub fn proven(&self) -> &Arc<Proven> {
        &self.proven
    }

    /// Tells it that a person has to decide. A native guest stays for [`Self::gone`] and a verdict; one of the dialect is
    /// sent away (none) and comes again by itself.
    ///
    /// # Errors
    /// It has gone.
    pub async fn wait(mut self, pairing: &PairingRefusal) -> Result<Option<Self>, LinkError> {
        let steps = self.machine.wait(pairing);
        let Self { pipe, machine, proven } = self;
        let pipe = tell(pipe, steps).await?;
        Ok(pipe.map(|pipe| Self { pipe, machine, proven }))
    }

    /// Lets it in. `hello` is what the dialect says for `admitted`, and is made only there.
    ///
    /// # Errors
    /// It has gone.
    pub async fn admit(
        mut self,
        admitted: Admitted,
        hello: impl FnOnce(&Admitted) -> HelloOk,
    ) -> Result<Link, LinkError> {
        let codec = match self.machine.language() {
            Language::Native => Codec::Native,
            Language::Dialect => Codec::DialectGateway(dialect::Gateway {
                peer: admitted.role,
                own: self.proven.device().map(|device| device.id),
            }),
        };
        let steps = self.machine.admit(admitted, hello);
        match tell(self.pipe, steps).await? {
            Some(pipe) => Ok(Link::new(pipe, codec)),
            None => Err(LinkError::ClosedHere),
        }
    }

    /// Sends it away.
    pub async fn refuse(mut self, refusal: &Refusal) {
        let steps = self.machine.refuse(refusal);
        // Whoever has gone already does not need to be told.
        let _ = tell(self.pipe, steps).await;
    }

    /// Resolves when a waiting guest leaves or says something out of turn.
    pub async fn gone(&mut self) -> LinkError {
        match self.pipe.recv().await {
            Ok(_) => LinkError::Broken("a message before the verdict".to_owned()),
            Err(error) => error,
        }
    }
}

/// Says it; none when the pipe is closed after that.
async fn tell(mut pipe: Pipe, steps: Vec<Step>) -> Result<Option<Pipe>, LinkError> {
    for step in steps {
        match step {
            Step::Send(message) => pipe.send(message).await?,
            Step::Close { code, reason } => {
                pipe.close(code, &reason).await;
                return Ok(None);
            }
            Step::Proven(_) => {} // a verdict proves nobody
        }
    }
    Ok(Some(pipe))
}

fn now() -> Now {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        instant: tokio::time::Instant::now().into_std(),
        unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
    }
}
