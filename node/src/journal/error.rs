//! What can go wrong in the journal, and what is known of a damaged place.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::{RecordHead, format};
use crate::types::Location;

/// A failure of the journal. Cheap to clone, because one failure answers every waiting caller.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// An operation of the operating system failed.
    #[error("the journal cannot {what}: {message}")]
    Io {
        /// What was tried, with the file.
        what: String,
        /// Kind of the error.
        kind: io::ErrorKind,
        /// The operating system's words.
        message: String,
    },
    /// A write or sync failed earlier. What lies on the disk is unknown, so nothing is retried:
    /// the process has to stop, and recovery reads what is really there.
    #[error("the journal has stopped: {0}")]
    Poisoned(String),
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
    /// There was no space for another segment when the journal was closed; nothing was written.
    #[error("the disk is full: no space for another segment")]
    Full,
    /// More in one submission than a segment may hold.
    #[error("{bytes} bytes in one submission, the limit is {limit}")]
    TooLarge {
        /// Size of the submission.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Bytes that fail their check.
    #[error("{0}")]
    Damaged(Box<DamagedRange>),
    /// The segment was freed: whoever asks has an old location and should look it up again.
    #[error("segment {segment} was freed")]
    Gone {
        /// Which.
        segment: u64,
    },
    /// The segment may not be freed.
    #[error("segment {segment} is still in use: {why}")]
    InUse {
        /// Which.
        segment: u64,
        /// By what.
        why: &'static str,
    },
    /// The directory holds something that this version cannot or must not read.
    #[error("{file}: {why}", file = file.display())]
    Foreign {
        /// Which file.
        file: PathBuf,
        /// Why not.
        why: String,
    },
}

impl JournalError {
    /// Wraps an error of the operating system.
    pub(crate) fn io(what: impl Into<String>, error: &io::Error) -> JournalError {
        JournalError::Io {
            what: what.into(),
            kind: error.kind(),
            message: error.to_string(),
        }
    }

    /// Whether the cause is a full disk.
    pub(crate) fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(
            self,
            JournalError::Full
                | JournalError::Io {
                    kind: StorageFull | QuotaExceeded,
                    ..
                }
        )
    }
}

/// How bytes failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The segment's own header; its records may be whole.
    SegmentHeader,
    /// The seal block or the footer index of a sealed segment; its records may be whole.
    Footer,
    /// No valid record begins here, although synced records did.
    RecordHeader,
    /// The payload of a record whose header is whole.
    Payload,
    /// The file ends before the record does.
    Short,
    /// The disk refuses to read it.
    Unreadable,
}

impl Cause {
    /// The number that the footer keeps.
    pub(crate) fn code(self) -> u64 {
        match self {
            Cause::SegmentHeader => 1,
            Cause::Footer => 2,
            Cause::RecordHeader => 3,
            Cause::Payload => 4,
            Cause::Short => 5,
            Cause::Unreadable => 6,
        }
    }

    /// The cause with this number.
    pub(crate) fn of_code(code: u64) -> Cause {
        match code {
            1 => Cause::SegmentHeader,
            2 => Cause::Footer,
            4 => Cause::Payload,
            5 => Cause::Short,
            6 => Cause::Unreadable,
            _ => Cause::RecordHeader,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::SegmentHeader => "the segment header fails its check",
            Cause::Footer => "the footer index fails its check",
            Cause::RecordHeader => "no valid record header where one was synced",
            Cause::Payload => "the payload fails its CRC",
            Cause::Short => "the file is too short",
            Cause::Unreadable => "the disk cannot read it",
        })
    }
}

/// A place in a segment that held synced bytes and fails its check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRange {
    /// The segment's file.
    pub file: PathBuf,
    /// Number of the segment.
    pub segment: u64,
    /// First damaged byte, or the begin of the record that holds it.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// What failed.
    pub cause: Cause,
    /// The record's head and the location of its payload, where the header or the footer knows.
    pub record: Option<(RecordHead, Location)>,
}

impl DamagedRange {
    /// The damage that a footer's marker stands for.
    pub(crate) fn of_marker(file: PathBuf, segment: u64, marker: &format::Record) -> DamagedRange {
        DamagedRange {
            file,
            segment,
            offset: marker.index,
            len: marker.term,
            cause: Cause::of_code(marker.leader),
            record: None,
        }
    }
}

impl fmt::Display for DamagedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is damaged at {}+{}: {}",
            self.file.display(),
            self.offset,
            self.len,
            self.cause
        )?;
        match &self.record {
            Some((head, _)) => write!(
                f,
                " ({:?} {} of shard {}, replica {})",
                head.kind, head.index, head.shard, head.replica
            ),
            None => Ok(()),
        }
    }
}
