//! The service Credentials.

use posthouse_client::proto;
use proto::credentials_server::Credentials;
use tonic::{Request, Response, Status, async_trait};

use super::Api;

#[async_trait]
impl Credentials for Api {
    async fn set_password(
        &self,
        _request: Request<proto::SetPasswordRequest>,
    ) -> Result<Response<proto::SetPasswordResponse>, Status> {
        Err(Status::unimplemented("set_password"))
    }

    async fn add_app_password(
        &self,
        _request: Request<proto::AddAppPasswordRequest>,
    ) -> Result<Response<proto::AddAppPasswordResponse>, Status> {
        Err(Status::unimplemented("add_app_password"))
    }

    async fn list_app_passwords(
        &self,
        _request: Request<proto::ListAppPasswordsRequest>,
    ) -> Result<Response<proto::ListAppPasswordsResponse>, Status> {
        Err(Status::unimplemented("list_app_passwords"))
    }

    async fn remove_app_password(
        &self,
        _request: Request<proto::RemoveAppPasswordRequest>,
    ) -> Result<Response<proto::RemoveAppPasswordResponse>, Status> {
        Err(Status::unimplemented("remove_app_password"))
    }

    async fn authenticate(
        &self,
        _request: Request<proto::AuthenticateRequest>,
    ) -> Result<Response<proto::AuthenticateResponse>, Status> {
        Err(Status::unimplemented("authenticate"))
    }
}
