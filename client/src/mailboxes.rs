//! Mailboxes of one account.

use roaring::RoaringBitmap;

use crate::client::{Client, Scope};
use crate::error::Error;
use crate::ids::{AccountName, MailboxName, MailboxRef, ModSeq, RequestId, Uid};
use crate::proto::mailboxes_client::MailboxesClient;
use crate::proto::{
    Annotation, CreateMailboxRequest, DeleteMailboxRequest, GetMetadataRequest, Keyword,
    ListMailboxesRequest, ListMailboxesResponse, Mailbox, OpenMailboxRequest, RenameMailboxRequest,
    SetMetadataRequest, SetSpecialUseRequest, SubscribeRequest,
};

/// An answer with all mailboxes, or with millions of uids.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A mailbox as a session begins with it.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Name, numbers and counters.
    pub mailbox: Mailbox,
    /// The uids that exist.
    pub uids: RoaringBitmap,
    /// All keywords that the mailbox has seen.
    pub keywords: Vec<Keyword>,
    /// The first message without `\Seen`, when it is known.
    pub first_unseen: Option<Uid>,
    /// Changes since a modseq below this one are forgotten.
    pub trimmed_modseq: ModSeq,
    /// The account's modseq at the moment of the read.
    pub account_modseq: ModSeq,
}

impl Client {
    /// Creates a mailbox, and the parents that its name needs. `special_use`: e.g. `\Sent` (RFC
    /// 6154).
    pub async fn create_mailbox(
        &self,
        account: &AccountName,
        mailbox: &MailboxName,
        special_use: Vec<String>,
        request_id: Option<RequestId>,
    ) -> Result<Mailbox, Error> {
        let request = CreateMailboxRequest {
            request_id: self.id_or_fresh(request_id),
            account: account.as_str().to_owned(),
            mailbox: mailbox.as_str().to_owned(),
            special_use,
        };
        let answer = self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                MailboxesClient::new(t.channel)
                    .create_mailbox(request)
                    .await
            }
        });
        answer.await?.mailbox.ok_or_else(incomplete)
    }

    /// All mailboxes of an account.
    pub async fn list_mailboxes(&self, account: &AccountName) -> Result<Vec<Mailbox>, Error> {
        Ok(self.read_mailboxes(account).await?.mailboxes)
    }

    /// All mailboxes of an account, and all names that it subscribes to, as of one moment.
    pub async fn read_mailboxes(
        &self,
        account: &AccountName,
    ) -> Result<ListMailboxesResponse, Error> {
        let request = ListMailboxesRequest {
            account: account.as_str().to_owned(),
        };
        self.on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                MailboxesClient::new(t.channel)
                    .max_decoding_message_size(MAX_ANSWER_BYTES)
                    .list_mailboxes(request)
                    .await
            }
        })
        .await
    }

    /// Removes a mailbox with its messages; its children stay.
    pub async fn delete_mailbox(
        &self,
        account: &AccountName,
        mailbox: impl Into<MailboxRef>,
        request_id: Option<RequestId>,
    ) -> Result<ModSeq, Error> {
        let (mailbox, mailbox_id, uidvalidity) = mailbox.into().fields();
        let request = DeleteMailboxRequest {
            request_id: self.id_or_fresh(request_id),
            account: account.as_str().to_owned(),
            mailbox,
            mailbox_id,
            uidvalidity,
        };
        let answer = self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                MailboxesClient::new(t.channel)
                    .delete_mailbox(request)
                    .await
            }
        });
        Ok(answer.await?.modseq)
    }

    /// Renames a mailbox with all its children. INBOX stays, and its messages move (RFC 9051,
    /// section 6.3.6).
    pub async fn rename_mailbox(
        &self,
        account: &AccountName,
        mailbox: impl Into<MailboxRef>,
        to: &MailboxName,
        request_id: Option<RequestId>,
    ) -> Result<Mailbox, Error> {
        let (mailbox, mailbox_id, _) = mailbox.into().fields();
        let request = RenameMailboxRequest {
            request_id: self.id_or_fresh(request_id),
            account: account.as_str().to_owned(),
            mailbox,
            mailbox_id,
            to: to.as_str().to_owned(),
        };
        let answer = self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                MailboxesClient::new(t.channel)
                    .rename_mailbox(request)
                    .await
            }
        });
        answer.await?.mailbox.ok_or_else(incomplete)
    }

    /// Subscribes to a name, or not any more. It need not exist.
    pub async fn subscribe(
        &self,
        account: &AccountName,
        mailbox: &MailboxName,
        on: bool,
        request_id: Option<RequestId>,
    ) -> Result<ModSeq, Error> {
        let request = SubscribeRequest {
            request_id: self.id_or_fresh(request_id),
            account: account.as_str().to_owned(),
            mailbox: mailbox.as_str().to_owned(),
            off: !on,
        };
        let answer = self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move { MailboxesClient::new(t.channel).subscribe(request).await }
        });
        Ok(answer.await?.modseq)
    }

    /// Sets all special uses of a mailbox (RFC 6154).
    pub async fn set_special_use(
        &self,
        account: &AccountName,
        mailbox: impl Into<MailboxRef>,
        special_use: Vec<String>,
        request_id: Option<RequestId>,
    ) -> Result<ModSeq, Error> {
        let (mailbox, mailbox_id, _) = mailbox.into().fields();
        let request = SetSpecialUseRequest {
            request_id: self.id_or_fresh(request_id),
            account: account.as_str().to_owned(),
            mailbox,
            mailbox_id,
            special_use,
        };
        let answer = self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                MailboxesClient::new(t.channel)
                    .set_special_use(request)
                    .await
            }
        });
        Ok(answer.await?.modseq)
    }

    /// All annotations (RFC 5464) of a mailbox; `None`: of the account.
    pub async fn get_metadata(
        &self,
        account: &AccountName,
        mailbox: Option<MailboxRef>,
    ) -> Result<Vec<Annotation>, Error> {
        let (mailbox, mailbox_id, _) = mailbox.as_ref().map(MailboxRef::fields).unwrap_or_default();
        let request = GetMetadataRequest {
            account: account.as_str().to_owned(),
            mailbox,
            mailbox_id,
        };
        let answer = self.on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                MailboxesClient::new(t.channel)
                    .max_decoding_message_size(MAX_ANSWER_BYTES)
                    .get_metadata(request)
                    .await
            }
        });
        Ok(answer.await?.annotations)
    }

    /// Sets or removes annotations of a mailbox; `None`: of the account. All or none.
    pub async fn set_metadata(
        &self,
        account: &AccountName,
        mailbox: Option<MailboxRef>,
        annotations: Vec<Annotation>,
        request_id: Option<RequestId>,
    ) -> Result<ModSeq, Error> {
        let (mailbox, mailbox_id, _) = mailbox.as_ref().map(MailboxRef::fields).unwrap_or_default();
        let request = SetMetadataRequest {
            request_id: self.id_or_fresh(request_id),
            account: account.as_str().to_owned(),
            mailbox,
            mailbox_id,
            annotations,
        };
        let answer = self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move { MailboxesClient::new(t.channel).set_metadata(request).await }
        });
        Ok(answer.await?.modseq)
    }

    /// What a session needs to begin with.
    pub async fn open_mailbox(
        &self,
        account: &AccountName,
        mailbox: impl Into<MailboxRef>,
    ) -> Result<Opened, Error> {
        let (mailbox, mailbox_id, uidvalidity) = mailbox.into().fields();
        let request = OpenMailboxRequest {
            account: account.as_str().to_owned(),
            mailbox,
            mailbox_id,
            uidvalidity,
        };
        let answer = self.on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                MailboxesClient::new(t.channel)
                    .max_decoding_message_size(MAX_ANSWER_BYTES)
                    .open_mailbox(request)
                    .await
            }
        });
        let r = answer.await?;
        Ok(Opened {
            mailbox: r.mailbox.ok_or_else(incomplete)?,
            uids: RoaringBitmap::deserialize_from(&r.uids[..]).map_err(|e| Error::Corrupt {
                message: format!("the node's set of uids cannot be read: {e}"),
            })?,
            keywords: r.keywords,
            first_unseen: (r.first_unseen != 0).then_some(r.first_unseen),
            trimmed_modseq: r.trimmed_modseq,
            account_modseq: r.account_modseq,
        })
    }
}

fn incomplete() -> Error {
    Error::Corrupt {
        message: "the node's answer is incomplete".into(),
    }
}
