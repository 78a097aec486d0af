//! Every bound that both ends must agree on, each with what happens when it is hit.

use std::time::Duration;

/// The gateway's TCP and UDP port.
pub const PORT: u16 = 18789;

/// One frame before authentication, bytes. More: the link is closed with code 1009.
pub const PRE_AUTH_FRAME: usize = 64 * 1024;

/// One JSON frame to the gateway after authentication, bytes. More: the link is closed with code 1009.
pub const JSON_FRAME: usize = 25 * 1024 * 1024;

/// Pictures that come with one message. More: the message is refused.
pub const ATTACHMENTS: usize = 8;

/// One picture that comes with a message, bytes. Larger: the message is refused.
pub const ATTACHED_PICTURE: usize = 6 * 1024 * 1024;

/// One native frame, bytes. More: the link is closed with code 1009. Larger things travel as blobs.
pub const NATIVE_FRAME: usize = 1024 * 1024;

/// Bytes waiting for one peer that does not read. More: broadcasts are skipped, then the link is closed with
/// code 1008 `slow consumer`. So nothing larger is sent in JSON either; a reply that would be becomes an error.
pub const SEND_BUFFER: usize = 50 * 1024 * 1024;

/// Frames waiting for one peer. More: as for [`SEND_BUFFER`].
pub const SEND_QUEUE: usize = 256;

/// From the first byte to the verdict. Later: the link is closed with code 1000. A device that waits to be
/// approved has been answered, so this no longer runs for it.
pub const HANDSHAKE: Duration = Duration::from_secs(15);

/// How often the gateway says `tick`; a peer that hears nothing for twice this long drops the link.
pub const TICK: Duration = Duration::from_secs(30);

/// How often the gateway pings a WebSocket; no pong until the next ping: the link is closed.
pub const PING: Duration = Duration::from_secs(25);

/// How far `signedAt` may be from the gateway's clock. Further: `DEVICE_AUTH_SIGNATURE_EXPIRED`.
pub const SIGNATURE_SKEW: Duration = Duration::from_secs(120);

/// A pending pairing request, since the device last retried. Later: forgotten, and the next retry asks anew.
pub const PAIRING_PENDING: Duration = Duration::from_secs(5 * 60);

/// Pending pairing requests in all. More: one of the busiest address is forgotten, and never that of a device that waits on its link.
pub const PAIRING_PENDING_COUNT: usize = 256;

/// Pending pairing requests of devices behind one address of a network that show nothing but a key of their own. More: the oldest of
/// them is forgotten.
pub const PAIRING_PENDING_OF_ADDRESS: usize = 16;

/// A call without a deadline of its own.
pub const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// The node's deadline ends this much before the gateway's, so that its answer wins.
pub const CALL_DEADLINE_MARGIN: Duration = Duration::from_millis(250);

/// The longest deadline that a caller can ask for. More: an error that says so.
pub const CALL_DEADLINE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a call may wait for a node that is away. More: an error that says so.
pub const QUEUE_WAIT_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Calls that wait for nodes that are away. More: an error that says so.
pub const QUEUED_CALLS: usize = 1024;

/// The same, in bytes of all their parameters together.
pub const QUEUED_BYTES: usize = 64 * 1024 * 1024;

/// Calls that run at once on one node. More: the node answers `BUSY`.
pub const NODE_CALLS: usize = 64;

/// Finished results that a node keeps until they are acknowledged. More: the oldest is dropped, and the gateway
/// shows its call as lost.
pub const NODE_RESULTS: usize = 256;

/// The same, in bytes of all of them together.
pub const NODE_RESULT_BYTES: usize = 32 * 1024 * 1024;

/// How long a node keeps an unacknowledged result.
pub const NODE_RESULT_AGE: Duration = Duration::from_secs(60 * 60);

/// Requests of one operator that are worked on at once. More: its link is read no further until one ends.
pub const OPERATOR_REQUESTS: usize = 64;

/// Those of them that end others, beside all others. More: the same.
pub const OPERATOR_URGENT: usize = 8;

/// Requests of one operator that only wait for something else to end. More: an error that says so.
pub const OPERATOR_WAITS: usize = 1024;

/// An exec approval that nobody answers. Later: `expired`, which counts as no.
pub const APPROVAL: Duration = Duration::from_secs(30 * 60);

/// Output of one command that comes back whole, bytes per stream. More: head and tail, a note in between.
pub const COMMAND_OUTPUT: usize = 200 * 1024;

/// One chunk of streamed progress, characters.
pub const PROGRESS_CHUNK: usize = 16 * 1024;

/// Any text id, bytes. More: the frame is refused.
pub const ID_CHARS: usize = 256;

/// Commands plus capabilities that one node may declare. More: the connect is refused.
pub const SURFACE_ENTRIES: usize = 512;

/// Entries in one list of a surface that are read at all. More: the frame is refused before they take any room.
pub const SURFACE_LIST: usize = 4 * SURFACE_ENTRIES;

/// Calls that a node may say are running, and as many that it says have ended, when it comes back. More: the frame is refused before
/// they take any room.
pub const RESUME_CALLS: usize = 2 * (NODE_CALLS + NODE_RESULTS);

/// Streams that one end has open on one link. More: the one that would open another waits; one that does not is closed with
/// code 1008.
pub const STREAMS: usize = 64;

/// Bytes of one stream that may come before its receiver has taken any: what a fast link far away has on its way. A sender that ignores
/// it is closed with code 1008.
pub const STREAM_WINDOW: u64 = 1024 * 1024;

/// A receiver gives room back in steps of this many bytes, or of fewer. More at once: a sender that holds itself to less than the window
/// may stop for good.
pub const STREAM_STEP: u64 = 64 * 1024;

/// What a sender lets be on its way of one stream, bytes, where calls follow it on the same pipe. More would make them wait.
pub const STREAM_SHARED: u64 = 256 * 1024;

/// One chunk of a stream, bytes. Small, since a call may have to wait for one. More: the link is closed with code 1008.
pub const STREAM_CHUNK: usize = 32 * 1024;

/// What the smallest chunk counts for in the window, so that tiny ones cannot pile up.
pub const STREAM_CHUNK_COST: u64 = 256;

/// What a stream may say at its end, bytes. More: as for [`STREAM_CHUNK`].
pub const STREAM_TRAILER: usize = 1024;

/// One blob, bytes. More: the fetch ends with an error that says so.
pub const BLOB: u64 = 2 * 1024 * 1024 * 1024;

/// Tools that one node may publish. More: left out, and both ends say so in their logs. So with all of these.
pub const PLUGIN_TOOLS: usize = 128;

/// The schema of a published tool's arguments, bytes.
pub const PLUGIN_TOOL_SCHEMA: usize = 32 * 1024;

/// What a published tool says of itself, bytes.
pub const PLUGIN_TOOL_TEXT: usize = 4 * 1024;

/// All that one node publishes of tools, bytes. They travel in one frame.
pub const PLUGIN_TOOL_BYTES: usize = 512 * 1024;
