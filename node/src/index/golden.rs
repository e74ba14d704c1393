//! One key and one row of each variant, as they were written on the day of version 2. A change here
//! is a change of the disk format and needs a new version, a new file, and a way from old to new.

#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::fmt::Write;

use super::keys::{FORMAT_VERSION, Key, RequestKey, RequestKind, Space};
use super::uids::UidPart;
use super::values::*;
use crate::machine::command::*;
use crate::types::*;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/keys-v2.txt");

/// Tags of all variants; a new variant is added here and below.
const TAGS: [u8; 40] = [
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10,
    0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x20, 0x21, 0x22, 0x23, 0x24,
    0x40, 0x60, 0x61, 0x62, 0x70, 0x71, 0x72, 0x73,
];

fn check<R: Row + PartialEq + std::fmt::Debug>(row: R) -> Vec<u8> {
    let octets = row.encode();
    assert_eq!(R::decode(&octets), Some(row));
    octets
}

fn samples() -> Vec<(Key<'static>, Vec<u8>)> {
    let account = AccountId::new(Slot(0x1234), 7);
    let mailbox = MailboxId(2);
    let email = EmailId(9);
    let other = AccountId::new(Slot(0x4321), 2);
    let transfer = TransferId {
        source: account,
        number: 5,
    };
    let blob = BlobId([0xab; 32]);
    let upload = UploadId([0xcd; 16]);
    let replica = ReplicaId::new(NodeId(3), 1);
    let request = RequestKey {
        account,
        kind: RequestKind::Store,
        mailbox,
        id: RequestId([0xef; 16]),
    };
    let chunk = ChunkMeta {
        raw_len: 1000,
        stored_len: 600,
        codec: Codec::Zstd,
        crc: 0xdead_beef,
    };
    let chunk_loc = ChunkLoc::new(
        Location {
            segment: 5,
            offset: 4096,
            len: 600,
        },
        &chunk,
    );
    let mut uids = UidPart::default();
    [1, 2, 3, 9].into_iter().for_each(|uid| {
        uids.insert(uid);
    });
    vec![
        (
            Key::Meta,
            check(MetaRow {
                time_ms: 1_700_000_000_000,
                requests: 1,
                request_bytes: 80,
                oldest_request_ms: 1_700_000_000_000,
            }),
        ),
        (
            Key::Slot(Slot(0x1234)),
            check(SlotRow {
                next_account: 8,
                next_uidvalidity: 1_700_000_001,
            }),
        ),
        (
            Key::AccountName {
                slot: Slot(0x1234),
                name: "ann@example.org",
            },
            check(AccountNameRow { account }),
        ),
        (
            Key::Account(account),
            check(AccountRow {
                name: AccountName::new("ann@example.org").unwrap(),
                created_ms: 1_700_000_000_000,
                going: false,
                highest_modseq: 300,
                trimmed_modseq: 2,
                oldest_change_ms: 1_700_000_000_000,
                next_mailbox: 3,
                next_uidvalidity: 1_700_000_001,
                next_email: 10,
                mailboxes: 2,
                messages: 4,
                unseen: 3,
                deleted: 1,
                bytes: 4000,
                state: AccountState::Frozen,
                subscriptions: 1,
            }),
        ),
        (Key::Going(account), check(())),
        (
            Key::MailboxName {
                account,
                name: "Work/Old",
            },
            check(MailboxNameRow { mailbox }),
        ),
        (
            Key::Mailbox { account, mailbox },
            check(MailboxRow {
                name: MailboxName::new("Work/Old").unwrap(),
                uidvalidity: 1_700_000_000,
                uidnext: 10,
                highest_modseq: 300,
                messages: 4,
                unseen: 3,
                deleted: 1,
                bytes: 4000,
                next_keyword: 1,
                special_use: 3,
            }),
        ),
        (
            Key::UidSet {
                account,
                mailbox,
                part: 0,
            },
            check(uids),
        ),
        (
            Key::Keyword {
                account,
                mailbox,
                id: 0,
            },
            check(KeywordRow {
                name: "$Forwarded".into(),
            }),
        ),
        (
            Key::KeywordName {
                account,
                mailbox,
                name: "$forwarded",
            },
            check(KeywordNameRow { id: 0 }),
        ),
        (
            Key::Message {
                account,
                mailbox,
                uid: 9,
            },
            check(MessageRow {
                flags: flag::SEEN | flag::FLAGGED,
                keywords: vec![0],
                modseq: 300,
                email,
                size: 1000,
                internal_date_ms: 1_600_000_000_000,
                save_date_ms: 1_700_000_000_000,
            }),
        ),
        (
            Key::Email { account, email },
            check(EmailRow {
                blob,
                refs: 1,
                thread: ThreadId(4),
                thread_keys: vec![ThreadKey(0x0102_0304_0506_0708)],
            }),
        ),
        (
            Key::Change {
                account,
                modseq: 300,
            },
            check(ChangeRow {
                time_ms: 1_700_000_000_000,
                mailbox,
                kind: ChangeKind::Vanished,
                uids: vec![(4, 8)],
                destroyed: vec![],
            }),
        ),
        (Key::GoingMailbox { account, mailbox }, check(())),
        (
            Key::Thread {
                account,
                key: ThreadKey(0x0102_0304_0506_0708),
            },
            check(ThreadRow {
                thread: ThreadId(4),
                refs: 300,
            }),
        ),
        (
            Key::Subscription {
                account,
                name: "Work/Old",
            },
            check(()),
        ),
        (
            Key::Annotation {
                account,
                mailbox,
                entry: "/private/comment",
            },
            check(AnnotationRow {
                value: vec![0, 0xff],
            }),
        ),
        (
            Key::Credential { account, name: "" },
            check(CredentialRow {
                created_ms: 1_700_000_000_000,
                modseq: 300,
                secret: Secret::Password("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".into()),
            }),
        ),
        (Key::Transfers(account), check(TransfersRow { next: 6 })),
        (
            Key::Transfer(transfer),
            check(TransferRow {
                request_id: RequestId([0xef; 16]),
                away: true,
                mailbox,
                messages: vec![(9, email)],
                to: Place {
                    account: other,
                    mailbox: MailboxId(1),
                    uidvalidity: 1_700_000_000,
                },
                next: 12,
                over: false,
            }),
        ),
        (
            Key::Arrivals {
                account: other,
                source: account,
            },
            check(ArrivalsRow { below: 5 }),
        ),
        (
            Key::Arrival {
                account: other,
                transfer,
            },
            check(Arrival::Here {
                first: 3,
                from: vec![(9, 9)],
            }),
        ),
        (
            Key::Blob(blob),
            check(BlobRow {
                refs: 1,
                size: 1000,
                chunks: vec![chunk],
            }),
        ),
        (
            Key::Upload(upload),
            check(UploadRow {
                started_ms: 1_700_000_000_000,
                chunks: 1,
            }),
        ),
        (Key::UploadChunk { upload, seq: 0 }, check(chunk)),
        (
            Key::Request(request),
            check(RequestRow {
                time_ms: 1_700_000_000_000,
                answer: Answer::Target(StoreResult::Stored {
                    mailbox,
                    uidvalidity: 1_700_000_000,
                    uid: 9,
                    modseq: 300,
                    email,
                    duplicate: false,
                }),
            }),
        ),
        (
            Key::RequestAge {
                time_ms: 1_700_000_000_000,
                request,
            },
            check(()),
        ),
        (
            Key::System,
            check(SystemRow {
                cluster_id: [1; 16],
                version: 4,
                replication: 3,
                next_node: 4,
            }),
        ),
        (
            Key::Node(NodeId(3)),
            check(NodeInfo {
                id: NodeId(3),
                addr: "127.0.0.1:7401".into(),
                lmtp_addr: "127.0.0.1:2401".into(),
                zone: "a".into(),
            }),
        ),
        (
            Key::Shard(ShardId(1)),
            check(ShardRow {
                replicas: vec![ReplicaInfo {
                    id: replica,
                    voter: true,
                }],
                damaged: vec![replica],
                slots: vec![(Slot(0), Slot(8191))],
                next_generation: vec![(NodeId(3), 2)],
            }),
        ),
        (
            Key::Token([2; 32]),
            check(TokenRow {
                expires_ms: 1_700_003_600_000,
            }),
        ),
        (Key::Join([3; 16]), check(NodeId(3))),
        (Key::Summary { account, email }, b"opaque".to_vec()),
        (Key::BlobLoc { blob, seq: 0 }, check(chunk_loc)),
        (Key::UploadLoc { upload, seq: 0 }, check(chunk_loc)),
        (Key::Applied, b"opaque".to_vec()),
        (Key::Format, FORMAT_VERSION.to_be_bytes().to_vec()),
        (Key::NextSpace, 2u32.to_be_bytes().to_vec()),
        (Key::ShardSpace(ShardId(1)), 1u32.to_be_bytes().to_vec()),
        (Key::SegmentLive(5), 600i64.to_le_bytes().to_vec()),
    ]
}

fn hex(octets: &[u8]) -> String {
    let text: String = octets.iter().map(|b| format!("{b:02x}")).collect();
    match text.is_empty() {
        true => "-".into(),
        false => text,
    }
}

#[test]
fn keys_and_rows_are_those_of_version_2() {
    let mut text =
        String::from("# name, key and row of each variant, in hex; space 1 (node rows: 0)\n");
    let mut tags = BTreeSet::new();
    for (key, row) in samples() {
        let octets = key.encode(Space(1));
        let space = Space(u32::from(key.tag() < 0x70));
        assert_eq!(Key::decode(&octets), Some((space, key)));
        assert!(tags.insert(key.tag()));
        let name = format!("{key:?}");
        let name = name.split([' ', '(']).next().unwrap();
        writeln!(text, "{name} {} {}", hex(&octets), hex(&row)).unwrap();
    }
    assert!(tags.iter().eq(TAGS.iter()), "every variant has a sample");
    let file = std::fs::read_to_string(FILE).unwrap();
    assert!(text == file, "the format changed; it is now:\n{text}");
}

#[test]
fn a_change_may_tell_of_destroyed_emails() {
    let change = |destroyed| ChangeRow {
        time_ms: 3,
        mailbox: MailboxId(2),
        kind: ChangeKind::Vanished,
        uids: vec![(4, 8)],
        destroyed,
    };
    let without = check(change(vec![]));
    let with = check(change(vec![(EmailId(9), EmailId(11))]));
    assert_eq!(hex(&with), hex(&without) + "01090b");
    for bad in ["00", "0109", "01090b00"] {
        let bad: Vec<u8> = (0..bad.len() / 2)
            .map(|n| u8::from_str_radix(&bad[2 * n..2 * n + 2], 16).unwrap())
            .collect();
        assert_eq!(ChangeRow::decode(&[&without[..], &bad].concat()), None);
    }
}

#[test]
fn bad_keys_are_none() {
    for (key, _) in samples() {
        let octets = key.encode(Space(1));
        for cut in 0..octets.len() {
            // A shorter text is a key, too; nothing else is.
            if let Some((_, found)) = Key::decode(&octets[..cut]) {
                assert!(matches!(
                    found,
                    Key::AccountName { .. }
                        | Key::MailboxName { .. }
                        | Key::KeywordName { .. }
                        | Key::Subscription { .. }
                        | Key::Annotation { .. }
                        | Key::Credential { .. }
                ));
            }
        }
        let longer = [&octets[..], &[0xff]].concat();
        assert_eq!(Key::decode(&longer), None, "{key:?}");
    }
    assert_eq!(Key::decode(&[0, 0, 0, 1, 0xee]), None);
}
