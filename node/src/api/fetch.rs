//! The call Fetch of the service Messages: sections and parts between the contract and the
//! operation.

use futures::StreamExt;
use futures::stream::BoxStream;
use posthouse_client::proto;
use proto::section_data::Outcome as Wire;
use tonic::{Request, Response, Status};

use super::messages::envelope;
use super::{Api, error};
use crate::mailbox::fetch_messages::{
    FetchBatch, FetchMessages, FetchedMessage, Item, Outcome, SectionPiece,
};
use crate::mailbox::section::{Kind, Section};
use crate::mailbox::summary::Part;
use crate::mailbox::{MailboxError, Result};

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
        Item::Message(m) => Piece::Message(message(m)),
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

fn batch(batch: FetchBatch) -> proto::FetchResponse {
    let mut out = proto::FetchResponse {
        pieces: batch.items.into_iter().map(piece).collect(),
        ..proto::FetchResponse::default()
    };
    if let Some(opening) = batch.opening {
        let keyword = |(id, name)| proto::Keyword {
            id: u32::from(id),
            name,
        };
        out.keywords = opening.keywords.into_iter().map(keyword).collect();
        out.highest_modseq = opening.highest_modseq;
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
            };
            let batches = ops.fetch_messages(fetch).await?;
            let answers = batches.map(move |result| match result {
                Ok(b) => Ok(batch(b)),
                Err(e) => Err(error::status(&e, &**ops.routes())),
            });
            Ok(answers.boxed())
        })
        .await
    }
}
