//! Uid sets on the command line, written as in IMAP: `1:5,9,20:*` (RFC 9051, section 9,
//! "sequence-set").

use posthouse_client::proto::UidRange;

/// Ranges in one argument; more is better said in several calls.
const MAX_RANGES: usize = 10_000;

/// Reads a uid set; "*" is the last message.
pub fn parse(text: &str) -> Result<UidSet, String> {
    let mut ranges = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once(':').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        // "*" alone is the open end of everything, which would select all.
        let range = match (first, last) {
            (0, 0) => return Err("'*' alone is not a uid; write 1:* for all".into()),
            (0, n) | (n, 0) => UidRange { first: n, last: 0 },
            (a, b) => UidRange {
                first: a.min(b),
                last: a.max(b),
            },
        };
        ranges.push(range);
        if ranges.len() > MAX_RANGES {
            return Err(format!("more than {MAX_RANGES} ranges"));
        }
    }
    Ok(UidSet(ranges))
}

fn number(text: &str) -> Result<u32, String> {
    match text {
        "*" => Ok(0),
        _ => match text.parse() {
            Ok(n) if n > 0 => Ok(n),
            _ => Err(format!("{text:?} is not a uid from 1 to 4294967295")),
        },
    }
}

/// A set of uids.
#[derive(Debug, Clone, PartialEq)]
pub struct UidSet(pub Vec<UidRange>);

/// The set as text.
pub fn text(ranges: &[UidRange]) -> String {
    let one = |r: &UidRange| match (r.first, r.last) {
        (a, 0) => format!("{a}:*"),
        (a, b) if a == b => a.to_string(),
        (a, b) => format!("{a}:{b}"),
    };
    match ranges {
        [] => "none".into(),
        _ => ranges.iter().map(one).collect::<Vec<_>>().join(","),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_read_back_what_they_print() {
        for set in ["1", "1:5,9,20:*", "4294967295"] {
            assert_eq!(text(&parse(set).unwrap().0), set);
        }
        assert_eq!(text(&parse("5:2").unwrap().0), "2:5");
        assert_eq!(text(&parse("*:7").unwrap().0), "7:*");
        for bad in ["", "0", "*", "1:", "a", "1,,2", "-1", "4294967296"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
