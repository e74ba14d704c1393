//! What a client is told of what others do, and when.

use super::client::{Client, door};
use super::fake::Fake;
use crate::imap::settings::Settings;
use crate::imap::wire::Gone;

const MAIL: &str = "Subject: x\r\n\r\n";

fn three() -> Fake {
    let fake = Fake::new();
    for _ in 0..3 {
        fake.deliver(MAIL);
    }
    fake
}

#[tokio::test(start_paused = true)]
async fn numbers_stay_while_a_client_counts_in_them() {
    let fake = three();
    let mut c = Client::inbox(&fake).await;
    fake.remove(1);
    fake.flag(3, "\\Answered");
    fake.deliver(MAIL);
    // No EXPUNGE here, but all else; and the number of the third message is still 3.
    assert_eq!(
        c.say("FETCH 1:3 UID").await,
        [
            "* 2 FETCH (UID 2)",
            "* 3 FETCH (UID 3)",
            "* 4 EXISTS",
            "* 3 FETCH (UID 3 FLAGS (\\Answered))",
            "OK [EXPUNGEISSUED] some of the messages are gone"
        ]
    );
    assert_eq!(c.ok("SEARCH ALL").await, ["* SEARCH 2 3 4"]);
    assert_eq!(
        c.ok("STORE 3 +FLAGS (\\Seen)").await,
        ["* 3 FETCH (UID 3 FLAGS (\\Seen \\Answered))"]
    );
    assert_eq!(c.ok("NOOP").await, ["* 1 EXPUNGE"]);
    assert_eq!(c.ok("FETCH 1:* UID").await.len(), 3);
    // Commands with uids may be answered with EXPUNGE.
    fake.remove(2);
    assert_eq!(
        c.ok("UID SEARCH ALL").await,
        ["* SEARCH 3 4", "* 1 EXPUNGE"]
    );
}

#[tokio::test(start_paused = true)]
async fn silent_changes_are_silent_unless_others_changed_too() {
    let fake = three();
    let mut c = Client::inbox(&fake).await;
    assert_eq!(
        c.ok("STORE 1:2 +FLAGS.SILENT (\\Seen)").await,
        [] as [String; 0]
    );
    assert_eq!(c.ok("NOOP").await, [] as [String; 0]);
    fake.flag(2, "\\Flagged");
    assert_eq!(
        c.ok("STORE 2 +FLAGS.SILENT (\\Draft)").await,
        ["* 2 FETCH (UID 2 FLAGS (\\Seen \\Flagged \\Draft))"]
    );
    assert_eq!(c.ok("NOOP").await, [] as [String; 0]);
}

#[tokio::test(start_paused = true)]
async fn idle_tells_as_it_happens() {
    let fake = three();
    let mut c = Client::inbox(&fake).await;
    c.send("i IDLE\r\n").await;
    assert_eq!(c.line().await, "+ idling");
    fake.deliver(MAIL);
    assert_eq!(c.line().await, "* 4 EXISTS");
    fake.remove(2);
    assert_eq!(c.line().await, "* 2 EXPUNGE");
    fake.flag(4, "x");
    assert_eq!(
        c.line().await,
        "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft x)"
    );
    assert_eq!(c.line().await, "* 3 FETCH (UID 4 FLAGS (x))");
    c.send("done\r\n").await;
    assert!(c.line().await.starts_with("i OK"));
    assert!(c.end("NOOP").await.starts_with("OK"));
}

#[tokio::test(start_paused = true)]
async fn a_new_keyword_is_told_where_flags_are_told() {
    let fake = three();
    let mut c = Client::inbox(&fake).await;
    fake.flag(2, "x");
    assert_eq!(
        c.ok("FETCH 1:2 RFC822.SIZE").await,
        [
            "* 1 FETCH (RFC822.SIZE 14)",
            "* 2 FETCH (RFC822.SIZE 14)",
            "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft x)",
            "* 2 FETCH (UID 2 FLAGS (x))",
        ]
    );
    assert_eq!(c.ok("FETCH 2 FLAGS").await, ["* 2 FETCH (FLAGS (x))"]);
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_that_is_deleted_ends_its_sessions() {
    let fake = three();
    let imap = door(&fake, Settings::default());
    let mut c = Client::connect(&imap).await;
    c.ok("LOGIN ann@example.org secret").await;
    c.ok("CREATE x").await;
    c.ok("SELECT x").await;
    let mut other = Client::inbox(&fake).await;
    other.ok("DELETE x").await;
    c.send("a NOOP\r\n").await;
    assert!(c.line().await.starts_with("a OK"));
    assert!(c.line().await.starts_with("* BYE"));
    assert_eq!(c.ended.await.unwrap(), Gone::MailboxGone);
}

#[tokio::test(start_paused = true)]
async fn condstore_tells_modseqs_and_stores_on_condition() {
    let fake = three();
    let mut c = Client::connect(&door(&fake, Settings::default())).await;
    c.ok("LOGIN ann@example.org secret").await;
    let lines = c.ok("SELECT INBOX (CONDSTORE)").await;
    assert!(
        lines.contains(&"* OK [HIGHESTMODSEQ 4] so far".to_owned()),
        "{lines:?}"
    );
    assert_eq!(
        c.ok("FETCH 1:* (FLAGS) (CHANGEDSINCE 3)").await,
        ["* 3 FETCH (FLAGS () MODSEQ (4))"]
    );
    fake.flag(2, "\\Flagged");
    assert_eq!(
        c.say("STORE 1:2 (UNCHANGEDSINCE 4) +FLAGS.SILENT (\\Seen)")
            .await,
        [
            "* 1 FETCH (UID 1 MODSEQ (6))",
            "* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (6))",
            "* 2 FETCH (UID 2 FLAGS (\\Flagged) MODSEQ (5))",
            "OK [MODIFIED 2] stored"
        ]
    );
    assert_eq!(c.ok("SEARCH MODSEQ 5").await, ["* SEARCH 1 2 (MODSEQ 6)"]);
    assert_eq!(
        c.ok("SEARCH RETURN (MAX) MODSEQ 1").await,
        ["* ESEARCH (TAG \"t6\") MAX 3 MODSEQ 4"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_is_told_what_it_missed() {
    let fake = three();
    fake.flag(2, "\\Seen");
    fake.remove(1);
    fake.deliver(MAIL);
    let imap = door(&fake, Settings::default());
    let mut c = Client::connect(&imap).await;
    c.ok("LOGIN ann@example.org secret").await;
    assert!(
        c.end("SELECT INBOX (QRESYNC (101 4))")
            .await
            .starts_with("BAD")
    );
    assert_eq!(c.ok("ENABLE QRESYNC").await, ["* ENABLED QRESYNC"]);
    let missed = [
        "* VANISHED (EARLIER) 1",
        "* 1 FETCH (UID 2 FLAGS (\\Seen) MODSEQ (5))",
        "* 3 FETCH (UID 4 FLAGS () MODSEQ (7))",
    ];
    let lines = c.ok("SELECT INBOX (QRESYNC (101 4))").await;
    assert_eq!(lines[lines.len() - 3..], missed);
    // Of another era, all is new.
    let lines = c.ok("SELECT INBOX (QRESYNC (99 4))").await;
    assert_eq!(lines[0], "* OK [CLOSED] the mailbox before is closed");
    assert!(!lines.iter().any(|l| l.contains("VANISHED")));
    // What is forgotten is made up for; what the client does not know is not told.
    fake.state.lock().unwrap().trimmed = 6;
    let lines = c.ok("SELECT INBOX (QRESYNC (101 4))").await;
    assert_eq!(lines[lines.len() - 3..], missed);
    let lines = c.ok("SELECT INBOX (QRESYNC (101 4 2:4))").await;
    assert_eq!(lines[lines.len() - 2..], missed[1..]);
    assert!(!lines.iter().any(|l| l.contains("VANISHED")));
    assert_eq!(
        c.ok("UID FETCH 1:2 (FLAGS) (CHANGEDSINCE 4 VANISHED)")
            .await,
        [
            "* VANISHED (EARLIER) 1",
            "* 1 FETCH (UID 2 FLAGS (\\Seen) MODSEQ (5))"
        ]
    );
    fake.remove(3);
    assert_eq!(c.ok("NOOP").await, ["* VANISHED 3"]);
    c.ok("STORE 1 +FLAGS (\\Deleted)").await;
    assert_eq!(
        c.say("UID EXPUNGE 1:3").await,
        ["* VANISHED 2", "OK [HIGHESTMODSEQ 10] expunged"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_is_not_led_past_what_it_was_not_told() {
    let fake = three();
    let mut c = Client::connect(&door(&fake, Settings::default())).await;
    c.ok("LOGIN ann@example.org secret").await;
    c.ok("ENABLE QRESYNC").await;
    c.ok("SELECT INBOX").await;
    fake.remove(1);
    fake.flag(3, "\\Flagged");
    // The removal (5) must wait, the flag (6) is told: who comes back goes on from 4.
    assert_eq!(
        c.say("STORE 2 +FLAGS (\\Seen)").await,
        [
            "* 2 FETCH (UID 2 FLAGS (\\Seen) MODSEQ (7))",
            "* 3 FETCH (UID 3 FLAGS (\\Flagged) MODSEQ (6))",
            "OK [HIGHESTMODSEQ 4] stored"
        ]
    );
    assert_eq!(
        c.say("STORE 2:3 (UNCHANGEDSINCE 6) +FLAGS.SILENT (x)")
            .await,
        [
            "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft x)",
            "* 3 FETCH (UID 3 MODSEQ (8))",
            "* OK [HIGHESTMODSEQ 4] more is to come",
            "OK [MODIFIED 2] stored"
        ]
    );
    assert_eq!(c.say("NOOP").await, ["* VANISHED 1", "OK nothing done"]);
    // All has been told.
    assert_eq!(
        c.say("STORE 1 +FLAGS (\\Draft)").await,
        [
            "* 1 FETCH (UID 2 FLAGS (\\Seen \\Draft) MODSEQ (9))",
            "OK stored"
        ]
    );
    // So it is when the modseqs were asked for.
    fake.remove(2);
    fake.flag(3, "\\Answered");
    assert_eq!(
        c.end("FETCH 2 (MODSEQ)").await,
        "OK [HIGHESTMODSEQ 9] that is all"
    );
}

#[tokio::test(start_paused = true)]
async fn numbers_stay_while_a_search_by_uid_counts_in_them() {
    let fake = three();
    let mut c = Client::inbox(&fake).await;
    fake.remove(1);
    assert_eq!(c.ok("UID SEARCH NOT 2:3").await, ["* SEARCH"]);
    assert_eq!(c.ok("UID SEARCH OR SEEN (3 UNSEEN)").await, ["* SEARCH 3"]);
    assert_eq!(
        c.ok("UID SEARCH UID 2").await,
        ["* SEARCH 2", "* 1 EXPUNGE"]
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_fetch_marks_as_seen_is_told_with_its_uid() {
    let fake = three();
    let mut c = Client::connect(&door(&fake, Settings::default())).await;
    c.ok("LOGIN ann@example.org secret").await;
    c.ok("ENABLE QRESYNC").await;
    c.ok("SELECT INBOX").await;
    assert_eq!(
        c.ok("FETCH 2 BODY[TEXT]").await,
        ["* 2 FETCH (UID 2 FLAGS (\\Seen) MODSEQ (5) BODY[TEXT] {0}\r\n)"]
    );
}

#[tokio::test(start_paused = true)]
async fn idle_tells_what_the_store_first_kept_to_itself() {
    let fake = three();
    let mut c = Client::inbox(&fake).await;
    c.send("i IDLE\r\n").await;
    assert_eq!(c.line().await, "+ idling");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    fake.state.lock().unwrap().silent = 2;
    fake.deliver(MAIL);
    assert_eq!(c.line().await, "* 4 EXISTS");
    c.send("done\r\n").await;
    assert!(c.line().await.starts_with("i OK"));
}

#[tokio::test(start_paused = true)]
async fn a_sort_by_modseqs_tells_the_highest() {
    let fake = three();
    let mut c = Client::inbox(&fake).await;
    c.ok("FETCH 1 MODSEQ").await;
    assert_eq!(
        c.ok("SORT (DATE) UTF-8 MODSEQ 3").await,
        ["* SORT 3 2 (MODSEQ 4)"]
    );
    assert_eq!(c.ok("UID SORT (DATE) UTF-8 MODSEQ 5").await, ["* SORT"]);
    assert_eq!(c.ok("SORT (DATE) UTF-8 ALL").await, ["* SORT 3 2 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_replacement_tells_the_modseq_of_the_removal() {
    let fake = three();
    let mut c = Client::connect(&door(&fake, Settings::default())).await;
    c.ok("LOGIN ann@example.org secret").await;
    c.ok("ENABLE QRESYNC").await;
    c.ok("SELECT INBOX").await;
    let mut lines = c.say("UID REPLACE 2 INBOX {3+}\r\nabc").await;
    assert_eq!(lines.pop().unwrap(), "OK [HIGHESTMODSEQ 5] replaced");
    assert_eq!(
        lines[..2],
        ["* OK [APPENDUID 101 4] stored", "* VANISHED 2"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_part_of_what_has_changed_is_fetched() {
    let fake = Fake::new();
    for _ in 0..6 {
        fake.deliver(MAIL);
    }
    fake.remove(2);
    let mut c = Client::inbox(&fake).await;
    let told = |uids: &[u32]| -> Vec<String> {
        let number = |uid: &u32| if *uid > 2 { uid - 1 } else { *uid };
        let line = |uid| format!("* {} FETCH (UID {uid} FLAGS ())", number(uid));
        uids.iter().map(line).collect()
    };
    for (set, range, uids) in [
        ("1:*", "1:2", &[1, 3][..]),
        ("1:*", "2:1", &[1, 3]),
        ("1:*", "4:99", &[5, 6]),
        ("1:*", "6:9", &[]),
        ("1:*", "-1:-2", &[5, 6]),
        ("3:4", "-1:-2", &[3, 4]),
        ("3:5,9", "2:2", &[4]),
    ] {
        let command = format!("UID FETCH {set} FLAGS (PARTIAL {range})");
        assert_eq!(c.ok(&command).await, told(uids), "{command}");
    }
    assert!(
        c.end("FETCH 1:* FLAGS (PARTIAL 1:2)")
            .await
            .starts_with("BAD")
    );
    // Reading a part marks no more than that.
    c.ok("UID FETCH 1:* BODY[TEXT] (PARTIAL -1:-1)").await;
    assert_eq!(c.ok("UID SEARCH SEEN").await, ["* SEARCH 6"]);
    // Of what has changed, whatever the order of the modifiers.
    for uid in [1, 4] {
        fake.flag(uid, "\\Flagged");
    }
    c.ok("FETCH 1 MODSEQ").await;
    for modifiers in [
        "PARTIAL -2:-3 CHANGEDSINCE 8",
        "CHANGEDSINCE 8 PARTIAL -2:-3",
    ] {
        assert_eq!(
            c.ok(&format!("UID FETCH 1:* FLAGS ({modifiers})")).await,
            [
                "* 1 FETCH (UID 1 FLAGS (\\Flagged) MODSEQ (10))",
                "* 3 FETCH (UID 4 FLAGS (\\Flagged) MODSEQ (11))",
            ]
        );
    }
    c.ok("ENABLE QRESYNC").await;
    assert_eq!(
        c.ok("UID FETCH 1:* FLAGS (CHANGEDSINCE 7 VANISHED PARTIAL 1:1)")
            .await,
        [
            "* VANISHED (EARLIER) 2",
            "* 1 FETCH (UID 1 FLAGS (\\Flagged) MODSEQ (10))",
        ]
    );
}
