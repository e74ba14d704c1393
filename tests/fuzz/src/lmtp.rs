//! The whole LMTP door (RFC 2033) over a store in memory, and its decoder of the DATA phase.

use std::sync::Arc;

use bytes::BytesMut;
use futures::StreamExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use posthouse_client::ids::{AccountName, RequestId};
use posthouse_gateway::lmtp::Lmtp;
use posthouse_gateway::lmtp::settings::Settings;
use posthouse_gateway::lmtp::unstuff::Unstuff;
use posthouse_gateway::spool::MemorySpool;
use posthouse_gateway::store::{Delivery, Store, StoreError, Stored};

use crate::memory;
use crate::pieces::{Chance, cut};
use crate::talk::with_door;

/// What was stored: sender, account, octets.
type Mail = Vec<(String, String, Vec<u8>)>;

/// Keeps mail. Accounts whose name begins with n do not exist, those with c are closed.
#[derive(Default)]
struct Keeping(Mutex<Mail>);

impl Store for Keeping {
    fn exists<'a>(&'a self, account: &'a AccountName) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { Ok(!account.as_str().starts_with('n')) })
    }

    fn deliver(
        &self,
        delivery: Delivery,
    ) -> BoxFuture<'_, Result<Vec<Result<Stored, StoreError>>, StoreError>> {
        Box::pin(async move {
            let mut octets = Vec::new();
            let mut pieces = std::pin::pin!(delivery.body.pieces());
            while let Some(piece) = pieces.next().await {
                octets.extend_from_slice(&piece.map_err(|_| StoreError::BrokenOff)?);
            }
            let keep = |account: &AccountName| {
                if account.as_str().starts_with('c') {
                    return Err(StoreError::Closed);
                }
                let account = account.as_str().to_owned();
                self.0
                    .lock()
                    .push((delivery.sender.clone(), account, octets.clone()));
                Ok(Stored { duplicate: false })
            };
            Ok(delivery.recipients.iter().map(keep).collect())
        })
    }
}

/// The smallest limits that the door takes; room runs out, and messages are spooled.
fn settings() -> Settings {
    Settings {
        message_bytes: 65_536,
        header_bytes: 16_384,
        line_bytes: 512,
        recipients: 5,
        errors: 200,
        memory_per_message_bytes: 1_000,
        memory_bytes: 50_000,
        spool_bytes: 150_000,
        ..Settings::default()
    }
}

fn talk(pieces: &[&[u8]]) -> (Vec<u8>, Mail) {
    let store = Arc::new(Keeping::default());
    let ids = Arc::new(|| RequestId([0; 16]));
    let lmtp = Lmtp::new(settings(), store.clone(), Arc::new(MemorySpool), ids);
    let lmtp = lmtp.expect("good settings");
    let answers = with_door(pieces, |listener, stop| async move {
        lmtp.serve(&*listener, stop).await;
    });
    let mail = std::mem::take(&mut *store.0.lock());
    (answers, mail)
}

/// Every line is a reply (RFC 5321, section 4.2); how many recipients were told that their message
/// is stored.
fn replies(answers: &[u8]) -> usize {
    let mut stored = 0;
    for line in answers.split_inclusive(|&b| b == b'\n') {
        let text = line.strip_suffix(b"\r\n");
        let text = text.unwrap_or_else(|| panic!("unfinished: {}", line.escape_ascii()));
        let good = text.len() >= 4
            && text[..3].iter().all(u8::is_ascii_digit)
            && matches!(text[3], b' ' | b'-')
            && !text.iter().any(u8::is_ascii_control)
            && std::str::from_utf8(text).is_ok();
        assert!(good, "no reply: {}", line.escape_ascii());
        stored += usize::from(text.starts_with(b"250 ") && text.ends_with(b"> stored"));
    }
    stored
}

/// DATA, line by line (RFC 5321, section 4.5.2): the message, and the octets up to its end.
fn unstuffed(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut out, mut at) = (Vec::new(), 0);
    loop {
        let end = at + input[at..].windows(2).position(|w| w == b"\r\n")?;
        let line = &input[at..end];
        at = end + 2;
        if line == b"." {
            return Some((out, at));
        }
        out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        out.extend_from_slice(b"\r\n");
    }
}

fn check_unstuffing(octets: &[u8], pieces: &[&[u8]]) {
    let (mut unstuff, mut out, mut used) = (Unstuff::default(), BytesMut::new(), 0);
    let mut over = false;
    for piece in pieces {
        let (n, end) = unstuff.feed(piece, &mut out);
        used += n;
        assert!(end || n == piece.len());
        if end {
            over = true;
            break;
        }
    }
    match unstuffed(octets) {
        Some((message, len)) => assert_eq!((message, len), (out.to_vec(), used)),
        None => assert!(!over && used == octets.len()),
    }
}

/// A dialogue: no panic, bounded memory, replies that are replies, a message stored for each 250,
/// and all the same however the octets are cut.
pub fn fuzz(octets: &[u8]) {
    let limit = (8 << 20) + 64 * octets.len();
    let whole = memory::within(limit, "a dialogue", || talk(&[octets]));
    let told = replies(&whole.0);
    // One account may be named twice in a message and is answered twice then.
    assert!(
        whole.1.len() <= told,
        "stored {} and told of {told}",
        whole.1.len()
    );
    for (sender, account, message) in &whole.1 {
        assert!(!account.starts_with(['n', 'c']));
        let line = format!("Return-Path: <{sender}>\r\n");
        assert!(message.starts_with(line.as_bytes()) && !sender.contains(char::is_control));
    }
    let mut chance = Chance::of(octets);
    let pieces = cut(octets, &mut chance);
    if pieces.len() > 1 {
        let again = talk(&pieces);
        assert!(
            whole == again,
            "in {} pieces:\n{}\nat once:\n{}",
            pieces.len(),
            again.0.escape_ascii(),
            whole.0.escape_ascii()
        );
    }
    check_unstuffing(octets, &pieces);
}
