//! What every mail program does.

use tokio_util::sync::CancellationToken;

use super::client::{Client, door};
use super::fake::Fake;
use crate::imap::settings::Settings;
use crate::imap::wire::Gone;

#[tokio::test(start_paused = true)]
async fn who_may_come_in() {
    let fake = Fake::new();
    let mut c = Client::connect(&door(&fake, Settings::default())).await;
    assert!(c.end("SELECT INBOX").await.starts_with("BAD"));
    assert!(
        c.end("LOGIN ann@example.org wrong")
            .await
            .starts_with("NO [AUTHENTICATIONFAILED]")
    );
    assert!(
        c.end("LOGIN bob@example.org secret")
            .await
            .starts_with("NO [AUTHENTICATIONFAILED]")
    );
    // ann@example.org, secret
    let plain = "AGFubkBleGFtcGxlLm9yZwBzZWNyZXQ=";
    c.send("x AUTHENTICATE PLAIN\r\n").await;
    assert_eq!(c.line().await, "+ ");
    c.send("*\r\n").await;
    assert!(c.line().await.starts_with("x BAD"));
    // The challenges are base64 of `Username:` and `Password:`.
    let (user, password) = ("YW5uQGV4YW1wbGUub3Jn", "c2VjcmV0");
    c.send("y AUTHENTICATE LOGIN\r\n").await;
    assert_eq!(c.line().await, "+ VXNlcm5hbWU6");
    c.send(&format!("{user}\r\n")).await;
    assert_eq!(c.line().await, "+ UGFzc3dvcmQ6");
    c.send("d3Jvbmc=\r\n").await;
    assert!(c.line().await.starts_with("y NO [AUTHENTICATIONFAILED]"));
    let end = c.end("AUTHENTICATE CRAM-MD5").await;
    assert!(end.starts_with("NO [CANNOT]"), "{end}");
    let mut second = Client::begin(
        &door(&fake, Settings::default()),
        true,
        CancellationToken::new(),
    );
    assert!(second.line().await.contains("AUTH=PLAIN AUTH=LOGIN"));
    second
        .send(&format!("z AUTHENTICATE LOGIN {user}\r\n"))
        .await;
    assert_eq!(second.line().await, "+ UGFzc3dvcmQ6");
    second.send(&format!("{password}\r\n")).await;
    assert!(second.line().await.starts_with("z OK [CAPABILITY "));
    let end = c.end(&format!("AUTHENTICATE PLAIN {plain}")).await;
    assert!(
        end.starts_with("OK [CAPABILITY ") && end.contains("QRESYNC"),
        "{end}"
    );
    assert!(
        c.end("LOGIN ann@example.org secret")
            .await
            .starts_with("BAD")
    );
    assert_eq!(c.ok("LOGOUT").await.len(), 1);
    assert_eq!(c.ended.await.unwrap(), Gone::Logout);

    let mut far = Client::begin(
        &door(&fake, Settings::default()),
        false,
        CancellationToken::new(),
    );
    let greeting = far.line().await;
    assert!(greeting.contains("LOGINDISABLED") && !greeting.contains("AUTH=PLAIN"));
    assert!(
        far.end("LOGIN ann@example.org secret")
            .await
            .starts_with("NO [PRIVACYREQUIRED]")
    );
}

#[tokio::test(start_paused = true)]
async fn sessions_end_when_they_must() {
    let fake = Fake::new();
    let imap = door(
        &fake,
        Settings {
            errors: 3,
            sessions_per_account: 1,
            ..Settings::default()
        },
    );
    let mut c = Client::connect(&imap).await;
    for _ in 0..3 {
        assert!(c.end("FOO").await.starts_with("BAD"));
    }
    c.send("x FOO\r\n").await;
    assert!(c.line().await.starts_with("x BAD"));
    assert!(c.line().await.starts_with("* BYE"));
    assert_eq!(c.ended.await.unwrap(), Gone::Abuse);

    // Who has logged in may be wrong as often as it is right in between, but not forever.
    let mut odd = Client::connect(&imap).await;
    odd.ok("LOGIN ann@example.org secret").await;
    odd.ok("SELECT INBOX").await;
    for _ in 0..10 {
        for _ in 0..3 {
            assert!(odd.end("FETCH 1:* FLAGS").await.starts_with("BAD"));
        }
        odd.ok("NOOP").await;
    }
    for _ in 0..3 {
        assert!(odd.end("FETCH 1:* FLAGS").await.starts_with("BAD"));
        assert!(odd.end("CREATE &bad").await.starts_with("NO"));
    }
    odd.send("x FETCH 1:* FLAGS\r\n").await;
    assert!(odd.line().await.starts_with("x BAD"));
    assert!(odd.line().await.starts_with("* BYE"));
    assert_eq!(odd.ended.await.unwrap(), Gone::Abuse);

    let mut late = Client::connect(&imap).await;
    assert!(late.line().await.starts_with("* BYE"));
    assert_eq!(late.ended.await.unwrap(), Gone::Idle);

    let mut one = Client::connect(&imap).await;
    one.ok("LOGIN ann@example.org secret").await;
    let mut two = Client::connect(&imap).await;
    assert!(
        two.end("LOGIN ann@example.org secret")
            .await
            .starts_with("NO [LIMIT]")
    );
    one.ok("LOGOUT").await;
    one.ended.await.unwrap();
    two.ok("LOGIN ann@example.org secret").await;

    let stop = CancellationToken::new();
    let mut idle = Client::begin(&imap, true, stop.clone());
    idle.line().await;
    stop.cancel();
    assert!(idle.line().await.starts_with("* BYE [UNAVAILABLE]"));
    assert_eq!(idle.ended.await.unwrap(), Gone::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn mailboxes_come_and_go() {
    let fake = Fake::new();
    let mut c = Client::inbox(&fake).await;
    assert!(
        c.end("CREATE Entw&APw-rfe/")
            .await
            .starts_with("OK [MAILBOXID (M2)]")
    );
    assert!(c.end("CREATE Sent (USE (\\Sent))").await.starts_with("OK"));
    assert!(c.end("CREATE Sent").await.starts_with("NO [ALREADYEXISTS]"));
    assert!(c.end("CREATE &bad").await.starts_with("NO [CANNOT]"));
    c.ok("SUBSCRIBE Sent").await;
    assert_eq!(
        c.ok("LIST \"\" *").await,
        [
            "* LIST (\\HasNoChildren) \"/\" Entw&APw-rfe",
            "* LIST (\\HasNoChildren) \"/\" INBOX",
            "* LIST (\\HasNoChildren \\Sent) \"/\" Sent",
        ]
    );
    assert_eq!(c.ok("LSUB \"\" *").await, ["* LSUB () \"/\" Sent"]);
    assert_eq!(
        c.ok("LIST \"\" \"\"").await,
        ["* LIST (\\Noselect) \"/\" \"\""]
    );
    assert_eq!(
        c.ok("LIST (SPECIAL-USE) \"\" % RETURN (STATUS (MESSAGES MAILBOXID))")
            .await,
        [
            "* LIST (\\HasNoChildren \\Sent) \"/\" Sent",
            "* STATUS Sent (MESSAGES 0 MAILBOXID (M3))"
        ]
    );
    c.ok("RENAME Sent Gesendet").await;
    assert!(
        c.end("STATUS Sent (MESSAGES)")
            .await
            .starts_with("NO [NONEXISTENT]")
    );
    c.ok("DELETE Gesendet").await;
    c.ok("ENABLE UTF8=ACCEPT").await;
    assert_eq!(
        c.ok("LIST \"\" E%").await,
        ["* LIST (\\HasNoChildren) \"/\" \"Entwürfe\""]
    );
    assert_eq!(
        c.ok("NAMESPACE").await,
        ["* NAMESPACE ((\"\" \"/\")) NIL NIL"]
    );
}

#[tokio::test(start_paused = true)]
async fn messages_are_stored_and_read() {
    let fake = Fake::new();
    let mut c = Client::inbox(&fake).await;
    let message = "Subject: x\r\n\r\nbody\r\n";
    c.send(&format!(
        "a APPEND INBOX (\\Flagged work) \"17-Jul-1996 02:44:25 -0700\" {{{}}}\r\n",
        message.len()
    ))
    .await;
    assert_eq!(c.line().await, "+ go on");
    c.send(&format!("{message}\r\n")).await;
    let lines = c.until("a ").await;
    assert_eq!(lines, ["* 1 EXISTS", "OK [APPENDUID 101 1] stored"]);
    // A name as a literal, and a message that is not waited for.
    c.send("b APPEND {5+}\r\nINBOX {3+}\r\nabc\r\n").await;
    assert_eq!(
        c.until("b ").await,
        ["* 2 EXISTS", "OK [APPENDUID 101 2] stored"]
    );
    assert_eq!(
        c.ok("FETCH 1 (UID FLAGS INTERNALDATE RFC822.SIZE)").await,
        [
            "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft work)",
            "* 1 FETCH (UID 1 FLAGS (\\Flagged work) INTERNALDATE \"17-Jul-1996 09:44:25 +0000\" RFC822.SIZE 20)"
        ]
    );
    // Reading sets \Seen, and says so; looking does not.
    assert_eq!(
        c.ok("FETCH 2 BODY.PEEK[]").await,
        ["* 2 FETCH (BODY[] {3}\r\nabc)"]
    );
    assert_eq!(
        c.ok("FETCH 2 BODY[]").await,
        ["* 2 FETCH (FLAGS (\\Seen) BODY[] {3}\r\nabc)"]
    );
    assert_eq!(
        c.ok("FETCH 2 BODY[]").await,
        ["* 2 FETCH (BODY[] {3}\r\nabc)"]
    );
    assert_eq!(
        c.ok("UID FETCH 1 (BODY.PEEK[HEADER] BODY.PEEK[TEXT]<1.2> BODY.PEEK[7])")
            .await,
        [
            "* 1 FETCH (UID 1 BODY[HEADER] {14}\r\nSubject: x\r\n\r\n BODY[TEXT]<1> {2}\r\nod BODY[7] NIL)"
        ]
    );
    assert!(c.end("FETCH 3 FLAGS").await.starts_with("BAD"));
    assert_eq!(c.ok("UID FETCH 3 FLAGS").await, [] as [String; 0]);
    // A copy, a move, an expunge.
    c.ok("CREATE Other").await;
    assert!(
        c.end("COPY 1:2 Nowhere")
            .await
            .starts_with("NO [TRYCREATE]")
    );
    assert_eq!(
        c.end("COPY 1:2 Other").await,
        "OK [COPYUID 102 1:2 1:2] copied"
    );
    assert_eq!(
        c.say("MOVE 1 Other").await,
        ["* OK [COPYUID 102 1 3] moved", "* 1 EXPUNGE", "OK moved"]
    );
    assert_eq!(
        c.ok("STORE 1 +FLAGS (\\Deleted)").await,
        ["* 1 FETCH (UID 2 FLAGS (\\Seen \\Deleted))"]
    );
    assert_eq!(
        c.ok("STORE 1 +FLAGS.SILENT (\\Draft)").await,
        [] as [String; 0]
    );
    assert_eq!(c.ok("NOOP").await, [] as [String; 0]);
    assert_eq!(c.say("EXPUNGE").await, ["* 1 EXPUNGE", "OK expunged"]);
    assert_eq!(
        c.ok("STATUS Other (MESSAGES UNSEEN SIZE UIDNEXT RECENT)")
            .await,
        ["* STATUS Other (MESSAGES 3 UNSEEN 2 SIZE 43 UIDNEXT 4 RECENT 0)"]
    );
}

#[tokio::test(start_paused = true)]
async fn literals_that_are_too_large_cost_nothing() {
    let fake = Fake::new();
    let imap = door(
        &fake,
        Settings {
            message_bytes: 65_536,
            ..Settings::default()
        },
    );
    let mut c = Client::connect(&imap).await;
    assert!(c.end("APPEND INBOX {5}").await.starts_with("BAD"));
    c.ok("LOGIN ann@example.org secret").await;
    assert!(
        c.end("APPEND INBOX {70000}")
            .await
            .starts_with("NO [TOOBIG]")
    );
    assert!(
        c.end("APPEND Nowhere {3+}\r\nabc")
            .await
            .starts_with("NO [TRYCREATE]")
    );
    let large = "x".repeat(70_000);
    assert!(
        c.end(&format!("APPEND INBOX {{70000+}}\r\n{large}"))
            .await
            .starts_with("NO [TOOBIG]")
    );
    assert!(
        c.end("APPEND INBOX {0+}\r\n")
            .await
            .starts_with("NO [CANNOT]")
    );
    assert!(c.end("APPEND INBOX {3+}\r\nabcd").await.starts_with("BAD"));
    assert!(
        c.end(&format!("NOOP {}", "x".repeat(70_000)))
            .await
            .starts_with("BAD")
    );
    assert!(
        c.end("SEARCH SUBJECT {300000}")
            .await
            .starts_with("NO [TOOBIG]")
    );
    assert_eq!(
        c.ok("STATUS INBOX (MESSAGES)").await,
        ["* STATUS INBOX (MESSAGES 0)"]
    );
    assert_eq!(
        c.end("APPEND INBOX {1+}\r\na (\\Seen) {2+}\r\nbc").await,
        "OK [APPENDUID 101 1:2] stored"
    );
}

#[tokio::test(start_paused = true)]
async fn searches_tell_numbers_or_uids() {
    let fake = Fake::new();
    for text in [
        "Subject: one\r\n\r\n",
        "Subject: two\r\n\r\n",
        "Subject: three\r\n\r\n",
    ] {
        fake.deliver(text);
    }
    fake.remove(1);
    let mut c = Client::inbox(&fake).await;
    assert_eq!(c.ok("SEARCH SUBJECT t").await, ["* SEARCH 1 2"]);
    assert_eq!(c.ok("UID SEARCH SUBJECT three").await, ["* SEARCH 3"]);
    assert_eq!(c.ok("SEARCH 2:9 NOT SEEN").await, ["* SEARCH 2"]);
    assert_eq!(c.ok("SEARCH RECENT").await, ["* SEARCH"]);
    assert_eq!(c.ok("SEARCH YOUNGER 1000").await, ["* SEARCH 1 2"]);
    assert_eq!(c.ok("SEARCH OLDER 1001").await, ["* SEARCH"]);
    assert!(
        c.end("SEARCH CHARSET KOI8-R SUBJECT x")
            .await
            .starts_with("NO [BADCHARSET")
    );
    assert_eq!(
        c.ok("UID SEARCH RETURN (MIN MAX COUNT ALL) ALL").await,
        ["* ESEARCH (TAG \"t10\") UID MIN 2 MAX 3 COUNT 2 ALL 2:3"]
    );
    assert_eq!(
        c.ok("SEARCH RETURN (COUNT) SEEN").await,
        ["* ESEARCH (TAG \"t11\") COUNT 0"]
    );
    assert_eq!(
        c.ok("UID SEARCH RETURN (PARTIAL -1:-1) ALL").await,
        ["* ESEARCH (TAG \"t12\") UID PARTIAL (-1:-1 3)"]
    );
    // What is saved is used by its uids.
    assert_eq!(
        c.ok("SEARCH RETURN (SAVE) SUBJECT three").await,
        [] as [String; 0]
    );
    assert_eq!(c.ok("FETCH $ UID").await, ["* 2 FETCH (UID 3)"]);
    assert_eq!(c.ok("SORT (REVERSE DATE) UTF-8 ALL").await, ["* SORT 2 1"]);
    assert_eq!(
        c.ok("UID THREAD REFERENCES UTF-8 ALL").await,
        ["* THREAD (2)(3)"]
    );
    c.ok("ENABLE IMAP4rev2").await;
    assert_eq!(
        c.ok("SEARCH ALL").await,
        ["* ESEARCH (TAG \"t18\") ALL 1:2"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_select_that_fails_leaves_no_mailbox() {
    let fake = Fake::new();
    fake.deliver("Subject: x\r\n\r\n");
    for (command, code) in [
        ("SELECT &bad", "NO [CANNOT]"),
        ("EXAMINE &bad", "NO [CANNOT]"),
        ("SELECT Nowhere", "NO [NONEXISTENT]"),
    ] {
        let mut c = Client::inbox(&fake).await;
        let lines = c.say(command).await;
        assert_eq!(lines[0], "* OK [CLOSED] the mailbox before is closed");
        assert!(lines[1].starts_with(code), "{command}: {lines:?}");
        assert!(c.end("FETCH 1 FLAGS").await.starts_with("BAD"), "{command}");
    }
    // What is no command at all changes nothing.
    let mut c = Client::inbox(&fake).await;
    let bad = c.say("SELECT INBOX (QRESYNC (101 4))").await;
    assert!(bad.len() == 1 && bad[0].starts_with("BAD"), "{bad:?}");
    assert_eq!(c.ok("FETCH 1 FLAGS").await, ["* 1 FETCH (FLAGS ())"]);
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_is_told_for_its_children_has_no_status() {
    let fake = Fake::new();
    let mut c = Client::inbox(&fake).await;
    for name in ["foo", "foo/x", "bar"] {
        c.ok(&format!("CREATE {name}")).await;
    }
    c.ok("SUBSCRIBE foo/x").await;
    c.ok("SUBSCRIBE bar").await;
    let status = "RETURN (STATUS (MESSAGES))";
    assert_eq!(
        c.ok(&format!("LIST (SUBSCRIBED RECURSIVEMATCH) \"\" % {status}"))
            .await,
        [
            "* LIST (\\HasNoChildren \\Subscribed) \"/\" bar",
            "* STATUS bar (MESSAGES 0)",
            "* LIST (\\HasChildren) \"/\" foo (\"CHILDINFO\" (\"SUBSCRIBED\"))",
        ]
    );
    // Asked for itself, it has one.
    c.ok("SUBSCRIBE foo").await;
    let list = format!("LIST (SUBSCRIBED RECURSIVEMATCH) \"\" foo {status}");
    assert_eq!(c.ok(&list).await[1..], ["* STATUS foo (MESSAGES 0)"]);
}
