//! Messages of one account: append, list, set flags, expunge, copy, move.

use futures::future::FutureExt;
use futures::stream::{self, Stream};

use crate::body::Body;
use crate::client::{Client, Failure, Scope};
use crate::error::Error;
use crate::ids::{
    AccountName, BlobId, EmailId, MailboxId, MailboxName, MailboxRef, ModSeq, RequestId, Uid,
};
use crate::proto::messages_client::MessagesClient;
use crate::proto::{
    AppendHead, AppendRequest, AppendResponse, CopyRequest, CopyResponse, ExpungeRequest, FlagMode,
    ListMessagesRequest, ListMessagesResponse, SetFlagsRequest, UidRange, append_request,
};
use crate::upload::{Outgoing, Upload, check_sent};

/// Where a message was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The mailbox's uidvalidity.
    pub uidvalidity: u32,
    /// The message's uid in it.
    pub uid: Uid,
    /// The account's modseq of this change.
    pub modseq: ModSeq,
    /// Number of the email in its account.
    pub email_id: EmailId,
    /// True when this is the answer of an earlier request with the same identity.
    pub duplicate: bool,
}

/// A message to append.
#[derive(Debug, Clone, Default)]
pub struct AppendOptions {
    /// Flags, e.g. `\Seen`.
    pub flags: Vec<String>,
    /// Arrival time in milliseconds since 1970; 0: the node's clock.
    pub internal_date_ms: u64,
    /// Identity of the request; `None`: a fresh one. Retries inside the call always share it.
    pub request_id: Option<RequestId>,
    /// A message that this one takes the place of, in the same step (RFC 8508). When it is not there
    /// any more, nothing is stored.
    pub replace: Option<Replaced>,
}

/// A message that another one takes the place of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    /// Its mailbox; 0: the one that the other goes to.
    pub mailbox: MailboxId,
    /// With a mailbox: it must have this one; 0: any.
    pub uidvalidity: u32,
    /// Its uid.
    pub uid: Uid,
}

/// One of several messages that are appended together.
pub struct AppendPart<'a> {
    /// Its octets.
    pub body: &'a dyn Body,
    /// Flags, e.g. `\Seen`.
    pub flags: Vec<String>,
    /// Arrival time in milliseconds since 1970; 0: the node's clock.
    pub internal_date_ms: u64,
}

/// Messages that were appended together. Their uids follow each other without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendedAll {
    /// Where the first one is.
    pub first: Stored,
    /// How many there are.
    pub count: u32,
}

/// What a copy or a move did: the n-th uid of `from` became the n-th uid of `to`.
#[derive(Debug, Clone, PartialEq)]
pub struct Copied {
    /// The account's modseq after it.
    pub modseq: ModSeq,
    /// The uidvalidity of the mailbox that they came into.
    pub uidvalidity: u32,
    /// Uids where they were.
    pub from: Vec<UidRange>,
    /// Uids where they are.
    pub to: Vec<UidRange>,
}

/// An appended message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Identity of the octets.
    pub blob_id: BlobId,
    /// Their number.
    pub size: u64,
    /// Where they are.
    pub stored: Stored,
}

/// Which messages of a mailbox are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListOptions {
    /// First uid, 1: from the start.
    pub first: Uid,
    /// Last uid, 0: to the end.
    pub last: Uid,
    /// Messages of one page, 0: the node's choice (1,000).
    pub page: u32,
    /// Also envelope, preview and blob id.
    pub with_summary: bool,
}

impl Default for ListOptions {
    fn default() -> ListOptions {
        ListOptions {
            first: 1,
            last: 0,
            page: 0,
            with_summary: false,
        }
    }
}

/// A change of flags.
#[derive(Debug, Clone)]
pub struct FlagChange {
    /// Which messages.
    pub uids: Vec<UidRange>,
    /// What is done with `flags`.
    pub mode: FlagMode,
    /// The flags, e.g. `\Seen`.
    pub flags: Vec<String>,
    /// Only messages that have not changed since this modseq (RFC 7162, section 3.1.3).
    pub unchanged_since: Option<ModSeq>,
}

/// What a change of flags did.
#[derive(Debug, Clone, PartialEq)]
pub struct FlagsChanged {
    /// The account's modseq after it.
    pub modseq: ModSeq,
    /// Messages that were changed.
    pub changed: Vec<UidRange>,
    /// Messages that failed the condition.
    pub modified: Vec<UidRange>,
}

/// What an expunge did.
#[derive(Debug, Clone, PartialEq)]
pub struct Expunged {
    /// The account's modseq after it.
    pub modseq: ModSeq,
    /// Messages that are gone.
    pub vanished: Vec<UidRange>,
}

impl Client {
    /// Stores a message in a mailbox. Answers when a quorum has it on stable storage.
    pub async fn append(
        &self,
        account: &AccountName,
        mailbox: impl Into<MailboxRef>,
        body: &dyn Body,
        options: AppendOptions,
    ) -> Result<Appended, Error> {
        let request_id = options.request_id.unwrap_or_else(|| self.request_id());
        let (mailbox, mailbox_id, uidvalidity) = mailbox.into().fields();
        let none = Replaced {
            mailbox: MailboxId(0),
            uidvalidity: 0,
            uid: 0,
        };
        let replace = options.replace.unwrap_or(none);
        let head = AppendHead {
            request_id: request_id.0.to_vec().into(),
            account: account.as_str().to_owned(),
            mailbox,
            mailbox_id,
            uidvalidity,
            flags: options.flags,
            internal_date_ms: options.internal_date_ms,
            size_hint: body.len().unwrap_or(0),
            more: false,
            replace_uid: replace.uid,
            replace_mailbox_id: replace.mailbox.0,
            replace_uidvalidity: replace.uidvalidity,
        };
        let deadline = self.deadline_for(body.len());
        self.change_on_leader_by(Scope::from(account), deadline, |t| {
            let head = head.clone();
            let opened = body.open();
            async move {
                let pieces = opened.await.map_err(|e| Failure::Error(e.into()))?;
                let part = Some(append_request::Part::Head(head));
                let head = AppendRequest { part };
                let (upload, stream) = Upload::new(head, pieces, body.len());
                let mut client = MessagesClient::new(t.channel.clone());
                let call = upload.run(client.append(t.request(stream)).boxed());
                let (response, sent) = call.await?;
                let r = response.get_ref();
                check_sent(sent, &r.blob_id, r.size, r.duplicate).map_err(Failure::Error)?;
                Ok(response)
            }
        })
        .await
        .and_then(appended)
    }

    /// Stores several messages in a mailbox, all or none (RFC 3502), with uids that follow each
    /// other. Answers when a quorum has them on stable storage.
    pub async fn append_many(
        &self,
        account: &AccountName,
        mailbox: impl Into<MailboxRef>,
        parts: &[AppendPart<'_>],
        request_id: Option<RequestId>,
    ) -> Result<AppendedAll, Error> {
        if parts.is_empty() {
            return Err(Error::bad_request("parts", "no message to append"));
        }
        let request_id = self.id_or_fresh(request_id);
        let (mailbox, mailbox_id, uidvalidity) = mailbox.into().fields();
        let head = |(n, part): (usize, &AppendPart)| AppendHead {
            request_id: request_id.clone(),
            account: account.as_str().to_owned(),
            mailbox: mailbox.clone(),
            mailbox_id,
            uidvalidity,
            flags: part.flags.clone(),
            internal_date_ms: part.internal_date_ms,
            size_hint: part.body.len().unwrap_or(0),
            more: n + 1 < parts.len(),
            ..AppendHead::default()
        };
        let heads: Vec<AppendHead> = parts.iter().enumerate().map(head).collect();
        let octets = parts.iter().filter_map(|part| part.body.len()).sum();
        let deadline = self.deadline_for(Some(octets));
        let answer = self.change_on_leader_by(Scope::from(account), deadline, |t| {
            let heads = heads.clone();
            async move {
                let mut messages = Vec::with_capacity(heads.len());
                for (head, part) in heads.into_iter().zip(parts) {
                    let opened = part.body.open().await;
                    let head = Some(append_request::Part::Head(head));
                    messages.push(Outgoing {
                        head: AppendRequest { part: head },
                        pieces: opened.map_err(|e| Failure::Error(e.into()))?,
                        len: part.body.len(),
                    });
                }
                let first = messages.remove(0);
                let (upload, stream) = Upload::of(first, messages);
                let mut client = MessagesClient::new(t.channel.clone());
                let call = upload.run(client.append(t.request(stream)).boxed());
                let (response, sent) = call.await?;
                let r = response.get_ref();
                check_sent(sent, &r.blob_id, r.size, r.duplicate).map_err(Failure::Error)?;
                Ok(response)
            }
        });
        let answer = answer.await?;
        if answer.count as usize != parts.len() {
            let (count, sent) = (answer.count, parts.len());
            return Err(Error::Corrupt {
                message: format!("the node has stored {count} messages of {sent}"),
            });
        }
        Ok(AppendedAll {
            first: appended(answer)?.stored,
            count: parts.len() as u32,
        })
    }

    /// One page of a mailbox, in the order of the uids.
    pub async fn list_page(
        &self,
        account: &AccountName,
        mailbox: &MailboxName,
        options: ListOptions,
    ) -> Result<ListMessagesResponse, Error> {
        let request = ListMessagesRequest {
            account: account.as_str().to_owned(),
            mailbox: mailbox.as_str().to_owned(),
            uids: Some(UidRange {
                first: options.first,
                last: options.last,
            }),
            limit: options.page,
            with_summary: options.with_summary,
            ..ListMessagesRequest::default()
        };
        self.on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move {
                MessagesClient::new(t.channel)
                    .max_decoding_message_size(MAX_PAGE_BYTES)
                    .list_messages(request)
                    .await
            }
        })
        .await
    }

    /// All pages of a mailbox, or of a range of uids, fetched one by one as they are taken.
    pub fn list_pages<'a>(
        &'a self,
        account: &'a AccountName,
        mailbox: &'a MailboxName,
        options: ListOptions,
    ) -> impl Stream<Item = Result<ListMessagesResponse, Error>> + Send + 'a {
        stream::try_unfold(Some(options), move |next| async move {
            let Some(options) = next else {
                return Ok(None);
            };
            let page = self.list_page(account, mailbox, options).await?;
            let next = match page.next_uid {
                0 => None,
                first if first > options.first => Some(ListOptions { first, ..options }),
                first => {
                    return Err(Error::Corrupt {
                        message: format!("the page after uid {} starts at {first}", options.first),
                    });
                }
            };
            Ok(Some((page, next)))
        })
    }

    /// Changes flags of messages.
    pub async fn set_flags(
        &self,
        account: &AccountName,
        mailbox: impl Into<MailboxRef>,
        change: FlagChange,
        request_id: Option<RequestId>,
    ) -> Result<FlagsChanged, Error> {
        let (mailbox, mailbox_id, uidvalidity) = mailbox.into().fields();
        let request = SetFlagsRequest {
            request_id: self.id_or_fresh(request_id),
            account: account.as_str().to_owned(),
            mailbox,
            mailbox_id,
            uidvalidity,
            uids: change.uids,
            mode: change.mode as i32,
            flags: change.flags,
            unchanged_since: change.unchanged_since.unwrap_or(0),
            never_changed: change.unchanged_since == Some(0),
        };
        let answer = self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move { MessagesClient::new(t.channel).set_flags(request).await }
        });
        let r = answer.await?;
        Ok(FlagsChanged {
            modseq: r.modseq,
            changed: r.changed,
            modified: r.modified,
        })
    }

    /// Removes the messages of `uids` (empty: all) that carry `\Deleted`, or without asking for
    /// the flag when `force`.
    pub async fn expunge(
        &self,
        account: &AccountName,
        mailbox: impl Into<MailboxRef>,
        uids: Vec<UidRange>,
        force: bool,
        request_id: Option<RequestId>,
    ) -> Result<Expunged, Error> {
        let (mailbox, mailbox_id, uidvalidity) = mailbox.into().fields();
        let request = ExpungeRequest {
            request_id: self.id_or_fresh(request_id),
            account: account.as_str().to_owned(),
            mailbox,
            mailbox_id,
            uidvalidity,
            uids,
            force,
        };
        let answer = self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move { MessagesClient::new(t.channel).expunge(request).await }
        });
        let r = answer.await?;
        Ok(Expunged {
            modseq: r.modseq,
            vanished: r.vanished,
        })
    }
}

impl Client {
    /// Shows messages in another mailbox of the account, too: all or none.
    pub async fn copy(
        &self,
        account: &AccountName,
        from: impl Into<MailboxRef>,
        uids: Vec<UidRange>,
        to: impl Into<MailboxRef>,
        request_id: Option<RequestId>,
    ) -> Result<Copied, Error> {
        let request = self.copy_request(account, from.into(), uids, to.into(), request_id);
        let answer = self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move { MessagesClient::new(t.channel).copy(request).await }
        });
        answer.await.map(copied)
    }

    /// Moves messages to another mailbox of the account; each moves in one step (RFC 6851).
    pub async fn move_messages(
        &self,
        account: &AccountName,
        from: impl Into<MailboxRef>,
        uids: Vec<UidRange>,
        to: impl Into<MailboxRef>,
        request_id: Option<RequestId>,
    ) -> Result<Copied, Error> {
        let request = self.copy_request(account, from.into(), uids, to.into(), request_id);
        let answer = self.change_on_leader(Scope::from(account), |t| {
            let request = t.request(request.clone());
            async move { MessagesClient::new(t.channel).r#move(request).await }
        });
        answer.await.map(copied)
    }

    pub(crate) fn copy_request(
        &self,
        account: &AccountName,
        from: MailboxRef,
        uids: Vec<UidRange>,
        to: MailboxRef,
        request_id: Option<RequestId>,
    ) -> CopyRequest {
        let (mailbox, mailbox_id, uidvalidity) = from.fields();
        let (to, to_id, _) = to.fields();
        CopyRequest {
            request_id: self.id_or_fresh(request_id),
            account: account.as_str().to_owned(),
            mailbox,
            mailbox_id,
            uidvalidity,
            uids,
            to,
            to_id,
            to_account: String::new(),
        }
    }
}

pub(crate) fn copied(r: CopyResponse) -> Copied {
    Copied {
        modseq: r.modseq,
        uidvalidity: r.uidvalidity,
        from: r.from,
        to: r.to,
    }
}

/// A page has at most 10,000 messages; with summaries each is a few KiB.
const MAX_PAGE_BYTES: usize = 64 << 20;

fn appended(r: AppendResponse) -> Result<Appended, Error> {
    Ok(Appended {
        blob_id: blob_id(&r.blob_id)?,
        size: r.size,
        stored: Stored {
            uidvalidity: r.uidvalidity,
            uid: r.uid,
            modseq: r.modseq,
            email_id: EmailId(r.email_id),
            duplicate: r.duplicate,
        },
    })
}

/// The blob id in an answer.
pub(crate) fn blob_id(octets: &[u8]) -> Result<BlobId, Error> {
    octets.try_into().map(BlobId).map_err(|_| Error::Corrupt {
        message: "the node's answer has no blob id".into(),
    })
}
