//! What every call has in common: the check of the cluster, the deadline, the placement version.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use posthouse_client::error::{CLUSTER_METADATA, PLACEMENT_METADATA};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::{Api, ConnectionInfo, error};
use crate::mailbox::{Caller, MailboxError, Operations, Result};

/// Part of the caller's deadline that is kept to send the answer: ours explains itself.
const MARGIN: u32 = 20;

impl Api {
    /// Runs one call with a single answer.
    pub(super) async fn call<T, R, F>(
        &self,
        request: Request<T>,
        run: impl FnOnce(Arc<Operations>, T) -> F,
    ) -> Result<Response<R>, Status>
    where
        F: Future<Output = Result<R>>,
    {
        let limit = deadline(request.metadata()).unwrap_or(self.ops.limits().default_deadline);
        let checked = self.check(request.metadata());
        let ops = Arc::clone(&self.ops);
        let result = match checked {
            Ok(()) => within(limit, run(ops, request.into_inner())).await,
            Err(e) => Err(e),
        };
        self.answer(result)
    }

    /// Whether this node is the one that the caller means.
    pub(super) fn check(&self, metadata: &MetadataMap) -> Result<()> {
        let Some(ours) = self.ops.routes().cluster_id() else {
            return Err(MailboxError::NotInitialized);
        };
        match means_another(metadata, &ours) {
            true => Err(MailboxError::WrongCluster(ours)),
            false => Ok(()),
        }
    }

    /// The answer or the status, with the placement version.
    pub(super) fn answer<R>(&self, result: Result<R>) -> Result<Response<R>, Status> {
        let routes = &**self.ops.routes();
        let version = routes.placement_version().into();
        match result {
            Ok(answer) => {
                let mut response = Response::new(answer);
                response.metadata_mut().insert(PLACEMENT_METADATA, version);
                Ok(response)
            }
            Err(e) => {
                let mut status = error::status(&e, routes);
                status.metadata_mut().insert(PLACEMENT_METADATA, version);
                Err(status)
            }
        }
    }
}

/// Whether a caller names a cluster, and not `ours`.
pub(super) fn means_another(metadata: &MetadataMap, ours: &str) -> bool {
    let theirs = metadata.get(CLUSTER_METADATA);
    theirs.is_some_and(|theirs| !theirs.as_bytes().eq_ignore_ascii_case(ours.as_bytes()))
}

/// Whom a request came from.
pub(super) fn caller<T>(request: &Request<T>) -> Caller {
    Caller {
        window: request
            .extensions()
            .get::<ConnectionInfo>()
            .map(|info| Arc::clone(&info.window)),
    }
}

/// Runs `work` for at most `limit`. What it has proposed by then may still take effect.
pub(super) async fn within<R>(limit: Duration, work: impl Future<Output = Result<R>>) -> Result<R> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(MailboxError::outcome_unknown()))
}

/// The caller's deadline, less what it takes to answer (gRPC over HTTP/2: `grpc-timeout`, at most
/// eight digits and a unit).
pub(super) fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    let limit = timeout(metadata.as_ref())?;
    Some(limit - limit / MARGIN)
}

/// What `grpc-timeout` says.
pub(super) fn timeout(headers: &http::HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_and_junk_is_none() {
        let of = |value: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", value.parse().unwrap());
            deadline(&metadata)
        };
        assert_eq!(of("100m"), Some(Duration::from_millis(95)));
        assert_eq!(
            of("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600) * 19 / 20)
        );
        for junk in ["", "m", "1", "-1S", "+1S", "123456789S", "1s", "é"] {
            let mut metadata = MetadataMap::new();
            if let Ok(value) = junk.parse() {
                metadata.insert("grpc-timeout", value);
            }
            assert_eq!(deadline(&metadata), None, "{junk:?}");
        }
    }
}
