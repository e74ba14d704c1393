//! How much one node lets in.

use std::time::Duration;

/// Bounds of the mailbox operations. All byte counts are octets of uncompressed mail.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest message.
    pub max_message_bytes: u64,
    /// Mail on its way into this node.
    pub node_window_bytes: usize,
    /// Mail on its way out of this node.
    pub node_read_window_bytes: usize,
    /// Mail on its way in through one connection.
    pub connection_window_bytes: usize,
    /// How long to wait for room in a window before the answer is "busy".
    pub window_wait: Duration,
    /// What "busy" tells the caller to wait.
    pub retry_after_ms: u64,
    /// Chunks of one message that may await their quorum at the same time.
    pub chunks_in_flight: usize,
    /// Deadline of a call that brings none of its own.
    pub default_deadline: Duration,
    /// Whether chunks are compressed.
    pub compress: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_message_bytes: 150 << 20,
            node_window_bytes: 256 << 20,
            node_read_window_bytes: 128 << 20,
            connection_window_bytes: 64 << 20,
            window_wait: Duration::from_secs(1),
            retry_after_ms: 200,
            chunks_in_flight: 4,
            default_deadline: Duration::from_secs(30),
            compress: true,
        }
    }
}

/// Recipients of one delivery.
pub const MAX_RECIPIENTS: usize = 1000;
/// Flags of one message in one request.
pub const MAX_FLAGS: usize = 100;
/// Octets of one keyword.
pub const MAX_KEYWORD_BYTES: usize = 200;
/// Uid ranges of one request.
pub const MAX_UID_RANGES: usize = 100_000;
/// Octets of a sender (RFC 5321, section 4.5.3.1.3, allows 256; addresses in UTF-8 may be longer).
pub const MAX_SENDER_BYTES: usize = 1000;
/// Messages or accounts of one page.
pub const MAX_PAGE: u32 = 10_000;
/// Page size of a request that names none.
pub const DEFAULT_PAGE: u32 = 1000;
/// Octets that a page may hold before it ends early; below gRPC's usual 4 MiB per answer.
pub const MAX_PAGE_BYTES: usize = 2 << 20;
/// Octets of one piece of a fetched blob.
pub const PIECE_BYTES: usize = 256 << 10;
