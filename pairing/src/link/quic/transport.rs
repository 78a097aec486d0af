//! How QUIC is tuned: windows that a stranger gets and those of an admitted peer, silence, and what is switched off.

use std::time::Duration;

use atoll_protocol::limits;
use quinn::{Connection, IdleTimeout, Side, TransportConfig, VarInt};

/// How often a client says that it is there. Also how soon it hears from a gateway that has started again and does not know it.
const KEEP_ALIVE: Duration = Duration::from_secs(8);

/// Without a word for this long, the link is given up: two lost keep-alives are not the end.
const SILENCE_MS: u32 = 20_000;

/// Bytes in flight before a stranger is admitted. More: it waits until some were read.
const STRANGER_WINDOW: u32 = 64 * 1024;

/// Bytes in flight on one stream: a whole frame, so that one never waits for credit. More: the sender waits.
const STREAM_WINDOW: u32 = limits::NATIVE_FRAME as u32 + 64 * 1024;

/// Bytes in flight on one admitted link. More: the sender waits.
const WINDOW: u32 = 8 * 1024 * 1024;

/// Bytes sent and not yet acknowledged. More: the sender waits.
const SEND_WINDOW: u64 = 8 * 1024 * 1024;

/// Calls of a gateway that have a stream of their own at once. One more goes without.
const GATEWAY_STREAMS: u32 = 2 * limits::NODE_CALLS as u32;

/// The same at the gateway's end, whatever the client grants: a call that never ends keeps its stream for as long as the link. Those of
/// blobs count too.
pub(super) const LANES: usize = GATEWAY_STREAMS as usize;

/// Streams that a client opens at once. One more waits.
const CLIENT_STREAMS: u32 = 16;

/// Blobs that flow at once on a stream of their own. One more takes turns with the calls on the first one.
const FLOWS: u32 = 16;

/// Streams that HTTP/3 has a browser open beside its request: settings, and two for compressed headers (RFC 9114, section 6.2). A native
/// stranger may open as many, which are read once it is admitted.
pub(super) const WEB_STREAMS: u32 = 3;

/// Datagrams that wait, bytes: browsers send none unless they may, and nobody reads them. More: the oldest go.
const DATAGRAMS: usize = 1024;

/// The gateway's side.
pub(super) fn server() -> TransportConfig {
    let mut config = common();
    // The first stream, which carries the handshake or a browser's request, and no other.
    config.max_concurrent_bidi_streams(VarInt::from_u32(1));
    config.max_concurrent_uni_streams(VarInt::from_u32(WEB_STREAMS));
    config.datagram_receive_buffer_size(Some(DATAGRAMS));
    config
}

/// A client's side. It keeps the path open, through address translators too.
pub(super) fn client() -> TransportConfig {
    let mut config = common();
    config.max_concurrent_bidi_streams(VarInt::from_u32(0));
    config.keep_alive_interval(Some(KEEP_ALIVE));
    config
}

fn common() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(SILENCE_MS))))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(STRANGER_WINDOW))
        .send_window(SEND_WINDOW);
    config
}

/// What an admitted peer may do.
pub(super) fn admit(connection: &Connection) {
    let streams = match connection.side() {
        Side::Client => GATEWAY_STREAMS,
        Side::Server => 1 + CLIENT_STREAMS,
    };
    admit_web(connection);
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(streams));
    connection.set_max_concurrent_uni_streams(VarInt::from_u32(FLOWS));
}

/// What an admitted browser may do: as much in flight, on the stream that it has.
pub(super) fn admit_web(connection: &Connection) {
    connection.set_receive_window(VarInt::from_u32(WINDOW));
}
