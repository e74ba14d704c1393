//! The scan of the MIME structure and the summary: for every message, in any pieces, in bounded
//! memory (RFC 2045, RFC 2046).

use posthouse_node::mailbox::summary::scan::{MAX_DEPTH, MAX_PARTS, Scanner};
use posthouse_node::mailbox::summary::{MAX_SUMMARY_BYTES, Part, Summary, summarize, threads};

use crate::memory;
use crate::pieces::{Chance, cut};

/// What holds of every summary: parts lie inside of their parents, in order, and do not overlap.
pub fn check_sound(summary: &Summary, octets: &[u8]) {
    let len = octets.len() as u64;
    let parts = &summary.parts;
    assert!(!parts.is_empty() && parts.len() <= MAX_PARTS);
    assert_eq!(
        (parts[0].parent, parts[0].header, parts[0].end),
        (0, 0, len)
    );
    for (i, part) in parts.iter().enumerate() {
        let (header, body, end) = (part.header, part.body, part.end);
        assert!(header <= body && body <= end && end <= len, "{part:?}");
        let here = &octets[body as usize..end as usize];
        let feeds = here.iter().filter(|&&b| b == b'\n').count() as u64;
        assert_eq!(part.lines, feeds, "line feeds of part {i}: {part:?}");
        if i == 0 {
            continue;
        }
        let parent = &parts[part.parent as usize];
        assert!((part.parent as usize) < i);
        assert!(parent.is_multipart() || parent.main_type == "message");
        assert!(
            parent.body <= header && end <= parent.end,
            "{part:?} in {parent:?}"
        );
        assert!(parts[i - 1].header <= header);
        if let Some(before) = sibling_before(parts, i) {
            assert!(before.end <= header, "{before:?} and {part:?} overlap");
        }
        assert!(depth(parts, i) <= MAX_DEPTH);
    }
    assert!(summary.preview.chars().count() <= 256);
}

fn sibling_before(parts: &[Part], i: usize) -> Option<&Part> {
    let siblings = |p: &&Part| p.parent == parts[i].parent;
    // The first part is its own parent.
    parts[1..i].iter().rev().find(siblings)
}

fn depth(parts: &[Part], mut i: usize) -> usize {
    let mut depth = 0;
    while i != 0 {
        i = parts[i].parent as usize;
        depth += 1;
    }
    depth
}

/// A message: no panic, bounded memory, a sound summary, the same one in any pieces, and an
/// encoding that fits and can be read.
pub fn fuzz(octets: &[u8]) {
    let limit = (4 << 20) + 32 * octets.len();
    let summary = memory::within(limit, "a summary", || summarize(octets));
    check_sound(&summary, octets);
    let mut chance = Chance::of(octets);
    let mut scanner = Scanner::new();
    for piece in cut(octets, &mut chance) {
        scanner.push(piece);
    }
    assert_eq!(scanner.finish(), summary);
    let _ = threads::keys(&summary);
    let encoded = summary.clone().encode();
    assert!(encoded.len() <= MAX_SUMMARY_BYTES);
    let decoded = Summary::decode(&encoded).expect("what was encoded can be read");
    if decoded.truncated {
        assert!(decoded.parts.len() <= summary.parts.len());
    } else {
        assert_eq!(decoded, summary);
    }
    // Octets that nobody has encoded must be refused, not more.
    let _ = Summary::decode(octets);
}
