//! Commands that few programs say.

use super::client::{Client, door};
use super::fake::{ANNOTATIONS, Fake};
use crate::imap::settings::Settings;

const MAIL: &str = "Subject: x\r\n\r\nbody";

#[tokio::test(start_paused = true)]
async fn drafts_are_replaced_in_one_step() {
    let fake = Fake::new();
    fake.deliver(MAIL);
    fake.deliver(MAIL);
    let mut c = Client::inbox(&fake).await;
    c.send("r REPLACE 1 INBOX (\\Draft) {3+}\r\nabc\r\n").await;
    assert_eq!(
        c.until("r ").await,
        [
            "* OK [APPENDUID 101 3] stored",
            "* 1 EXPUNGE",
            "* 2 EXISTS",
            "OK replaced"
        ]
    );
    assert!(
        c.end("UID REPLACE 1 INBOX {3+}\r\nabc")
            .await
            .starts_with("NO [NONEXISTENT]")
    );
    assert!(
        c.end("REPLACE 9 INBOX {3+}\r\nabc")
            .await
            .starts_with("BAD")
    );
}

/// What never changes may come from a leader that does not know yet that it is none any more.
#[tokio::test(start_paused = true)]
async fn what_a_node_that_is_behind_does_not_show_is_asked_for_again() {
    let fake = Fake::new();
    fake.deliver(MAIL);
    fake.deliver(MAIL);
    let mut c = Client::inbox(&fake).await;
    fake.state.lock().unwrap().unconfirmed.insert(2);
    assert_eq!(
        c.ok("FETCH 1:2 (UID RFC822.SIZE)").await,
        [
            "* 1 FETCH (UID 1 RFC822.SIZE 18)",
            "* 2 FETCH (UID 2 RFC822.SIZE 18)"
        ]
    );
    assert_eq!(
        c.ok("UID FETCH 2 BODY.PEEK[TEXT]").await,
        ["* 2 FETCH (UID 2 BODY[TEXT] {4}\r\nbody)"]
    );
}

#[tokio::test(start_paused = true)]
async fn annotations_of_mailboxes_and_of_the_account() {
    let fake = Fake::new();
    let mut c = Client::inbox(&fake).await;
    c.ok("SETMETADATA INBOX (/private/comment \"a \\\"b\\\"\" /shared/x/y {2+}\r\nzz)")
        .await;
    c.ok("SETMETADATA \"\" (/shared/comment \"all\")").await;
    assert_eq!(
        c.ok("GETMETADATA INBOX (/private/comment /shared/nothing)")
            .await,
        ["* METADATA INBOX (/private/comment \"a \\\"b\\\"\" /shared/nothing NIL)"]
    );
    assert_eq!(
        c.ok("GETMETADATA (DEPTH infinity) INBOX /shared").await,
        ["* METADATA INBOX (/shared/x/y \"zz\")"]
    );
    assert_eq!(
        c.end("GETMETADATA (MAXSIZE 1 DEPTH infinity) INBOX /shared")
            .await,
        "OK [METADATA LONGENTRIES 2] that is all"
    );
    assert_eq!(
        c.ok("GETMETADATA \"\" /shared/comment").await,
        ["* METADATA \"\" (/shared/comment \"all\")"]
    );
    c.ok("SETMETADATA INBOX (/private/comment NIL)").await;
    assert_eq!(
        c.ok("GETMETADATA INBOX /private/comment").await,
        ["* METADATA INBOX (/private/comment NIL)"]
    );
    assert!(
        c.end("SETMETADATA INBOX (/other/x \"y\")")
            .await
            .starts_with("BAD")
    );
}

#[tokio::test(start_paused = true)]
async fn items_of_messages_that_few_ask_for() {
    let fake = Fake::new();
    fake.deliver(MAIL);
    let mut c = Client::inbox(&fake).await;
    assert_eq!(
        c.ok("FETCH 1 (EMAILID THREADID SAVEDATE PREVIEW (LAZY) MODSEQ)")
            .await,
        [
            "* OK [HIGHESTMODSEQ 2] so far",
            "* 1 FETCH (EMAILID (E7) THREADID (T4) SAVEDATE \" 1-Jan-1970 00:00:03 +0000\" PREVIEW \"p\" MODSEQ (2))"
        ]
    );
    assert_eq!(
        c.ok("FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1] BINARY.PEEK[5])")
            .await,
        ["* 1 FETCH (BINARY[1] ~{4}\r\nbody BINARY.SIZE[1] 4 BINARY[5] NIL)"]
    );
    let envelope = |subject: &str| {
        format!("* 1 FETCH (ENVELOPE (NIL {subject} NIL NIL NIL NIL NIL NIL NIL NIL))")
    };
    assert_eq!(
        c.ok("FETCH 1 ENVELOPE").await,
        [envelope("\"=?UTF-8?B?aMOp?=\"")]
    );
    c.ok("ENABLE UTF8=ACCEPT").await;
    assert_eq!(c.ok("FETCH 1 ENVELOPE").await, [envelope("\"hé\"")]);
    // RFC 6855, section 3: what is searched is UTF-8 then, and says nothing else of itself.
    let charset = c.end("SEARCH CHARSET UTF-8 SUBJECT x").await;
    assert!(charset.starts_with("BAD "), "{charset}");
    c.ok("SEARCH SUBJECT x").await;
    assert_eq!(
        c.ok("GETQUOTAROOT INBOX").await,
        [
            "* QUOTAROOT INBOX \"\"",
            "* QUOTA \"\" (STORAGE 1 8796093022207 MESSAGE 1 4294967295)"
        ]
    );
    c.ok("STORE 1 +FLAGS.SILENT (\\Deleted)").await;
    assert_eq!(
        c.ok("STATUS INBOX (DELETED DELETED-STORAGE APPENDLIMIT HIGHESTMODSEQ)")
            .await,
        ["* STATUS INBOX (DELETED 1 DELETED-STORAGE 18 APPENDLIMIT 150000000 HIGHESTMODSEQ 3)"]
    );
    assert!(c.end("SETQUOTA \"\" (STORAGE 5)").await.starts_with("NO"));
    assert!(c.end("STARTTLS").await.starts_with("BAD"));
}

#[tokio::test(start_paused = true)]
async fn examine_changes_nothing() {
    let fake = Fake::new();
    fake.deliver(MAIL);
    let mut c = Client::connect(&door(&fake, Settings::default())).await;
    c.ok("LOGIN ann@example.org secret").await;
    assert!(c.end("EXAMINE INBOX").await.starts_with("OK [READ-ONLY]"));
    for command in [
        "STORE 1 FLAGS (\\Seen)",
        "EXPUNGE",
        "MOVE 1 INBOX",
        "REPLACE 1 INBOX {1+}\r\nx",
    ] {
        assert!(c.end(command).await.starts_with("NO"), "{command}");
    }
    assert_eq!(
        c.ok("FETCH 1 (FLAGS BODY[])").await,
        ["* 1 FETCH (FLAGS () BODY[] {18}\r\nSubject: x\r\n\r\nbody)"]
    );
    c.ok("CLOSE").await;
    assert!(c.end("FETCH 1 FLAGS").await.starts_with("BAD"));
    assert!(
        c.end("SELECT Nowhere")
            .await
            .starts_with("NO [NONEXISTENT]")
    );
    c.ok("SELECT INBOX").await;
    c.ok("STORE 1 +FLAGS (\\Deleted)").await;
    assert_eq!(c.ok("CLOSE").await, [] as [String; 0]);
    assert_eq!(
        c.ok("STATUS INBOX (MESSAGES)").await,
        ["* STATUS INBOX (MESSAGES 0)"]
    );
}

#[tokio::test(start_paused = true)]
async fn special_uses_of_a_mailbox_that_exists_are_an_entry() {
    let fake = Fake::new();
    let mut c = Client::inbox(&fake).await;
    c.ok("CREATE Sent").await;
    c.ok("CREATE Entwurf (USE (\\Drafts))").await;
    let special = |name: &str, uses: &str| format!("* LIST (\\HasNoChildren{uses}) \"/\" {name}");
    let value =
        |name: &str, value: &str| format!("* METADATA {name} (/private/specialuse {value})");
    let get = |name: &str| format!("GETMETADATA {name} /private/specialuse");
    assert_eq!(c.ok(&get("Sent")).await, [value("Sent", "NIL")]);
    assert_eq!(
        c.ok(&get("Entwurf")).await,
        [value("Entwurf", "\"\\\\Drafts\"")]
    );
    c.ok("SETMETADATA Sent (/Private/SpecialUse \"\\\\Sent \\\\Junk\")")
        .await;
    assert_eq!(
        c.ok("LIST (SPECIAL-USE) \"\" *").await,
        [
            special("Entwurf", " \\Drafts"),
            special("Sent", " \\Sent \\Junk")
        ]
    );
    let both = value("Sent", "\"\\\\Sent \\\\Junk\"");
    assert_eq!(c.ok(&get("Sent")).await, std::slice::from_ref(&both));
    assert_eq!(
        c.ok("GETMETADATA (DEPTH 1) Sent /private").await,
        std::slice::from_ref(&both)
    );
    assert_eq!(
        c.end("GETMETADATA (MAXSIZE 5) Sent /private/specialuse")
            .await,
        "OK [METADATA LONGENTRIES 11] that is all"
    );
    // What is no use changes nothing, and neither does what would be done by halves.
    for (bad, code) in [
        ("/private/specialuse \"\\\\Fun\"", "NO [USEATTR]"),
        ("/private/specialuse \"Sent\"", "NO [USEATTR]"),
        ("/private/specialuse ~{1+}\r\n\0", "NO [USEATTR]"),
        (
            "/private/comment \"x\" /private/specialuse \"\\\\Sent\"",
            "NO [CANNOT]",
        ),
    ] {
        let end = c.end(&format!("SETMETADATA Sent ({bad})")).await;
        assert!(end.starts_with(code), "{bad}: {end}");
    }
    let long = "\\\\Sent ".repeat(500);
    let long = format!("SETMETADATA Sent (/private/specialuse \"{long}\")");
    assert!(c.end(&long).await.starts_with("NO [USEATTR]"));
    assert_eq!(
        c.ok("GETMETADATA Sent /private/comment").await,
        ["* METADATA Sent (/private/comment NIL)"]
    );
    assert_eq!(c.ok(&get("Sent")).await, [both]);
    assert!(
        c.end("SETMETADATA Nowhere (/private/specialuse \"\\\\Sent\")")
            .await
            .starts_with("NO [NONEXISTENT]")
    );
    c.ok("SETMETADATA Sent (/private/specialuse NIL)").await;
    assert_eq!(c.ok(&get("Sent")).await, [value("Sent", "NIL")]);
    assert_eq!(
        c.ok("LIST (SPECIAL-USE) \"\" *").await,
        [special("Entwurf", " \\Drafts")]
    );
    // An annotation from before of that name is hidden; the account has no uses.
    let old = (Some(2), "/private/specialuse".to_owned());
    fake.annotate(old, "\\Junk");
    assert_eq!(c.ok(&get("Sent")).await, [value("Sent", "NIL")]);
    assert_eq!(c.ok(&get("\"\"")).await, [value("\"\"", "NIL")]);
}

#[tokio::test(start_paused = true)]
async fn annotations_past_their_number_are_too_many() {
    let fake = Fake::new();
    let mut c = Client::inbox(&fake).await;
    for n in 0..ANNOTATIONS {
        c.ok(&format!("SETMETADATA INBOX (/private/x{n} \"y\")"))
            .await;
    }
    assert_eq!(
        c.end("SETMETADATA INBOX (/private/x \"y\")").await,
        "NO [METADATA TOOMANY] limit reached: 5 annotations"
    );
}
