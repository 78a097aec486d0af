//! The bytes below a link: for asking the gateway's HTTP face.

use super::open::{bounded, plain_tcp, tcp, tls_error, trust, unix};
use super::{Dial, DialError, Target};
use crate::link::ws::Io;
use crate::tls;

/// A byte stream to the gateway's port, secured as a link by this dial would be. Nobody is proven yet but by its certificate.
///
/// # Errors
/// See [`DialError`].
pub async fn connect(dial: &Dial) -> Result<Box<dyn Io>, DialError> {
    let target = &dial.target;
    if target.is_too_open(dial.speak.language()) {
        return Err(DialError::TooOpen { target: target.clone() });
    }
    match target {
        Target::Unix(path) => Ok(Box::new(unix(dial, path).await?)),
        Target::Tcp { tls: false, host, .. } => Ok(Box::new(plain_tcp(dial, host).await?)),
        // What is reached over QUIC serves HTTP on the TCP port of the same number.
        Target::Tcp { tls: true, host, .. } | Target::Quic { host, .. } | Target::Any { host, .. } => {
            let trust = trust(dial)?;
            let stream = tcp(dial).await?;
            let secured = tls::connect(stream, host, trust);
            let secured = bounded(dial, "set up TLS", secured).await?;
            let (stream, _) = secured.map_err(|source| tls_error(target, source))?;
            Ok(Box::new(stream))
        }
    }
}
