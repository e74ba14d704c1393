//! Sections of a message (RFC 9051, section 6.4.5.1; RFC 3516): found through the summary, decoded,
//! filtered, and fetched from a store that has taken the message in.

use std::ops::Range;

use posthouse_node::mailbox::decode::Decoder;
use posthouse_node::mailbox::section::{Coder, Kind, MAX_SECTIONS, Parts, Section, Spot};
use posthouse_node::mailbox::summary::{Part, summarize};

use crate::memory;
use crate::pieces::Chance;
use crate::shard::{Got, Node};
use crate::summary::check_sound;

/// Parts whose sections are looked at.
const PARTS: usize = 20;

/// The octets of a spot, made in pieces.
pub fn octets(mail: &[u8], spot: Spot, piece: usize) -> Vec<u8> {
    let here = of(mail, spot.range());
    match spot {
        Spot::Octets(_) => here.to_vec(),
        Spot::Made(_, coder) => made(here, coder, piece),
        Spot::UnknownEncoding => Vec::new(),
    }
}

fn made(octets: &[u8], mut coder: Coder, piece: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in octets.chunks(piece) {
        coder.push(piece, &mut out);
    }
    coder.finish(&mut out);
    out
}

fn of(mail: &[u8], range: Range<u64>) -> &[u8] {
    &mail[range.start as usize..range.end as usize]
}

/// Base64, slowly: the digits of each group as a row of bits (RFC 2045, section 6.8).
fn base64(octets: &[u8]) -> Vec<u8> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::new();
    for group in octets.split(|&b| b == b'=') {
        let values = group
            .iter()
            .filter_map(|b| digits.iter().position(|d| d == b));
        let bits: Vec<bool> = values
            .flat_map(|v| (0..6).rev().map(move |i| v >> i & 1 == 1))
            .collect();
        let octet = |bits: &[bool]| bits.iter().fold(0u8, |n, &bit| n << 1 | u8::from(bit));
        out.extend(bits.chunks_exact(8).map(octet));
    }
    out
}

/// The number of each part below the message: what IMAP calls it.
fn paths(parts: &[Part]) -> Vec<(usize, Vec<u32>)> {
    let mut paths: Vec<Vec<u32>> = vec![Vec::new(); parts.len()];
    let mut counts = vec![0u32; parts.len()];
    let mut out = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let parent = part.parent as usize;
        if i == 0 {
            let alone = !part.is_multipart() || !parts[1..].iter().any(|p| p.parent == 0);
            paths[0] = if alone { vec![1] } else { vec![] };
        } else if parts[parent].is_multipart() {
            counts[parent] += 1;
            paths[i] = [&paths[parent][..], &[counts[parent]]].concat();
        } else {
            // The message inside: by itself a part 1, unless it has parts that count.
            let counts =
                part.is_multipart() && parts.iter().skip(i + 1).any(|p| p.parent as usize == i);
            let below: &[u32] = if counts { &[] } else { &[1] };
            paths[i] = [&paths[parent][..], below].concat();
            if counts {
                // It has no number of its own.
                continue;
            }
        }
        if !paths[i].is_empty() {
            out.push((i, paths[i].clone()));
        }
    }
    out
}

/// Names of fields: some that are common, and one of this message.
fn names(mail: &[u8]) -> Vec<String> {
    let first = mail.split(|&b| b == b':').next().unwrap_or_default();
    let first = String::from_utf8_lossy(&first[..first.len().min(50)]).into_owned();
    vec!["Content-Type".to_owned(), "x".to_owned(), first]
}

fn section(path: &[u32], kind: Kind) -> Section {
    Section {
        path: path.to_vec(),
        kind,
        ..Section::default()
    }
}

/// What holds of a message's sections; those that were found, with their octets.
fn check(mail: &[u8], chance: &mut Chance) -> Vec<(Section, Option<Spot>)> {
    let summary = summarize(mail);
    check_sound(&summary, mail);
    let parts = Parts {
        parts: &summary.parts,
        // All of them: nothing was shortened yet.
        cut: false,
        size: mail.len() as u64,
    };
    let mut found = Vec::new();
    let mut find = |section: Section| {
        section
            .check("section")
            .expect("a section that can be asked for");
        let spot = parts.find(&section);
        if let Some(spot) = &spot {
            let range = spot.range();
            assert!(range.start <= range.end && range.end <= mail.len() as u64);
        }
        found.push((section, spot.clone()));
        spot
    };

    let range = |spot: Option<Spot>| spot.expect("a message has it").range();
    assert_eq!(range(find(section(&[], Kind::All))), 0..mail.len() as u64);
    let header = range(find(section(&[], Kind::Header)));
    let text = range(find(section(&[], Kind::Text)));
    assert_eq!(
        (header.start, header.end, text.end),
        (0, text.start, mail.len() as u64)
    );

    for (i, path) in paths(&summary.parts).into_iter().take(PARTS) {
        let part = &summary.parts[i];
        let body = range(find(section(&path, Kind::All)));
        assert_eq!(body, part.body..part.end, "{path:?}");
        assert_eq!(
            range(find(section(&path, Kind::Mime))),
            part.header..part.body
        );
        let decode = Section {
            decode: true,
            ..section(&path, Kind::All)
        };
        let decoded = find(decode).expect("it is there as it stands");
        assert!(decoded.range().is_empty() || decoded.range() == body);
        check_made(mail, decoded, chance);
        for kind in [
            Kind::Header,
            Kind::Text,
            Kind::Fields(names(mail)),
            Kind::FieldsNot(names(mail)),
        ] {
            if let Some(spot) = find(section(&path, kind)) {
                let inner = spot.range();
                assert!(body.start <= inner.start && inner.end <= body.end);
            }
        }
        // One further than any.
        find(section(&[&path[..], &[1000]].concat(), Kind::All));
    }
    let named = find(section(&[], Kind::Fields(names(mail)))).expect("a message has it");
    let others = find(section(&[], Kind::FieldsNot(names(mail)))).expect("a message has it");
    let sizes = [named, others].map(|spot| check_made(mail, spot, chance).len() as u64);
    // Each line is kept by one of the two, the blank one by both.
    let header = of(mail, header);
    let blank = [&b"\n\r\n"[..], b"\n\n"]
        .into_iter()
        .find(|end| header.ends_with(end));
    let blank = match header {
        b"\r\n" | b"\n" => header.len(),
        _ => blank.map_or(0, |end| end.len() - 1),
    };
    assert_eq!(
        sizes[0] + sizes[1],
        (header.len() + blank) as u64,
        "{}",
        header.escape_ascii()
    );
    found
}

/// What is made of octets is never more than they are, and the same in any pieces.
fn check_made(mail: &[u8], spot: Spot, chance: &mut Chance) -> Vec<u8> {
    let here = of(mail, spot.range());
    let is_base64 = matches!(&spot, Spot::Made(_, Coder::Decode(Decoder::Base64(_))));
    let limit = (1 << 20) + 8 * here.len();
    let whole = memory::within(limit, "a section", || {
        octets(mail, spot.clone(), usize::MAX)
    });
    assert!(whole.len() <= here.len());
    let piece = 1 + chance.below(40);
    assert!(whole == octets(mail, spot, piece), "in pieces of {piece}");
    if is_base64 {
        assert_eq!(whole, base64(here));
    }
    whole
}

/// Sections with parts of them asked for, as the store is asked.
fn wanted(found: &[(Section, Option<Spot>)], chance: &mut Chance) -> Vec<Section> {
    let clip = |(section, spot): &(Section, Option<Spot>)| {
        let len = spot.as_ref().map_or(0, |s| s.range().end - s.range().start) as usize;
        let mut section = section.clone();
        if chance.below(3) == 0 {
            section.offset = chance.below(len + 2) as u64;
            section.length = chance.below(len + 2) as u64;
        }
        section.size_only = chance.below(8) == 0;
        section
    };
    found.iter().take(MAX_SECTIONS).map(clip).collect()
}

/// The message with so many octets in it that it has two chunks and an edge between them.
fn enlarge(mail: &[u8], chance: &mut Chance) -> Vec<u8> {
    let (before, after) = mail.split_at(chance.below(mail.len() + 1));
    let line = [b'x'; 63];
    let lines = (1 << 20) / (line.len() + 1) - before.len().min(900) / 64;
    let mut out = before.to_vec();
    for _ in 0..lines {
        out.extend_from_slice(&line);
        out.push(b'\n');
    }
    out.extend_from_slice(after);
    out
}

/// A message: its sections are where they should be, and a fetch from a store brings just them.
pub fn fuzz(octets_of_mail: &[u8]) {
    let mut chance = Chance::of(octets_of_mail);
    let large;
    let mail = match chance.below(200) {
        0 => {
            large = enlarge(octets_of_mail, &mut chance);
            &large
        }
        _ => octets_of_mail,
    };
    let found = check(mail, &mut chance);
    let wanted = wanted(&found, &mut chance);
    let limit = (24 << 20) + 64 * mail.len();
    let got = memory::within(limit, "a fetch", || {
        Node::new().deliver_and_fetch(mail, &wanted)
    });
    assert_eq!(got.len(), wanted.len());
    for ((section, (_, spot)), got) in wanted.iter().zip(&found).zip(got) {
        let expected = match spot.clone() {
            None => Got::NoSuchPart,
            Some(Spot::UnknownEncoding) => Got::UnknownEncoding,
            Some(spot) => {
                let whole = octets(mail, spot, usize::MAX);
                let range = section.clip(whole.len() as u64);
                let size = range.end - range.start;
                let data = match section.size_only {
                    true => Vec::new(),
                    false => of(&whole, range).to_vec(),
                };
                Got::Data(size, data)
            }
        };
        assert_eq!(got, expected, "{section:?}");
    }
}
