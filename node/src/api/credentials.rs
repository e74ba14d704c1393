//! The service Credentials.

use posthouse_client::proto;
use proto::credentials_server::Credentials;
use tonic::{Request, Response, Status, async_trait};

use super::Api;
use super::accounts::account;
use crate::mailbox::credentials::AppPassword;

fn app_password(kept: AppPassword) -> proto::AppPassword {
    proto::AppPassword {
        name: kept.name,
        created_ms: kept.created_ms,
    }
}

#[async_trait]
impl Credentials for Api {
    async fn set_password(
        &self,
        request: Request<proto::SetPasswordRequest>,
    ) -> Result<Response<proto::SetPasswordResponse>, Status> {
        self.call(request, |ops, r| async move {
            let modseq = ops
                .set_password(&r.request_id, &r.account, r.password)
                .await?;
            Ok(proto::SetPasswordResponse { modseq })
        })
        .await
    }

    async fn add_app_password(
        &self,
        request: Request<proto::AddAppPasswordRequest>,
    ) -> Result<Response<proto::AddAppPasswordResponse>, Status> {
        self.call(request, |ops, r| async move {
            let drawn = ops
                .add_app_password(&r.request_id, &r.account, &r.name)
                .await?;
            Ok(proto::AddAppPasswordResponse {
                password: drawn.password,
                app_password: Some(app_password(drawn.kept)),
                modseq: drawn.modseq,
            })
        })
        .await
    }

    async fn list_app_passwords(
        &self,
        request: Request<proto::ListAppPasswordsRequest>,
    ) -> Result<Response<proto::ListAppPasswordsResponse>, Status> {
        self.call(request, |ops, r| async move {
            let known = ops.list_app_passwords(&r.account).await?;
            Ok(proto::ListAppPasswordsResponse {
                has_password: known.has_password,
                app_passwords: known.of_programs.into_iter().map(app_password).collect(),
                modseq: known.modseq,
            })
        })
        .await
    }

    async fn remove_app_password(
        &self,
        request: Request<proto::RemoveAppPasswordRequest>,
    ) -> Result<Response<proto::RemoveAppPasswordResponse>, Status> {
        self.call(request, |ops, r| async move {
            let modseq = ops
                .remove_app_password(&r.request_id, &r.account, &r.name)
                .await?;
            Ok(proto::RemoveAppPasswordResponse { modseq })
        })
        .await
    }

    async fn authenticate(
        &self,
        request: Request<proto::AuthenticateRequest>,
    ) -> Result<Response<proto::AuthenticateResponse>, Status> {
        self.call(request, |ops, r| async move {
            let who = ops.authenticate(&r.account, r.password, &r.peer).await?;
            Ok(proto::AuthenticateResponse {
                account: Some(account(who.account)),
                app_password: who.app_password.unwrap_or_default(),
            })
        })
        .await
    }
}
