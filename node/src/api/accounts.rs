//! The service Accounts.

use posthouse_client::proto;
use proto::accounts_server::Accounts;
use tonic::{Request, Response, Status, async_trait};

use super::Api;
use crate::mailbox::create_account::AccountInfo;

fn account(info: AccountInfo) -> proto::Account {
    proto::Account {
        name: info.name.to_string(),
        account_id: info.id.0,
        created_ms: info.created_ms,
        highest_modseq: info.highest_modseq,
        ..proto::Account::default()
    }
}

#[async_trait]
impl Accounts for Api {
    async fn create_account(
        &self,
        request: Request<proto::CreateAccountRequest>,
    ) -> Result<Response<proto::CreateAccountResponse>, Status> {
        self.call(request, |ops, r| async move {
            let info = ops.create_account(&r.request_id, &r.account).await?;
            Ok(proto::CreateAccountResponse {
                account: Some(account(info)),
            })
        })
        .await
    }

    async fn get_account(
        &self,
        request: Request<proto::GetAccountRequest>,
    ) -> Result<Response<proto::GetAccountResponse>, Status> {
        self.call(request, |ops, r| async move {
            let info = ops.get_account(&r.account).await?;
            Ok(proto::GetAccountResponse {
                account: Some(account(info)),
            })
        })
        .await
    }

    async fn list_accounts(
        &self,
        request: Request<proto::ListAccountsRequest>,
    ) -> Result<Response<proto::ListAccountsResponse>, Status> {
        self.call(request, |ops, r| async move {
            let page = ops.list_accounts(r.shard, &r.page_token, r.limit).await?;
            Ok(proto::ListAccountsResponse {
                accounts: page.0.into_iter().map(account).collect(),
                next_page_token: page.1.into(),
            })
        })
        .await
    }

    async fn delete_account(
        &self,
        request: Request<proto::DeleteAccountRequest>,
    ) -> Result<Response<proto::DeleteAccountResponse>, Status> {
        self.call(request, |ops, r| async move {
            ops.delete_account(&r.request_id, &r.account).await?;
            Ok(proto::DeleteAccountResponse {})
        })
        .await
    }

    async fn get_usage(
        &self,
        request: Request<proto::GetUsageRequest>,
    ) -> Result<Response<proto::GetUsageResponse>, Status> {
        self.call(request, |ops, r| async move {
            let usage = ops.usage(&r.account).await?;
            Ok(proto::GetUsageResponse {
                messages: usage.messages,
                bytes: usage.bytes,
                mailboxes: usage.mailboxes,
                unseen: usage.unseen,
                deleted: usage.deleted,
            })
        })
        .await
    }

    async fn set_account_state(
        &self,
        _request: Request<proto::SetAccountStateRequest>,
    ) -> Result<Response<proto::SetAccountStateResponse>, Status> {
        Err(Status::unimplemented("set_account_state"))
    }
}
