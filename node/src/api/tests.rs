//! The services over a real HTTP/2 connection, on a machine without Raft.

use std::sync::Arc;

use futures::stream;
use posthouse_client::error::{CLUSTER_METADATA, Error, PLACEMENT_METADATA, detail_of};
use posthouse_client::proto;
use proto::accounts_client::AccountsClient;
use proto::mailboxes_client::MailboxesClient;
use proto::messages_client::MessagesClient;
use proto::{ErrorKind, deliver_request::Part};
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::service::Routes;

use super::Api;
use super::connection::service;
use crate::env::Env;
use crate::env::rpc::{Channel, PEER, Services};
use crate::mailbox::fake::{FakeNode, id, node_with};
use crate::mailbox::{Limits, Operations};

/// A node that serves, and a channel to it.
async fn serve(limits: Limits) -> (Arc<FakeNode>, Arc<Operations>, Channel) {
    let (node, ops) = node_with(limits);
    let env = Env::real();
    let listener = env.net.listen("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr();
    let api = Api::new(Arc::clone(&ops));
    let routes = Routes::new(api.accounts())
        .add_service(api.mailboxes())
        .add_service(api.credentials())
        .add_service(api.messages());
    let windows = Arc::clone(&ops);
    let services: Services =
        Arc::new(move |peer| service(routes.clone(), peer, windows.connection_window()));
    let stop = CancellationToken::new();
    tokio::spawn(env.rpc.serve(listener, services, stop));
    let channel = env.rpc.channel(&addr, PEER).unwrap();
    (node, ops, channel)
}

async fn create(channel: &Channel, name: &str) {
    let request = proto::CreateAccountRequest {
        request_id: blake3::hash(name.as_bytes()).as_bytes()[..16]
            .to_vec()
            .into(),
        account: name.to_owned(),
    };
    let created = AccountsClient::new(channel.clone())
        .create_account(request)
        .await
        .unwrap();
    assert_eq!(created.metadata().get(PLACEMENT_METADATA).unwrap(), "7");
}

fn delivery(octets: &[u8], piece: usize) -> Vec<proto::DeliverRequest> {
    let head = Part::Head(proto::DeliverHead {
        request_id: id(1).into(),
        recipients: vec![proto::Recipient {
            account: "a@x".to_owned(),
            ..proto::Recipient::default()
        }],
        ..proto::DeliverHead::default()
    });
    let data = octets.chunks(piece).map(|c| Part::Data(c.to_vec().into()));
    let end = Part::End(proto::End {
        size: octets.len() as u64,
    });
    let parts = std::iter::once(head).chain(data);
    parts
        .chain([end])
        .map(|part| proto::DeliverRequest { part: Some(part) })
        .collect()
}

async fn fetch(channel: &Channel, request: proto::FetchBlobRequest) -> Result<Vec<u8>, Error> {
    let mut pieces = MessagesClient::new(channel.clone())
        .fetch_blob(request)
        .await?
        .into_inner();
    let mut octets = Vec::new();
    while let Some(piece) = pieces.message().await? {
        assert!(piece.data.len() <= 256 << 10);
        assert_eq!(piece.blob_id.is_empty(), !octets.is_empty());
        octets.extend_from_slice(&piece.data);
    }
    Ok(octets)
}

#[tokio::test]
async fn a_message_goes_in_and_comes_out_over_the_wire() {
    let (_, _, channel) = serve(Limits::default()).await;
    create(&channel, "a@x").await;
    let mut messages = MessagesClient::new(channel.clone());
    let octets = [
        b"Subject: over the wire\r\n\r\n".as_slice(),
        &vec![b'x'; 3 << 20],
    ]
    .concat();
    let delivered = messages
        .deliver(stream::iter(delivery(&octets, 256 << 10)))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(delivered.size, octets.len() as u64);
    assert_eq!(delivered.blob_id, blake3::hash(&octets).as_bytes()[..]);
    assert_eq!(
        (delivered.results[0].uid, delivered.results[0].error.clone()),
        (1, None)
    );

    let listed = messages
        .list_messages(proto::ListMessagesRequest {
            account: "a@x".to_owned(),
            mailbox: "INBOX".to_owned(),
            with_summary: true,
            ..proto::ListMessagesRequest::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        listed.messages[0].envelope.as_ref().unwrap().subject,
        "over the wire"
    );
    assert_eq!(listed.messages[0].blob_id, delivered.blob_id);

    let by_uid = proto::FetchBlobRequest {
        account: "a@x".to_owned(),
        mailbox: "INBOX".to_owned(),
        uid: 1,
        ..proto::FetchBlobRequest::default()
    };
    assert_eq!(fetch(&channel, by_uid.clone()).await.unwrap(), octets);
    let by_blob = proto::FetchBlobRequest {
        account: "a@x".to_owned(),
        blob_id: delivered.blob_id.clone(),
        offset: 9,
        length: 8,
        ..proto::FetchBlobRequest::default()
    };
    assert_eq!(fetch(&channel, by_blob).await.unwrap(), b"over the");
    let both = proto::FetchBlobRequest {
        blob_id: delivered.blob_id,
        ..by_uid
    };
    assert!(
        matches!(fetch(&channel, both).await, Err(Error::BadRequest { field, .. }) if field == "blob_id")
    );
}

#[tokio::test]
async fn errors_are_typed_on_the_wire() {
    let limits = Limits {
        max_message_bytes: 1000,
        ..Limits::default()
    };
    let (node, _, channel) = serve(limits).await;
    create(&channel, "a@x").await;
    let mut messages = MessagesClient::new(channel.clone());
    let mut accounts = AccountsClient::new(channel.clone());
    let get = |name: &str| proto::GetAccountRequest {
        account: name.to_owned(),
    };

    let status = accounts.get_account(get("b@x")).await.unwrap_err();
    let detail = detail_of(&status).unwrap();
    assert_eq!(
        (detail.kind(), detail.what.as_str()),
        (ErrorKind::NotFound, "account")
    );
    assert_eq!(detail.placement_version, 7);
    assert_eq!(status.metadata().get(PLACEMENT_METADATA).unwrap(), "7");

    let mut request = Request::new(get("a@x"));
    request
        .metadata_mut()
        .insert(CLUSTER_METADATA, "another".parse().unwrap());
    let status = accounts.get_account(request).await.unwrap_err();
    assert_eq!(detail_of(&status).unwrap().kind(), ErrorKind::WrongCluster);

    let status = messages
        .deliver(stream::iter(delivery(&[0; 1001], 100)))
        .await
        .unwrap_err();
    let detail = detail_of(&status).unwrap();
    assert_eq!((detail.kind(), detail.limit), (ErrorKind::TooLarge, 1000));

    // A stream without a head, one with two heads, one with an empty message.
    let good = delivery(b"octets", 100);
    let no_head = good[1..].to_vec();
    let two_heads = vec![good[0].clone(), good[0].clone()];
    let empty = vec![good[0].clone(), proto::DeliverRequest { part: None }];
    for stream in [no_head, two_heads, empty, Vec::new()] {
        let status = messages.deliver(stream::iter(stream)).await.unwrap_err();
        let detail = detail_of(&status).unwrap();
        assert_eq!(
            (detail.kind(), detail.field.as_str()),
            (ErrorKind::BadRequest, "part")
        );
    }

    // A stream that breaks off before its end mark, and a mark that counts other octets.
    let cut = good[..2].to_vec();
    let status = messages.deliver(stream::iter(cut)).await.unwrap_err();
    assert_eq!(detail_of(&status).unwrap().kind(), ErrorKind::Unavailable);
    let lie = [&good[..2], &delivery(b"other", 100)[2..]].concat();
    let status = messages.deliver(stream::iter(lie)).await.unwrap_err();
    assert_eq!(detail_of(&status).unwrap().field, "end.size");

    node.shards
        .iter()
        .for_each(|s| s.leads.store(false, std::sync::atomic::Ordering::Relaxed));
    let delivered = messages
        .deliver(stream::iter(good))
        .await
        .unwrap()
        .into_inner();
    let detail = delivered.results[0].error.clone().unwrap();
    assert_eq!(detail.kind(), ErrorKind::WrongLeader);
    assert_eq!(
        (detail.leader_node, detail.leader_addr.as_str()),
        (2, "node2:6600")
    );
    let status = accounts.get_account(get("a@x")).await.unwrap_err();
    assert_eq!(detail_of(&status).unwrap().leader_node, 2);
}

#[tokio::test]
async fn a_deadline_ends_a_call_with_an_unknown_outcome() {
    let (_, ops, channel) = serve(Limits::default()).await;
    create(&channel, "a@x").await;
    let mut messages = MessagesClient::new(channel);
    let mut parts = delivery(b"half of it", 4);
    parts.pop();
    let unending = futures::StreamExt::chain(stream::iter(parts), stream::pending());
    let mut request = Request::new(unending);
    request.set_timeout(std::time::Duration::from_millis(200));
    let status = messages.deliver(request).await.unwrap_err();
    // Ours says why; where the transport's own clock strikes first, it is a plain status.
    if let Some(detail) = detail_of(&status) {
        assert_eq!(detail.kind(), ErrorKind::Unavailable);
    }
    assert_eq!(ops.usage("a@x").await.unwrap().messages, 0);
}

#[tokio::test]
async fn mailboxes_are_named_by_number_over_the_wire() {
    let (_, _, channel) = serve(Limits::default()).await;
    create(&channel, "a@x").await;
    let mut mailboxes = MailboxesClient::new(channel);
    let account = || "a@x".to_owned();
    let request = proto::CreateMailboxRequest {
        request_id: id(1).into(),
        account: account(),
        mailbox: "Work/Sent".into(),
        special_use: vec!["\\SENT".into()],
    };
    let made = mailboxes.create_mailbox(request).await.unwrap();
    let sent = made.into_inner().mailbox.unwrap();
    assert_eq!(sent.special_use, ["\\Sent"]);
    let request = proto::RenameMailboxRequest {
        request_id: id(2).into(),
        account: account(),
        mailbox: "Work".into(),
        to: "Home".into(),
        ..proto::RenameMailboxRequest::default()
    };
    mailboxes.rename_mailbox(request).await.unwrap();
    let annotation = |value: &[u8], nil| proto::Annotation {
        entry: "/private/Comment".into(),
        value: value.to_vec().into(),
        nil,
    };
    for (n, nil, left) in [(3, false, 1), (4, true, 0)] {
        let request = proto::SetMetadataRequest {
            request_id: id(n).into(),
            account: account(),
            mailbox_id: sent.mailbox_id,
            annotations: vec![annotation(b"\0", nil)],
            ..proto::SetMetadataRequest::default()
        };
        mailboxes.set_metadata(request).await.unwrap();
        let request = proto::GetMetadataRequest {
            account: account(),
            mailbox: "Home/Sent".into(),
            ..proto::GetMetadataRequest::default()
        };
        let found = mailboxes.get_metadata(request).await.unwrap().into_inner();
        assert_eq!(found.annotations.len(), left);
    }
    let open = proto::OpenMailboxRequest {
        account: account(),
        mailbox_id: sent.mailbox_id,
        uidvalidity: sent.uidvalidity,
        ..proto::OpenMailboxRequest::default()
    };
    let opened = mailboxes.open_mailbox(open.clone()).await.unwrap();
    let opened = opened.into_inner();
    assert_eq!(opened.mailbox.unwrap().name, "Home/Sent");
    let uids = roaring::RoaringBitmap::deserialize_from(&opened.uids[..]).unwrap();
    assert!(uids.is_empty());
    let request = proto::SubscribeRequest {
        request_id: id(5).into(),
        account: account(),
        mailbox: "Nowhere".into(),
        off: false,
    };
    mailboxes.subscribe(request).await.unwrap();
    let request = proto::DeleteMailboxRequest {
        request_id: id(6).into(),
        account: account(),
        mailbox_id: sent.mailbox_id,
        ..proto::DeleteMailboxRequest::default()
    };
    mailboxes.delete_mailbox(request).await.unwrap();
    let gone = mailboxes.open_mailbox(open).await.unwrap_err();
    assert_eq!(detail_of(&gone).unwrap().what, "mailbox");
    let request = proto::ListMailboxesRequest { account: account() };
    let list = mailboxes
        .list_mailboxes(request)
        .await
        .unwrap()
        .into_inner();
    let names: Vec<&str> = list.mailboxes.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["INBOX", "Home"]);
    assert_eq!(list.subscriptions, ["Nowhere"]);
}
