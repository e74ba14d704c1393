//! The calls GetChanges and Watch of the service Messages.

use futures::StreamExt;
use futures::stream::BoxStream;
use posthouse_client::proto;
use tonic::{Request, Response, Status, Streaming};

use super::messages::to_uid_ranges;
use super::{Api, error};
use crate::mailbox::MailboxError;
use crate::mailbox::changes::GetChanges;
use crate::mailbox::watch::{WatchChange, WatchEvent};
use crate::types::EmailId;

impl Api {
    pub(super) async fn changes(
        &self,
        request: Request<proto::GetChangesRequest>,
    ) -> Result<Response<proto::GetChangesResponse>, Status> {
        self.call(request, |ops, r| async move {
            let changes = ops
                .get_changes(GetChanges {
                    account: r.account,
                    mailbox: r.mailbox,
                    mailbox_id: r.mailbox_id,
                    uidvalidity: r.uidvalidity,
                    since: r.since,
                    limit: r.limit,
                })
                .await?;
            let mailboxes = changes.mailboxes.into_iter();
            Ok(proto::GetChangesResponse {
                mailboxes: mailboxes
                    .map(|(id, m)| proto::MailboxChanges {
                        mailbox_id: id.0,
                        changed: m.changed,
                        destroyed: m.destroyed,
                        created: to_uid_ranges(m.created),
                        updated: to_uid_ranges(m.updated),
                        vanished: to_uid_ranges(m.vanished),
                        appeared: m.appeared,
                        destroyed_emails: m.destroyed_emails.into_iter().map(emails).collect(),
                    })
                    .collect(),
                up_to: changes.up_to,
                more: changes.more,
                account_changed: changes.account_changed,
            })
        })
        .await
    }

    /// The caller's deadline is for the answer to begin; a stream lasts as long as both want it.
    pub(super) async fn watch_accounts(
        &self,
        request: Request<Streaming<proto::WatchRequest>>,
    ) -> Result<Response<BoxStream<'static, Result<proto::WatchResponse, Status>>>, Status> {
        if let Err(e) = self.check(request.metadata()) {
            return self.answer(Err(e));
        }
        let requests = request.into_inner().map(|request| match request {
            Ok(r) => Ok(WatchChange {
                add: r.add.into_iter().map(|a| (a.account, a.since)).collect(),
                remove: r.remove,
            }),
            Err(broken) => Err(MailboxError::Unavailable(format!(
                "the stream broke off: {}",
                broken.message()
            ))),
        });
        let routes = self.ops.routes().clone();
        let events = self.ops.watch(requests.boxed()).map(move |said| {
            let events = said.map_err(|e| error::status(&e, &*routes))?;
            Ok(proto::WatchResponse {
                events: events.into_iter().map(event).collect(),
            })
        });
        self.answer(Ok(events.boxed()))
    }
}

fn emails((first, last): (EmailId, EmailId)) -> proto::EmailRange {
    proto::EmailRange {
        first: first.0,
        last: last.0,
    }
}

fn event(event: WatchEvent) -> proto::WatchEvent {
    proto::WatchEvent {
        account: event.account.as_str().to_owned(),
        modseq: event.modseq,
        mailboxes: event.mailboxes.iter().map(|id| id.0).collect(),
        resync: event.resync,
        gone: event.gone,
    }
}
