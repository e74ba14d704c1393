//! The form of what an IMAP server says (RFC 9051, section 2.2.2): lines with literals in them, and
//! nothing in a line that could be taken for another one.

/// The answers with their literals, as far as they are not compressed. Panics where they are no
/// answers.
pub fn lines(answers: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    let mut rest = answers;
    while !rest.is_empty() {
        let mut len = 0;
        loop {
            let Some(end) = rest[len..].windows(2).position(|w| w == b"\r\n") else {
                panic!("unfinished: {}", rest.escape_ascii());
            };
            let text = &rest[len..len + end];
            let odd = |b: &u8| *b < b' ' && *b != b'\t' || *b == 0x7f;
            // DEL may stand in a quoted string.
            let bad = text.iter().find(|b| odd(b) && **b != 0x7f);
            assert!(bad.is_none(), "control octets: {}", text.escape_ascii());
            len += end + 2;
            match literal(text) {
                Some(octets) => {
                    assert!(octets <= rest.len() - len, "{}", rest.escape_ascii());
                    len += octets;
                }
                None => break,
            }
        }
        let (line, after) = rest.split_at(len);
        begins_well(line);
        lines.push(line.to_vec());
        rest = after;
    }
    lines
}

/// Octets of the literal that a line announces at its end.
fn literal(line: &[u8]) -> Option<usize> {
    let inner = line.strip_suffix(b"}")?;
    let brace = inner.iter().rposition(|&b| b == b'{')?;
    let digits = std::str::from_utf8(&inner[brace + 1..]).ok()?;
    digits.parse().ok()
}

fn begins_well(line: &[u8]) {
    let word = line.split(|&b| b == b' ').next().unwrap_or_default();
    let good = match word {
        b"*" | b"+" => true,
        tag => !tag.is_empty() && tag.iter().all(|b| b.is_ascii_graphic()) && ends_a_command(line),
    };
    assert!(good, "{}", line.escape_ascii());
}

/// Whether a line with a tag says how a command went.
fn ends_a_command(line: &[u8]) -> bool {
    let status = line.split(|&b| b == b' ').nth(1).unwrap_or_default();
    matches!(status, b"OK" | b"NO" | b"BAD")
}
