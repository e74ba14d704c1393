//! Passwords of accounts, and whether somebody knows one.

use crate::client::{Client, Scope};
use crate::error::Error;
use crate::ids::{AccountName, ModSeq, RequestId};
use crate::proto::accounts_client::AccountsClient;
use crate::proto::credentials_client::CredentialsClient;
use crate::proto::{
    Account, AccountState, AddAppPasswordRequest, AddAppPasswordResponse, AuthenticateRequest,
    AuthenticateResponse, ListAppPasswordsRequest, ListAppPasswordsResponse,
    RemoveAppPasswordRequest, SetAccountStateRequest, SetPasswordRequest,
};

impl Client {
    /// Sets an account's password; an empty one removes it. Gives the account's modseq.
    pub async fn set_password(
        &self,
        account: &AccountName,
        password: &str,
        request_id: Option<RequestId>,
    ) -> Result<ModSeq, Error> {
        let request = SetPasswordRequest {
            request_id: self.id_or_fresh(request_id),
            account: account.as_str().to_owned(),
            password: password.to_owned(),
        };
        let answer = self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                CredentialsClient::new(t.channel)
                    .set_password(request)
                    .await
            }
        });
        answer.await.map(|r| r.modseq)
    }

    /// Makes a password for one program. It is shown this once.
    pub async fn add_app_password(
        &self,
        account: &AccountName,
        name: &str,
        request_id: Option<RequestId>,
    ) -> Result<AddAppPasswordResponse, Error> {
        let request = AddAppPasswordRequest {
            request_id: self.id_or_fresh(request_id),
            account: account.as_str().to_owned(),
            name: name.to_owned(),
        };
        self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                CredentialsClient::new(t.channel)
                    .add_app_password(request)
                    .await
            }
        })
        .await
    }

    /// Which passwords an account has.
    pub async fn list_app_passwords(
        &self,
        account: &AccountName,
    ) -> Result<ListAppPasswordsResponse, Error> {
        let request = ListAppPasswordsRequest {
            account: account.as_str().to_owned(),
        };
        self.on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                CredentialsClient::new(t.channel)
                    .list_app_passwords(request)
                    .await
            }
        })
        .await
    }

    /// Removes the password of one program. Gives the account's modseq.
    pub async fn remove_app_password(
        &self,
        account: &AccountName,
        name: &str,
        request_id: Option<RequestId>,
    ) -> Result<ModSeq, Error> {
        let request = RemoveAppPasswordRequest {
            request_id: self.id_or_fresh(request_id),
            account: account.as_str().to_owned(),
            name: name.to_owned(),
        };
        let answer = self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                CredentialsClient::new(t.channel)
                    .remove_app_password(request)
                    .await
            }
        });
        answer.await.map(|r| r.modseq)
    }

    /// Whether this is a password of the account, and it may log in. `peer`: the IP address that
    /// the attempt comes from. [`Error::BadCredentials`] says no.
    pub async fn authenticate(
        &self,
        account: &AccountName,
        password: &str,
        peer: &str,
    ) -> Result<AuthenticateResponse, Error> {
        let request = AuthenticateRequest {
            account: account.as_str().to_owned(),
            password: password.to_owned(),
            peer: peer.to_owned(),
        };
        self.on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                CredentialsClient::new(t.channel)
                    .authenticate(request)
                    .await
            }
        })
        .await
    }

    /// Lets an account in, freezes or closes it.
    pub async fn set_account_state(
        &self,
        account: &AccountName,
        state: AccountState,
        request_id: Option<RequestId>,
    ) -> Result<Account, Error> {
        let request = SetAccountStateRequest {
            request_id: self.id_or_fresh(request_id),
            account: account.as_str().to_owned(),
            state: state as i32,
        };
        let answer = self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                AccountsClient::new(t.channel)
                    .set_account_state(request)
                    .await
            }
        });
        answer.await?.account.ok_or_else(|| Error::Corrupt {
            message: "the node's answer is incomplete".into(),
        })
    }
}
