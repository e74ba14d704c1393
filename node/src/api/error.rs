//! Errors on the wire: the one translation of [`MailboxError`] to an `ErrorDetail`.

use posthouse_client::error::to_status;
use posthouse_client::proto::{ErrorDetail, ErrorKind};
use tonic::Status;

use crate::mailbox::{MailboxError, Routes};

/// The error as the contract shows it.
pub fn detail(error: &MailboxError, routes: &dyn Routes) -> ErrorDetail {
    let mut out = ErrorDetail {
        message: error.to_string(),
        placement_version: routes.placement_version(),
        ..ErrorDetail::default()
    };
    let kind = match error {
        MailboxError::NotFound(what) => {
            out.what = what.as_str().to_owned();
            ErrorKind::NotFound
        }
        MailboxError::AlreadyExists(what) => {
            out.what = what.as_str().to_owned();
            ErrorKind::AlreadyExists
        }
        MailboxError::WrongLeader { leader, addr } => {
            out.leader_node = leader.map_or(0, |node| node.0 as u64);
            out.leader_addr = addr.clone().unwrap_or_default();
            ErrorKind::WrongLeader
        }
        MailboxError::StalePlacement => ErrorKind::StalePlacement,
        MailboxError::Busy { retry_after_ms } => {
            out.retry_after_ms = *retry_after_ms;
            ErrorKind::Busy
        }
        MailboxError::TooLarge { limit } => {
            out.limit = *limit;
            ErrorKind::TooLarge
        }
        MailboxError::ReadOnly => ErrorKind::ReadOnly,
        MailboxError::BadRequest { field, .. } => {
            out.field = field.clone();
            ErrorKind::BadRequest
        }
        MailboxError::Unavailable(_) => ErrorKind::Unavailable,
        MailboxError::Corrupt(_) => {
            out.what = "blob".to_owned();
            ErrorKind::Corrupt
        }
        MailboxError::WrongCluster(_) => ErrorKind::WrongCluster,
        MailboxError::NotInitialized => ErrorKind::NotInitialized,
        MailboxError::Refused(_) => ErrorKind::Refused,
        MailboxError::TooOld { .. } => ErrorKind::TooOld,
        MailboxError::BadCredentials { retry_after_ms } => {
            out.retry_after_ms = *retry_after_ms;
            ErrorKind::BadCredentials
        }
    };
    out.kind = kind as i32;
    out
}

/// The error as the status of a call.
pub fn status(error: &MailboxError, routes: &dyn Routes) -> Status {
    to_status(detail(error, routes))
}
