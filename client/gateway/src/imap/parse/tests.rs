//! The whole reader: a table of commands, any octets, and a second opinion.

use imap_codec::CommandCodec;
use imap_codec::decode::Decoder;
use imap_types::command::CommandBody;
use posthouse_client::proto::search_key::Key;
use proptest::prelude::*;

use super::fetch::Item;
use super::search::{Returns, Term};
use super::*;

fn read(s: &str) -> Result<Command, Bad> {
    parse(s.as_bytes(), &Limits::default()).1
}

#[test]
fn good_commands() {
    for good in [
        "a CAPABILITY",
        "a1.x capability",
        "a ID NIL",
        "a ID (\"name\" \"x\" \"version\" NIL)",
        "a AUTHENTICATE PLAIN",
        "a AUTHENTICATE PLAIN dGVzdAB0ZXN0AHRlc3Q=",
        "a AUTHENTICATE PLAIN =",
        "a LOGIN ann@example.org \"pass word\"",
        "a LOGIN {3}\r\nann {4+}\r\npass",
        "a ENABLE CONDSTORE QRESYNC UTF8=ACCEPT",
        "a SELECT INBOX",
        "a SELECT \"a b\" (CONDSTORE)",
        "a EXAMINE INBOX (QRESYNC (67890007 20050715194045000 41,43:211 (1:3 7:9)))",
        "a SELECT INBOX (QRESYNC (67890007 90060115194045000))",
        "a SELECT INBOX (QRESYNC (1 2 (1 2)))",
        "a CREATE x",
        "a CREATE x (USE (\\Sent \\Drafts))",
        "a RENAME x y",
        "a LIST \"\" *",
        "a LIST \"\" \"%\" RETURN (CHILDREN STATUS (MESSAGES UNSEEN))",
        "a LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (\"a%\" b*) RETURN (SUBSCRIBED SPECIAL-USE)",
        "a LIST () \"\" x",
        "a LSUB \"\" *",
        "a STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN DELETED SIZE HIGHESTMODSEQ MAILBOXID RECENT)",
        "a UID EXPUNGE 1:*",
        "a SEARCH ALL",
        "a UID SEARCH CHARSET UTF-8 SUBJECT {3}\r\n\u{20ac}",
        "a SEARCH RETURN (MIN COUNT SAVE) 1:3 OR SEEN (NOT DELETED FROM \"x y\")",
        "a SEARCH RETURN (PARTIAL -1:-100) UID 1:*",
        "a SEARCH MODSEQ \"/flags/\\\\draft\" all 620162338",
        "a SEARCH RETURN () SENTON 1-Feb-1994 SAVEDSINCE 1-Feb-1994 OLDER 5",
        "a SORT (REVERSE DATE SUBJECT) UTF-8 ALL",
        "a UID THREAD REFERENCES UTF-8 ALL",
        "a FETCH 1 ALL",
        "a FETCH 1:* (FLAGS BODY[HEADER.FIELDS (Date \"From\")] BODY.PEEK[1.2.MIME]<0.100>)",
        "a UID FETCH $ (MODSEQ BINARY.PEEK[1]<5.7> BINARY.SIZE[1.2] PREVIEW (LAZY) EMAILID)",
        "a UID FETCH 1:* (FLAGS) (CHANGEDSINCE 12 VANISHED)",
        "a UID FETCH 25900:26600 (UID FLAGS) (PARTIAL -1:-30 CHANGEDSINCE 98305)",
        "a UID FETCH $ FLAGS (PARTIAL 1:4294967295)",
        "a FETCH 1 BODY[]",
        "a FETCH 1 rfc822.header",
        "a STORE 1 +FLAGS.SILENT \\Seen \\Draft",
        "a UID STORE 1 (UNCHANGEDSINCE 12) -FLAGS (x)",
        "a STORE 1 FLAGS ()",
        "a COPY 1:2 x",
        "a UID MOVE $ \"x\"",
        "a GETMETADATA (MAXSIZE 10 DEPTH 1) INBOX (/private/comment /shared)",
        "a GETMETADATA \"\" /shared/comment",
        "a SETMETADATA INBOX (/private/comment ~{2}\r\n\0x /shared/comment NIL)",
        "a GETQUOTA \"\"",
        "a GETQUOTAROOT INBOX",
        "a SETQUOTA \"\" (STORAGE 512)",
        "a COMPRESS DEFLATE",
    ] {
        let (tag, command) = parse(good.as_bytes(), &Limits::default());
        assert!(tag.is_some(), "{good}");
        let command = command.unwrap_or_else(|why| panic!("{good}: {why}"));
        assert_ne!(command, Command::Unknown, "{good}");
    }
}

#[test]
fn bad_commands() {
    for bad in [
        "",
        " ",
        "a",
        "a ",
        "+ NOOP",
        "a NOOP ",
        "a  NOOP",
        "a NOOP x",
        "a SELECT",
        "a SELECT a b",
        "a SELECT INBOX ()",
        "a SELECT INBOX (FOO)",
        "a SELECT INBOX (QRESYNC (0 1))",
        "a LIST \"\"",
        "a LIST (RECURSIVEMATCH) \"\" x",
        "a STATUS INBOX ()",
        "a STATUS INBOX (X)",
        "a FETCH 1 ()",
        "a FETCH 0 ALL",
        "a FETCH 1 ALLX",
        "a FETCH 1 BODY[FOO]",
        "a FETCH 1 BODY[MIME]",
        "a FETCH 1 BODY[1.]",
        "a FETCH 1 BODY[]<0.0>",
        "a FETCH 1 BODY[0]",
        "a FETCH 1 FLAGS (VANISHED)",
        "a UID FETCH 1 FLAGS (PARTIAL)",
        "a UID FETCH 1 FLAGS (PARTIAL 1)",
        "a UID FETCH 1 FLAGS (PARTIAL 0:1)",
        "a UID FETCH 1 FLAGS (PARTIAL -1:2)",
        "a UID FETCH 1 FLAGS (PARTIAL 1:2 PARTIAL 3:4)",
        "a FETCH 1 BODY[HEADER.FIELDS ()]",
        "a FETCH 1 BODY[HEADER.FIELDS (\"a b\")]",
        "a STORE 1 FOO (x)",
        "a STORE 1 FLAGS",
        "a COPY 1",
        "a SEARCH",
        "a SEARCH FOO",
        "a SEARCH RETURN (ALL PARTIAL 1:2) ALL",
        "a SEARCH RETURN (PARTIAL 1:-2) ALL",
        "a SEARCH ()",
        "a SORT () UTF-8 ALL",
        "a SORT (REVERSE) UTF-8 ALL",
        "a SEARCH NOT",
        "a SEARCH OR ALL",
        "a LOGIN x {5}\r\nabc",
    ] {
        assert!(read(bad).is_err(), "{bad:?} {:?}", read(bad));
    }
    assert_eq!(read("a XYZZY 1 2"), Ok(Command::Unknown));
    assert_eq!(read("a UID NOOP"), Ok(Command::Unknown));
}

#[test]
fn nesting_and_counts_are_bounded() {
    let deep = |n: usize| format!("a SEARCH {}ALL{}", "(".repeat(n), ")".repeat(n));
    assert!(read(&deep(50)).is_ok());
    assert!(read(&deep(51)).is_err());
    assert!(read(&deep(100_000)).is_err());
    assert!(read(&format!("a SEARCH {}ALL", "NOT ".repeat(100_000))).is_err());
    assert!(read(&format!("a SEARCH ALL{}", " ALL".repeat(1_000))).is_err());
    assert!(read(&format!("a FETCH 1 BODY[1{}]", ".1".repeat(300))).is_err());
    let set = vec!["1"; 20_001].join(",");
    assert!(read(&format!("a FETCH {set} FLAGS")).is_err());
}

#[test]
fn what_is_read_is_what_was_meant() {
    let Ok(Command::Search(true, search)) =
        read("a UID SEARCH RETURN (PARTIAL 500:400) SMALLER 10 LARGER 5 BEFORE 2-Jan-1970")
    else {
        panic!()
    };
    let returns = Returns {
        partial: Some((500, 400)),
        ..Returns::default()
    };
    assert_eq!(search.returns, Some(returns));
    let range = |from, to| posthouse_client::proto::search_key::Range { from, to };
    let expected = [
        Term::Store(Key::Size(range(0, 10))),
        Term::Store(Key::Size(range(6, 0))),
        Term::Store(Key::InternalDateMs(range(0, date::DAY_MS as u64))),
    ];
    assert_eq!(search.term, Term::All(expected.to_vec()));
    let Ok(Command::Fetch(_, _, fetch)) =
        read("a FETCH 1 (BODY[1.HEADER.FIELDS (A b)]<5.6> RFC822)")
    else {
        panic!()
    };
    let Item::Section(section) = &fetch.items[0] else {
        panic!()
    };
    assert_eq!(section.label, "BODY[1.HEADER.FIELDS (A b)]<5>");
    assert_eq!((section.section.offset, section.section.length), (5, 6));
    assert!(section.sets_seen);
    assert!(read("a SEARCH BEFORE 1-Jan-1970").is_ok());
}

/// Pieces of commands, so that random ones get far.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "a",
        " ",
        " ",
        " ",
        "(",
        ")",
        "[",
        "]",
        "<",
        ">",
        "\"",
        "\\",
        "{3}\r\n",
        "{3+}\r\n",
        "~{1}\r\n",
        "NIL",
        "FETCH",
        "SEARCH",
        "UID",
        "STORE",
        "SELECT",
        "LIST",
        "SORT",
        "THREAD",
        "BODY",
        "BODY.PEEK",
        "HEADER.FIELDS",
        "QRESYNC",
        "RETURN",
        "PARTIAL",
        "OR",
        "NOT",
        "ALL",
        "1",
        ":",
        "*",
        ",",
        "$",
        "-",
        "1-Feb-1994",
        "FLAGS",
        "SETMETADATA",
        "STATUS",
        "APPEND",
        "INBOX",
        "\r\n",
        "\0",
        "\u{e9}",
    ];
    prop_oneof![
        8 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => ".{0,5}",
    ]
}

proptest! {
    #[test]
    fn any_octets_are_read_without_harm(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&octets, &Limits::default());
        let _ = append::stage(&octets, &Limits::default());
        let _ = append::next(&octets);
    }

    #[test]
    fn any_words_are_read_without_harm(pieces in proptest::collection::vec(piece(), 0..40)) {
        let text = pieces.concat();
        for text in [text.clone(), format!("a UID FETCH 1 ({text}"), format!("a SEARCH {text}")] {
            let _ = parse(text.as_bytes(), &Limits::default());
            let _ = append::stage(text.as_bytes(), &Limits::default());
        }
    }

    /// What both readers take, they understand alike; and of the other's commands ours reads all
    /// that it knows.
    #[test]
    fn a_second_opinion(text in command_text()) {
        let wire = format!("{text}\r\n");
        let Ok((rest, theirs)) = CommandCodec::default().decode(wire.as_bytes()) else {
            return Ok(());
        };
        prop_assume!(rest.is_empty());
        let ours = read(&text);
        prop_assert!(ours.is_ok(), "{:?}: {:?} but {:?}", text, ours, theirs);
        compare(&ours.unwrap(), &theirs.body)?;
    }
}

fn command_text() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("INBOX".to_owned()),
        "[a-z/.&-]{1,8}",
        "\"[a-z ()%*]{0,8}\"",
        "[a-z]{3}".prop_map(|s| format!("{{3}}\r\n{s}")),
    ];
    let number = prop_oneof!["[1-9][0-9]{0,3}".boxed(), Just("*".to_owned()).boxed()];
    let range = (number.clone(), number).prop_map(|(a, b)| format!("{a}:{b}"));
    let set = proptest::collection::vec(prop_oneof![range, "[1-9][0-9]{0,2}".boxed()], 1..4)
        .prop_map(|v| v.join(","));
    let flags =
        proptest::collection::vec(prop_oneof!["\\\\(Seen|Draft|Deleted)", "[a-z$]{1,5}"], 0..4)
            .prop_map(|v| format!("({})", v.join(" ")));
    let key = prop_oneof![
        "(ALL|SEEN|UNSEEN|DELETED|UNDRAFT|NEW)",
        "(SUBJECT|FROM|BODY) \"[a-z ]{0,5}\"",
        "(SINCE|BEFORE|SENTON) ([1-9]|1[0-9])-(Jan|Feb|Dec)-(19|20)[0-9]{2}",
        "(LARGER|SMALLER) [1-9][0-9]{0,5}",
        "(NOT|NOT NOT|OR SEEN) (FLAGGED|DRAFT)",
        "\\((SEEN|FLAGGED)( DRAFT| TEXT x)?\\)",
    ];
    let items = prop_oneof![
        "(ALL|FAST|FULL|FLAGS|UID|ENVELOPE|BODY|BODYSTRUCTURE|INTERNALDATE|RFC822.SIZE)",
        "\\(FLAGS BODY(.PEEK)?\\[(|TEXT|HEADER|1.2|1.MIME|HEADER.FIELDS \\(A B\\))\\](<0.[1-9]>)?\\)",
    ];
    prop_oneof![
        (name.clone(), name.clone()).prop_map(|(a, b)| format!("t RENAME {a} {b}")),
        (name.clone(), name.clone()).prop_map(|(a, b)| format!("t LOGIN {a} {b}")),
        name.clone().prop_map(|a| format!("t SELECT {a}")),
        (name.clone(), "(MESSAGES|UNSEEN|UIDNEXT UIDVALIDITY)")
            .prop_map(|(a, b)| format!("t STATUS {a} ({b})")),
        (set.clone(), name.clone(), "(UID )?(COPY|MOVE)")
            .prop_map(|(s, n, w)| format!("t {w} {s} {n}")),
        (set.clone(), items, "(UID )?").prop_map(|(s, i, u)| format!("t {u}FETCH {s} {i}")),
        (set, flags, "(UID )?", "[+-]?FLAGS(.SILENT)?")
            .prop_map(|(s, f, u, w)| format!("t {u}STORE {s} {w} {f}")),
        (proptest::collection::vec(key, 1..4), "(UID )?")
            .prop_map(|(k, u)| format!("t {u}SEARCH {}", k.join(" "))),
        (name.clone(), name).prop_map(|(a, b)| format!("t LIST {a} {b}")),
    ]
}

fn same_set(ours: &Set, theirs: &imap_types::sequence::SequenceSet) -> bool {
    use imap_types::sequence::{SeqOrUid, Sequence};
    let number = |n: &SeqOrUid| match n {
        SeqOrUid::Value(n) => n.get(),
        SeqOrUid::Asterisk => set::STAR,
    };
    let theirs: Vec<(u32, u32)> = theirs
        .0
        .as_ref()
        .iter()
        .map(|s| match s {
            Sequence::Single(n) => (number(n), number(n)),
            Sequence::Range(a, b) => (number(a), number(b)),
        })
        .collect();
    *ours == Set::Ranges(theirs)
}

fn same_name(ours: &[u8], theirs: &imap_types::mailbox::Mailbox<'_>) -> bool {
    match theirs {
        imap_types::mailbox::Mailbox::Inbox => ours.eq_ignore_ascii_case(b"INBOX"),
        imap_types::mailbox::Mailbox::Other(other) => ours == other.as_ref(),
    }
}

fn compare(ours: &Command, theirs: &CommandBody<'_>) -> Result<(), TestCaseError> {
    let same = match (ours, theirs) {
        (Command::Rename(a, b), CommandBody::Rename { from, to }) => {
            same_name(a, from) && same_name(b, to)
        }
        (
            Command::Login(user, Secret(password)),
            CommandBody::Login {
                username,
                password: p,
            },
        ) => user == username.as_ref() && password == p.declassify().as_ref(),
        (Command::Select(select), CommandBody::Select { mailbox, .. }) => {
            same_name(&select.name, mailbox)
        }
        (
            Command::Status(name, items),
            CommandBody::Status {
                mailbox,
                item_names,
            },
        ) => same_name(name, mailbox) && items.len() == item_names.len(),
        (
            Command::Copy(uid, set, name),
            CommandBody::Copy {
                sequence_set,
                mailbox,
                uid: u,
            },
        )
        | (
            Command::Move(uid, set, name),
            CommandBody::Move {
                sequence_set,
                mailbox,
                uid: u,
            },
        ) => uid == u && same_set(set, sequence_set) && same_name(name, mailbox),
        (
            Command::Fetch(uid, set, fetch),
            CommandBody::Fetch {
                sequence_set,
                macro_or_item_names,
                uid: u,
                ..
            },
        ) => {
            use imap_types::fetch::MacroOrMessageDataItemNames as Names;
            let n = match macro_or_item_names {
                Names::Macro(m) => m.expand().len(),
                Names::MessageDataItemNames(items) => items.len(),
            };
            uid == u && same_set(set, sequence_set) && fetch.items.len() == n
        }
        (
            Command::Store(uid, set, store),
            CommandBody::Store {
                sequence_set,
                kind,
                response,
                flags,
                uid: u,
                ..
            },
        ) => {
            use imap_types::flag::{StoreResponse, StoreType};
            use posthouse_client::proto::FlagMode;
            let mode = match kind {
                StoreType::Add => FlagMode::Add,
                StoreType::Remove => FlagMode::Remove,
                StoreType::Replace => FlagMode::Replace,
            };
            let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
            uid == u
                && same_set(set, sequence_set)
                && store.mode == mode
                && store.silent == (*response == StoreResponse::Silent)
                && store.flags == flags
        }
        (
            Command::Search(uid, search),
            CommandBody::Search {
                criteria, uid: u, ..
            },
        ) => {
            let ours = match &search.term {
                Term::All(terms) => terms.len().max(1),
                _ => 1,
            };
            let theirs = match criteria {
                imap_types::search::SearchKey::And(keys) => keys.as_ref().len(),
                _ => 1,
            };
            uid == u && ours == theirs
        }
        (Command::List(_), CommandBody::List { .. }) => true,
        _ => false,
    };
    prop_assert!(same, "{:?} but {:?}", ours, theirs);
    Ok(())
}
