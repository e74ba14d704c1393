//! Bounds of one command's work, and windows of what is remembered.
//!
//! All are constants of the format: replicas that differed in one of them would make different
//! rows from the same commands.

/// Milliseconds for which the answer to a request is remembered.
pub const REQUEST_WINDOW_MS: u64 = 5 * 24 * 3600 * 1000;
/// Octets of remembered requests of a shard, keys included; past it the oldest go early.
pub const REQUEST_WINDOW_BYTES: u64 = 256 << 20;
/// Expired requests that one command removes at most, beside twice those that it adds.
pub const REQUESTS_TRIMMED: usize = 8;
/// Milliseconds for which change rows are kept, at least.
pub const CHANGE_WINDOW_MS: u64 = 30 * 24 * 3600 * 1000;
/// Expired change rows of an account that one change of it removes at most.
pub const CHANGES_TRIMMED: usize = 4;
/// Messages that one command changes or removes at most.
pub const MESSAGES_PER_COMMAND: u64 = 10_000;
/// Targets of one `Store` at most.
pub const TARGETS_PER_STORE: usize = 1_000;
/// Keywords of a mailbox at most (they are never forgotten).
pub const KEYWORDS_PER_MAILBOX: u16 = 10_000;
/// Keywords of one message at most.
pub const KEYWORDS_PER_MESSAGE: usize = 1_000;
/// Thread keys of one email at most.
pub const THREAD_KEYS: usize = 12;
/// Mailboxes of an account at most.
pub const MAILBOXES_PER_ACCOUNT: u64 = 100_000;
/// Mailboxes that one rename touches at most.
pub const MAILBOXES_PER_RENAME: usize = 10_000;
/// Annotations of a mailbox or of an account at most.
pub const ANNOTATIONS: usize = 1_000;
/// Octets of an annotation's value at most.
pub const ANNOTATION_BYTES: usize = 64 << 10;
/// Octets of an annotation's entry at most.
pub const ANNOTATION_ENTRY_BYTES: usize = 255;
/// Octets of all annotations of a mailbox or of an account at most, entries and values.
pub const ANNOTATIONS_BYTES: usize = 1 << 20;
/// Application passwords of an account at most.
pub const APP_PASSWORDS: usize = 100;
/// Octets of the name of an application password at most.
pub const APP_PASSWORD_NAME_BYTES: usize = 100;
/// Subscriptions of an account at most.
pub const SUBSCRIPTIONS: u64 = 100_000;
/// Messages of one `AppendMany` at most.
pub const ITEMS_PER_APPEND: usize = 1_000;
/// Octets of summaries and flags of one `AppendMany` at most: it is one entry of the log.
pub const APPEND_BYTES: usize = 8 << 20;
/// Transfers of an account to other accounts at most, until they are over and forgotten there.
pub const TRANSFERS: usize = 32;
/// Chunks of a blob at most: 4 GiB.
pub const CHUNKS_PER_BLOB: u32 = 4_096;
/// Octets of a summary at most; one command may write it for each of its targets.
pub const SUMMARY_BYTES: usize = 64 << 10;
/// Arrivals that one `DropUploadsBefore` drops at most.
pub const UPLOADS_DROPPED: usize = 16;
