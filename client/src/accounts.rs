//! Accounts: create, look up, list, delete, usage.

use bytes::Bytes;
use futures::stream::{self, Stream};

use crate::client::{Client, Scope};
use crate::error::Error;
use crate::ids::{AccountName, RequestId};
use crate::proto::accounts_client::AccountsClient;
use crate::proto::{
    Account, CreateAccountRequest, DeleteAccountRequest, GetAccountRequest, GetUsageRequest,
    GetUsageResponse, ListAccountsRequest, ListAccountsResponse,
};

/// Where a walk over all accounts is.
struct Walk {
    /// Shards still to list, the current one last.
    shards: Vec<u32>,
    page_token: Bytes,
}

impl Client {
    /// Creates an account.
    pub async fn create_account(
        &self,
        account: &AccountName,
        request_id: Option<RequestId>,
    ) -> Result<Account, Error> {
        let request = CreateAccountRequest {
            request_id: self.id_or_fresh(request_id),
            account: account.as_str().to_owned(),
        };
        let answer = self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move { AccountsClient::new(t.channel).create_account(request).await }
        });
        answer.await?.account.ok_or_else(incomplete)
    }

    /// Looks an account up.
    pub async fn get_account(&self, account: &AccountName) -> Result<Account, Error> {
        let request = GetAccountRequest {
            account: account.as_str().to_owned(),
        };
        let answer = self.on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move { AccountsClient::new(t.channel).get_account(request).await }
        });
        answer.await?.account.ok_or_else(incomplete)
    }

    /// Deletes an account with all its mail.
    pub async fn delete_account(
        &self,
        account: &AccountName,
        request_id: Option<RequestId>,
    ) -> Result<(), Error> {
        let request = DeleteAccountRequest {
            request_id: self.id_or_fresh(request_id),
            account: account.as_str().to_owned(),
        };
        let answer = self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move { AccountsClient::new(t.channel).delete_account(request).await }
        });
        answer.await.map(drop)
    }

    /// What an account holds.
    pub async fn usage(&self, account: &AccountName) -> Result<GetUsageResponse, Error> {
        let request = GetUsageRequest {
            account: account.as_str().to_owned(),
        };
        self.on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move { AccountsClient::new(t.channel).get_usage(request).await }
        })
        .await
    }

    /// One page of one shard's accounts; an empty `page_token` starts, `limit` 0 is the node's
    /// choice (1,000).
    pub async fn list_accounts_page(
        &self,
        shard: u32,
        page_token: Bytes,
        limit: u32,
    ) -> Result<ListAccountsResponse, Error> {
        let request = ListAccountsRequest {
            shard,
            page_token,
            limit,
        };
        self.on_leader(Scope::Shard(shard), |t| {
            let request = t.request(request.clone());
            async move {
                AccountsClient::new(t.channel)
                    .max_decoding_message_size(16 << 20)
                    .list_accounts(request)
                    .await
            }
        })
        .await
    }

    /// All accounts of the cluster, page by page, one shard after the other.
    pub fn list_accounts(
        &self,
        page: u32,
    ) -> impl Stream<Item = Result<Vec<Account>, Error>> + Send + '_ {
        stream::try_unfold(None, move |walk: Option<Walk>| async move {
            let mut walk = match walk {
                Some(walk) => walk,
                None => {
                    let placement = self.placement().await?;
                    let mut shards: Vec<u32> = placement.data_shards().collect();
                    shards.reverse();
                    Walk {
                        shards,
                        page_token: Bytes::new(),
                    }
                }
            };
            let Some(shard) = walk.shards.last().copied() else {
                return Ok(None);
            };
            let token = std::mem::take(&mut walk.page_token);
            let answer = self.list_accounts_page(shard, token, page).await?;
            walk.page_token = answer.next_page_token;
            if walk.page_token.is_empty() {
                walk.shards.pop();
            }
            Ok(Some((answer.accounts, Some(walk))))
        })
    }
}

fn incomplete() -> Error {
    Error::Corrupt {
        message: "the node's answer is incomplete".into(),
    }
}
