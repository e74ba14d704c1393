//! What can go wrong, as a type on this side of the wire and as a status on the other.
//!
//! A failed call carries an [`ErrorDetail`] in its status, packed the way gRPC's richer error
//! model asks for: `grpc-status-details-bin` holds a `google.rpc.Status` whose `details` is one
//! `Any` with our message (googleapis, `google/rpc/status.proto`). Generic tools can so read it.
//! The node encodes with [`to_status`], callers decode with [`Error::from`]; both are here so that
//! the two tables can not drift apart.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tonic::{Code, Status};

use crate::ids::{BadId, BadName};
use crate::proto::{ErrorDetail, ErrorKind};

/// Metadata of every answer: the placement version of the node that answered, in decimal.
pub const PLACEMENT_METADATA: &str = "posthouse-placement";

/// Optional metadata of a request: the cluster id that the caller expects.
pub const CLUSTER_METADATA: &str = "posthouse-cluster";

/// Type of our detail inside the `Any`.
const DETAIL_TYPE: &str = "type.googleapis.com/posthouse.v1.ErrorDetail";

/// Details above this are not ours: a status travels in a header block of a few KiB.
const MAX_DETAIL_BYTES: usize = 16 * 1024;

/// A call's failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The account, mailbox, message, blob, node, shard or token does not exist.
    #[error("{message}")]
    NotFound {
        /// Kind of the missing thing, e.g. "account".
        what: String,
        /// What is missing, for people.
        message: String,
    },
    /// It exists already.
    #[error("{message}")]
    AlreadyExists {
        /// Kind of the thing, e.g. "mailbox".
        what: String,
        /// What exists, for people.
        message: String,
    },
    /// The node does not lead the shard.
    #[error("node does not lead the shard: {message}")]
    WrongLeader {
        /// Node that leads it, 0 when not known.
        leader_node: u64,
        /// Its address, empty when not known.
        leader_addr: String,
        /// Details, for people.
        message: String,
    },
    /// The caller's placement map is too old.
    #[error("the placement map is older than version {version}")]
    StalePlacement {
        /// The current version.
        version: u64,
    },
    /// A window is full, nothing was stored.
    #[error("busy: {message}")]
    Busy {
        /// When to try again.
        retry_after: Duration,
        /// Which window, for people.
        message: String,
    },
    /// The message is larger than allowed.
    #[error("too large: {message}")]
    TooLarge {
        /// Octets that are allowed.
        limit: u64,
        /// Details, for people.
        message: String,
    },
    /// The disk is nearly full: no new mail, reads and deletes go on.
    #[error("read only: {message}")]
    ReadOnly {
        /// Details, for people.
        message: String,
    },
    /// A field of the request is wrong.
    #[error("bad request: {message}")]
    BadRequest {
        /// Name of the field.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// No quorum or no leader within the deadline; the outcome is unknown.
    #[error("unavailable: {message}")]
    Unavailable {
        /// Details, for people.
        message: String,
    },
    /// Octets are damaged and no replica could supply good ones.
    #[error("damaged: {message}")]
    Corrupt {
        /// Details, for people.
        message: String,
    },
    /// The node belongs to another cluster than the caller expects.
    #[error("wrong cluster: {message}")]
    WrongCluster {
        /// Details, for people.
        message: String,
    },
    /// The node is not a member of a cluster yet.
    #[error("the node is not a member of a cluster: {message}")]
    NotInitialized {
        /// Details, for people.
        message: String,
    },
    /// The request is understood and not allowed.
    #[error("refused: {message}")]
    Refused {
        /// Why, for people.
        message: String,
    },
    /// The history that was asked for is forgotten: read everything again.
    #[error("too old: {message}")]
    TooOld {
        /// Details, for people.
        message: String,
    },
    /// No such account, a wrong password, or no login; never said which.
    #[error("{message}")]
    BadCredentials {
        /// Not zero: not even looked at, after too many wrong ones; when to try again.
        retry_after: Duration,
        /// For people.
        message: String,
    },
    /// The connection could not be made or broke; the outcome is unknown.
    #[error("no connection: {message}")]
    Transport {
        /// Details, for people.
        message: String,
    },
    /// The caller's deadline passed; the outcome is unknown.
    #[error("deadline passed: {message}")]
    Deadline {
        /// What was tried last, for people.
        message: String,
    },
    /// The octets to send could not be read on this side; nothing was stored.
    #[error("cannot read the octets to send: {message}")]
    Source {
        /// The operating system's reason.
        message: String,
    },
}

impl Error {
    /// A missing thing: `what` is its kind, e.g. "account".
    pub fn not_found(what: &str, message: impl Into<String>) -> Error {
        Error::NotFound {
            what: what.to_owned(),
            message: message.into(),
        }
    }

    /// A wrong field.
    pub fn bad_request(field: &str, message: impl Into<String>) -> Error {
        Error::BadRequest {
            field: field.to_owned(),
            message: message.into(),
        }
    }

    /// True when the request may or may not have taken effect. Such a call is *unknown*, never
    /// absent: repeat it with the same request_id or read back.
    pub fn outcome_unknown(&self) -> bool {
        matches!(
            self,
            Error::Unavailable { .. } | Error::Transport { .. } | Error::Deadline { .. }
        )
    }

    /// The final error of a call that would have changed something; `open`: an earlier try of it
    /// may have taken effect. Then an answer that nothing was done speaks for the last try alone;
    /// only what is wrong with the request itself was wrong each time.
    pub(crate) fn after_tries(self, open: bool) -> Error {
        match self {
            Error::BadRequest { .. } | Error::Corrupt { .. } => self,
            last if open && !last.outcome_unknown() => Error::Unavailable {
                message: format!("an earlier try may have taken effect; the last one: {last}"),
            },
            last => last,
        }
    }

    /// The error as it travels. Failures that only exist on the caller's side become
    /// `UNAVAILABLE`, or `REFUSED` where nothing was stored.
    pub fn to_detail(&self) -> ErrorDetail {
        let mut d = ErrorDetail {
            message: self.message(),
            ..ErrorDetail::default()
        };
        let kind = match self {
            Error::NotFound { what, .. } => {
                d.what.clone_from(what);
                ErrorKind::NotFound
            }
            Error::AlreadyExists { what, .. } => {
                d.what.clone_from(what);
                ErrorKind::AlreadyExists
            }
            Error::WrongLeader {
                leader_node,
                leader_addr,
                ..
            } => {
                d.leader_node = *leader_node;
                d.leader_addr.clone_from(leader_addr);
                ErrorKind::WrongLeader
            }
            Error::StalePlacement { version } => {
                d.placement_version = *version;
                ErrorKind::StalePlacement
            }
            Error::Busy { retry_after, .. } => {
                d.retry_after_ms = retry_after.as_millis().try_into().unwrap_or(u64::MAX);
                ErrorKind::Busy
            }
            Error::TooLarge { limit, .. } => {
                d.limit = *limit;
                ErrorKind::TooLarge
            }
            Error::ReadOnly { .. } => ErrorKind::ReadOnly,
            Error::BadRequest { field, .. } => {
                d.field.clone_from(field);
                ErrorKind::BadRequest
            }
            Error::Unavailable { .. } | Error::Transport { .. } | Error::Deadline { .. } => {
                ErrorKind::Unavailable
            }
            Error::Corrupt { .. } => ErrorKind::Corrupt,
            Error::WrongCluster { .. } => ErrorKind::WrongCluster,
            Error::NotInitialized { .. } => ErrorKind::NotInitialized,
            Error::Refused { .. } | Error::Source { .. } => ErrorKind::Refused,
            Error::TooOld { .. } => ErrorKind::TooOld,
            Error::BadCredentials { retry_after, .. } => {
                d.retry_after_ms = retry_after.as_millis().try_into().unwrap_or(u64::MAX);
                ErrorKind::BadCredentials
            }
        };
        d.kind = kind as i32;
        d
    }

    /// The error as a status.
    pub fn to_status(&self) -> Status {
        to_status(self.to_detail())
    }

    fn message(&self) -> String {
        match self {
            Error::NotFound { message, .. }
            | Error::AlreadyExists { message, .. }
            | Error::WrongLeader { message, .. }
            | Error::Busy { message, .. }
            | Error::TooLarge { message, .. }
            | Error::ReadOnly { message }
            | Error::BadRequest { message, .. }
            | Error::Unavailable { message }
            | Error::Corrupt { message }
            | Error::WrongCluster { message }
            | Error::NotInitialized { message }
            | Error::Refused { message }
            | Error::TooOld { message }
            | Error::BadCredentials { message, .. }
            | Error::Transport { message }
            | Error::Deadline { message }
            | Error::Source { message } => message.clone(),
            Error::StalePlacement { .. } => self.to_string(),
        }
    }
}

impl From<ErrorDetail> for Error {
    fn from(d: ErrorDetail) -> Error {
        let kind = d.kind();
        let message = match d.message.is_empty() {
            false => d.message,
            true => kind.as_str_name().to_ascii_lowercase().replace('_', " "),
        };
        match kind {
            ErrorKind::NotFound => Error::NotFound {
                what: d.what,
                message,
            },
            ErrorKind::AlreadyExists => Error::AlreadyExists {
                what: d.what,
                message,
            },
            ErrorKind::WrongLeader => Error::WrongLeader {
                leader_node: d.leader_node,
                leader_addr: d.leader_addr,
                message,
            },
            ErrorKind::StalePlacement => Error::StalePlacement {
                version: d.placement_version,
            },
            ErrorKind::Busy => Error::Busy {
                retry_after: Duration::from_millis(d.retry_after_ms),
                message,
            },
            ErrorKind::TooLarge => Error::TooLarge {
                limit: d.limit,
                message,
            },
            ErrorKind::ReadOnly => Error::ReadOnly { message },
            ErrorKind::BadRequest => Error::BadRequest {
                field: d.field,
                message,
            },
            // A kind that this version does not know: treat the outcome as unknown.
            ErrorKind::Unavailable | ErrorKind::Unspecified => Error::Unavailable { message },
            ErrorKind::Corrupt => Error::Corrupt { message },
            ErrorKind::WrongCluster => Error::WrongCluster { message },
            ErrorKind::NotInitialized => Error::NotInitialized { message },
            ErrorKind::Refused => Error::Refused { message },
            ErrorKind::TooOld => Error::TooOld { message },
            ErrorKind::BadCredentials => Error::BadCredentials {
                retry_after: Duration::from_millis(d.retry_after_ms),
                message,
            },
        }
    }
}

impl From<&Status> for Error {
    /// The typed error of a status. Without our detail (the answer came from HTTP/2, a proxy or
    /// the local transport) only the outcome's certainty can be told from the code.
    fn from(status: &Status) -> Error {
        if let Some(detail) = detail_of(status) {
            return Error::from(detail);
        }
        let message = describe(status);
        match status.code() {
            Code::DeadlineExceeded => Error::Deadline { message },
            Code::InvalidArgument => Error::bad_request("", message),
            Code::NotFound => Error::not_found("", message),
            Code::OutOfRange => Error::TooLarge { limit: 0, message },
            Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented => {
                Error::Refused { message }
            }
            _ => Error::Transport { message },
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        Error::from(&status)
    }
}

impl From<BadName> for Error {
    fn from(e: BadName) -> Error {
        Error::bad_request("name", e.to_string())
    }
}

impl From<BadId> for Error {
    fn from(e: BadId) -> Error {
        Error::bad_request("id", e.to_string())
    }
}

impl From<io::Error> for Error {
    /// Of the caller's own files; failed connections are told by tonic.
    fn from(e: io::Error) -> Error {
        Error::Source {
            message: e.to_string(),
        }
    }
}

/// The status that carries `detail`.
pub fn to_status(detail: ErrorDetail) -> Status {
    let code = code_of(detail.kind());
    let message = detail.message.clone();
    let rich = RichStatus {
        code: code as i32,
        message: message.clone(),
        details: vec![Any {
            type_url: DETAIL_TYPE.to_owned(),
            value: detail.encode_to_vec(),
        }],
    };
    Status::with_details(code, message, Bytes::from(rich.encode_to_vec()))
}

/// The detail that `status` carries, if it is one of ours.
pub fn detail_of(status: &Status) -> Option<ErrorDetail> {
    let octets = status.details();
    if octets.is_empty() || octets.len() > MAX_DETAIL_BYTES {
        return None;
    }
    let rich = RichStatus::decode(octets).ok()?;
    let any = rich.details.iter().find(|a| a.type_url == DETAIL_TYPE)?;
    ErrorDetail::decode(any.value.as_slice()).ok()
}

/// Whether the call behind `status` cannot have reached its node.
pub(crate) fn never_sent(status: &Status) -> bool {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    while let Some(e) = cause {
        if let Some(e) = e.downcast_ref::<io::Error>() {
            return e.kind() == io::ErrorKind::ConnectionRefused;
        }
        cause = e.source();
    }
    false
}

/// The nearest gRPC code, for callers that know no [`ErrorDetail`].
fn code_of(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Unspecified => Code::Unknown,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::WrongLeader
        | ErrorKind::StalePlacement
        | ErrorKind::ReadOnly
        | ErrorKind::WrongCluster
        | ErrorKind::NotInitialized => Code::FailedPrecondition,
        ErrorKind::Busy => Code::ResourceExhausted,
        ErrorKind::TooLarge | ErrorKind::TooOld => Code::OutOfRange,
        ErrorKind::BadRequest => Code::InvalidArgument,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Corrupt => Code::DataLoss,
        ErrorKind::Refused => Code::PermissionDenied,
        ErrorKind::BadCredentials => Code::Unauthenticated,
    }
}

/// The status' own words and the innermost cause: "transport error" alone helps nobody.
fn describe(status: &Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut last = None;
    while let Some(e) = cause {
        last = Some(e.to_string());
        cause = e.source();
    }
    match (status.message(), last) {
        ("", None) => status.code().description().to_owned(),
        ("", Some(cause)) => cause,
        (text, Some(cause)) if !text.contains(&cause) => format!("{text}: {cause}"),
        (text, _) => text.to_owned(),
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct RichStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_kind() -> Vec<Error> {
        let message = || "a message".to_owned();
        vec![
            Error::not_found("account", message()),
            Error::AlreadyExists {
                what: "mailbox".into(),
                message: message(),
            },
            Error::WrongLeader {
                leader_node: 3,
                leader_addr: "127.0.0.1:6602".into(),
                message: message(),
            },
            Error::StalePlacement { version: 9 },
            Error::Busy {
                retry_after: Duration::from_millis(70),
                message: message(),
            },
            Error::TooLarge {
                limit: 1 << 20,
                message: message(),
            },
            Error::ReadOnly { message: message() },
            Error::bad_request("recipients", message()),
            Error::Unavailable { message: message() },
            Error::Corrupt { message: message() },
            Error::WrongCluster { message: message() },
            Error::NotInitialized { message: message() },
            Error::Refused { message: message() },
        ]
    }

    #[test]
    fn every_error_survives_the_wire() {
        for error in every_kind() {
            let status = error.to_status();
            assert_ne!(status.code(), Code::Ok);
            // Through the trailers, as on a real connection.
            let mut headers = http::HeaderMap::new();
            status.add_header(&mut headers).unwrap();
            let back = Status::from_header_map(&headers).unwrap();
            assert_eq!(Error::from(back), error);
        }
    }

    #[test]
    fn one_open_try_makes_the_outcome_unknown() {
        for error in every_kind() {
            assert_eq!(error.clone().after_tries(false), error);
            let known = matches!(error, Error::BadRequest { .. } | Error::Corrupt { .. });
            assert_ne!(error.after_tries(true).outcome_unknown(), known);
        }
    }

    #[test]
    fn a_status_of_strangers_is_not_taken_for_ours() {
        let plain = Status::unavailable("connection refused");
        assert!(matches!(Error::from(plain), Error::Transport { .. }));
        let garbage = Status::with_details(Code::Unavailable, "x", Bytes::from_static(b"\xff\xff"));
        assert_eq!(detail_of(&garbage), None);
        let huge = Status::with_details(
            Code::Unavailable,
            "x",
            Bytes::from(vec![0; MAX_DETAIL_BYTES + 1]),
        );
        assert_eq!(detail_of(&huge), None);
        let other = RichStatus {
            code: 5,
            message: String::new(),
            details: vec![Any {
                type_url: "type.googleapis.com/other.Detail".into(),
                value: ErrorDetail::default().encode_to_vec(),
            }],
        };
        let other = Status::with_details(Code::NotFound, "x", Bytes::from(other.encode_to_vec()));
        assert_eq!(detail_of(&other), None);
        assert!(matches!(Error::from(other), Error::NotFound { .. }));
    }

    #[test]
    fn a_kind_from_the_future_is_an_unknown_outcome() {
        let detail = ErrorDetail {
            kind: 77,
            ..ErrorDetail::default()
        };
        assert!(Error::from(detail).outcome_unknown());
    }
}
