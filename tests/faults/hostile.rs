//! Requests that lie about lengths, ids and fields: each gets an error that names the field, none
//! changes anything, and none ends the node.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use posthouse_client::error::detail_of;
use posthouse_client::ids::AccountName;
use posthouse_client::proto::accounts_client::AccountsClient;
use posthouse_client::proto::cluster_client::ClusterClient;
use posthouse_client::proto::mailboxes_client::MailboxesClient;
use posthouse_client::proto::messages_client::MessagesClient;
use posthouse_client::proto::*;
use posthouse_tests::cluster::Cluster;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

const ANN: &str = "ann@example.org";
const SETTINGS: &str = "max_message_bytes = 1048576\nshards = 2\n";

/// The kind of the error and the field that it names.
fn refusal<T: Debug>(answer: Result<Response<T>, Status>) -> (ErrorKind, String) {
    let status = answer.unwrap_err();
    match detail_of(&status) {
        Some(detail) => {
            assert!(!detail.message.is_empty());
            (detail.kind(), detail.field)
        }
        None => panic!("an error without a detail: {status:?}"),
    }
}

fn bad(field: &str) -> (ErrorKind, String) {
    (ErrorKind::BadRequest, field.to_owned())
}

async fn channel(addr: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
    endpoint
        .timeout(Duration::from_secs(20))
        .connect()
        .await
        .unwrap()
}

fn head() -> DeliverHead {
    DeliverHead {
        request_id: Bytes::from(vec![7; 16]),
        recipients: vec![to(ANN)],
        ..DeliverHead::default()
    }
}

fn to(account: &str) -> Recipient {
    Recipient {
        account: account.into(),
        ..Recipient::default()
    }
}

fn part(part: deliver_request::Part) -> DeliverRequest {
    DeliverRequest { part: Some(part) }
}

fn data(n: usize) -> DeliverRequest {
    part(deliver_request::Part::Data(vec![b'x'; n].into()))
}

fn end(size: u64) -> DeliverRequest {
    part(deliver_request::Part::End(End { size }))
}

async fn deliver(
    channel: &Channel,
    parts: Vec<DeliverRequest>,
) -> Result<Response<DeliverResponse>, Status> {
    let mut client = MessagesClient::new(channel.clone());
    client.deliver(stream::iter(parts)).await
}

#[tokio::test]
async fn deliveries_that_lie() {
    let mut cluster = Cluster::start_settings(1, SETTINGS, &[]).await.unwrap();
    cluster.create_accounts(&[ANN]).await.unwrap();
    let channel = channel(cluster.addr(0)).await;
    let begin = |head: DeliverHead| part(deliver_request::Part::Head(head));
    let many = (0..1001).map(|n| to(&format!("a{n}@example.org")));
    let many = many.collect::<Vec<_>>();
    let long = "x".repeat(400);
    let with = |change: &dyn Fn(&mut DeliverHead)| {
        let mut head = head();
        change(&mut head);
        vec![begin(head), data(10), end(10)]
    };
    for (parts, field) in [
        (vec![], "part"),
        (vec![data(10), end(10)], "part"),
        (vec![end(0)], "part"),
        (vec![begin(head()), begin(head()), end(0)], "part"),
        (vec![begin(head()), DeliverRequest { part: None }], "part"),
        (
            with(&|h| h.request_id = Bytes::from(vec![1; 3])),
            "request_id",
        ),
        (with(&|h| h.request_id = Bytes::new()), "request_id"),
        (
            with(&|h| h.request_id = vec![1; 100_000].into()),
            "request_id",
        ),
        (with(&|h| h.recipients = vec![]), "recipients"),
        (with(&|h| h.recipients = many.clone()), "recipients"),
    ] {
        let shown = format!("{:.200?}", parts.first());
        let answer = deliver(&channel, parts).await;
        assert_eq!(refusal(answer), bad(field), "{shown}");
    }
    // The end mark lies, or never comes: not one message.
    for parts in [
        vec![begin(head()), data(10), end(9)],
        vec![begin(head()), data(10), end(u64::MAX)],
        vec![begin(head()), data(10), end(0)],
        vec![begin(head()), data(10)],
    ] {
        let (kind, _) = refusal(deliver(&channel, parts).await);
        assert!(
            matches!(kind, ErrorKind::BadRequest | ErrorKind::Unavailable),
            "{kind:?}"
        );
    }
    // Too large: said at once, or as soon as it shows, whatever the hint.
    let limit = 1 << 20;
    for hint in [0, 10, limit + 1, u64::MAX] {
        let mut parts = vec![begin(DeliverHead {
            size_hint: hint,
            ..head()
        })];
        parts.extend((0..9).map(|_| data(128 << 10)));
        parts.push(end(9 * (128 << 10)));
        let status = deliver(&channel, parts).await.unwrap_err();
        let detail = detail_of(&status).unwrap();
        assert_eq!((detail.kind(), detail.limit), (ErrorKind::TooLarge, limit));
    }
    // Wrong recipients are refused one by one.
    for (account, kind) in [
        ("", ErrorKind::BadRequest),
        ("a\nb@example.org", ErrorKind::BadRequest),
        (long.as_str(), ErrorKind::BadRequest),
        ("nobody@example.org", ErrorKind::NotFound),
    ] {
        let parts = with(&|h| h.recipients = vec![to(account)]);
        let found = match deliver(&channel, parts).await {
            Ok(answer) => {
                let mut results = answer.into_inner().results;
                results.remove(0).error.unwrap().kind()
            }
            Err(status) => detail_of(&status).unwrap().kind(),
        };
        assert_eq!(found, kind, "{account:.20?}");
    }
    // A hint that lies within the limits is only a hint.
    for hint in [1, 1_000_000] {
        let mut head = head();
        (head.size_hint, head.request_id) = (hint, vec![hint as u8; 16].into());
        let parts = vec![begin(head), data(100), end(100)];
        let answer = deliver(&channel, parts).await.unwrap().into_inner();
        assert_eq!((answer.size, answer.results[0].error.clone()), (100, None));
    }
    assert_eq!(cluster.inbox(ANN).await.unwrap().len(), 2);
    still_well(&mut cluster).await;
}

#[tokio::test]
async fn calls_that_lie() {
    let mut cluster = Cluster::start_settings(1, SETTINGS, &[]).await.unwrap();
    cluster.create_accounts(&[ANN]).await.unwrap();
    let channel = channel(cluster.addr(0)).await;
    let mut accounts = AccountsClient::new(channel.clone());
    let mut mailboxes = MailboxesClient::new(channel.clone());
    let mut messages = MessagesClient::new(channel.clone());
    let mut nodes = ClusterClient::new(channel.clone());
    let id = || Bytes::from(vec![9; 16]);
    let (ann, inbox) = (ANN.to_owned(), "INBOX".to_owned());

    let create = |request_id: Bytes, account: &str| CreateAccountRequest {
        request_id,
        account: account.to_owned(),
    };
    let answer = accounts.create_account(create(Bytes::new(), ANN)).await;
    assert_eq!(refusal(answer), bad("request_id"));
    for name in ["", "\0", "a\r\nb", &"y".repeat(10_000)] {
        let answer = accounts.create_account(create(id(), name)).await;
        assert_eq!(refusal(answer), bad("account"), "{name:.20?}");
    }
    let list = |shard, token: &[u8]| ListAccountsRequest {
        shard,
        page_token: Bytes::copy_from_slice(token),
        limit: u32::MAX,
    };
    for (shard, token) in [
        (0, &b""[..]),
        (99, b""),
        (u32::MAX, b""),
        (1, &[0xff; 5000]),
    ] {
        // Refused or an empty page: never a panic.
        let _ = accounts.list_accounts(list(shard, token)).await;
    }
    let name = "a".repeat(100_000);
    for mailbox in ["", "\0", "a//b", &name] {
        let answer = mailboxes.create_mailbox(CreateMailboxRequest {
            request_id: id(),
            account: ann.clone(),
            mailbox: mailbox.to_owned(),
            special_use: vec![],
        });
        assert_eq!(refusal(answer.await), bad("mailbox"), "{mailbox:.20?}");
    }
    let fetch = FetchBlobRequest {
        account: ann.clone(),
        mailbox: inbox.clone(),
        uid: 1,
        ..FetchBlobRequest::default()
    };
    for request in [
        FetchBlobRequest {
            uid: u32::MAX,
            ..fetch.clone()
        },
        FetchBlobRequest {
            uid: 0,
            ..fetch.clone()
        },
        FetchBlobRequest {
            offset: u64::MAX,
            length: u64::MAX,
            ..fetch.clone()
        },
        FetchBlobRequest {
            blob_id: vec![1; 5].into(),
            ..fetch.clone()
        },
        FetchBlobRequest {
            mailbox: String::new(),
            uid: 0,
            blob_id: vec![1; 32].into(),
            ..fetch
        },
    ] {
        let (kind, _) = refusal(messages.fetch_blob(request).await);
        assert!(
            matches!(kind, ErrorKind::BadRequest | ErrorKind::NotFound),
            "{kind:?}"
        );
    }
    let backwards = UidRange { first: 9, last: 3 };
    let ranges = vec![UidRange { first: 1, last: 0 }; 50_000];
    let _ = messages
        .list_messages(ListMessagesRequest {
            account: ann.clone(),
            mailbox: inbox.clone(),
            uids: Some(backwards),
            limit: u32::MAX,
            with_summary: true,
            ..ListMessagesRequest::default()
        })
        .await;
    let flags = SetFlagsRequest {
        request_id: id(),
        account: ann.clone(),
        mailbox: inbox.clone(),
        uids: vec![backwards],
        flags: vec!["\\Seen".into()],
        ..SetFlagsRequest::default()
    };
    for request in [
        SetFlagsRequest {
            mode: 99,
            ..flags.clone()
        },
        SetFlagsRequest {
            flags: vec!["a b\r\n".into()],
            ..flags.clone()
        },
        SetFlagsRequest {
            flags: vec!["\\Nonsense".into()],
            ..flags.clone()
        },
        SetFlagsRequest {
            flags: (0..100_000).map(|n| format!("k{n}")).collect(),
            ..flags.clone()
        },
        SetFlagsRequest {
            request_id: Bytes::new(),
            ..flags.clone()
        },
    ] {
        let (kind, _) = refusal(messages.set_flags(request).await);
        assert_eq!(kind, ErrorKind::BadRequest);
    }
    for uids in [ranges.clone(), vec![backwards]] {
        let _ = messages
            .set_flags(SetFlagsRequest {
                uids: uids.clone(),
                ..flags.clone()
            })
            .await;
        let _ = messages
            .expunge(ExpungeRequest {
                request_id: vec![uids.len() as u8; 16].into(),
                account: ann.clone(),
                mailbox: inbox.clone(),
                uids,
                force: true,
                ..ExpungeRequest::default()
            })
            .await;
    }
    for shard in [7, u32::MAX] {
        let answer = nodes.hash_state(HashStateRequest { shard }).await;
        assert_eq!(refusal(answer).0, ErrorKind::NotFound);
        for to_node in [0, 77, u64::MAX] {
            let request = TransferLeaderRequest { shard, to_node };
            refusal(nodes.transfer_leader(request).await);
        }
    }
    for to_node in [0, 77, u64::MAX] {
        let request = TransferLeaderRequest { shard: 1, to_node };
        refusal(nodes.transfer_leader(request).await);
    }
    let join = |addr: &str, join_id: &[u8]| JoinRequest {
        token: "zz".into(),
        addr: addr.into(),
        join_id: Bytes::copy_from_slice(join_id),
        ..JoinRequest::default()
    };
    for request in [
        join("", &[]),
        join("nowhere", &[1; 16]),
        join("a:1", &[1; 16]),
    ] {
        refusal(nodes.join(request).await);
    }
    let answer = nodes.init(InitRequest::default()).await;
    refusal(answer);
    let ttl_ms = u64::MAX;
    let _ = nodes
        .create_join_token(CreateJoinTokenRequest { ttl_ms })
        .await;
    still_well(&mut cluster).await;
}

#[tokio::test]
async fn octets_that_are_no_protocol() {
    let mut cluster = Cluster::start_settings(1, SETTINGS, &[]).await.unwrap();
    cluster.create_accounts(&[ANN]).await.unwrap();
    let junk: Vec<u8> = (0..100_000u32).map(|n| ((n * n) >> 7) as u8).collect();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // A frame that announces 16 MiB, and a header block that never ends.
    let frame = b"\xff\xff\xff\x01\x00\x00\x00\x00\x01".to_vec();
    for octets in [
        junk.clone(),
        [preface.to_vec(), junk].concat(),
        [preface.to_vec(), frame].concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 10],
    ] {
        for addr in [cluster.addr(0), cluster.lmtp(0)] {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let _ = stream.write_all(&octets).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let reading = stream.read_to_end(&mut answer);
            let ended = tokio::time::timeout(Duration::from_secs(30), reading).await;
            assert!(ended.is_ok(), "{addr} neither answers nor ends");
        }
    }
    still_well(&mut cluster).await;
}

/// The node runs, has not panicked, and does what it did.
async fn still_well(cluster: &mut Cluster) {
    let process = cluster.process(0).unwrap();
    assert!(process.is_running());
    assert!(!process.log().contains("panicked"), "{}", process.log());
    let bob = AccountName::new("bob@example.org").unwrap();
    cluster.client().create_account(&bob, None).await.unwrap();
    assert!(cluster.inbox(bob.as_str()).await.unwrap().is_empty());
}
