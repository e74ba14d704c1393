//! Mailboxes of one account.

use crate::client::{Client, Scope};
use crate::error::Error;
use crate::ids::{AccountName, MailboxName, RequestId};
use crate::proto::mailboxes_client::MailboxesClient;
use crate::proto::{CreateMailboxRequest, ListMailboxesRequest, Mailbox};

impl Client {
    /// Creates a mailbox.
    pub async fn create_mailbox(
        &self,
        account: &AccountName,
        mailbox: &MailboxName,
        request_id: Option<RequestId>,
    ) -> Result<Mailbox, Error> {
        let request = CreateMailboxRequest {
            request_id: self.id_or_fresh(request_id),
            account: account.as_str().to_owned(),
            mailbox: mailbox.as_str().to_owned(),
        };
        let answer = self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                MailboxesClient::new(t.channel)
                    .create_mailbox(request)
                    .await
            }
        });
        answer.await?.mailbox.ok_or_else(|| Error::Corrupt {
            message: "the node's answer is incomplete".into(),
        })
    }

    /// All mailboxes of an account.
    pub async fn list_mailboxes(&self, account: &AccountName) -> Result<Vec<Mailbox>, Error> {
        let request = ListMailboxesRequest {
            account: account.as_str().to_owned(),
        };
        let answer = self.on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                MailboxesClient::new(t.channel)
                    .max_decoding_message_size(64 << 20)
                    .list_mailboxes(request)
                    .await
            }
        });
        Ok(answer.await?.mailboxes)
    }
}
