//! Searches, also in an order or in threads, and reads a message in parts: by its sections, in two
//! halves, by two ranges of octets, or with one of its parts.
//!
//! The parts are put together again and hashed here, so that what was read can be compared with
//! what was stored, as that of a whole reading is.

use posthouse_client::proto::section::Kind;
use posthouse_client::proto::section_data::Outcome;
use posthouse_client::proto::sort_key::By;
use posthouse_client::proto::{SearchKey, Section, SortKey, UidRange};
use posthouse_client::search::keys;
use posthouse_client::{Client, Error, FetchEvent, FetchOptions, Found, SearchOptions, Source};

use crate::history::{Answer, Call, Done};
use crate::plan::{Cut, SortBy};

use super::known::Place;
use super::{At, account_id, account_name, answer, body, mailbox_id, mailbox_name};

/// Searches for messages with or without a flag. What is true of all messages changes nothing of the
/// answer, but has the store look at other rows, read the messages, or remember that it has.
pub(super) async fn search(at: &At<'_>, place: Place, flag: &str, on: bool) {
    let call = Call::Search {
        account: account_name(place.0),
        mailbox: mailbox_name(place.1),
        era: 0,
        untold: 0,
        flag: flag.to_owned(),
        on,
    };
    let options = SearchOptions {
        key: Some(keys::all_of([key(flag, on), truism(at.op.unwrap_or(0))])),
        ..SearchOptions::default()
    };
    let told = |found: Found| Done::Found(found.uids.iter().collect());
    ask(at, place, call, options, told).await;
}

/// Searches for messages with or without a flag, and has them told in an order.
pub(super) async fn sort(at: &At<'_>, place: Place, (flag, on): (&str, bool), order: Order) {
    let call = Call::Sort {
        account: account_name(place.0),
        mailbox: mailbox_name(place.1),
        flag: flag.to_owned(),
        on,
        by: order.by,
        reverse: order.reverse,
    };
    let by = match order.by {
        SortBy::Arrival => By::Arrival,
        SortBy::Size => By::Size,
        SortBy::Date => By::Date,
    };
    let options = SearchOptions {
        key: Some(key(flag, on)),
        sort: vec![SortKey {
            by: by as i32,
            reverse: order.reverse,
        }],
        ..SearchOptions::default()
    };
    ask(at, place, call, options, |found| Done::Sorted(found.sorted)).await;
}

/// In which order messages are told.
pub(super) struct Order {
    /// By what.
    pub by: SortBy,
    /// The other way round.
    pub reverse: bool,
}

/// Searches for messages with or without a flag, and has them told in threads.
pub(super) async fn thread(at: &At<'_>, place: Place, flag: &str, on: bool) {
    let call = Call::Thread {
        account: account_name(place.0),
        mailbox: mailbox_name(place.1),
        flag: flag.to_owned(),
        on,
    };
    let options = SearchOptions {
        key: Some(key(flag, on)),
        thread: true,
        ..SearchOptions::default()
    };
    let told = |found: Found| {
        let nodes = found.threads.iter().map(|node| (node.uid, node.depth));
        Done::Threads(nodes.collect())
    };
    ask(at, place, call, options, told).await;
}

/// Searches, and records what was told.
async fn ask(
    at: &At<'_>,
    place: Place,
    call: Call,
    options: SearchOptions,
    told: impl FnOnce(Found) -> Done,
) {
    let (account, mailbox) = (account_id(place.0), mailbox_id(place.1));
    let client = at.client(0);
    at.call(call, async {
        match client.search(&account, &mailbox, options).await {
            Ok(found) => Answer::Done(told(found)),
            Err(e) => answer::of(e),
        }
    })
    .await;
}

/// What is true of every message.
fn truism(n: u32) -> SearchKey {
    const NOWHERE: &str = "qqqq nowhere qqqq";
    match n % 8 {
        0 => keys::not(keys::header("X-Absent", "")),
        1 => keys::not(keys::text(NOWHERE)),
        2 => keys::any_of([keys::body(NOWHERE), keys::size(0, None)]),
        3 => keys::all_of([keys::arrived(0, None), keys::saved(0, None)]),
        4 => keys::uids(vec![UidRange {
            first: 1,
            last: u32::MAX,
        }]),
        5 => keys::all_of([keys::modseq(1), keys::not(keys::modseq(u64::MAX >> 1))]),
        6 => keys::not(keys::any_of([keys::from(NOWHERE), keys::to(NOWHERE)])),
        _ => keys::not(keys::subject(NOWHERE)),
    }
}

fn key(flag: &str, on: bool) -> SearchKey {
    match on {
        true => keys::flag(flag),
        false => keys::no_flag(flag),
    }
}

/// Reads a message in parts.
pub(super) async fn sections(at: &At<'_>, place: Place, pick: u32, cut: Cut) {
    let picked = at.inner.known.lock().pick(place, pick, 1);
    let uid = picked.first().map_or(1, |(uid, _)| *uid);
    let client = at.client(0);
    let call = Call::Fetch {
        account: account_name(place.0),
        mailbox: mailbox_name(place.1),
        uid,
        era: 0,
    };
    at.call(call, async {
        let answer = match in_parts(at, &client, place, (uid, pick), cut).await {
            Ok(answer) => answer,
            Err(e) => answer::of(e),
        };
        match answer {
            // A message whose octets went away while they were read is left out, or is called
            // missing, whatever went with it.
            Answer::Refused(why) if why.starts_with(answer::NO_MESSAGE) => {
                Answer::Refused(answer::NO_BLOB.to_owned())
            }
            answer => answer,
        }
    })
    .await;
}

/// Where a message is cut in two, octets.
const CUT: u64 = 100;

async fn in_parts(
    at: &At<'_>,
    client: &Client,
    place: Place,
    (uid, pick): (u32, u32),
    cut: Cut,
) -> Result<Answer, Error> {
    let (account, mailbox) = (account_id(place.0), mailbox_id(place.1));
    let section = |kind: Kind, offset, length| Section {
        kind: kind as i32,
        offset,
        length,
        ..Section::default()
    };
    let sections = match cut {
        Cut::Halves => vec![section(Kind::All, 0, CUT), section(Kind::All, CUT, 0)],
        Cut::Ranges => return in_ranges(at, client, place, uid).await,
        Cut::Structure => vec![section(Kind::Header, 0, 0), section(Kind::Text, 0, 0)],
        Cut::Part => {
            let path = vec![body::LAST_PART];
            let whole = section(Kind::All, 0, 0);
            let part = Section {
                path,
                ..whole.clone()
            };
            vec![whole, part]
        }
    };
    // What is told of the message beside its octets is read with them, or not.
    let summary = pick.is_multiple_of(2);
    let options = FetchOptions {
        uids: vec![UidRange {
            first: uid,
            last: uid,
        }],
        envelope: summary,
        structure: summary,
        preview: pick.is_multiple_of(3),
        email: summary,
        sections,
        ..FetchOptions::default()
    };
    let opening = client.fetch_messages(&account, &mailbox, options);
    let mut stream = at.opened(opening).await?;
    let (mut told, mut read) = (None, [Vec::new(), Vec::new()]);
    let (mut whole, mut no_part) = (0, false);
    while let Some(event) = stream.next().await? {
        match event {
            FetchEvent::Rows(_) => {}
            FetchEvent::Message(message) => told = Some(message.size),
            FetchEvent::Section(data) => {
                if data.outcome != Outcome::Data as i32 {
                    no_part = true;
                }
                whole += u32::from(data.last);
                if let Some(read) = read.get_mut(data.index as usize) {
                    read.extend_from_slice(&data.data);
                }
            }
        }
    }
    let [first, second] = read;
    Ok(match (told, cut) {
        // It was expunged while it was read.
        (Some(_), _) if whole != 2 => Answer::Unknown("a message that was not whole".to_owned()),
        // Nothing was read, and so nothing is missing.
        (None, _) => Answer::Refused(answer::NO_MESSAGE.to_owned()),
        (Some(_), Cut::Part) => {
            let expected = body::last_part(&first);
            match expected == (!no_part).then_some(second) {
                true => octets(&first),
                // No octets of any message: whoever judges sees that they are wrong.
                false => octets(b"another part than that of the message"),
            }
        }
        (Some(_), _) if no_part => Answer::Unknown(format!("a section of {uid} is not there")),
        (Some(_), _) => octets(&[first, second].concat()),
    })
}

/// Reads a message by two calls; the second names its octets, as whoever reads on does.
async fn in_ranges(at: &At<'_>, client: &Client, place: Place, uid: u32) -> Result<Answer, Error> {
    let (account, mailbox) = (account_id(place.0), mailbox_id(place.1));
    let source = Source::Message(mailbox, uid);
    let first = client.fetch_range(&account, source, 0, CUT);
    let first = at.opened(first).await?;
    let (blob, size) = (Source::Blob(first.blob_id), first.size);
    let from = CUT.min(size);
    let mut read = first.collect(CUT).await?;
    if read.len() as u64 != from {
        // No octets of any message: whoever judges sees that they are wrong.
        return Ok(octets(b"a range of another length"));
    }
    let rest = client.fetch_range(&account, blob, from, 0);
    let rest = at.opened(rest).await?;
    read.extend(rest.collect(size).await?);
    Ok(octets(&read))
}

fn octets(read: &[u8]) -> Answer {
    Answer::Done(Done::Octets {
        blob: blake3::hash(read).to_hex().to_string(),
        size: read.len() as u64,
    })
}
