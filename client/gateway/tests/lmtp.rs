//! The LMTP door against a store in memory: what is answered, and what is stored.

mod common;

use std::time::Duration;

use common::{FakeStore, codes, open, settings};
use posthouse_gateway::lmtp::settings::Settings;
use posthouse_gateway::store::StoreError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ANN: &str = "ann@example.org";
const BEN: &str = "ben@example.org";
const MAIL: &str = "MAIL FROM:<s@example.net>\r\n";

#[tokio::test]
async fn a_message_is_stored_as_it_came_after_return_path() {
    let store = FakeStore::with(&[ANN, BEN]);
    let door = open(store.clone(), settings());
    let replies = door
        .script(&format!(
            "{MAIL}RCPT TO:<Ann@Example.org>\r\nRCPT TO:<ben@example.org>\r\n\
             RCPT TO:<carl@example.org>\r\nDATA\r\n\
             Subject: x\r\n\r\nbare\nlf \0 \r cr\r\n..dot\r\n.\r\nQUIT\r\n"
        ))
        .await;
    assert_eq!(
        codes(&replies),
        [
            "250 2.1.0",
            "250 2.1.5",
            "250 2.1.5",
            "550 5.1.1",
            "354",
            "250 2.1.5",
            "250 2.1.5",
            "221 2.0.0"
        ]
    );
    let mail = store.mail();
    assert_eq!(mail.len(), 2);
    let octets = b"Return-Path: <s@example.net>\r\nSubject: x\r\n\r\nbare\nlf \0 \r cr\r\n.dot\r\n";
    for (mail, account) in mail.iter().zip([ANN, BEN]) {
        assert_eq!(
            (mail.account.as_str(), mail.sender.as_str()),
            (account, "s@example.net")
        );
        assert_eq!(mail.octets.as_ref(), octets);
    }
}

#[tokio::test]
async fn data_and_bdat_bring_the_same_octets() {
    let store = FakeStore::with(&[ANN]);
    let door = open(
        store.clone(),
        Settings {
            dedupe: false,
            ..settings()
        },
    );
    let message = "A: b\r\n\r\n.\r\n..\n.x\r\nend\r\n";
    let stuffed = "A: b\r\n\r\n..\r\n...\n.x\r\nend\r\n";
    let (first, second) = message.split_at(9);
    let replies = door
        .script(&format!(
            "{MAIL}RCPT TO:<{ANN}>\r\nDATA\r\n{stuffed}.\r\n\
             {MAIL}RCPT TO:<{ANN}>\r\nBDAT {}\r\n{first}BDAT {}\r\n{second}BDAT 0 LAST\r\n\
             {MAIL}RCPT TO:<{ANN}>\r\nBDAT {} LAST\r\n{message}NOOP\r\n",
            first.len(),
            second.len(),
            message.len(),
        ))
        .await;
    assert!(
        replies
            .iter()
            .all(|r| r.starts_with("250") || r.starts_with("354")),
        "{replies:?}"
    );
    assert_eq!(replies.len(), 4 + 5 + 3 + 1);
    assert_eq!(store.octets(), [message.as_bytes(); 3]);
}

#[tokio::test]
async fn a_repeated_delivery_is_one_message_unless_switched_off() {
    let script = format!("{MAIL}RCPT TO:<{ANN}>\r\nDATA\r\nx\r\n.\r\n").repeat(2);
    for (dedupe, messages) in [(true, 1), (false, 2)] {
        let store = FakeStore::with(&[ANN]);
        let door = open(
            store.clone(),
            Settings {
                dedupe,
                ..settings()
            },
        );
        let replies = door.script(&script).await;
        assert_eq!(
            codes(&replies)
                .iter()
                .filter(|c| **c == "250 2.1.5")
                .count(),
            4
        );
        assert_eq!(store.mail().len(), messages);
        assert_eq!(
            *store.lookups.lock().unwrap(),
            1,
            "the second RCPT needs no question"
        );
    }
}

#[tokio::test]
async fn each_recipient_has_an_answer_of_its_own() {
    let store = FakeStore::with(&[ANN, BEN, "full@x", "busy@x", "gone@x"]);
    let failures = [
        ("full@x", StoreError::ReadOnly),
        ("busy@x", StoreError::Busy),
        ("gone@x", StoreError::NoAccount),
        (BEN, StoreError::TooLarge { limit_bytes: 5 }),
    ];
    *store.failures.lock().unwrap() = failures.map(|(a, e)| (a.to_owned(), e)).into();
    let door = open(store.clone(), settings());
    let rcpts: String = ["full@x", ANN, "busy@x", "ANN@example.org", "gone@x", BEN]
        .map(|a| format!("RCPT TO:<{a}>\r\n"))
        .concat();
    let replies = door
        .script(&format!("{MAIL}{rcpts}DATA\r\nx\r\n.\r\n"))
        .await;
    assert_eq!(
        codes(&replies)[8..],
        [
            "452 4.3.1",
            "250 2.1.5",
            "451 4.3.2",
            "250 2.1.5",
            "550 5.1.1",
            "552 5.3.4"
        ]
    );
    assert_eq!(
        store.mail().len(),
        1,
        "one account, named twice, stored once"
    );
}

#[tokio::test]
async fn an_outage_is_told_to_all_and_nothing_is_kept() {
    let store = FakeStore::with(&[ANN, BEN]);
    let door = open(store.clone(), settings());
    let script = format!("{MAIL}RCPT TO:<{ANN}>\r\nRCPT TO:<{BEN}>\r\nDATA\r\nx\r\n.\r\n");
    assert_eq!(codes(&door.script(&script).await)[4..], ["250 2.1.5"; 2]);
    *store.outage.lock().unwrap() = Some(StoreError::Busy);
    let again = script.replace("\r\nx\r\n", "\r\ny\r\n");
    assert_eq!(codes(&door.script(&again).await)[4..], ["451 4.3.2"; 2]);
    *store.outage.lock().unwrap() = Some(StoreError::Unavailable("no leader".into()));
    assert_eq!(codes(&door.script(&again).await)[4..], ["451 4.3.0"; 2]);
    assert_eq!(store.mail().len(), 2);
    // Asked at RCPT, an outage is "try again" too, not "no such account".
    let replies = door
        .script(&format!("{MAIL}RCPT TO:<new@example.org>\r\n"))
        .await;
    assert_eq!(codes(&replies), ["250 2.1.0", "451 4.3.0"]);
}

#[tokio::test]
async fn commands_out_of_order_and_bad_ones() {
    let door = open(FakeStore::with(&[ANN]), settings());
    let answer = door
        .talk(&[b"MAIL FROM:<a@b>\r\nEHLO x\r\nHELO x\r\nQUIT\r\n"])
        .await;
    let lines: Vec<String> = answer.lines().map(str::to_owned).collect();
    assert_eq!(
        codes(&lines)[1..],
        ["503 5.5.1", "500 5.5.1", "500 5.5.1", "221 2.0.0"]
    );
    let replies = door
        .script(&format!(
            "RCPT TO:<{ANN}>\r\nDATA\r\nBDAT 3\r\nabc{MAIL}{MAIL}DATA\r\nBDAT 2 LAST\r\nxy\
             RCPT TO:<é@example.org>\r\nRCPT TO:<>\r\nMAIL\r\nRCPT TO:<{ANN}>\r\n\
             BDAT 1\r\naDATA\r\nRCPT TO:<{ANN}>\r\n{MAIL}RSET\r\nMAIL FROM:<é@b>\r\n\
             MAIL FROM:<é@b> SMTPUTF8\r\nRSET\r\nMAIL FROM:<a@b> SIZE=999999999999\r\n\
             VRFY ann\r\nHELP\r\nSTARTTLS\r\nNOOP\nNOOP\r\n"
        ))
        .await;
    assert_eq!(
        codes(&replies),
        [
            "503 5.5.1",
            "503 5.5.1",
            "503 5.5.1",
            "250 2.1.0",
            "503 5.5.1",
            "503 5.5.1",
            "503 5.5.1",
            "553 5.6.7",
            "501 5.1.3",
            "501 5.5.4",
            "250 2.1.5",
            "250 2.0.0",
            "503 5.5.1",
            "503 5.5.1",
            "503 5.5.1",
            "250 2.0.0",
            "553 5.6.7",
            "250 2.1.0",
            "250 2.0.0",
            "552 5.3.4",
            "252 2.5.0",
            "214 2.0.0",
            "502 5.5.1",
            "500 5.5.2",
            "250 2.0.0"
        ]
    );
}

#[tokio::test]
async fn limits_hold() {
    let limits = Settings {
        message_bytes: 65_536,
        header_bytes: 16_384,
        recipients: 2,
        errors: 3,
        ..settings()
    };
    let store = FakeStore::with(&[ANN, BEN]);
    let door = open(store.clone(), limits);
    let rcpt = format!("RCPT TO:<{ANN}>\r\n");

    let replies = door.script(&format!("{MAIL}{}", rcpt.repeat(3))).await;
    assert_eq!(codes(&replies)[3], "452 4.5.3");

    let body = "x".repeat(70) + "\r\n";
    let large = body.repeat(1000);
    let replies = door
        .script(&format!("{MAIL}{rcpt}DATA\r\n\r\n{large}.\r\nNOOP\r\n"))
        .await;
    assert_eq!(codes(&replies)[2..], ["354", "552 5.3.4", "250 2.0.0"]);

    let header = format!("X: {body}").repeat(300);
    let replies = door
        .script(&format!("{MAIL}{rcpt}DATA\r\n{header}\r\n.\r\nNOOP\r\n"))
        .await;
    assert_eq!(codes(&replies)[2..], ["354", "552 5.3.4", "250 2.0.0"]);

    let n = large.len();
    let replies = door
        .script(&format!(
            "{MAIL}{rcpt}BDAT {n}\r\n{large}BDAT 1\r\nxBDAT 1 LAST\r\nxNOOP\r\n"
        ))
        .await;
    assert_eq!(
        codes(&replies)[2..],
        ["552 5.3.4", "552 5.3.4", "552 5.3.4", "250 2.0.0"]
    );
    assert_eq!(store.mail().len(), 0);

    let replies = door
        .script(&format!("NOOP {}\r\nNOOP\r\n", "x".repeat(5000)))
        .await;
    assert_eq!(codes(&replies), ["500 5.5.2", "250 2.0.0"]);

    let replies = door.script(&"WHAT\r\n".repeat(9)).await;
    assert_eq!(
        codes(&replies),
        [
            "500 5.5.1",
            "500 5.5.1",
            "500 5.5.1",
            "500 5.5.1",
            "421 4.7.0"
        ]
    );

    let replies = door
        .script("BDAT 99999999999999999999999 LAST\r\nNOOP\r\n")
        .await;
    assert_eq!(codes(&replies), ["501 5.5.4", "421 4.7.0"]);
    let replies = door.script("BDAT 999999999999999 LAST\r\nNOOP\r\n").await;
    assert_eq!(codes(&replies), ["421 4.7.0"]);
}

#[tokio::test]
async fn connections_are_counted_per_address() {
    let limits = Settings {
        connections_per_address: 2,
        ..settings()
    };
    let door = open(FakeStore::with(&[ANN]), limits);
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = door.connect().await;
        let mut greeting = [0; 3];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"220");
        kept.push(stream);
    }
    assert!(door.talk(&[]).await.starts_with("421 4.7.0"));
    drop(kept);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(door.talk(&[]).await.starts_with("220"));
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_stores_nothing() {
    for size in [100, 3_000_000] {
        let store = FakeStore::with(&[ANN]);
        let door = open(store.clone(), settings());
        let body = "x".repeat(size);
        for open_end in [
            format!("{MAIL}RCPT TO:<{ANN}>\r\nDATA\r\n{body}"),
            format!("{MAIL}RCPT TO:<{ANN}>\r\nDATA\r\n{body}\r\n."),
            format!("{MAIL}RCPT TO:<{ANN}>\r\nBDAT {}\r\n{body}", size + 5),
            format!("{MAIL}RCPT TO:<{ANN}>\r\nBDAT {size}\r\n{body}"),
            format!("{MAIL}RCPT TO:<{ANN}>\r\nBDAT {size}\r\n{body}RSET\r\n"),
        ] {
            door.script(&open_end).await;
        }
        door.shutdown.cancel();
        door.served.await.unwrap();
        assert_eq!(store.mail(), []);
        // The large ones had begun to flow.
        assert_eq!(
            *store.deliveries.lock().unwrap(),
            if size > 1 << 20 { 5 } else { 0 }
        );
    }
}

#[tokio::test]
async fn a_large_message_can_be_read_again_after_a_change_of_leader() {
    let store = FakeStore::with(&[ANN]);
    *store.attempts.lock().unwrap() = 3;
    let door = open(store.clone(), settings());
    let body = "0123456789abcde\r\n".repeat(200_000);
    let replies = door
        .script(&format!("{MAIL}RCPT TO:<{ANN}>\r\nDATA\r\n{body}.\r\n"))
        .await;
    assert_eq!(codes(&replies)[2..], ["354", "250 2.1.5"]);
    assert!(store.octets() == [body.as_bytes()]);
}

#[tokio::test]
async fn a_store_that_answers_early_does_not_break_the_dialogue() {
    let store = FakeStore::with(&[ANN]);
    *store.early.lock().unwrap() = Some(StoreError::Busy);
    let door = open(store.clone(), settings());
    let body = "0123456789abcde\r\n".repeat(200_000);
    let replies = door
        .script(&format!(
            "{MAIL}RCPT TO:<{ANN}>\r\nDATA\r\nS: x\r\n\r\n{body}.\r\nNOOP\r\n"
        ))
        .await;
    assert_eq!(codes(&replies)[3..], ["451 4.3.2", "250 2.0.0"]);
    assert_eq!(store.mail(), []);
}

#[tokio::test]
async fn silence_ends_a_connection() {
    let limits = Settings {
        command_timeout_s: 1,
        ..settings()
    };
    let door = open(FakeStore::with(&[ANN]), limits);
    let mut stream = door.connect().await;
    stream.write_all(b"LHLO x\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("\r\n421 4.4.2 "), "{answer}");
}

#[tokio::test]
async fn closing_the_door_lets_a_message_finish_and_tells_the_idle() {
    let store = FakeStore::with(&[ANN]);
    let door = open(store.clone(), settings());
    let (mut idle, mut busy) = (door.connect().await, door.connect().await);
    let begin = format!("LHLO x\r\n{MAIL}RCPT TO:<{ANN}>\r\nDATA\r\nfirst\r\n");
    busy.write_all(begin.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b".<CRLF>\r\n") {
        assert!(busy.read_buf(&mut seen).await.unwrap() > 0);
    }
    door.shutdown.cancel();
    let mut answer = String::new();
    idle.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("421 4.3.2"), "{answer}");
    busy.write_all(b"second\r\n.\r\n").await.unwrap();
    let mut answer = String::new();
    busy.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("250 2.1.5") && answer.contains("421 4.3.2"),
        "{answer}"
    );
    door.served.await.unwrap();
    assert_eq!(store.octets(), [b"first\r\nsecond\r\n"]);
}
