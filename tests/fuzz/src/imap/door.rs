//! The whole IMAP door over a store without state: from octets to answers.

use std::sync::Arc;

use posthouse_gateway::imap::Imap;
use posthouse_gateway::imap::settings::Settings;
use posthouse_gateway::spool::MemorySpool;

use super::answers;
use super::store::Stateless;
use crate::memory;
use crate::pieces::{Chance, cut};
use crate::talk::with_door;

/// What is said before both sides compress.
const COMPRESSED: &[u8] = b" OK compressed from here on\r\n";

/// The smallest limits that the door takes.
fn settings() -> Settings {
    Settings {
        message_bytes: 65_536,
        line_bytes: 8_192,
        literal_bytes: 4_096,
        command_bytes: 8_192 + 4_096,
        nesting: 20,
        set_ranges: 50,
        items: 30,
        append_messages: 5,
        errors: 200,
        memory_per_message_bytes: 1_000,
        memory_bytes: 100_000,
        spool_bytes: 200_000,
        ..Settings::default()
    }
}

fn talk(pieces: &[&[u8]]) -> Vec<u8> {
    let store = Arc::new(Stateless);
    let imap = Imap::new(settings(), store, Arc::new(MemorySpool), None).expect("good settings");
    with_door(pieces, |listener, stop| async move {
        imap.serve(&*listener, stop).await;
    })
}

/// The answers up to where they are compressed: how those are cut shows.
fn plain(answers: &[u8]) -> &[u8] {
    let found = answers
        .windows(COMPRESSED.len())
        .position(|w| w == COMPRESSED);
    &answers[..found.map_or(answers.len(), |at| at + COMPRESSED.len())]
}

/// Whether a client may be told something unasked: when that comes depends on when it waits.
fn notifies(octets: &[u8]) -> bool {
    octets.windows(6).any(|w| w.eq_ignore_ascii_case(b"NOTIFY"))
}

/// A dialogue: no panic, bounded memory, answers that are answers, and the same ones however the
/// octets are cut.
pub fn fuzz(octets: &[u8]) {
    // A FETCH of a few octets is answered with whole messages, time and again.
    let limit = (8 << 20) + 2_000 * octets.len();
    let whole = memory::within(limit, "a dialogue", || talk(&[octets]));
    answers::lines(plain(&whole));
    let mut chance = Chance::of(octets);
    let pieces = cut(octets, &mut chance);
    if pieces.len() > 1 {
        let again = talk(&pieces);
        answers::lines(plain(&again));
        assert!(
            notifies(octets) || plain(&whole) == plain(&again),
            "in {} pieces:\n{}\nat once:\n{}",
            pieces.len(),
            again.escape_ascii(),
            whole.escape_ascii()
        );
    }
}
