//! The service Mailboxes.

use posthouse_client::proto;
use proto::mailboxes_server::Mailboxes;
use tonic::{Request, Response, Status, async_trait};

use super::Api;
use crate::mailbox::create_mailbox::MailboxInfo;

pub(super) fn mailbox(info: MailboxInfo) -> proto::Mailbox {
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
        ..proto::Mailbox::default()
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
                .create_mailbox(&r.request_id, &r.account, &r.mailbox)
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
            let (mailboxes, highest_modseq) = ops.list_mailboxes(&r.account).await?;
            Ok(proto::ListMailboxesResponse {
                mailboxes: mailboxes.into_iter().map(mailbox).collect(),
                highest_modseq,
                ..proto::ListMailboxesResponse::default()
            })
        })
        .await
    }

    async fn delete_mailbox(
        &self,
        _request: Request<proto::DeleteMailboxRequest>,
    ) -> Result<Response<proto::DeleteMailboxResponse>, Status> {
        Err(Status::unimplemented("delete_mailbox"))
    }

    async fn rename_mailbox(
        &self,
        _request: Request<proto::RenameMailboxRequest>,
    ) -> Result<Response<proto::RenameMailboxResponse>, Status> {
        Err(Status::unimplemented("rename_mailbox"))
    }

    async fn subscribe(
        &self,
        _request: Request<proto::SubscribeRequest>,
    ) -> Result<Response<proto::SubscribeResponse>, Status> {
        Err(Status::unimplemented("subscribe"))
    }

    async fn set_special_use(
        &self,
        _request: Request<proto::SetSpecialUseRequest>,
    ) -> Result<Response<proto::SetSpecialUseResponse>, Status> {
        Err(Status::unimplemented("set_special_use"))
    }

    async fn get_metadata(
        &self,
        _request: Request<proto::GetMetadataRequest>,
    ) -> Result<Response<proto::GetMetadataResponse>, Status> {
        Err(Status::unimplemented("get_metadata"))
    }

    async fn set_metadata(
        &self,
        _request: Request<proto::SetMetadataRequest>,
    ) -> Result<Response<proto::SetMetadataResponse>, Status> {
        Err(Status::unimplemented("set_metadata"))
    }

    async fn open_mailbox(
        &self,
        _request: Request<proto::OpenMailboxRequest>,
    ) -> Result<Response<proto::OpenMailboxResponse>, Status> {
        Err(Status::unimplemented("open_mailbox"))
    }
}
