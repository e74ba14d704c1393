//! The call Search of the service Messages.

use futures::StreamExt;
use futures::stream::BoxStream;
use posthouse_client::proto;
use proto::search_key::Key as Wire;
use proto::sort_key::By as WireBy;
use tonic::{Request, Response, Status};

use super::messages::{to_uid_ranges, uid_ranges};
use super::{Api, error};
use crate::mailbox::search::key::{By, Key, SortKey, Span};
use crate::mailbox::search::thread::ThreadNode;
use crate::mailbox::search::{Piece, Search};
use crate::mailbox::{MailboxError, Result};

/// A condition. The decoder of messages has bounded how deep they are nested.
fn key(wire: proto::SearchKey) -> Result<Key> {
    let keys = |list: proto::search_key::Keys| -> Result<Vec<Key>> {
        list.keys.into_iter().map(key).collect()
    };
    let span = |range: proto::search_key::Range| Span {
        from: range.from,
        to: range.to,
    };
    let wire = wire
        .key
        .ok_or_else(|| MailboxError::bad("key", "is no condition that this node knows"))?;
    Ok(match wire {
        Wire::AllOf(list) => Key::AllOf(keys(list)?),
        Wire::AnyOf(list) => Key::AnyOf(keys(list)?),
        Wire::Not(inner) => Key::Not(Box::new(key(*inner)?)),
        Wire::Uids(uids) => Key::Uids(uid_ranges(&uids.uids)),
        Wire::Flag(flag) => Key::Flag {
            name: flag.name,
            off: flag.off,
        },
        Wire::InternalDateMs(range) => Key::InternalDate(span(range)),
        Wire::SentMs(range) => Key::Sent(span(range)),
        Wire::SaveDateMs(range) => Key::SaveDate(span(range)),
        Wire::Size(range) => Key::Size(span(range)),
        Wire::Modseq(range) => Key::ModSeq(span(range)),
        Wire::Header(field) => Key::Header {
            name: field.name,
            text: field.text,
        },
        Wire::From(text) => Key::From(text),
        Wire::To(text) => Key::To(text),
        Wire::Cc(text) => Key::Cc(text),
        Wire::Bcc(text) => Key::Bcc(text),
        Wire::Subject(text) => Key::Subject(text),
        Wire::Body(text) => Key::Body(text),
        Wire::Text(text) => Key::Text(text),
        Wire::EmailId(email) => Key::Email(email),
        Wire::ThreadId(thread) => Key::Thread(thread),
    })
}

fn sort_key(wire: proto::SortKey) -> Result<SortKey> {
    let by = match WireBy::try_from(wire.by) {
        Ok(WireBy::Arrival) => By::Arrival,
        Ok(WireBy::Cc) => By::Cc,
        Ok(WireBy::Date) => By::Date,
        Ok(WireBy::From) => By::From,
        Ok(WireBy::Size) => By::Size,
        Ok(WireBy::Subject) => By::Subject,
        Ok(WireBy::To) => By::To,
        Ok(WireBy::DisplayFrom) => By::DisplayFrom,
        Ok(WireBy::DisplayTo) => By::DisplayTo,
        Err(_) => {
            let why = "not an order that this node knows";
            return Err(MailboxError::bad("sort", why));
        }
    };
    Ok(SortKey {
        by,
        reverse: wire.reverse,
    })
}

fn search(request: proto::SearchRequest) -> Result<Search> {
    Ok(Search {
        account: request.account,
        mailbox: request.mailbox,
        mailbox_id: request.mailbox_id,
        uidvalidity: request.uidvalidity,
        key: request.key.map(key).transpose()?,
        sort: request
            .sort
            .into_iter()
            .map(sort_key)
            .collect::<Result<_>>()?,
        thread: request.thread,
        partial: (request.partial_first, request.partial_last),
    })
}

fn response(piece: Piece) -> proto::SearchResponse {
    let node = |ThreadNode { uid, depth }| proto::ThreadNode { uid, depth };
    let total = piece.last.unwrap_or_default();
    proto::SearchResponse {
        uids: to_uid_ranges(piece.uids),
        sorted: piece.sorted,
        threads: piece.threads.into_iter().map(node).collect(),
        searched: piece.searched,
        last: piece.last.is_some(),
        matched_modseq: total.matched_modseq,
        count: total.count,
        account_modseq: total.account_modseq,
    }
}

impl Api {
    pub(super) async fn search_messages(
        &self,
        request: Request<proto::SearchRequest>,
    ) -> Result<Response<BoxStream<'static, Result<proto::SearchResponse, Status>>>, Status> {
        self.call(request, |ops, r| async move {
            let pieces = ops.search(search(r)?).await?;
            let answer = pieces.map(move |piece| match piece {
                Ok(piece) => Ok(response(piece)),
                Err(e) => Err(error::status(&e, &**ops.routes())),
            });
            Ok(answer.boxed())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(key: Wire) -> proto::SearchKey {
        proto::SearchKey { key: Some(key) }
    }

    #[test]
    fn keys_keep_their_meaning() {
        let range = proto::search_key::Range { from: 1, to: 2 };
        let span = Span { from: 1, to: 2 };
        let text = || "x".to_owned();
        let field = proto::search_key::Field {
            name: "n".into(),
            text: text(),
        };
        let header = Key::Header {
            name: "n".into(),
            text: text(),
        };
        let uids = proto::search_key::Uids {
            uids: vec![proto::UidRange { first: 1, last: 0 }],
        };
        for (given, expected) in [
            (Wire::Uids(uids), Key::Uids(vec![(1, 0)])),
            (Wire::InternalDateMs(range), Key::InternalDate(span)),
            (Wire::SentMs(range), Key::Sent(span)),
            (Wire::SaveDateMs(range), Key::SaveDate(span)),
            (Wire::Size(range), Key::Size(span)),
            (Wire::Modseq(range), Key::ModSeq(span)),
            (Wire::Header(field), header),
            (Wire::From(text()), Key::From(text())),
            (Wire::To(text()), Key::To(text())),
            (Wire::Cc(text()), Key::Cc(text())),
            (Wire::Bcc(text()), Key::Bcc(text())),
            (Wire::Subject(text()), Key::Subject(text())),
            (Wire::Body(text()), Key::Body(text())),
            (Wire::Text(text()), Key::Text(text())),
            (Wire::EmailId(7), Key::Email(7)),
            (Wire::ThreadId(7), Key::Thread(7)),
        ] {
            let list = proto::search_key::Keys {
                keys: vec![wire(given)],
            };
            let not = wire(Wire::Not(Box::new(wire(Wire::AllOf(list)))));
            let any = proto::search_key::Keys { keys: vec![not] };
            let all = Key::AllOf(vec![expected]);
            let expected = Key::AnyOf(vec![Key::Not(Box::new(all))]);
            assert_eq!(key(wire(Wire::AnyOf(any))), Ok(expected));
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(key(proto::SearchKey { key: None }).is_err());
        let unknown = proto::SortKey {
            by: 77,
            reverse: false,
        };
        assert!(sort_key(unknown).is_err());
        for by in 0..9 {
            assert!(sort_key(proto::SortKey { by, reverse: true }).is_ok());
        }
    }
}
