//! WebTransport: how a browser comes in on the same UDP port. HTTP/3 up to the one request that opens a session; then one stream, opened
//! here, carries OpenClaw's language with lengths as on every other stream. Owns what of HTTP/3 must stay open for as long as the session.
//! Never judges who asks: that is the caller's, by the request's headers.

use std::time::Duration;

use bytes::BytesMut;
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use web_transport_proto::http::header::{HOST, HeaderValue};
use web_transport_proto::http::{HeaderMap, StatusCode};
use web_transport_proto::{ConnectRequest, ConnectResponse, Frame, Settings, SettingsError, VarInt as Number};

use super::{CLOSE_GRACE, Facts, LinkError, Pipe, lost, pipe, transport};

/// `H3_NO_ERROR` (RFC 9114, section 8.1): why is said on the stream before.
pub(super) const NO_ERROR: VarInt = VarInt::from_u32(0x100);

/// The answer and the stream must have left by then.
const OPENING: Duration = Duration::from_secs(10);

/// How often a browser hears that the gateway is there, however little its system lets a page do: well within the silence after which
/// either end gives up.
const BEAT: Duration = Duration::from_secs(8);

/// Pieces of what a session's own stream still brings, which nobody needs.
const PIECE: usize = 4 * 1024;

/// A request for a session, neither granted nor refused.
pub struct Visit {
    connection: Connection,
    request: ConnectRequest,
    answer: SendStream,
    session: Session,
    facts: Facts,
}

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Addresses and headers may hold secrets.
        f.debug_tuple("quic::Visit")
            .field(&self.connection.remote_address())
            .finish()
    }
}

impl Visit {
    /// Waits for the settings of the browser and its request. The caller bounds the time.
    pub(super) async fn open(connection: Connection, facts: Facts) -> Result<Self, LinkError> {
        let ours = settings(&connection).await?;
        let mut theirs = Vec::new();
        for _ in 0..transport::WEB_STREAMS {
            let mut stream = connection.accept_uni().await.map_err(gone)?;
            let found = Settings::read(&mut stream).await;
            theirs.push(stream);
            match found {
                Ok(found) if found.supports_webtransport() > 0 => break,
                Ok(_) => return Err(broken("no WebTransport")),
                // One for compressed headers, which come without: it stays open all the same.
                Err(SettingsError::UnexpectedStreamType(_)) => {}
                Err(error) => return Err(broken(error)),
            }
        }
        let (answer, mut asked) = connection.accept_bi().await.map_err(gone)?;
        let request = ConnectRequest::read(&mut asked).await.map_err(broken)?;
        let session = Session {
            asked,
            answer: None,
            _settings: (ours, theirs),
            beat: beat(),
        };
        Ok(Self {
            connection,
            request,
            answer,
            session,
            facts,
        })
    }

    /// What the browser sent along, with the host that it was told to go to.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = self.request.headers.clone();
        if let Ok(host) = HeaderValue::from_str(self.request.url.authority()) {
            headers.insert(HOST, host);
        }
        headers
    }

    /// What follows the path in the address.
    pub fn query(&self) -> Option<&str> {
        self.request.url.query()
    }

    /// Opens the session and its one stream.
    ///
    /// # Errors
    /// The browser left, or takes nothing.
    pub async fn accept(mut self) -> Result<Pipe, LinkError> {
        let opening = async {
            ConnectResponse::OK.write(&mut self.answer).await.map_err(broken)?;
            let (mut control, incoming) = self.connection.open_bi().await.map_err(gone)?;
            let mut head = BytesMut::new();
            Frame::WEBTRANSPORT.encode(&mut head);
            session_id(&self.answer).encode(&mut head);
            control.write_all(&head).await.map_err(|_| lost())?;
            Ok::<_, LinkError>((control, incoming))
        };
        let opened = timeout(OPENING, opening).await;
        let (control, incoming) = opened.map_err(|_| LinkError::Stalled)??;
        self.session.answer = Some(self.answer);
        Ok(pipe(self.connection, control, incoming, self.facts, Some(self.session)))
    }

    /// Answers with this HTTP status and hangs up; waits a moment for the browser to have read it.
    pub async fn refuse(mut self, status: u16) {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        let telling = async {
            let response = ConnectResponse::new(status);
            if response.write(&mut self.answer).await.is_ok() && self.answer.finish().is_ok() {
                let _ = self.answer.stopped().await;
            }
        };
        let _ = timeout(CLOSE_GRACE, telling).await;
        self.connection.close(NO_ERROR, b"");
    }
}

/// A session that is open: it ends with the stream of its request, and HTTP/3 wants the streams of settings kept.
#[derive(Debug)]
pub(super) struct Session {
    asked: RecvStream,
    answer: Option<SendStream>,
    _settings: (SendStream, Vec<RecvStream>),
    beat: Interval,
}

impl Session {
    /// Resolves when the browser has ended the session. Dropping the future loses nothing.
    pub(super) async fn over(&mut self, connection: &Connection) {
        loop {
            tokio::select! {
                piece = self.asked.read_chunk(PIECE, true) => if !matches!(piece, Ok(Some(_))) { return },
                _ = self.beat.tick() => {
                    // An empty datagram of this session (RFC 9297, section 2.1), which pages need not read. One that cannot be sent now is
                    // none, and the next one comes.
                    let mut datagram = BytesMut::new();
                    if let Some(answer) = &self.answer
                        && let Ok(quarter) = Number::try_from(session_id(answer).into_inner() / 4)
                    {
                        quarter.encode(&mut datagram);
                        let _ = connection.send_datagram(datagram.freeze());
                    }
                }
            }
        }
    }
}

async fn settings(connection: &Connection) -> Result<SendStream, LinkError> {
    let mut settings = Settings::default();
    settings.enable_webtransport(1);
    let mut stream = connection.open_uni().await.map_err(gone)?;
    settings.write(&mut stream).await.map_err(broken)?;
    Ok(stream)
}

/// A session is named by the stream of its request.
fn session_id(request: &SendStream) -> Number {
    Number::try_from(VarInt::from(request.id()).into_inner()).unwrap_or(Number::from_u32(0))
}

fn beat() -> Interval {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

fn gone(error: ConnectionError) -> LinkError {
    broken(error)
}

fn broken(error: impl ToString) -> LinkError {
    LinkError::Broken(error.to_string())
}
