//! The service Messages: streams of octets in and out, and what changes messages.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, unfold};
use futures::{Stream, StreamExt};
use posthouse_client::proto;
use proto::messages_server::Messages;
use tonic::{Code, Request, Response, Status, Streaming, async_trait};

use super::call::{caller, deadline, within};
use super::{Api, error};
use crate::machine::command::{FlagMode, Replaced};
use crate::mailbox::append::{AppendHead, AppendPart};
use crate::mailbox::check::MailboxFields;
use crate::mailbox::copy::{Copied, Copy};
use crate::mailbox::deliver::{DeliverHead, DeliverOutcome, Recipient};
use crate::mailbox::expunge::Expunge;
use crate::mailbox::fetch::FetchBlob;
use crate::mailbox::list_messages::ListedMessage;
use crate::mailbox::set_flags::SetFlags;
use crate::mailbox::summary::{Address, Envelope};
use crate::mailbox::{MailboxError, Result};
use crate::types::MailboxId;

/// Without a deadline of its own an upload may last so many default deadlines, as long as octets
/// keep coming.
const UPLOAD_DEADLINES: u32 = 20;

/// A message of a stream: its head, octets, or the mark that all octets have been sent.
trait Part: Send + 'static {
    type Head;
    fn split(self) -> Option<Either<Self::Head>>;
}

enum Either<H> {
    Head(H),
    Data(Bytes),
    End(u64),
}

impl Part for proto::DeliverRequest {
    type Head = proto::DeliverHead;
    fn split(self) -> Option<Either<proto::DeliverHead>> {
        self.part.map(|part| match part {
            proto::deliver_request::Part::Head(head) => Either::Head(head),
            proto::deliver_request::Part::Data(data) => Either::Data(data),
            proto::deliver_request::Part::End(end) => Either::End(end.size),
        })
    }
}

impl Part for proto::AppendRequest {
    type Head = proto::AppendHead;
    fn split(self) -> Option<Either<proto::AppendHead>> {
        self.part.map(|part| match part {
            proto::append_request::Part::Head(head) => Either::Head(head),
            proto::append_request::Part::Data(data) => Either::Data(data),
            proto::append_request::Part::End(end) => Either::End(end.size),
        })
    }
}

/// The next part of a stream. A stream that breaks off is not one that ends.
async fn next<P: Part>(
    stream: &mut Streaming<P>,
    idle: Duration,
) -> Result<Option<Either<P::Head>>> {
    let message = tokio::time::timeout(idle, stream.message())
        .await
        .map_err(|_| MailboxError::Unavailable("no octets came in time; nothing is stored".into()))?
        .map_err(|e| match e.code() {
            // Too large a piece comes too large again: no retry helps.
            Code::OutOfRange | Code::ResourceExhausted => MailboxError::bad("data", e.message()),
            _ => MailboxError::Unavailable(format!(
                "the stream broke off, nothing is stored: {}",
                e.message()
            )),
        })?;
    match message.map(Part::split) {
        None => Ok(None),
        Some(Some(part)) => Ok(Some(part)),
        Some(None) => Err(MailboxError::bad("part", "neither head, data nor end")),
    }
}

/// The head, which comes first.
async fn head<P: Part>(stream: &mut Streaming<P>, idle: Duration) -> Result<P::Head> {
    match next(stream, idle).await? {
        Some(Either::Head(head)) => Ok(head),
        _ => Err(MailboxError::bad(
            "part",
            "the first message of the stream must be its head",
        )),
    }
}

/// The octets after the head, up to the mark that says how many they are. A stream that ends without
/// the mark has broken off: a cancelled call may look like one that ends.
fn pieces<P: Part>(
    stream: Streaming<P>,
    idle: Duration,
) -> impl Stream<Item = Result<Bytes>> + Send {
    unfold(Some((stream, 0)), move |state| async move {
        let (mut stream, sent) = state?;
        let refused = match next(&mut stream, idle).await {
            Ok(Some(Either::Data(data))) => {
                let sent = sent + data.len() as u64;
                return Some((Ok(data), Some((stream, sent))));
            }
            Ok(Some(Either::End(size))) if size == sent => return None,
            Ok(Some(Either::End(_))) => {
                MailboxError::bad("end.size", "not the number of octets that came")
            }
            Ok(Some(Either::Head(_))) => MailboxError::bad("part", "a second head"),
            Ok(None) => MailboxError::Unavailable(
                "the stream ended before its end mark; nothing is stored".into(),
            ),
            Err(e) => e,
        };
        Some((Err(refused), None))
    })
}

fn append_head(head: proto::AppendHead) -> AppendHead {
    let replaced_in = MailboxId(head.replace_mailbox_id);
    let replace = match (head.replace_uidvalidity, head.replace_uid) {
        (0, 0) if head.replace_mailbox_id == 0 => Replaced::Nothing,
        (0, uid) => Replaced::At(replaced_in, uid),
        (uidvalidity, uid) => Replaced::If(replaced_in, uidvalidity, uid),
    };
    AppendHead {
        request_id: head.request_id.to_vec(),
        account: head.account,
        mailbox: MailboxFields {
            name: head.mailbox,
            id: head.mailbox_id,
            uidvalidity: head.uidvalidity,
        },
        flags: head.flags,
        internal_date_ms: head.internal_date_ms,
        size_hint: head.size_hint,
        more: head.more,
        replace,
    }
}

/// What follows the first head of several messages: the mark at the end of each is checked.
fn append_parts(
    stream: Streaming<proto::AppendRequest>,
    idle: Duration,
) -> impl Stream<Item = Result<AppendPart>> + Send {
    unfold(Some((stream, 0)), move |state| async move {
        let (mut stream, sent) = state?;
        let failed = match next(&mut stream, idle).await {
            Ok(Some(Either::Data(data))) => {
                let sent = sent + data.len() as u64;
                return Some((Ok(AppendPart::Data(data)), Some((stream, sent))));
            }
            Ok(Some(Either::End(size))) if size == sent => {
                return Some((Ok(AppendPart::End), Some((stream, 0))));
            }
            Ok(Some(Either::Head(head))) => {
                let head = append_head(head);
                return Some((Ok(AppendPart::Head(head)), Some((stream, sent))));
            }
            Ok(Some(Either::End(_))) => {
                MailboxError::bad("end.size", "not the number of octets that came")
            }
            // Whoever reads this knows whether there should have been more.
            Ok(None) => return None,
            Err(e) => e,
        };
        Some((Err(failed), None))
    })
}

pub(super) fn uid_ranges(ranges: &[proto::UidRange]) -> Vec<(u32, u32)> {
    ranges.iter().map(|r| (r.first, r.last)).collect()
}

pub(super) fn to_uid_ranges(ranges: Vec<(u32, u32)>) -> Vec<proto::UidRange> {
    let range = |(first, last)| proto::UidRange { first, last };
    ranges.into_iter().map(range).collect()
}

fn flag_mode(mode: i32) -> Result<FlagMode> {
    match proto::FlagMode::try_from(mode) {
        Ok(proto::FlagMode::Add) => Ok(FlagMode::Add),
        Ok(proto::FlagMode::Remove) => Ok(FlagMode::Remove),
        Ok(proto::FlagMode::Replace) => Ok(FlagMode::Replace),
        Err(_) => Err(MailboxError::bad("mode", "not a mode that this node knows")),
    }
}

fn copy(r: proto::CopyRequest) -> Copy {
    Copy {
        request_id: r.request_id.to_vec(),
        account: r.account,
        from: MailboxFields {
            name: r.mailbox,
            id: r.mailbox_id,
            uidvalidity: r.uidvalidity,
        },
        uids: uid_ranges(&r.uids),
        to_account: r.to_account,
        to: MailboxFields {
            name: r.to,
            id: r.to_id,
            uidvalidity: 0,
        },
    }
}

fn copied(copied: Copied) -> proto::CopyResponse {
    proto::CopyResponse {
        modseq: copied.modseq,
        uidvalidity: copied.uidvalidity,
        from: to_uid_ranges(copied.from),
        to: to_uid_ranges(copied.to),
        next_uid: copied.next,
    }
}

fn addresses(list: Vec<Address>) -> Vec<proto::Address> {
    use proto::address::Kind;
    let one = |address| {
        let (name, address, kind) = match address {
            Address::Mailbox { name, address } => (name, address, Kind::Mailbox),
            Address::GroupStart(name) => (name, String::new(), Kind::GroupStart),
            Address::GroupEnd => (String::new(), String::new(), Kind::GroupEnd),
        };
        proto::Address {
            name,
            address,
            kind: kind as i32,
        }
    };
    list.into_iter().map(one).collect()
}

pub(super) fn envelope(e: Envelope) -> proto::Envelope {
    proto::Envelope {
        subject: e.subject,
        from: addresses(e.from),
        sender: addresses(e.sender),
        reply_to: addresses(e.reply_to),
        to: addresses(e.to),
        cc: addresses(e.cc),
        bcc: addresses(e.bcc),
        date: e.date,
        message_id: e.message_id,
        in_reply_to: e.in_reply_to,
        references: e.references,
        date_text: e.date_text,
    }
}

fn message(listed: ListedMessage) -> proto::Message {
    let mut out = proto::Message {
        uid: listed.uid,
        modseq: listed.modseq,
        flags: listed.flags,
        internal_date_ms: listed.internal_date_ms,
        size: listed.size,
        email_id: listed.email.0,
        ..proto::Message::default()
    };
    if let Some(cold) = listed.cold {
        let (blob, summary) = *cold;
        out.blob_id = blob.0.to_vec().into();
        out.envelope = Some(envelope(summary.envelope));
        out.preview = summary.preview;
    }
    out
}

impl Api {
    /// How long an upload may take, in all and between two of its pieces.
    fn upload_limits<T>(&self, request: &Request<T>) -> (Duration, Duration) {
        let idle = self.ops.limits().default_deadline;
        let whole = deadline(request.metadata()).unwrap_or(idle * UPLOAD_DEADLINES);
        (whole, idle.min(whole))
    }

    fn delivered(&self, outcome: DeliverOutcome) -> proto::DeliverResponse {
        let results = outcome.results.into_iter().map(|r| {
            let mut out = proto::DeliverResult {
                account: r.account,
                mailbox: r.mailbox,
                ..proto::DeliverResult::default()
            };
            match r.outcome {
                Ok(stored) => {
                    out.uidvalidity = stored.uidvalidity;
                    out.uid = stored.uid;
                    out.modseq = stored.modseq;
                    out.email_id = stored.email.0;
                    out.duplicate = stored.duplicate;
                }
                Err(e) => out.error = Some(error::detail(&e, &**self.ops.routes())),
            }
            out
        });
        let results = results.collect();
        let (blob_id, size) = match outcome.blob {
            Some((blob, size)) => (blob.0.to_vec(), size),
            None => (Vec::new(), 0),
        };
        proto::DeliverResponse {
            blob_id: blob_id.into(),
            size,
            results,
        }
    }
}

#[async_trait]
impl Messages for Api {
    async fn deliver(
        &self,
        request: Request<Streaming<proto::DeliverRequest>>,
    ) -> Result<Response<proto::DeliverResponse>, Status> {
        let (whole, idle) = self.upload_limits(&request);
        let caller = caller(&request);
        let checked = self.check(request.metadata());
        let mut stream = request.into_inner();
        let work = async {
            checked?;
            let head = head(&mut stream, idle).await?;
            let recipient = |r: proto::Recipient| Recipient {
                account: r.account,
                mailbox: r.mailbox,
                flags: r.flags,
            };
            let head = DeliverHead {
                request_id: head.request_id.to_vec(),
                by_content: head.by_content,
                sender: head.sender,
                recipients: head.recipients.into_iter().map(recipient).collect(),
                size_hint: head.size_hint,
                internal_date_ms: head.internal_date_ms,
            };
            let outcome = self
                .ops
                .deliver(&caller, head, pieces(stream, idle))
                .await?;
            Ok(self.delivered(outcome))
        };
        let result = within(whole, work).await;
        self.answer(result)
    }

    async fn append(
        &self,
        request: Request<Streaming<proto::AppendRequest>>,
    ) -> Result<Response<proto::AppendResponse>, Status> {
        let (whole, idle) = self.upload_limits(&request);
        let caller = caller(&request);
        let checked = self.check(request.metadata());
        let mut stream = request.into_inner();
        let work = async {
            checked?;
            let head = append_head(head(&mut stream, idle).await?);
            let appended = match head.more {
                false => self.ops.append(&caller, head, pieces(stream, idle)).await?,
                true => {
                    let parts = append_parts(stream, idle);
                    self.ops.append_many(&caller, head, parts).await?
                }
            };
            Ok(proto::AppendResponse {
                blob_id: appended.blob.0.to_vec().into(),
                size: appended.size,
                uidvalidity: appended.stored.uidvalidity,
                uid: appended.stored.uid,
                modseq: appended.stored.modseq,
                email_id: appended.stored.email.0,
                duplicate: appended.stored.duplicate,
                count: appended.count,
                mailbox_id: appended.stored.mailbox.0,
            })
        };
        let result = within(whole, work).await;
        self.answer(result)
    }

    async fn list_messages(
        &self,
        request: Request<proto::ListMessagesRequest>,
    ) -> Result<Response<proto::ListMessagesResponse>, Status> {
        self.call(request, |ops, r| async move {
            let uids = r.uids.map(|range| (range.first, range.last));
            let mailbox = MailboxFields {
                name: r.mailbox,
                id: r.mailbox_id,
                uidvalidity: r.uidvalidity,
            };
            let page = ops
                .list_messages(&r.account, mailbox, uids, r.limit, r.with_summary)
                .await?;
            Ok(proto::ListMessagesResponse {
                messages: page.messages.into_iter().map(message).collect(),
                next_uid: page.next_uid,
                mailbox: Some(super::mailboxes::mailbox(page.mailbox)),
                account_modseq: page.account_modseq,
            })
        })
        .await
    }

    type FetchBlobStream = BoxStream<'static, Result<proto::FetchBlobResponse, Status>>;

    async fn fetch_blob(
        &self,
        request: Request<proto::FetchBlobRequest>,
    ) -> Result<Response<Self::FetchBlobStream>, Status> {
        self.call(request, |ops, r| async move {
            let (fetching, modseq) = ops
                .fetch(FetchBlob {
                    account: r.account,
                    mailbox: r.mailbox,
                    uid: r.uid,
                    blob_id: r.blob_id.to_vec(),
                    offset: r.offset,
                    length: r.length,
                })
                .await?;
            let mut first = Some((fetching.blob, fetching.size));
            let pieces = ops.read_pieces(&fetching).map(move |piece| match piece {
                Ok(piece) => {
                    let mut out = proto::FetchBlobResponse {
                        offset: piece.offset,
                        data: piece.data,
                        ..proto::FetchBlobResponse::default()
                    };
                    if let Some((blob, size)) = first.take() {
                        out.blob_id = blob.0.to_vec().into();
                        out.size = size;
                        out.account_modseq = modseq;
                    }
                    Ok(out)
                }
                Err(e) => Err(error::status(&e, &**ops.routes())),
            });
            Ok(pieces.boxed())
        })
        .await
    }

    async fn set_flags(
        &self,
        request: Request<proto::SetFlagsRequest>,
    ) -> Result<Response<proto::SetFlagsResponse>, Status> {
        self.call(request, |ops, r| async move {
            let set = ops
                .set_flags(SetFlags {
                    request_id: r.request_id.to_vec(),
                    account: r.account,
                    mailbox: MailboxFields {
                        name: r.mailbox,
                        id: r.mailbox_id,
                        uidvalidity: r.uidvalidity,
                    },
                    uids: uid_ranges(&r.uids),
                    mode: flag_mode(r.mode)?,
                    flags: r.flags,
                    unchanged_since: match r.unchanged_since {
                        0 if !r.never_changed => None,
                        since => Some(since),
                    },
                })
                .await?;
            Ok(proto::SetFlagsResponse {
                modseq: set.modseq,
                changed: to_uid_ranges(set.changed),
                modified: to_uid_ranges(set.modified),
            })
        })
        .await
    }

    async fn expunge(
        &self,
        request: Request<proto::ExpungeRequest>,
    ) -> Result<Response<proto::ExpungeResponse>, Status> {
        self.call(request, |ops, r| async move {
            let expunged = ops
                .expunge(Expunge {
                    request_id: r.request_id.to_vec(),
                    account: r.account,
                    mailbox: MailboxFields {
                        name: r.mailbox,
                        id: r.mailbox_id,
                        uidvalidity: r.uidvalidity,
                    },
                    uids: uid_ranges(&r.uids),
                    force: r.force,
                })
                .await?;
            Ok(proto::ExpungeResponse {
                modseq: expunged.modseq,
                vanished: to_uid_ranges(expunged.vanished),
            })
        })
        .await
    }

    type FetchStream = BoxStream<'static, Result<proto::FetchResponse, Status>>;

    async fn fetch(
        &self,
        request: Request<proto::FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        self.fetch_messages(request).await
    }

    type SearchStream = BoxStream<'static, Result<proto::SearchResponse, Status>>;

    async fn search(
        &self,
        request: Request<proto::SearchRequest>,
    ) -> Result<Response<Self::SearchStream>, Status> {
        self.search_messages(request).await
    }

    async fn copy(
        &self,
        request: Request<proto::CopyRequest>,
    ) -> Result<Response<proto::CopyResponse>, Status> {
        self.call(request, |ops, r| async move {
            ops.copy(copy(r)).await.map(copied)
        })
        .await
    }

    async fn r#move(
        &self,
        request: Request<proto::CopyRequest>,
    ) -> Result<Response<proto::CopyResponse>, Status> {
        self.call(request, |ops, r| async move {
            ops.move_messages(copy(r)).await.map(copied)
        })
        .await
    }

    async fn get_changes(
        &self,
        request: Request<proto::GetChangesRequest>,
    ) -> Result<Response<proto::GetChangesResponse>, Status> {
        self.changes(request).await
    }

    type WatchStream = BoxStream<'static, Result<proto::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<proto::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.watch_accounts(request).await
    }
}
