//! Messages that are fetched one after the other.

use std::time::Duration;

use super::client::Client;
use super::fake::Fake;

/// Octets of a message but for its numbers.
const SIZE: usize = "Subject: \r\n\r\nbody ".len();

async fn with_messages(count: u32) -> (Fake, Client) {
    let fake = Fake::new();
    for n in 1..=count {
        fake.deliver(&format!("Subject: {n}\r\n\r\nbody {n}"));
    }
    let client = Client::inbox(&fake).await;
    (fake, client)
}

async fn body(c: &mut Client, n: u32) {
    let text = format!("body {n}");
    let expected = format!("* {n} FETCH (BODY[TEXT] {{{}}}\r\n{text})", text.len());
    assert_eq!(
        c.ok(&format!("FETCH {n} BODY.PEEK[TEXT]")).await,
        [expected]
    );
}

fn fetches(fake: &Fake) -> u32 {
    std::mem::take(&mut fake.state.lock().unwrap().fetches)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_through_a_mailbox_makes_few_calls() {
    let (fake, mut c) = with_messages(100).await;
    fetches(&fake);
    for n in 1..=100 {
        body(&mut c, n).await;
    }
    let calls = fetches(&fake);
    assert!(calls <= 8, "{calls}");
    // Rows alone, which are otherwise asked for by columns, and several sections.
    for n in 1..=100 {
        let expected = format!(
            "* {n} FETCH (UID {n} RFC822.SIZE {})",
            SIZE + n.to_string().len() * 2
        );
        assert_eq!(
            c.ok(&format!("FETCH {n} (UID RFC822.SIZE)")).await,
            [expected]
        );
    }
    for n in 1..=100 {
        let items = "BODY.PEEK[TEXT] BODY.PEEK[HEADER]<0.8>";
        let told = c.ok(&format!("FETCH {n} ({items})")).await;
        let [told] = &told[..] else {
            panic!("one message")
        };
        assert!(told.contains(&format!("body {n} ")), "{told}");
        assert!(told.ends_with("{8}\r\nSubject:)"), "{told}");
    }
    let calls = fetches(&fake);
    assert!(calls <= 16, "{calls}");
}

#[tokio::test(start_paused = true)]
async fn large_messages_are_not_asked_for_ahead() {
    let (fake, mut c) = with_messages(0).await;
    for n in 0..100 {
        fake.deliver(&"x".repeat(if n < 20 { 100 << 10 } else { 1 << 10 }));
    }
    c.ok("NOOP").await;
    fetches(&fake);
    for n in 1..=20 {
        c.ok(&format!("FETCH {n} BODY.PEEK[]")).await;
    }
    assert_eq!(fetches(&fake), 20);
    // Small ones are, after a while.
    for n in 21..=100 {
        c.ok(&format!("FETCH {n} BODY.PEEK[]")).await;
    }
    let calls = fetches(&fake);
    assert!(calls <= 20, "{calls}");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_message_spoils_no_other() {
    let (fake, mut c) = with_messages(20).await;
    fake.state.lock().unwrap().damaged = Some(9);
    for n in (1..=20).filter(|n| *n != 9) {
        body(&mut c, n).await;
    }
    let refused = c.end("FETCH 9 BODY.PEEK[TEXT]").await;
    assert!(refused.starts_with("NO "), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn numbers_move_while_messages_are_removed() {
    let (fake, mut c) = with_messages(20).await;
    for n in 1..=8 {
        body(&mut c, n).await;
    }
    // Between two commands, of which the second one is told of it at its end.
    for uid in [2, 9, 10, 12] {
        fake.remove(uid);
    }
    c.ok("NOOP").await;
    for (n, uid) in [(8, 11), (9, 13), (10, 14), (11, 15)] {
        let told = c.ok(&format!("FETCH {n} (UID BODY.PEEK[TEXT])")).await;
        let [told] = &told[..] else {
            panic!("one message")
        };
        assert!(
            told.starts_with(&format!("* {n} FETCH (UID {uid} ")),
            "{told}"
        );
        assert!(told.ends_with(&format!("body {uid})")), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_turns_off_the_way_gets_what_was_asked_for() {
    let (fake, mut c) = with_messages(40).await;
    for n in [1, 2, 3, 4, 6, 9, 10, 9, 30, 31, 5, 40, 39] {
        body(&mut c, n).await;
    }
    for n in 1..=8 {
        body(&mut c, n).await;
        let flags = c.ok(&format!("FETCH {n} FLAGS")).await;
        assert_eq!(flags, [format!("* {n} FETCH (FLAGS ())")]);
    }
    let header = c.ok("FETCH 9 BODY.PEEK[HEADER]").await;
    assert_eq!(header.len(), 1);
    // Longer than a call is kept open.
    tokio::time::sleep(Duration::from_secs(5)).await;
    fetches(&fake);
    body(&mut c, 9).await;
    assert_eq!(fetches(&fake), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_gone_is_not_told_as_the_next_one() {
    let (fake, mut c) = with_messages(12).await;
    fake.state.lock().unwrap().unconfirmed.insert(7);
    for n in 1..=12 {
        body(&mut c, n).await;
    }
}
