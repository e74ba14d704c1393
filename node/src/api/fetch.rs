//! The call Fetch of the service Messages: sections and parts between the contract and the
//! operation.

use futures::StreamExt;
use futures::stream::BoxStream;
use posthouse_client::proto;
use proto::section_data::Outcome as Wire;
use tonic::{Request, Response, Status};

use super::messages::envelope;
use super::{Api, error};
use crate::index::values::MessageRow;
use crate::mailbox::fetch_messages::{
    FetchBatch, FetchMessages, FetchedMessage, Item, Outcome, SectionPiece,
};
use crate::mailbox::section::{Kind, Section};
use crate::mailbox::summary::Part;
use crate::mailbox::{MailboxError, Result};
use crate::types::Uid;

fn section(at: usize, s: proto::Section) -> Result<Section> {
    use proto::section::Kind as Wire;
    let kind = match Wire::try_from(s.kind) {
        Ok(Wire::All) => Kind::All,
        Ok(Wire::Header) => Kind::Header,
        Ok(Wire::HeaderFields) => Kind::Fields(s.fields),
        Ok(Wire::HeaderFieldsNot) => Kind::FieldsNot(s.fields),
        Ok(Wire::Text) => Kind::Text,
        Ok(Wire::Mime) => Kind::Mime,
        Err(_) => {
            return Err(MailboxError::bad(
                format!("sections[{at}].kind"),
                "not a kind that this node knows",
            ));
        }
    };
    Ok(Section {
        path: s.path,
        kind,
        decode: s.decode,
        offset: s.offset,
        length: s.length,
        size_only: s.size_only,
    })
}

fn params(params: Vec<(String, String)>) -> Vec<proto::Param> {
    let param = |(name, value)| proto::Param { name, value };
    params.into_iter().map(param).collect()
}

/// A part as the contract shows it.
pub(super) fn part(p: Part) -> proto::Part {
    proto::Part {
        parent: p.parent,
        main_type: p.main_type,
        sub_type: p.sub_type,
        params: params(p.params),
        disposition: p.disposition,
        disposition_params: params(p.disposition_params),
        id: p.id,
        description: p.description,
        encoding: p.encoding,
        md5: p.md5,
        language: p.language,
        location: p.location,
        header: p.header,
        body: p.body,
        end: p.end,
        lines: p.lines,
        message: p.message.map(|e| envelope(*e)),
    }
}

fn message(m: FetchedMessage) -> proto::Fetched {
    let mut out = proto::Fetched {
        uid: m.uid,
        modseq: m.row.modseq,
        flags: u32::from(m.row.flags),
        keywords: m.row.keywords.into_iter().map(u32::from).collect(),
        internal_date_ms: m.row.internal_date_ms,
        save_date_ms: m.row.save_date_ms,
        size: m.row.size,
        email_id: m.row.email.0,
        ..proto::Fetched::default()
    };
    if let Some(cold) = m.cold {
        if let Some((blob, thread)) = cold.email {
            out.blob_id = blob.0.to_vec().into();
            out.thread_id = thread.0;
        }
        out.envelope = cold.envelope.map(envelope);
        out.structure = cold.structure.into_iter().map(part).collect();
        out.preview = cold.preview;
        out.truncated = cold.truncated;
    }
    out
}

fn piece(item: Item) -> proto::FetchPiece {
    use proto::fetch_piece::Piece;
    let piece = match item {
        Item::Message(m) => Piece::Message(Box::new(message(m))),
        Item::Section(SectionPiece {
            index,
            outcome,
            left,
            data,
            last,
        }) => Piece::Section(proto::SectionData {
            index,
            outcome: match outcome {
                Outcome::Data => Wire::Data,
                Outcome::NoSuchPart => Wire::NoSuchPart,
                Outcome::UnknownEncoding => Wire::UnknownEncoding,
            } as i32,
            size: left,
            data,
            last,
        }),
    };
    proto::FetchPiece { piece: Some(piece) }
}

fn rows(rows: Vec<(Uid, MessageRow)>, wanted: &proto::RowColumns) -> proto::Rows {
    let mut out = proto::Rows {
        uid_steps: Vec::with_capacity(rows.len()),
        ..proto::Rows::default()
    };
    let mut before = 0;
    let steps = rows.iter().map(|(uid, _)| {
        let step = uid - before;
        before = *uid;
        step
    });
    out.uid_steps.extend(steps);
    let rows = || rows.iter().map(|(_, row)| row);
    if wanted.flags {
        out.flags = rows().map(|row| row.flags).collect();
        if rows().any(|row| !row.keywords.is_empty()) {
            let counts = rows().map(|row| row.keywords.len() as u32);
            out.keyword_counts.extend(counts);
            let keywords = rows().flat_map(|row| &row.keywords);
            out.keywords.extend(keywords.map(|k| u32::from(*k)));
        }
    }
    if wanted.modseq {
        out.modseqs.extend(rows().map(|row| row.modseq));
    }
    if wanted.dates {
        let came = rows().map(|row| row.internal_date_ms);
        out.internal_dates_ms.extend(came);
        out.save_dates_ms.extend(rows().map(|row| row.save_date_ms));
    }
    if wanted.size {
        out.sizes.extend(rows().map(|row| row.size));
    }
    if wanted.email_id {
        out.email_ids.extend(rows().map(|row| row.email.0));
    }
    out
}

fn batch(batch: FetchBatch, columns: Option<&proto::RowColumns>) -> proto::FetchResponse {
    let mut out = proto::FetchResponse {
        pieces: batch.items.into_iter().map(piece).collect(),
        rows: columns.map(|columns| rows(batch.rows, columns)),
        ..proto::FetchResponse::default()
    };
    if let Some(opening) = batch.opening {
        let keyword = |(id, name)| proto::Keyword {
            id: u32::from(id),
            name,
        };
        out.keywords = opening.keywords.into_iter().map(keyword).collect();
        out.highest_modseq = opening.highest_modseq;
        out.account_modseq = opening.account_modseq;
    }
    out
}

impl Api {
    pub(super) async fn fetch_messages(
        &self,
        request: Request<proto::FetchRequest>,
    ) -> Result<Response<BoxStream<'static, Result<proto::FetchResponse, Status>>>, Status> {
        self.call(request, |ops, r| async move {
            let sections = r.sections.into_iter().enumerate();
            let fetch = FetchMessages {
                account: r.account,
                mailbox: r.mailbox,
                mailbox_id: r.mailbox_id,
                uidvalidity: r.uidvalidity,
                uids: super::messages::uid_ranges(&r.uids),
                changed_since: r.changed_since,
                envelope: r.envelope,
                structure: r.structure,
                preview: r.preview,
                email: r.email,
                sections: sections
                    .map(|(i, s)| section(i, s))
                    .collect::<Result<_>>()?,
                unconfirmed: r.unconfirmed,
                rows: r.columns.is_some(),
            };
            let columns = r.columns;
            let batches = ops.fetch_messages(fetch).await?;
            let answers = batches.map(move |result| match result {
                Ok(b) => Ok(batch(b, columns.as_ref())),
                Err(e) => Err(error::status(&e, &**ops.routes())),
            });
            Ok(answers.boxed())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use posthouse_client::error::detail_of;
    use proto::fetch_piece::Piece;
    use proto::messages_server::Messages;

    use super::*;
    use crate::mailbox::deliver::{DeliverHead, Recipient};
    use crate::mailbox::fake::{id, node, pieces};
    use crate::mailbox::{Caller, Operations};

    const MAIL: &[u8] = b"Subject: s\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n\
        aGVsbG8=\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\n\r\nx\r\n--b--\r\n";

    async fn deliver(ops: &Operations, n: u32, octets: &[u8]) {
        let head = DeliverHead {
            request_id: [n.to_le_bytes(), [0; 4], [0; 4], [0; 4]].concat(),
            recipients: vec![Recipient {
                account: "a@x".to_owned(),
                flags: vec!["\\Seen".to_owned(), "$Key".to_owned()],
                ..Recipient::default()
            }],
            ..DeliverHead::default()
        };
        let caller = Caller::default();
        let delivered = ops.deliver(&caller, head, pieces(octets, 1 << 20)).await;
        delivered.unwrap().results[0].outcome.clone().unwrap();
    }

    fn request() -> proto::FetchRequest {
        proto::FetchRequest {
            account: "a@x".to_owned(),
            mailbox: "INBOX".to_owned(),
            ..proto::FetchRequest::default()
        }
    }

    async fn fetch(api: &Api, r: proto::FetchRequest) -> Result<Vec<proto::FetchResponse>, Status> {
        let answers = api.fetch(Request::new(r)).await?.into_inner();
        answers.try_collect().await
    }

    #[tokio::test]
    async fn a_message_is_shown_as_the_contract_says() {
        use proto::section::Kind;
        let (_, ops) = node();
        ops.create_account(&id(1), "a@x").await.unwrap();
        deliver(&ops, 1, MAIL).await;
        let api = Api::new(ops);
        let section = |path: &[u32], kind: Kind, decode| proto::Section {
            path: path.to_vec(),
            kind: kind as i32,
            decode,
            fields: vec!["subject".to_owned()],
            ..proto::Section::default()
        };
        let all = proto::FetchRequest {
            envelope: true,
            structure: true,
            preview: true,
            email: true,
            sections: vec![
                section(&[1], Kind::All, true),
                section(&[2], Kind::HeaderFields, false),
                section(&[2, 1], Kind::Mime, false),
                section(&[3], Kind::All, false),
            ],
            ..request()
        };
        let answers = fetch(&api, all).await.unwrap();
        let [answer] = answers.as_slice() else {
            panic!("{answers:?}");
        };
        assert!(answer.highest_modseq > 0);
        let keys: Vec<_> = answer.keywords.iter().map(|k| (k.id, &*k.name)).collect();
        assert_eq!(keys, [(0, "$Key")]);
        let pieces = answer.pieces.iter().map(|p| p.piece.clone().unwrap());
        let pieces: Vec<_> = pieces.collect();
        let Piece::Message(m) = &pieces[0] else {
            panic!("{pieces:?}");
        };
        assert_eq!((m.uid, m.flags, m.keywords.as_slice()), (1, 1, &[0][..]));
        assert_eq!(m.blob_id, blake3::hash(MAIL).as_bytes()[..]);
        assert_eq!((m.size, m.preview.as_str()), (MAIL.len() as u64, "hello"));
        assert!(m.thread_id > 0 && m.save_date_ms > 0 && !m.truncated);
        assert_eq!(m.envelope.as_ref().unwrap().subject, "s");
        let types: Vec<_> = m
            .structure
            .iter()
            .map(|p| (p.parent, &*p.sub_type))
            .collect();
        assert_eq!(
            types,
            [(0, "mixed"), (0, "plain"), (0, "rfc822"), (2, "plain")]
        );
        assert_eq!(m.structure[1].params[0].value, "utf-8");
        assert_eq!(m.structure[1].encoding, "base64");
        assert_eq!(m.structure[2].message.as_ref().unwrap().subject, "in");
        let sections = pieces[1..].iter().map(|piece| match piece {
            Piece::Section(s) => (s.index, s.outcome(), s.size, s.data.to_vec(), s.last),
            Piece::Message(_) => panic!("{pieces:?}"),
        });
        let expected = [
            (0, Wire::Data, b"hello".to_vec()),
            (1, Wire::Data, b"Subject: in\r\n\r\n".to_vec()),
            (2, Wire::Data, b"Subject: in\r\n\r\n".to_vec()),
            (3, Wire::NoSuchPart, Vec::new()),
        ];
        let expected = expected.map(|(i, o, data)| (i, o, data.len() as u64, data, true));
        assert_eq!(sections.collect::<Vec<_>>(), expected);

        let mut unknown = request();
        unknown.sections = vec![proto::Section {
            kind: 99,
            ..proto::Section::default()
        }];
        let status = fetch(&api, unknown).await.unwrap_err();
        assert_eq!(detail_of(&status).unwrap().field, "sections[0].kind");
    }

    /// Rows travel many at a time, and no answer comes near the 4 MiB that gRPC allows.
    #[tokio::test]
    async fn answers_are_of_a_good_size() {
        use prost::Message;
        let (_, ops) = node();
        ops.create_account(&id(1), "a@x").await.unwrap();
        for n in 0..6000 {
            deliver(&ops, n, b"x").await;
        }
        deliver(&ops, 6000, &vec![0; 5 << 20]).await;
        let api = Api::new(ops);
        let answers = fetch(&api, request()).await.unwrap();
        let sizes: Vec<_> = answers.iter().map(|a| a.encoded_len()).collect();
        let rows: usize = answers.iter().map(|a| a.pieces.len()).sum();
        assert_eq!(rows, 6001);
        let (_, full) = sizes.split_last().unwrap();
        assert!(!full.is_empty());
        assert!(
            full.iter().all(|n| (64 << 10..256 << 10).contains(n)),
            "{sizes:?}"
        );

        let mut whole = request();
        whole.sections = vec![proto::Section::default()];
        whole.structure = true;
        let answers = fetch(&api, whole).await.unwrap();
        let sizes: Vec<_> = answers.iter().map(|a| a.encoded_len()).collect();
        assert!(sizes.iter().all(|n| *n < 512 << 10), "{sizes:?}");
        assert!(answers.len() < 60, "{}", answers.len());
    }
}
