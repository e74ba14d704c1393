//! NOTIFY: what a client is told between its commands.

use super::client::{Client, door};
use super::fake::Fake;
use crate::imap::settings::Settings;

const MAIL: &str = "Subject: x\r\n\r\nbody";

/// Logged in, nothing selected.
async fn session(fake: &Fake) -> Client {
    let mut client = Client::connect(&door(fake, Settings::default())).await;
    client.ok("LOGIN ann@example.org secret").await;
    client
}

async fn append(client: &mut Client, mailbox: &str) {
    client.ok(&format!("APPEND {mailbox} {{1+}}\r\nx")).await;
}

#[tokio::test(start_paused = true)]
async fn the_selected_mailbox_is_told_at_once() {
    let fake = Fake::new();
    fake.deliver(MAIL);
    let mut c = Client::inbox(&fake).await;
    // What has gathered so far is told at once, and items of what comes later with it.
    fake.flag(1, "\\Seen");
    assert_eq!(
        c.ok("NOTIFY SET (SELECTED (MessageNew (FLAGS BODY[TEXT]) MessageExpunge FlagChange))")
            .await,
        ["* 1 FETCH (UID 1 FLAGS (\\Seen))"]
    );
    fake.deliver(MAIL);
    assert_eq!(c.line().await, "* 2 EXISTS");
    assert_eq!(
        c.line().await,
        "* 2 FETCH (UID 2 FLAGS () BODY[TEXT] {4}\r\nbody)"
    );
    fake.flag(2, "\\Answered");
    assert_eq!(c.line().await, "* 2 FETCH (UID 2 FLAGS (\\Answered))");
    fake.remove(1);
    assert_eq!(c.line().await, "* 1 EXPUNGE");
    // Items of what the client has stored itself are not told.
    assert_eq!(c.ok("APPEND INBOX {1+}\r\nx").await, ["* 2 EXISTS"]);
    // Reading the items has not set `\Seen`.
    assert_eq!(c.ok("UID SEARCH SEEN").await, ["* SEARCH"]);
}

#[tokio::test(start_paused = true)]
async fn delayed_means_that_numbers_stay_between_commands() {
    let fake = Fake::new();
    fake.deliver(MAIL);
    let mut c = Client::inbox(&fake).await;
    c.ok("NOTIFY SET (SELECTED-DELAYED (MessageNew MessageExpunge))")
        .await;
    fake.remove(1);
    fake.flag(1, "\\Seen");
    fake.deliver(MAIL);
    assert_eq!(c.line().await, "* 2 EXISTS");
    assert_eq!(c.ok("FETCH 2 UID").await, ["* 2 FETCH (UID 2)"]);
    assert_eq!(c.ok("NOOP").await, ["* 1 EXPUNGE"]);
    // IDLE allows it as well, and tells what NOTIFY asks for: no flags.
    c.send("i IDLE\r\n").await;
    assert_eq!(c.line().await, "+ idling");
    fake.flag(2, "\\Seen");
    fake.deliver(MAIL);
    assert_eq!(c.line().await, "* 2 EXISTS");
    fake.remove(2);
    assert_eq!(c.line().await, "* 1 EXPUNGE");
    c.send("DONE\r\n").await;
    assert!(c.line().await.starts_with("i OK"));
}

#[tokio::test(start_paused = true)]
async fn a_modseq_that_is_told_too_early_is_corrected_at_once() {
    let fake = Fake::new();
    fake.deliver(MAIL);
    fake.deliver(MAIL);
    let mut c = Client::inbox(&fake).await;
    c.ok("ENABLE QRESYNC").await;
    c.ok("NOTIFY SET (SELECTED-DELAYED (MessageNew MessageExpunge FlagChange))")
        .await;
    fake.remove(1);
    fake.flag(2, "\\Seen");
    assert_eq!(
        c.line().await,
        "* 2 FETCH (UID 2 FLAGS (\\Seen) MODSEQ (5))"
    );
    assert_eq!(c.line().await, "* OK [HIGHESTMODSEQ 3] more is to come");
    assert_eq!(c.ok("NOOP").await, ["* VANISHED 1"]);
}

#[tokio::test(start_paused = true)]
async fn flags_that_are_not_wanted_wait_until_they_are() {
    let fake = Fake::new();
    fake.deliver(MAIL);
    let mut c = Client::inbox(&fake).await;
    c.ok("NOTIFY SET (SELECTED (MessageNew MessageExpunge))")
        .await;
    fake.flag(1, "\\Seen");
    assert_eq!(c.ok("NOOP").await, [] as [String; 0]);
    // The answer to STORE is asked for.
    assert_eq!(
        c.ok("STORE 1 +FLAGS (\\Flagged)").await,
        ["* 1 FETCH (UID 1 FLAGS (\\Seen \\Flagged))"]
    );
    fake.flag(1, "\\Draft");
    assert_eq!(
        c.ok("NOTIFY SET (SELECTED (MessageNew MessageExpunge FlagChange))")
            .await,
        ["* 1 FETCH (UID 1 FLAGS (\\Seen \\Flagged \\Draft))"]
    );
}

#[tokio::test(start_paused = true)]
async fn none_means_nothing() {
    let fake = Fake::new();
    fake.deliver(MAIL);
    let mut c = Client::inbox(&fake).await;
    c.ok("NOTIFY NONE").await;
    fake.deliver(MAIL);
    fake.flag(1, "\\Flagged");
    assert_eq!(c.ok("NOOP").await, [] as [String; 0]);
    c.send("i IDLE\r\n").await;
    assert_eq!(c.line().await, "+ idling");
    fake.deliver(MAIL);
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    c.send("DONE\r\n").await;
    assert!(c.line().await.starts_with("i OK"));
    // What a command does is told all the same, with what came before it.
    assert_eq!(c.ok("STORE 1 +FLAGS.SILENT (\\Deleted)").await.len(), 2);
    assert_eq!(c.ok("EXPUNGE").await, ["* 1 EXPUNGE"]);
    // SET tells what has gathered, even if nothing is to be told later.
    fake.deliver(MAIL);
    assert_eq!(c.ok("NOTIFY SET (SELECTED NONE)").await, ["* 3 EXISTS"]);
    fake.deliver(MAIL);
    assert_eq!(c.ok("NOOP").await, [] as [String; 0]);
}

#[tokio::test(start_paused = true)]
async fn other_mailboxes_are_told_by_their_counters() {
    let fake = Fake::new();
    let mut other = session(&fake).await;
    other.ok("CREATE Lists").await;
    other.ok("CREATE Lists/a").await;
    other.ok("CREATE Listserv").await;
    let mut c = session(&fake).await;
    assert_eq!(
        c.ok("NOTIFY SET STATUS (SELECTED (MessageNew MessageExpunge)) \
             (SUBTREE Lists (MessageNew MessageExpunge FlagChange))")
            .await,
        [
            "* STATUS Lists (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 102 UNSEEN 0 HIGHESTMODSEQ 2)",
            "* STATUS Lists/a (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 103 UNSEEN 0 HIGHESTMODSEQ 3)",
        ]
    );
    append(&mut other, "Lists/a").await;
    append(&mut other, "Listserv").await;
    append(&mut other, "INBOX").await;
    assert_eq!(
        c.line().await,
        "* STATUS Lists/a (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 103 UNSEEN 1)"
    );
    other.ok("SELECT Lists/a").await;
    other.ok("STORE 1 +FLAGS.SILENT (\\Seen)").await;
    assert_eq!(
        c.line().await,
        "* STATUS Lists/a (UIDVALIDITY 103 UNSEEN 0)"
    );
    c.ok("ENABLE CONDSTORE").await;
    other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)").await;
    other.ok("EXPUNGE").await;
    assert_eq!(
        c.line().await,
        "* STATUS Lists/a (MESSAGES 0 UIDNEXT 2 UIDVALIDITY 103 UNSEEN 0 HIGHESTMODSEQ 10)"
    );
    // The selected mailbox is told as such, and as any other when it was left too early.
    c.ok("SELECT Lists/a").await;
    append(&mut other, "Lists/a").await;
    assert_eq!(c.line().await, "* 1 EXISTS");
    append(&mut other, "Lists/a").await;
    c.send("u UNSELECT\r\n").await;
    let left = c.until("u OK").await;
    let told = "* STATUS Lists/a (MESSAGES 2 UIDNEXT 4 UIDVALIDITY 103 UNSEEN 2 HIGHESTMODSEQ 12)";
    let counted = |line: &String| line == "* 2 EXISTS" || line == told;
    assert!(
        left.iter().any(counted) || c.line().await == told,
        "{left:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn names_and_subscriptions_are_told_by_list() {
    let fake = Fake::new();
    let mut other = session(&fake).await;
    other.ok("CREATE old").await;
    other.ok("CREATE old/child").await;
    let mut c = session(&fake).await;
    c.ok("NOTIFY SET (PERSONAL (MailboxName SubscriptionChange))")
        .await;
    other.ok("CREATE new/deep").await;
    assert_eq!(
        c.line().await,
        "* LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" new"
    );
    assert_eq!(c.line().await, "* LIST (\\HasNoChildren) \"/\" new/deep");
    other.ok("RENAME old \"k\u{fc}r\"").await;
    assert_eq!(
        c.line().await,
        "* LIST (\\HasChildren) \"/\" k&APw-r (\"OLDNAME\" (old))"
    );
    other.ok("DELETE new/deep").await;
    assert_eq!(
        [c.line().await, c.line().await],
        [
            "* LIST (\\NonExistent \\Noselect \\HasNoChildren) \"/\" new",
            "* LIST (\\NonExistent \\Noselect \\HasNoChildren) \"/\" new/deep",
        ]
    );
    other.ok("SUBSCRIBE gone").await;
    assert_eq!(
        c.line().await,
        "* LIST (\\NonExistent \\Noselect \\HasNoChildren \\Subscribed) \"/\" gone"
    );
    other.ok("UNSUBSCRIBE gone").await;
    assert_eq!(
        c.line().await,
        "* LIST (\\NonExistent \\Noselect \\HasNoChildren) \"/\" gone"
    );
    // What the client does itself it knows.
    c.ok("CREATE mine").await;
    c.ok("SUBSCRIBE mine").await;
    c.ok("RENAME mine mine2").await;
    c.ok("DELETE mine2").await;
    other.ok("CREATE last").await;
    assert_eq!(c.line().await, "* LIST (\\HasNoChildren) \"/\" last");
}

#[tokio::test(start_paused = true)]
async fn annotations_are_told_by_their_names() {
    let fake = Fake::new();
    let mut other = session(&fake).await;
    let mut c = session(&fake).await;
    other.ok("SETMETADATA INBOX (/private/comment \"a\")").await;
    c.ok(
        "NOTIFY SET (MAILBOXES inbox (MailboxMetadataChange)) (SUBSCRIBED (ServerMetadataChange))",
    )
    .await;
    other
        .ok("SETMETADATA INBOX (/private/comment \"b\" \"/shared/a b\" \"c\")")
        .await;
    assert_eq!(
        c.line().await,
        "* METADATA INBOX /private/comment \"/shared/a b\""
    );
    assert_eq!(
        c.ok("GETMETADATA INBOX \"/shared/a b\"").await,
        ["* METADATA INBOX (\"/shared/a b\" \"c\")"]
    );
    other.ok("SETMETADATA INBOX (/private/comment NIL)").await;
    assert_eq!(c.line().await, "* METADATA INBOX /private/comment");
    other
        .ok("SETMETADATA INBOX (/private/specialuse \"\\\\Sent\")")
        .await;
    assert_eq!(c.line().await, "* METADATA INBOX /private/specialuse");
    c.ok("SETMETADATA \"\" (/shared/admin \"x\")").await;
    c.ok("SETMETADATA INBOX (/shared/b \"x\")").await;
    other.ok("SETMETADATA \"\" (/shared/comment \"y\")").await;
    assert_eq!(c.line().await, "* METADATA \"\" /shared/comment");
}

#[tokio::test(start_paused = true)]
async fn silence_and_a_short_memory_lose_nothing() {
    let fake = Fake::new();
    let mut other = session(&fake).await;
    other.ok("CREATE a").await;
    let mut c = session(&fake).await;
    c.ok("NOTIFY SET (PERSONAL (MessageNew MessageExpunge MailboxName))")
        .await;
    fake.state.lock().unwrap().silent = 3;
    append(&mut other, "a").await;
    assert_eq!(
        c.line().await,
        "* STATUS a (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 102)"
    );
    {
        let mut state = fake.state.lock().unwrap();
        state.trimmed = state.modseq + 2;
    }
    append(&mut other, "a").await;
    other.ok("CREATE b").await;
    // Everything is told anew; how often depends on how soon it is looked at.
    let mut told = Vec::new();
    while !told.iter().any(|l: &String| l.starts_with("* STATUS b ")) {
        told.push(c.line().await);
    }
    assert!(
        told.contains(&"* LIST (\\HasNoChildren) \"/\" b".to_owned()),
        "{told:?}"
    );
    assert!(
        told.contains(&"* STATUS a (MESSAGES 2 UIDNEXT 3 UIDVALIDITY 102)".to_owned()),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_is_refused() {
    let fake = Fake::new();
    let mut c = Client::connect(&door(&fake, Settings::default())).await;
    assert!(c.end("NOTIFY NONE").await.starts_with("BAD"));
    c.ok("LOGIN ann@example.org secret").await;
    let end = c.end("NOTIFY SET (PERSONAL (MailboxName Eclipse))").await;
    assert!(
        end.starts_with("NO [BADEVENT (MessageNew MessageExpunge FlagChange MailboxName "),
        "{end}"
    );
    assert!(
        c.end("NOTIFY SET (PERSONAL (FlagChange))")
            .await
            .starts_with("BAD")
    );
    assert!(c.end("NOTIFY").await.starts_with("BAD"));
    // Nobody has said NOTIFY yet, so nothing is told between commands.
    fake.deliver(MAIL);
    c.ok("SELECT INBOX").await;
    fake.deliver(MAIL);
    assert_eq!(c.ok("CAPABILITY").await.len(), 2);
    assert!(c.ok("CAPABILITY").await[0].contains(" NOTIFY"));
}

#[tokio::test(start_paused = true)]
async fn new_wishes_leave_nothing_untold_of_the_old_ones() {
    let fake = Fake::new();
    let mut other = session(&fake).await;
    other.ok("CREATE a").await;
    other.ok("CREATE b").await;
    let mut c = session(&fake).await;
    c.ok("NOTIFY SET (MAILBOXES a (MessageNew MessageExpunge MailboxName))")
        .await;
    append(&mut other, "a").await;
    assert_eq!(
        c.line().await,
        "* STATUS a (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 102)"
    );
    // The next look is half a second away when this happens, and the wishes change before it.
    append(&mut other, "a").await;
    c.ok("NOTIFY SET (MAILBOXES (a b) (MessageNew MessageExpunge MailboxName))")
        .await;
    assert_eq!(
        c.line().await,
        "* STATUS a (MESSAGES 2 UIDNEXT 3 UIDVALIDITY 102)"
    );
    // Wishes that are refused leave those before as they are.
    assert!(
        c.end("NOTIFY SET (PERSONAL (Dusk))")
            .await
            .starts_with("NO")
    );
    append(&mut other, "b").await;
    assert_eq!(
        c.line().await,
        "* STATUS b (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 103)"
    );
}

#[tokio::test(start_paused = true)]
async fn another_mailbox_under_a_watched_name_is_told() {
    let fake = Fake::new();
    let mut other = session(&fake).await;
    other.ok("CREATE a").await;
    other.ok("CREATE b").await;
    other.ok("CREATE c/d").await;
    append(&mut other, "b").await;
    let mut c = session(&fake).await;
    c.ok(
        "NOTIFY SET (MAILBOXES a (MessageNew MessageExpunge FlagChange)) \
          (SUBTREE c/d (MailboxName))",
    )
    .await;
    other.ok("DELETE a").await;
    other.ok("RENAME b a").await;
    assert_eq!(
        c.line().await,
        "* STATUS a (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 103 UNSEEN 1)"
    );
    // The parent is renamed, and it is the child that is watched.
    other.ok("CREATE c").await;
    other.ok("RENAME c e").await;
    assert_eq!(
        c.line().await,
        "* LIST (\\HasNoChildren) \"/\" e/d (\"OLDNAME\" (c/d))"
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_that_nobody_can_read_keeps_no_other_from_being_told() {
    let fake = Fake::new();
    let mut c = Client::inbox(&fake).await;
    c.ok("ENABLE CONDSTORE").await;
    c.ok("NOTIFY SET (SELECTED (MessageNew (UID BODY.PEEK[TEXT]) MessageExpunge))")
        .await;
    fake.state.lock().unwrap().damaged = Some(1);
    fake.deliver(MAIL);
    fake.deliver(MAIL);
    let mut told = Vec::new();
    while !told.iter().any(|line: &String| line.contains("UID 2")) {
        told.push(c.line().await);
    }
    let last = "* 2 FETCH (UID 2 MODSEQ (3) BODY[TEXT] {4}\r\nbody)";
    assert_eq!(told.last().unwrap(), last, "{told:?}");
    assert!(told.contains(&"* 2 EXISTS".to_owned()), "{told:?}");
}
