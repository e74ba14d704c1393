//! The service Mailboxes.

use posthouse_client::proto;
use proto::mailboxes_server::Mailboxes;
use tonic::{Request, Response, Status, async_trait};

use super::Api;
use crate::index::values::special_use;
use crate::mailbox::check::MailboxFields;
use crate::mailbox::create_mailbox::MailboxInfo;

pub(super) fn mailbox(info: MailboxInfo) -> proto::Mailbox {
    let names = (0..).zip(special_use::NAMES);
    let uses = names.filter(|(bit, _)| info.special_use & (1 << bit) != 0);
    proto::Mailbox {
        name: info.name.to_string(),
        mailbox_id: info.id.0,
        uidvalidity: info.uidvalidity,
        uidnext: info.uidnext,
        highest_modseq: info.highest_modseq,
        messages: info.messages,
        unseen: info.unseen,
        deleted: info.deleted,
        bytes: info.bytes,
        special_use: uses.map(|(_, name)| name.to_owned()).collect(),
        subscribed: info.subscribed,
    }
}

fn fields(name: String, id: u32, uidvalidity: u32) -> MailboxFields {
    MailboxFields {
        name,
        id,
        uidvalidity,
    }
}

#[async_trait]
impl Mailboxes for Api {
    async fn create_mailbox(
        &self,
        request: Request<proto::CreateMailboxRequest>,
    ) -> Result<Response<proto::CreateMailboxResponse>, Status> {
        self.call(request, |ops, r| async move {
            let (info, modseq) = ops
                .create_mailbox(&r.request_id, &r.account, &r.mailbox, &r.special_use)
                .await?;
            Ok(proto::CreateMailboxResponse {
                mailbox: Some(mailbox(info)),
                modseq,
            })
        })
        .await
    }

    async fn list_mailboxes(
        &self,
        request: Request<proto::ListMailboxesRequest>,
    ) -> Result<Response<proto::ListMailboxesResponse>, Status> {
        self.call(request, |ops, r| async move {
            let list = ops.list_mailboxes(&r.account).await?;
            Ok(proto::ListMailboxesResponse {
                mailboxes: list.mailboxes.into_iter().map(mailbox).collect(),
                highest_modseq: list.highest_modseq,
                subscriptions: list.subscriptions,
            })
        })
        .await
    }

    async fn delete_mailbox(
        &self,
        request: Request<proto::DeleteMailboxRequest>,
    ) -> Result<Response<proto::DeleteMailboxResponse>, Status> {
        self.call(request, |ops, r| async move {
            let which = fields(r.mailbox, r.mailbox_id, r.uidvalidity);
            let modseq = ops.delete_mailbox(&r.request_id, &r.account, which).await?;
            Ok(proto::DeleteMailboxResponse { modseq })
        })
        .await
    }

    async fn rename_mailbox(
        &self,
        request: Request<proto::RenameMailboxRequest>,
    ) -> Result<Response<proto::RenameMailboxResponse>, Status> {
        self.call(request, |ops, r| async move {
            let which = fields(r.mailbox, r.mailbox_id, 0);
            let (info, modseq) = ops
                .rename_mailbox(&r.request_id, &r.account, which, &r.to)
                .await?;
            Ok(proto::RenameMailboxResponse {
                mailbox: Some(mailbox(info)),
                modseq,
            })
        })
        .await
    }

    async fn subscribe(
        &self,
        request: Request<proto::SubscribeRequest>,
    ) -> Result<Response<proto::SubscribeResponse>, Status> {
        self.call(request, |ops, r| async move {
            let modseq = ops
                .subscribe(&r.request_id, &r.account, &r.mailbox, !r.off)
                .await?;
            Ok(proto::SubscribeResponse { modseq })
        })
        .await
    }

    async fn set_special_use(
        &self,
        request: Request<proto::SetSpecialUseRequest>,
    ) -> Result<Response<proto::SetSpecialUseResponse>, Status> {
        self.call(request, |ops, r| async move {
            let which = fields(r.mailbox, r.mailbox_id, 0);
            let modseq = ops
                .set_special_use(&r.request_id, &r.account, which, &r.special_use)
                .await?;
            Ok(proto::SetSpecialUseResponse { modseq })
        })
        .await
    }

    async fn get_metadata(
        &self,
        request: Request<proto::GetMetadataRequest>,
    ) -> Result<Response<proto::GetMetadataResponse>, Status> {
        self.call(request, |ops, r| async move {
            let which = fields(r.mailbox, r.mailbox_id, 0);
            let found = ops.get_metadata(&r.account, which).await?;
            let annotation = |(entry, value): (String, Vec<u8>)| proto::Annotation {
                entry,
                value: value.into(),
                nil: false,
            };
            Ok(proto::GetMetadataResponse {
                annotations: found.entries.into_iter().map(annotation).collect(),
                modseq: found.modseq,
            })
        })
        .await
    }

    async fn set_metadata(
        &self,
        request: Request<proto::SetMetadataRequest>,
    ) -> Result<Response<proto::SetMetadataResponse>, Status> {
        self.call(request, |ops, r| async move {
            let which = fields(r.mailbox, r.mailbox_id, 0);
            let entry = |a: proto::Annotation| (a.entry, (!a.nil).then(|| a.value.to_vec()));
            let entries = r.annotations.into_iter().map(entry).collect();
            let modseq = ops
                .set_metadata(&r.request_id, &r.account, which, entries)
                .await?;
            Ok(proto::SetMetadataResponse { modseq })
        })
        .await
    }

    async fn open_mailbox(
        &self,
        request: Request<proto::OpenMailboxRequest>,
    ) -> Result<Response<proto::OpenMailboxResponse>, Status> {
        self.call(request, |ops, r| async move {
            let which = fields(r.mailbox, r.mailbox_id, r.uidvalidity);
            let opened = ops.open_mailbox(&r.account, which).await?;
            let uids = opened.uids_portable();
            let keyword = |(id, name): (u16, String)| proto::Keyword {
                id: id.into(),
                name,
            };
            Ok(proto::OpenMailboxResponse {
                mailbox: Some(mailbox(opened.mailbox)),
                uids: uids.into(),
                keywords: opened.keywords.into_iter().map(keyword).collect(),
                first_unseen: opened.first_unseen.unwrap_or(0),
                trimmed_modseq: opened.trimmed_modseq,
                account_modseq: opened.account_modseq,
            })
        })
        .await
    }
}
