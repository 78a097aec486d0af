//! One connection to or from a peer, as the bytes that are on it: messages of any length or none, whole, half or never finished. Knows
//! how each pipe frames its messages, from the description of the wire alone, and keeps to nothing else.

use std::time::Duration;

use atoll_pairing::link::ws::Io;
use atoll_protocol::frame::Frame;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, VarInt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::wait::within;

/// Set in a length on a QUIC stream that opens a farewell.
const FAREWELL: u32 = 1 << 31;

/// What is read at once, bytes.
const READ: usize = 64 * 1024;

/// How long a peer that does not read is written to.
const PUSH: Duration = Duration::from_secs(3);

/// The end of a connection, in the words of the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Its code; none when it gave none.
    pub code: Option<u64>,
    /// Its reason.
    pub reason: String,
}

impl Closed {
    fn silently() -> Self {
        Self {
            code: None,
            reason: String::new(),
        }
    }
}

/// One connection.
pub struct Line {
    end: End,
    /// Read and not taken yet.
    read: Vec<u8>,
}

enum End {
    Quic(Box<Quic>),
    Ws { io: Box<dyn Io>, is_client: bool },
}

/// A QUIC connection with its first stream.
pub struct Quic {
    /// The connection.
    pub connection: Connection,
    /// The first stream, to write to.
    pub control: SendStream,
    answers: RecvStream,
    /// Drives a client's connection.
    _endpoint: Option<Endpoint>,
}

impl Line {
    /// Over QUIC, with the first stream already open.
    pub fn quic(connection: Connection, control: SendStream, answers: RecvStream, endpoint: Option<Endpoint>) -> Self {
        let quic = Quic {
            connection,
            control,
            answers,
            _endpoint: endpoint,
        };
        Self::of(End::Quic(Box::new(quic)))
    }

    /// Over a byte stream that was upgraded to a WebSocket.
    pub fn ws(io: impl Io + 'static, is_client: bool) -> Self {
        let io = Box::new(io);
        Self::of(End::Ws { io, is_client })
    }

    fn of(end: End) -> Self {
        Self { end, read: Vec::new() }
    }

    /// The QUIC connection.
    ///
    /// # Panics
    /// When this is a WebSocket.
    pub fn streams(&mut self) -> &mut Quic {
        match &mut self.end {
            End::Quic(quic) => quic,
            End::Ws { .. } => panic!("a WebSocket has no streams of its own"),
        }
    }

    /// Whether this is a QUIC connection.
    pub fn has_streams(&self) -> bool {
        matches!(self.end, End::Quic(_))
    }

    /// Sends one message. False when the connection is gone, or the peer takes nothing more.
    pub async fn say_bytes(&mut self, bytes: &[u8]) -> bool {
        let header = self.header(bytes.len() as u64);
        self.push(&[&header, bytes].concat()).await
    }

    /// Sends one frame, as [`Self::say_bytes`].
    ///
    /// # Panics
    /// When the frame is too large for the language.
    pub async fn say(&mut self, frame: &Frame) -> bool {
        self.say_bytes(&frame.encode().expect("a frame that fits")).await
    }

    /// Announces a message of that length and sends only this of it.
    pub async fn begin(&mut self, len: u64, some: &[u8]) -> bool {
        let header = self.header(len);
        self.push(&[&header, some].concat()).await
    }

    fn header(&self, len: u64) -> Vec<u8> {
        match &self.end {
            End::Quic(_) => u32::try_from(len).unwrap_or(FAREWELL - 1).to_be_bytes().to_vec(),
            End::Ws { is_client, .. } => ws_header(0x82, len, *is_client),
        }
    }

    /// Sends these bytes as they are.
    pub async fn push(&mut self, bytes: &[u8]) -> bool {
        let pushing = async {
            match &mut self.end {
                End::Quic(quic) => quic.control.write_all(bytes).await.is_ok(),
                End::Ws { io, .. } => io.write_all(bytes).await.is_ok() && io.flush().await.is_ok(),
            }
        };
        timeout(PUSH, pushing).await.unwrap_or(false)
    }

    /// The next message. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The other end has closed.
    pub async fn hear_bytes(&mut self) -> Result<Vec<u8>, Closed> {
        loop {
            if let Some(heard) = self.parse() {
                match heard {
                    Heard::Message(bytes) => return Ok(bytes),
                    Heard::Ping(bytes) => drop(self.pong(&bytes).await),
                    Heard::Pong => {}
                    Heard::Closed(closed) => return Err(closed),
                }
                continue;
            }
            self.fill().await?;
        }
    }

    /// The next frame.
    ///
    /// # Errors
    /// The other end has closed.
    ///
    /// # Panics
    /// When it is no frame.
    pub async fn hear(&mut self) -> Result<Frame, Closed> {
        let bytes = within("a frame", self.hear_bytes()).await?;
        Ok(Frame::decode(&bytes, bytes.len()).expect("a frame"))
    }

    /// The first frame for which `wanted` gives something; others are passed over.
    ///
    /// # Panics
    /// When the other end closes first.
    pub async fn wait_for<T>(&mut self, what: &str, mut wanted: impl FnMut(Frame) -> Option<T>) -> T {
        loop {
            match self.hear().await {
                Ok(frame) => {
                    if let Some(found) = wanted(frame) {
                        return found;
                    }
                }
                Err(closed) => panic!("{closed:?} before {what}"),
            }
        }
    }

    /// Whether the other end still answers on this connection.
    pub async fn answers(&mut self) -> bool {
        self.asked_back().await.is_ok()
    }

    /// Asks the other end whether it is there, and reads on until it says so.
    ///
    /// # Errors
    /// The other end has closed.
    ///
    /// # Panics
    /// When something on the way is no frame.
    pub async fn asked_back(&mut self) -> Result<(), Closed> {
        let number = u64::from_le_bytes(uuid::Uuid::new_v4().as_bytes()[..8].try_into().expect("eight bytes"));
        // What it said before it closed can be read still.
        self.say(&Frame::Ping(number)).await;
        loop {
            if self.hear().await? == Frame::Pong(number) {
                return Ok(());
            }
        }
    }

    /// Reads on until the other end closes.
    pub async fn closed(&mut self) -> Closed {
        within("the other end to close", async {
            loop {
                if let Err(closed) = self.hear_bytes().await {
                    return closed;
                }
            }
        })
        .await
    }

    async fn fill(&mut self) -> Result<(), Closed> {
        match &mut self.end {
            End::Quic(quic) => match quic.answers.read_chunk(READ, true).await {
                Ok(Some(chunk)) => {
                    self.read.extend_from_slice(&chunk.bytes);
                    Ok(())
                }
                Ok(None) | Err(_) => Err(quic.why_closed().await),
            },
            End::Ws { io, .. } => match io.read_buf(&mut self.read).await {
                Ok(0) | Err(_) => Err(Closed::silently()),
                Ok(_) => Ok(()),
            },
        }
    }

    fn parse(&mut self) -> Option<Heard> {
        let (heard, taken) = match &self.end {
            End::Quic(_) => parse_quic(&self.read)?,
            End::Ws { .. } => parse_ws(&self.read)?,
        };
        self.read.drain(..taken);
        Some(heard)
    }

    async fn pong(&mut self, bytes: &[u8]) -> bool {
        let End::Ws { is_client, .. } = &self.end else {
            return true;
        };
        let header = ws_header(0x8a, bytes.len() as u64, *is_client);
        self.push(&[&header, bytes].concat()).await
    }
}

impl Quic {
    async fn why_closed(&self) -> Closed {
        match within("the connection to close", self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => Closed {
                code: Some(close.error_code.into_inner()),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            other => Closed {
                code: None,
                reason: other.to_string(),
            },
        }
    }

    /// Hangs up without a word.
    pub fn hang_up(&self) {
        self.connection.close(VarInt::from_u32(0), b"");
    }
}

enum Heard {
    Message(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Closed(Closed),
}

/// The next message of a QUIC stream and its length in all; none when it is not whole yet.
fn parse_quic(read: &[u8]) -> Option<(Heard, usize)> {
    let header = u32::from_be_bytes(*read.first_chunk()?);
    if header & FAREWELL != 0 {
        let len = usize::try_from((header >> 16) & 0x7fff).expect("fifteen bits");
        let reason = read.get(4..4 + len)?;
        let closed = Closed {
            code: Some(u64::from(header & 0xffff)),
            reason: String::from_utf8_lossy(reason).into_owned(),
        };
        return Some((Heard::Closed(closed), 4 + len));
    }
    let len = usize::try_from(header).expect("a small message");
    let bytes = read.get(4..4 + len)?;
    Some((Heard::Message(bytes.to_vec()), 4 + len))
}

/// The same of a WebSocket (RFC 6455, section 5.2). What we send to is never fragmented.
fn parse_ws(read: &[u8]) -> Option<(Heard, usize)> {
    let [first, second] = *read.first_chunk()?;
    let (len, mut at) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(*read[2..].first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*read[2..].first_chunk()?), 10),
        len => (u64::from(len), 2),
    };
    let mask: [u8; 4] = if second & 0x80 == 0 {
        [0; 4]
    } else {
        at += 4;
        *read.get(at - 4..)?.first_chunk()?
    };
    let end = at + usize::try_from(len).expect("a small message");
    let payload = read.get(at..end)?.iter().zip(mask.iter().cycle());
    let payload: Vec<u8> = payload.map(|(byte, mask)| byte ^ mask).collect();
    let heard = match first & 0x0f {
        0x8 => Heard::Closed(Closed {
            code: payload.first_chunk().map(|code| u64::from(u16::from_be_bytes(*code))),
            reason: String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned(),
        }),
        0x9 => Heard::Ping(payload),
        0xa => Heard::Pong,
        _ => Heard::Message(payload),
    };
    Some((heard, end))
}

/// A header for so many bytes; a client's has a mask, which here changes nothing.
pub fn ws_header(first: u8, len: u64, is_client: bool) -> Vec<u8> {
    let mask_bit = if is_client { 0x80 } else { 0 };
    let mut header = vec![first];
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ 0..=125), _) => header.push(mask_bit | len),
        (_, Ok(len)) => {
            header.push(mask_bit | 126);
            header.extend_from_slice(&len.to_be_bytes());
        }
        (_, Err(_)) => {
            header.push(mask_bit | 127);
            header.extend_from_slice(&len.to_be_bytes());
        }
    }
    if is_client {
        header.extend_from_slice(&[0; 4]);
    }
    header
}
