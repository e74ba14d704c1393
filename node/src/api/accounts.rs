//! The service Accounts.

use posthouse_client::proto;
use proto::accounts_server::Accounts;
use tonic::{Request, Response, Status, async_trait};

use super::Api;
use crate::mailbox::MailboxError;
use crate::mailbox::create_account::AccountInfo;
use crate::types::AccountState;

fn state_to_proto(state: AccountState) -> proto::AccountState {
    match state {
        AccountState::Active => proto::AccountState::Active,
        AccountState::Frozen => proto::AccountState::Frozen,
        AccountState::Closed => proto::AccountState::Closed,
    }
}

fn state(state: i32) -> Result<AccountState, MailboxError> {
    match proto::AccountState::try_from(state) {
        Ok(proto::AccountState::Active) => Ok(AccountState::Active),
        Ok(proto::AccountState::Frozen) => Ok(AccountState::Frozen),
        Ok(proto::AccountState::Closed) => Ok(AccountState::Closed),
        Err(_) => Err(MailboxError::bad(
            "state",
            "not a state that this node knows",
        )),
    }
}

pub(super) fn account(info: AccountInfo) -> proto::Account {
    proto::Account {
        name: info.name.to_string(),
        account_id: info.id.0,
        created_ms: info.created_ms,
        highest_modseq: info.highest_modseq,
        state: state_to_proto(info.state) as i32,
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
                account_modseq: usage.account_modseq,
            })
        })
        .await
    }

    async fn set_account_state(
        &self,
        request: Request<proto::SetAccountStateRequest>,
    ) -> Result<Response<proto::SetAccountStateResponse>, Status> {
        self.call(request, |ops, r| async move {
            let info = ops
                .set_account_state(&r.request_id, &r.account, state(r.state)?)
                .await?;
            Ok(proto::SetAccountStateResponse {
                account: Some(account(info)),
            })
        })
        .await
    }
}
