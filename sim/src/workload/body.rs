//! Octets of messages, from a body number and a size: the same for the same pair, for ever.
//!
//! Most are mail with a header, in lines of at most 78 characters (RFC 5322, section 2.1.1), some
//! of which begin with a dot; some are binary, with bare CR, bare LF and NUL, some compress to
//! nothing. Through the LMTP door a message gets one Return-Path line (RFC 5321, section 4.4), and
//! DATA ends it with CRLF when it does not (RFC 5321, section 4.1.1.4); BDAT leaves it as it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::history::Octets;
use crate::plan::has_many_parts;

/// The reverse-path of all LMTP sessions: one, so that equal octets are one message.
pub const LMTP_SENDER: &str = "mta@sim.example";

/// Octets of at most this size are kept.
const KEEP_BYTES: u64 = 1 << 20;

/// Bodies that were made already.
#[derive(Debug, Default)]
pub struct Bodies(BTreeMap<Octets, Bytes>);

impl Bodies {
    /// The octets.
    pub fn get(&mut self, octets: Octets) -> Bytes {
        if let Some(known) = self.0.get(&octets) {
            return known.clone();
        }
        let made = Bytes::from(make(octets));
        if octets.size <= KEEP_BYTES {
            self.0.insert(octets, made.clone());
        }
        made
    }
}

/// What the store must hold of a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Held {
    /// BLAKE3, hexadecimal.
    pub blob: Arc<str>,
    /// Octets.
    pub size: u64,
}

/// What the store must hold, by octets and by the way that they came. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Expected(Arc<Mutex<BTreeMap<(Octets, bool), Held>>>);

impl Expected {
    /// What the store must hold of `octets`, delivered by LMTP or not.
    pub fn held(&self, octets: Octets, by_lmtp: bool) -> Held {
        let known = &mut *self.0.lock();
        let held = known.entry((octets, by_lmtp)).or_insert_with(|| {
            let mut octets_held = make(octets);
            if by_lmtp {
                octets_held = through_lmtp(octets, &octets_held);
            }
            Held {
                blob: blake3::hash(&octets_held).to_hex().as_str().into(),
                size: octets_held.len() as u64,
            }
        });
        held.clone()
    }
}

/// Whether an LMTP session sends these octets by BDAT (RFC 3030) instead of DATA.
pub fn by_bdat(octets: Octets) -> bool {
    octets.size > 0 && octets.body % 4 == 1
}

/// A part of messages that have many ([`has_many_parts`]): a scan of the message finds it, and its
/// summary in the index has no room for it.
pub const LAST_PART: u32 = 600;

/// The body of [`LAST_PART`] in what is stored of a message; `None`: the message has no such part.
pub fn last_part(held: &[u8]) -> Option<Vec<u8>> {
    let header = held.windows(4).position(|w| w == b"\r\n\r\n")?;
    let many = MANY_PARTS.as_bytes();
    let has = held[..header].windows(many.len()).any(|w| w == many);
    has.then(|| LAST_PART.to_string().into_bytes())
}

/// The line of the header.
const MANY_PARTS: &str = "Content-Type: multipart/mixed; boundary=cut";

/// What the door stores of a message.
pub fn through_lmtp(octets: Octets, message: &[u8]) -> Vec<u8> {
    let mut held = format!("Return-Path: <{LMTP_SENDER}>\r\n").into_bytes();
    held.extend_from_slice(message);
    if !by_bdat(octets) && !message.is_empty() && !message.ends_with(b"\r\n") {
        held.extend_from_slice(b"\r\n");
    }
    held
}

/// The octets of a body.
pub fn make(octets: Octets) -> Vec<u8> {
    let size = octets.size as usize;
    let mut made = Vec::with_capacity(size + 80);
    let mut random = Random(octets.body ^ 0x5851_f42d_4c95_7f2d);
    match octets.body % 8 {
        7 => binary(&mut made, size, &mut random),
        kind => {
            let n = octets.body;
            made.extend_from_slice(header(octets).as_bytes());
            match has_many_parts(n, octets.size) {
                true => parts(&mut made, size),
                false => {
                    made.extend_from_slice(b"\r\n");
                    lines(&mut made, size, &mut random, kind == 6);
                }
            }
        }
    }
    made.truncate(size);
    made
}

/// The fields that every message begins with that is not binary.
fn header(octets: Octets) -> String {
    let Octets { body: n, size } = octets;
    format!(
        "Message-ID: <{n}.{size}@sim.example>\r\n\
         From: Sender {n} <sender{n}@sim.example>\r\n\
         To: someone@sim.example\r\nSubject: Letter {n}\r\n\
         Date: Mon, 06 Jan 2025 10:00:00 +0000\r\n"
    )
}

/// Whether the message is known to have a date, which is the same for all that have one.
pub fn is_dated(octets: Octets) -> bool {
    let binary = octets.body % 8 == 7;
    let whole = header(octets).len() as u64 + 2 <= octets.size;
    !binary && !has_many_parts(octets.body, octets.size) && whole
}

/// Octets of every value, with what confuses readers of lines mixed in.
fn binary(out: &mut Vec<u8>, size: usize, random: &mut Random) {
    while out.len() < size {
        let n = random.next();
        match n & 31 {
            0 => out.extend_from_slice(b"\r\n.\r\n"),
            1 => out.extend_from_slice(b"\n.\n\0\r."),
            2 => out.extend_from_slice(b"\r\n..\r\r\n"),
            _ => out.extend_from_slice(&n.to_le_bytes()),
        }
    }
}

/// Parts, each with its number for a body (RFC 2046, section 5.1.1) and a long name: a summary has
/// room for a few hundred of them.
fn parts(out: &mut Vec<u8>, size: usize) {
    out.extend_from_slice(format!("{MANY_PARTS}\r\n\r\n").as_bytes());
    for part in 1.. {
        if out.len() >= size {
            return;
        }
        let name = format!("{part:0>100}");
        let part =
            format!("--cut\r\nContent-Type: application/x; name=\"{name}\"\r\n\r\n{part}\r\n");
        out.extend_from_slice(part.as_bytes());
    }
}

/// Lines of text; `same`: all alike.
fn lines(out: &mut Vec<u8>, size: usize, random: &mut Random, same: bool) {
    const LETTERS: &[u8; 64] = b"etaoin shrdlu etaoin cmfwyp vbgkjqxz ETAOIN SHRDLU ,.-etaoinsrh ";
    let mut line = [b' '; 76];
    while out.len() < size {
        if !same || line[1] == b' ' {
            for eight in line.chunks_mut(10) {
                let mut n = random.next();
                for octet in eight {
                    *octet = LETTERS[(n & 63) as usize];
                    n >>= 6;
                }
            }
            line[1] = b'-';
        }
        if random.next() & 15 == 0 {
            line[0] = b'.';
        }
        out.extend_from_slice(&line);
        out.extend_from_slice(b"\r\n");
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): quick, and good enough for text that nobody reads.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::MANY_PARTS_BYTES;

    #[test]
    fn octets_follow_from_number_and_size() {
        for body in 0..16 {
            for size in [0, 1, 2, 100, 300, 5_000, 100_000] {
                let octets = Octets { body, size };
                let made = make(octets);
                assert_eq!(made.len() as u64, size);
                assert_eq!(Bodies::default().get(octets), made);
                if size >= 300 {
                    let other = make(Octets {
                        body: body + 1,
                        size,
                    });
                    assert_ne!(made, other);
                }
            }
        }
    }

    #[test]
    fn the_smallest_message_of_many_parts_has_the_last_one() {
        let octets = |size| Octets { body: 13, size };
        let made = make(octets(MANY_PARTS_BYTES));
        assert_eq!(last_part(&made).as_deref(), Some(&b"600"[..]));
        let text = String::from_utf8(made).unwrap();
        assert!(text.contains("\"\r\n\r\n600\r\n--cut"));
        assert_eq!(last_part(&make(octets(MANY_PARTS_BYTES - 1))), None);
    }

    #[test]
    fn what_is_dated_has_all_of_its_header() {
        let octets = |body, size| Octets { body, size };
        for size in 0..400 {
            let text = String::from_utf8(make(octets(3, size))).unwrap();
            let dated = text.contains("Date: Mon, 06 Jan 2025 10:00:00 +0000\r\n");
            assert!(dated || !is_dated(octets(3, size)), "{size}");
        }
        assert!(is_dated(octets(3, 300)) && !is_dated(octets(7, 300)));
    }

    #[test]
    fn what_the_door_stores() {
        let octets = |body, size| Octets { body, size };
        let text = String::from_utf8(through_lmtp(octets(0, 3), b"abc")).unwrap();
        assert_eq!(text, "Return-Path: <mta@sim.example>\r\nabc\r\n");
        // BDAT adds nothing but the line.
        let text = String::from_utf8(through_lmtp(octets(1, 3), b"abc")).unwrap();
        assert_eq!(text, "Return-Path: <mta@sim.example>\r\nabc");
        let expected = Expected::default();
        let held = expected.held(octets(0, 0), true);
        assert_eq!(held.size, 32);
        assert_eq!(expected.held(octets(0, 0), false).size, 0);
    }
}
