//! The call Search of the service Messages.

use futures::stream::BoxStream;
use posthouse_client::proto;
use tonic::{Request, Response, Status};

use super::Api;

impl Api {
    pub(super) async fn search_messages(
        &self,
        _request: Request<proto::SearchRequest>,
    ) -> Result<Response<BoxStream<'static, Result<proto::SearchResponse, Status>>>, Status> {
        Err(Status::unimplemented("search"))
    }
}
