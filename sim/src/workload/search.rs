//! Searches, and reads a message in parts: by its sections, or in two halves.
//!
//! The parts are put together again and hashed here, so that what was read can be compared with
//! what was stored, as that of a whole reading is.

use posthouse_client::proto::section::Kind;
use posthouse_client::proto::section_data::Outcome;
use posthouse_client::proto::{Section, UidRange};
use posthouse_client::search::keys;
use posthouse_client::{Client, Error, FetchEvent, FetchOptions, SearchOptions};

use crate::history::{Answer, Call, Done};

use super::known::Place;
use super::{At, account_id, account_name, answer, mailbox_id, mailbox_name};

/// Searches for messages with or without a flag.
pub(super) async fn search(at: &At<'_>, place: Place, flag: &str, on: bool) {
    let (account, mailbox) = (account_id(place.0), mailbox_id(place.1));
    let client = at.client(0);
    let call = Call::Search {
        account: account_name(place.0),
        mailbox: mailbox_name(place.1),
        flag: flag.to_owned(),
        on,
    };
    let options = SearchOptions {
        key: Some(match on {
            true => keys::flag(flag),
            false => keys::no_flag(flag),
        }),
        ..SearchOptions::default()
    };
    at.call(call, async {
        match client.search(&account, &mailbox, options).await {
            Ok(found) => Answer::Done(Done::Found(found.uids.iter().collect())),
            Err(e) => answer::of(e),
        }
    })
    .await;
}

/// Reads a message in parts.
pub(super) async fn sections(at: &At<'_>, place: Place, pick: u32, halves: bool) {
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
        match in_parts(&client, place, uid, halves).await {
            Ok(answer) => answer,
            Err(e) => answer::of(e),
        }
    })
    .await;
}

/// Where a message is cut in two, octets.
const CUT: u64 = 100;

async fn in_parts(client: &Client, place: Place, uid: u32, halves: bool) -> Result<Answer, Error> {
    let (account, mailbox) = (account_id(place.0), mailbox_id(place.1));
    let section = |kind: Kind, offset, length| Section {
        kind: kind as i32,
        offset,
        length,
        ..Section::default()
    };
    let sections = match halves {
        true => vec![section(Kind::All, 0, CUT), section(Kind::All, CUT, 0)],
        false => vec![section(Kind::Header, 0, 0), section(Kind::Text, 0, 0)],
    };
    let options = FetchOptions {
        uids: vec![UidRange {
            first: uid,
            last: uid,
        }],
        sections,
        ..FetchOptions::default()
    };
    let mut stream = client.fetch_messages(&account, &mailbox, options).await?;
    let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
    let (mut told, mut whole) = (None, 0);
    while let Some(event) = stream.next().await? {
        match event {
            FetchEvent::Message(message) => told = Some(message.size),
            FetchEvent::Section(data) => {
                if data.outcome != Outcome::Data as i32 {
                    return Ok(Answer::Unknown(format!("a section of {uid} is not there")));
                }
                whole += u32::from(data.last);
                hasher.update(&data.data);
                size += data.data.len() as u64;
            }
        }
    }
    Ok(match told {
        // It was expunged while it was read.
        Some(_) if whole != 2 => Answer::Unknown("a message that was not whole".to_owned()),
        // Nothing was read, and so nothing is missing.
        None => Answer::Refused(answer::NO_MESSAGE.to_owned()),
        Some(_) => Answer::Done(Done::Octets {
            blob: hasher.finalize().to_hex().to_string(),
            size,
        }),
    })
}
