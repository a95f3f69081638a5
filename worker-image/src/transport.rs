//! Implements what all gRPC connections need: authorization, limits for messages, and detection of
//! dead peers. Does not use the contents of messages.

mod arrival;
pub mod client;
pub mod server;
pub mod token;

use std::time::Duration;

/// How many bytes a message has at most, in either direction. The largest message in practice is a
/// batch of reports with the parts of multipart uploads. It has less than 1 MiB.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// How often a quiet connection is probed, and how long a probe may take. So a peer that vanished
/// is noticed within 20 s, well before a worker becomes suspect after 30 s of silence.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// See [`KEEPALIVE_INTERVAL`].
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
