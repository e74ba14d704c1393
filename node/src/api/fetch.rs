//! The call Fetch of the service Messages.

use futures::stream::BoxStream;
use posthouse_client::proto;
use tonic::{Request, Response, Status};

use super::Api;

impl Api {
    pub(super) async fn fetch_messages(
        &self,
        _request: Request<proto::FetchRequest>,
    ) -> Result<Response<BoxStream<'static, Result<proto::FetchResponse, Status>>>, Status> {
        Err(Status::unimplemented("fetch"))
    }
}
