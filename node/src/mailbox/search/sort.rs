//! The order of matches (RFC 5256, section 3; RFC 5957).
//!
//! A match becomes one row of octets whose order is the order that was asked for, so that a sort
//! by five criteria compares once. Rows are sorted in runs while they come, and the runs are merged
//! while the answer goes out: nothing takes a long time in one piece. Texts are compared as
//! i;unicode-casemap (RFC 5051) does, in capitals and decomposed: "Äpfel" stands with the A.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use unicode_normalization::char::{decompose_canonical, decompose_compatible};

use super::super::summary::{Address, Summary};
use super::super::{MailboxError, Result};
use super::key::{By, SortKey};
use super::subject;
use crate::index::values::MessageRow;
use crate::types::Uid;

/// Rows of one run.
const RUN: usize = 4096;
/// Octets that the rows of one sort may take.
const MAX_SORT_BYTES: usize = 512 << 20;
/// What a row takes beside its octets.
const ROW_BYTES: usize = 32;

/// What the Date field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentDate {
    /// The beginning of the day as it is written, as if it were in UTC; ms since the epoch.
    pub day_ms: i64,
    /// The moment; ms since the epoch.
    pub utc_ms: i64,
}

impl SentDate {
    /// Reads the summary's date: RFC 3339 with whole seconds, or nothing.
    pub fn parse(date: &str) -> Option<SentDate> {
        let number = |at: usize, len: usize| -> Option<i64> {
            let digits = date.get(at..at + len)?;
            let is_number = digits.bytes().all(|b| b.is_ascii_digit());
            is_number.then(|| digits.parse().ok())?
        };
        let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
        if !(1..=12).contains(&month) {
            return None;
        }
        let seconds = number(11, 2)? * 3600 + number(14, 2)? * 60 + number(17, 2)?;
        let zone = match date.as_bytes().get(19)? {
            b'Z' => 0,
            sign @ (b'+' | b'-') => {
                let seconds = number(20, 2)? * 3600 + number(23, 2)? * 60;
                if *sign == b'-' { -seconds } else { seconds }
            }
            _ => return None,
        };
        // Years that begin in March end with the leap day.
        let shifted = if month > 2 { year } else { year - 1 };
        let days_before_month = (153 * ((month + 9) % 12) + 2) / 5;
        let days =
            shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + days_before_month + day
                - 1
                - 719_468;
        Some(SentDate {
            day_ms: days * 86_400_000,
            utc_ms: (days * 86_400 + seconds - zone) * 1000,
        })
    }

    /// When a message was sent, for an order: its internal date when nothing better is known.
    pub fn of(summary: &Summary, row: &MessageRow) -> i64 {
        match SentDate::parse(&summary.envelope.date) {
            Some(sent) => sent.utc_ms,
            None => i64::try_from(row.internal_date_ms).unwrap_or(i64::MAX),
        }
    }
}

/// Whether any of the criteria needs the summary.
pub fn wants_summary(keys: &[SortKey]) -> bool {
    keys.iter()
        .any(|key| !matches!(key.by, By::Arrival | By::Size))
}

/// Octets whose order is that of the criteria.
fn octets(keys: &[SortKey], row: &MessageRow, summary: &Summary) -> Box<[u8]> {
    let e = &summary.envelope;
    let mut out = Vec::new();
    for key in keys {
        let at = out.len();
        match key.by {
            By::Arrival => out.extend(row.internal_date_ms.to_be_bytes()),
            By::Size => out.extend(row.size.to_be_bytes()),
            // Moments before 1970 come first.
            By::Date => {
                let sent = SentDate::of(summary, row);
                out.extend((sent as u64 ^ 1 << 63).to_be_bytes());
            }
            By::Cc => text(local_part(&e.cc), &mut out),
            By::From => text(local_part(&e.from), &mut out),
            By::To => text(local_part(&e.to), &mut out),
            By::Subject => text(&subject::base(&e.subject).text, &mut out),
            By::DisplayFrom => text(shown(&e.from), &mut out),
            By::DisplayTo => text(shown(&e.to), &mut out),
        }
        if key.reverse {
            out[at..].iter_mut().for_each(|b| *b = !*b);
        }
    }
    out.into_boxed_slice()
}

/// A text as it is compared, and its end, which comes before all characters.
fn text(text: &str, out: &mut Vec<u8>) {
    let mut buffer = [0; 4];
    for c in text.chars().filter(|c| *c != '\0') {
        match c.is_ascii() {
            true => out.push(c.to_ascii_uppercase() as u8),
            // Accents first: some letters that have one are no single character as capitals.
            false => decompose_canonical(c, |c| {
                decompose_compatible(capital(c), |c| {
                    out.extend(c.encode_utf8(&mut buffer).as_bytes());
                });
            }),
        }
    }
    out.push(0);
}

/// The capital of a letter, where that is one character: RFC 5051 goes by the simple mappings.
fn capital(c: char) -> char {
    let mut capitals = c.to_uppercase();
    match (capitals.next(), capitals.next()) {
        (Some(capital), None) => capital,
        _ => c,
    }
}

/// The local part of the first address, or nothing.
fn local_part(list: &[Address]) -> &str {
    let address = list.iter().find_map(|address| match address {
        Address::Mailbox { address, .. } => Some(address.as_str()),
        _ => None,
    });
    let address = address.unwrap_or_default();
    address.rsplit_once('@').map_or(address, |(local, _)| local)
}

/// What is shown of the first address or group, or nothing.
fn shown(list: &[Address]) -> &str {
    match list.first() {
        Some(Address::Mailbox { name, address }) if name.is_empty() => address,
        Some(Address::Mailbox { name, .. } | Address::GroupStart(name)) => name,
        Some(Address::GroupEnd) | None => "",
    }
}

/// One match: its place in the order, then its uid.
type Row = (Box<[u8]>, Uid);

/// Matches on their way into an order.
pub struct Sorter {
    keys: Vec<SortKey>,
    runs: Vec<Vec<Row>>,
    open: Vec<Row>,
    bytes: usize,
}

impl Sorter {
    /// A sort by these criteria, the first one counting most.
    pub fn new(keys: Vec<SortKey>) -> Sorter {
        Sorter {
            keys,
            runs: Vec::new(),
            open: Vec::new(),
            bytes: 0,
        }
    }

    /// Takes a match.
    pub fn add(&mut self, uid: Uid, row: &MessageRow, summary: &Summary) -> Result<()> {
        let octets = octets(&self.keys, row, summary);
        self.bytes += octets.len() + ROW_BYTES;
        if self.bytes > MAX_SORT_BYTES {
            return Err(MailboxError::Refused(format!(
                "the matches are too many to be sorted: more than {MAX_SORT_BYTES} octets of what \
                 they are sorted by"
            )));
        }
        self.open.push((octets, uid));
        if self.open.len() == RUN {
            self.end_run();
        }
        Ok(())
    }

    fn end_run(&mut self) {
        let mut run = std::mem::take(&mut self.open);
        // The last of the run is the first of the order: runs are taken from their ends.
        run.sort_unstable_by(|a, b| b.cmp(a));
        self.runs.push(run);
    }

    /// The uids in order.
    pub fn finish(mut self) -> Sorted {
        self.end_run();
        let mut runs = self.runs;
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for (n, run) in runs.iter_mut().enumerate() {
            heads.extend(run.pop().map(|row| Reverse((row, n))));
        }
        Sorted { runs, heads }
    }
}

/// Uids in the order that was asked for.
pub struct Sorted {
    runs: Vec<Vec<Row>>,
    heads: BinaryHeap<Reverse<(Row, usize)>>,
}

impl Iterator for Sorted {
    type Item = Uid;

    fn next(&mut self) -> Option<Uid> {
        let Reverse(((_, uid), n)) = self.heads.pop()?;
        let next = self.runs[n].pop();
        self.heads.extend(next.map(|row| Reverse((row, n))));
        Some(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::summary::summarize;
    use super::*;
    use crate::types::EmailId;
    use proptest::prelude::*;

    fn row(internal_date_ms: u64, size: u64) -> MessageRow {
        MessageRow {
            flags: 0,
            keywords: vec![],
            modseq: 1,
            email: EmailId(1),
            size,
            internal_date_ms,
            save_date_ms: 0,
        }
    }

    fn sorted(by: By, reverse: bool, mails: &[&str]) -> Vec<Uid> {
        let mut sorter = Sorter::new(vec![SortKey { by, reverse }]);
        for (uid, mail) in (1..).zip(mails) {
            let summary = summarize(mail.as_bytes());
            sorter.add(uid, &row(1000, 10), &summary).unwrap();
        }
        sorter.finish().collect()
    }

    #[test]
    fn dates_are_read_in_their_zone_and_as_written() {
        let of = |date| SentDate::parse(date).map(|d| (d.day_ms / 86_400_000, d.utc_ms / 1000));
        assert_eq!(of("1970-01-01T00:00:00Z"), Some((0, 0)));
        assert_eq!(
            of("2021-11-20T23:22:01-08:00"),
            Some((18_951, 1_637_479_321))
        );
        assert_eq!(
            of("2024-02-29T00:10:00+01:00"),
            Some((19_782, 1_709_161_800))
        );
        assert_eq!(of("1969-12-31T23:59:59Z"), Some((-1, -1)));
        assert_eq!(
            of("1900-03-01T00:00:00Z"),
            Some((-25_508, -25_508 * 86_400))
        );
        for bad in [
            "",
            "2021",
            "2021-13-01T00:00:00Z",
            "2021-11-20T23:22:01",
            "驿2021-11-20T23",
        ] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn addresses_are_sorted_by_local_part_or_by_what_is_shown() {
        let mails = [
            "From: Zoe <anna@x>\n\n",
            "From: bob@a\n\n",
            "From: group: carl@x;\n\n",
            "Subject: nobody\n\n",
            "From: =?utf-8?Q?=C3=84rnie?= <ANNA@y>, Aaron <aaron@x>\n\n",
            "From: _under@x\n\n",
        ];
        // In capitals "_" comes after the letters.
        assert_eq!(sorted(By::From, false, &mails), [4, 1, 5, 2, 3, 6]);
        assert_eq!(sorted(By::From, true, &mails), [6, 3, 2, 1, 5, 4]);
        assert_eq!(sorted(By::DisplayFrom, false, &mails), [4, 5, 2, 3, 1, 6]);
        assert_eq!(sorted(By::To, false, &mails), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn subjects_are_sorted_by_their_base() {
        let mails = [
            "Subject: b\n\n",
            "Subject: Re: B\n\n",
            "Subject: [list] a\n\n",
            "Subject: ab\n\n",
            "\n",
        ];
        assert_eq!(sorted(By::Subject, false, &mails), [5, 3, 4, 1, 2]);
        assert_eq!(sorted(By::Subject, true, &mails), [1, 2, 4, 3, 5]);
    }

    #[test]
    fn accents_and_case_count_as_unicode_casemap_has_them() {
        let order = |subjects: &[&str]| {
            let mails: Vec<String> = subjects
                .iter()
                .map(|s| format!("Subject: {s}\n\n"))
                .collect();
            let mails: Vec<&str> = mails.iter().map(String::as_str).collect();
            sorted(By::Subject, false, &mails)
        };
        assert_eq!(order(&["pear", "Äpfel", "fig", "apfel"]), [4, 2, 3, 1]);
        // The same text, in one character and in two: the order is that of the uids.
        assert_eq!(order(&["b\u{e4}c", "B\u{c4}B", "ba\u{308}b"]), [2, 3, 1]);
        assert_eq!(order(&["\u{1fb3}b", "\u{1fbc}a"]), [2, 1]);
        assert_eq!(order(&["ßb", "ßa"]), [2, 1]);
    }

    #[test]
    fn sent_dates_are_compared_as_moments_and_fall_back_to_the_arrival() {
        let mails = [
            "Date: Sat, 20 Nov 2021 23:00:00 +0000\n\n",
            "Date: Sat, 20 Nov 2021 23:30:00 +0200\n\n",
            "Date: yesterday\n\n",
            "Date: Wed, 31 Dec 1969 23:00:00 +0000\n\n",
        ];
        // The third one arrived one second after 1970 began.
        assert_eq!(sorted(By::Date, false, &mails), [4, 3, 2, 1]);
    }

    proptest! {
        /// As a plain sort by the same criteria would have it, over many runs.
        #[test]
        fn criteria_count_in_their_order_and_ties_go_by_uid(
            rows in proptest::collection::vec((0u64..5, 0u64..5), 0..200), by_size: bool, reverse: bool, further: bool,
        ) {
            let keys = vec![
                SortKey { by: if by_size { By::Size } else { By::Arrival }, reverse },
                SortKey { by: if by_size { By::Arrival } else { By::Size }, reverse: further },
            ];
            let mut sorter = Sorter::new(keys);
            let summary = Summary::default();
            let mut model = Vec::new();
            for (i, (date, size)) in rows.iter().cycle().take(rows.len() * 60).enumerate() {
                let uid = i as Uid + 1;
                sorter.add(uid, &row(*date, *size), &summary).unwrap();
                let order = |n: u64, reverse| if reverse { 9 - n } else { n };
                let (first, second) = if by_size { (*size, *date) } else { (*date, *size) };
                model.push((order(first, reverse), order(second, further), uid));
            }
            model.sort_unstable();
            prop_assert!(sorter.finish().eq(model.into_iter().map(|(_, _, uid)| uid)));
        }
    }
}
