//! Undoing a Content-Transfer-Encoding (RFC 2045, section 6) piece by piece.
//!
//! A reader of whole parts would hold an attachment of 150 MB in memory to look for one word in
//! it. Both decoders forgive what mailers get wrong: foreign octets inside of base64 are passed
//! over, padding may stand in the middle, an escape of quoted-printable that is none stays as it
//! is.

/// The decoder of one part.
pub enum Transfer {
    /// The octets stand for themselves.
    Identity,
    /// RFC 2045, section 6.8.
    Base64 {
        /// Bits of digits whose octet is not complete, and how many there are.
        bits: u32,
        /// See `bits`.
        count: u32,
    },
    /// RFC 2045, section 6.7.
    QuotedPrintable {
        /// What may be an escape or space at the end of a line: it is held until that is known.
        held: Vec<u8>,
    },
}

/// Octets that quoted-printable holds at most: RFC 2045 allows lines of 76 characters, and space
/// that never ends is not the end of a line.
const MAX_HELD: usize = 1000;

impl Transfer {
    /// The decoder for this encoding, in lower case; of an unknown one the octets are taken as
    /// they stand.
    pub fn new(encoding: &str) -> Transfer {
        match encoding {
            "base64" => Transfer::Base64 { bits: 0, count: 0 },
            "quoted-printable" => Transfer::QuotedPrintable { held: Vec::new() },
            _ => Transfer::Identity,
        }
    }

    /// Takes the next octets and adds what they stand for.
    pub fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        match self {
            Transfer::Identity => out.extend_from_slice(octets),
            Transfer::Base64 { bits, count } => {
                out.reserve(octets.len() / 4 * 3 + 3);
                for &octet in octets {
                    let Some(digit) = base64_digit(octet) else {
                        if octet == b'=' {
                            // Whatever follows the padding begins anew.
                            (*bits, *count) = (0, 0);
                        }
                        continue;
                    };
                    *bits = *bits << 6 | digit;
                    *count += 6;
                    if *count >= 8 {
                        *count -= 8;
                        out.push((*bits >> *count) as u8);
                        *bits &= (1 << *count) - 1;
                    }
                }
            }
            Transfer::QuotedPrintable { held } => {
                out.reserve(octets.len());
                octets.iter().for_each(|&octet| quoted(held, octet, out));
            }
        }
    }

    /// The part is over.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if let Transfer::QuotedPrintable { held } = self {
            // Space at the end of the last line is none of the text; a lone "=" joins nothing.
            if held.first() == Some(&b'=') && held.len() > 1 {
                out.append(held);
            }
            held.clear();
        }
    }
}

fn base64_digit(octet: u8) -> Option<u32> {
    let digit = match octet {
        b'A'..=b'Z' => octet - b'A',
        b'a'..=b'z' => octet - b'a' + 26,
        b'0'..=b'9' => octet - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(digit))
}

fn hex(octet: u8) -> Option<u8> {
    (octet as char).to_digit(16).map(|digit| digit as u8)
}

/// Takes one octet of quoted-printable. `held` begins with "=" (an escape or a soft line break) or
/// is space that may end its line.
fn quoted(held: &mut Vec<u8>, octet: u8, out: &mut Vec<u8>) {
    if let [b'=', rest @ ..] = held.as_slice() {
        match (rest, octet) {
            ([], b'\n') | ([b' ' | b'\t' | b'\r', ..], b'\n') => return held.clear(),
            ([high], _) if hex(*high).is_some() => {
                if let (Some(high), Some(low)) = (hex(*high), hex(octet)) {
                    out.push(high << 4 | low);
                    return held.clear();
                }
            }
            ([], octet) if hex(octet).is_some() => return held.push(octet),
            ([] | [b' ' | b'\t' | b'\r', ..], b' ' | b'\t' | b'\r') if held.len() < MAX_HELD => {
                return held.push(octet);
            }
            _ => (),
        }
        // No escape: it stands for itself.
        out.append(held);
    }
    match octet {
        b'=' => {
            out.append(held);
            held.push(b'=');
        }
        b' ' | b'\t' if held.len() < MAX_HELD => held.push(octet),
        b'\r' | b'\n' => {
            held.clear();
            out.push(octet);
        }
        _ => {
            out.append(held);
            out.push(octet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(encoding: &str, octets: &[u8], piece: usize) -> Vec<u8> {
        let mut transfer = Transfer::new(encoding);
        let mut out = Vec::new();
        for piece in octets.chunks(piece) {
            transfer.push(piece, &mut out);
        }
        transfer.finish(&mut out);
        out
    }

    #[test]
    fn base64_is_read_in_pieces_of_any_size_and_forgives() {
        for piece in 1..9 {
            for (encoded, plain) in [
                (&b"6am/56uZIHBvc3Q="[..], "驿站 post".as_bytes()),
                (b"6am/\r\n56uZ\r\nIHBv c3Q", "驿站 post".as_bytes()),
                (b"cG9zdA==\r\ncG9zdA==\r\n", b"postpost"),
                (b"c*G9z!dA", b"post"),
                (b"", b""),
            ] {
                assert_eq!(decode("base64", encoded, piece), plain);
            }
        }
    }

    #[test]
    fn quoted_printable_is_read_in_pieces_of_any_size_and_forgives() {
        for piece in 1..9 {
            for (encoded, plain) in [
                ("Gr=FC=\r\n=DFe", &b"Gr\xfc\xdfe"[..]),
                ("Gr=fc=  \t\n=dfe", b"Gr\xfc\xdfe"),
                ("one  \r\ntwo \n", b"one\r\ntwo\n"),
                ("a b  c", b"a b  c"),
                ("1=2 =zz =4 =", b"1=2 =zz =4 "),
                ("==41", b"=A"),
                ("=4=41", b"=4A"),
                ("trailing = \r\n", b"trailing "),
            ] {
                let found = decode("quoted-printable", encoded.as_bytes(), piece);
                assert_eq!(found, plain, "{encoded:?} by {piece}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_octets_decode_alike_in_any_pieces(octets in proptest::collection::vec(prop_oneof![
            any::<u8>(), Just(b'='), Just(b' '), Just(b'\n'), Just(b'4'), Just(b'A')], 0..300), piece in 1usize..40) {
            for encoding in ["base64", "quoted-printable", "8bit"] {
                prop_assert_eq!(decode(encoding, &octets, piece), decode(encoding, &octets, 1000));
            }
        }
    }
}
