//! The calls GetChanges and Watch of the service Messages.

use futures::stream::BoxStream;
use posthouse_client::proto;
use tonic::{Request, Response, Status, Streaming};

use super::Api;

impl Api {
    pub(super) async fn changes(
        &self,
        _request: Request<proto::GetChangesRequest>,
    ) -> Result<Response<proto::GetChangesResponse>, Status> {
        Err(Status::unimplemented("changes"))
    }

    pub(super) async fn watch_accounts(
        &self,
        _request: Request<Streaming<proto::WatchRequest>>,
    ) -> Result<Response<BoxStream<'static, Result<proto::WatchResponse, Status>>>, Status> {
        Err(Status::unimplemented("watch"))
    }
}
