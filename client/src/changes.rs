//! What has changed in an account since a modseq.

use crate::client::{Client, Scope};
use crate::error::Error;
use crate::ids::{AccountName, MailboxRef, ModSeq};
use crate::proto::messages_client::MessagesClient;
use crate::proto::{GetChangesRequest, GetChangesResponse};

impl Client {
    /// Changes after `since`, of one mailbox or (`None`) of the whole account, at most `limit`
    /// steps of them (0: the node's choice). When there is `more`, go on from `up_to`.
    /// [`Error::TooOld`]: they are forgotten.
    pub async fn get_changes(
        &self,
        account: &AccountName,
        mailbox: Option<MailboxRef>,
        since: ModSeq,
        limit: u32,
    ) -> Result<GetChangesResponse, Error> {
        let fields = mailbox.as_ref().map(MailboxRef::fields);
        let (mailbox, mailbox_id, uidvalidity) = fields.unwrap_or_default();
        let request = GetChangesRequest {
            account: account.as_str().to_owned(),
            mailbox,
            mailbox_id,
            uidvalidity,
            since,
            limit,
        };
        self.on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                MessagesClient::new(t.channel)
                    .max_decoding_message_size(64 << 20)
                    .get_changes(request)
                    .await
            }
        })
        .await
    }
}
