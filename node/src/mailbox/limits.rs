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
    /// What it costs to hash a password.
    pub password_cost: PasswordCost,
    /// How long a long fetch reads from one view of the index: a view keeps the index from dropping
    /// what was removed since.
    pub view_age: Duration,
    /// A watcher that missed more changes of an account than these reads it anew.
    pub watch_changes: u64,
    /// Rows of mailboxes that were read lately and stay in memory, octets.
    pub row_cache_bytes: usize,
    /// What searches have read of messages and stays in memory, octets.
    pub search_memory_bytes: usize,
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
            password_cost: PasswordCost::default(),
            view_age: Duration::from_secs(30),
            watch_changes: 1_000,
            row_cache_bytes: 64 << 20,
            search_memory_bytes: 16 << 20,
        }
    }
}

/// Parameters of Argon2id (RFC 9106). Those of a stored hash are in it; these are for new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordCost {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes, which are filled one after the other all the same.
    pub lanes: u32,
}

impl Default for PasswordCost {
    /// What the OWASP Password Storage Cheat Sheet recommends as the least.
    fn default() -> Self {
        PasswordCost {
            memory_kib: 19_456,
            passes: 2,
            lanes: 1,
        }
    }
}

/// Octets of a password.
pub const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 8..=1024;
/// Hashes of passwords that are computed at the same time.
pub const HASHES_AT_ONCE: usize = 2;
/// Callers that wait for one; more are told to come back.
pub const HASHES_WAITING: usize = 128;
/// Large header blocks that are read again at the same time.
pub const HEADERS_AT_ONCE: usize = 4;
/// Changes that one answer looks at, at most and by default.
pub const MAX_CHANGES: u32 = 10_000;
/// Ranges of uids in the changes that one answer looks at; the last of them may go past it.
pub const MAX_CHANGE_RANGES: usize = 100_000;
/// Accounts that one stream watches.
pub const MAX_WATCHED: usize = 100_000;

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
