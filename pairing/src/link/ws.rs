//! A WebSocket as a pipe, on either side and over any byte stream: TCP, TLS, Unix socket, upgraded HTTP.
//!
//! Owns the buffers (small: an idle link costs a few KiB), the heartbeat and the close handshake. No compression.
//! Never looks into a message.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use atoll_protocol::limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tungstenite::WebSocket;
use tungstenite::error::Error as WsError;
use tungstenite::handshake::client::{ClientHandshake, Request};
use tungstenite::handshake::{HandshakeError as WsHandshake, derive_accept_key};
use tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tungstenite::protocol::{Role as WsRole, WebSocketConfig};

use super::{Facts, LinkError, Message, Pipe, PipeRx, PipeTx};
use crate::proven::Language;

mod halves;
mod socket;

use halves::Beat;
pub(super) use halves::{Rx, Tx};
pub(super) use socket::cut;
use socket::{Blocking, Both, Shared, blocking};

/// The subprotocol of the native language.
pub const SUBPROTOCOL: &str = "atoll.1";

/// How long the other end has to take a close frame and to answer it.
pub const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// A peer that takes not one byte for this long, while there is something for it, is given up.
pub const STALL: Duration = Duration::from_secs(30);

/// What a client without a word from the gateway waits before it gives up. The gateway pings and ticks more often.
const SILENCE: Duration = Duration::from_secs(2 * limits::TICK.as_secs());

/// Small, since there are thousands of idle links; a larger message grows its own buffer.
const BUFFER: usize = 4 * 1024;

/// The longest reason in a close frame, bytes.
const REASON: usize = 120;

/// Any byte stream.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The value of `Sec-WebSocket-Accept` for a client's `Sec-WebSocket-Key`.
pub fn accept_key(sec_websocket_key: &str) -> String {
    derive_accept_key(sec_websocket_key.as_bytes())
}

/// The gateway's end of a stream whose HTTP upgrade has been answered.
pub fn accept(io: impl Io + 'static, facts: Facts) -> Pipe {
    let (io, both) = blocking(Box::new(io));
    let socket = WebSocket::from_raw_socket(io, WsRole::Server, Some(config()));
    pipe(socket, both, Beat::Ping { heard: None }, facts)
}

/// Why there is no WebSocket at the other end.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// An HTTP answer in place of the upgrade.
    #[error("the gateway answered HTTP {status}{}{body}", if body.is_empty() { "" } else { ": " })]
    Http {
        /// The status.
        status: u16,
        /// The start of the body.
        body: String,
    },
    /// It speaks WebSocket but not the native language.
    #[error("the gateway does not speak {SUBPROTOCOL}; if it is an OpenClaw gateway, use the openclaw dialect")]
    Language,
    /// Not HTTP, or a wrong answer.
    #[error("no WebSocket there: {0}")]
    Broken(String),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(io::Error),
}

/// The client's end: asks for the upgrade at `host` and `path`. The caller bounds the time.
///
/// # Errors
/// See [`UpgradeError`].
pub async fn upgrade(
    io: impl Io + 'static,
    host: &str,
    path: &str,
    language: Language,
    mut facts: Facts,
) -> Result<Pipe, UpgradeError> {
    let (io, both) = blocking(Box::new(io));
    let request = request(host, path, language).map_err(|error| UpgradeError::Broken(error.to_string()))?;
    let started = ClientHandshake::start(io, request, Some(config())).map_err(refused)?;
    let mut step = Some(started);
    let (socket, response) = poll_fn(|cx| {
        both.rx.register(cx.waker());
        let Some(handshake) = step.take() else {
            return Poll::Ready(Err(UpgradeError::Broken("polled after its end".to_owned())));
        };
        match handshake.handshake() {
            Ok(done) => Poll::Ready(Ok(done)),
            Err(WsHandshake::Interrupted(later)) => {
                step = Some(later);
                Poll::Pending
            }
            Err(WsHandshake::Failure(error)) => Poll::Ready(Err(refused(error))),
        }
    })
    .await?;
    let chosen = response.headers().get(SEC_WEBSOCKET_PROTOCOL);
    if language == Language::Native && chosen.is_none_or(|chosen| chosen != SUBPROTOCOL) {
        return Err(UpgradeError::Language);
    }
    facts.language = Some(language);
    Ok(pipe(socket, both, Beat::Listen { heard: 0 }, facts))
}

fn request(host: &str, path: &str, language: Language) -> Result<Request, tungstenite::http::Error> {
    let request = Request::builder()
        .uri(format!("ws://{host}{path}"))
        .header("Host", host)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", tungstenite::handshake::client::generate_key());
    match language {
        Language::Native => request.header("Sec-WebSocket-Protocol", SUBPROTOCOL).body(()),
        Language::Dialect => request.body(()),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a foreign and open enum: see the last arm"
)]
fn refused(error: WsError) -> UpgradeError {
    match error {
        WsError::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            let body = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            UpgradeError::Http {
                status: response.status().as_u16(),
                body,
            }
        }
        WsError::Io(error) => UpgradeError::Io(error),
        // Whatever else it is, there is no WebSocket.
        error => UpgradeError::Broken(error.to_string()),
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_message_size(Some(limits::PRE_AUTH_FRAME))
        .max_frame_size(Some(limits::PRE_AUTH_FRAME))
}

fn pipe(socket: WebSocket<Blocking>, wakers: Arc<Both>, beat: Beat, facts: Facts) -> Pipe {
    let shared = Shared::new(socket, wakers);
    Pipe::new(
        PipeTx::Ws(Tx::new(shared.clone())),
        PipeRx::Ws(Rx::new(shared, beat)),
        facts,
    )
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
