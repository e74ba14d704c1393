//! Undoing the Content-Transfer-Encoding of a part (RFC 2045, section 6; RFC 3516), as its octets
//! pass by.
//!
//! Mail that was encoded wrongly is still somebody's mail: whatever the octets are, they give some
//! octets, and nothing fails. What comes out depends on the octets alone, never on how they were
//! cut into pieces, so a part can be decoded again from its beginning with the same result.

/// White space that is held back until it is known whether a line ends after it; a longer run is
/// content. (RFC 2045, section 6.7, allows lines of 76.)
const MAX_HELD_BYTES: usize = 1000;

/// Decodes one part.
#[derive(Debug, Clone)]
pub enum Decoder {
    /// 7bit, 8bit, binary.
    Identity,
    /// RFC 2045, section 6.8.
    Base64(Base64),
    /// RFC 2045, section 6.7.
    QuotedPrintable(QuotedPrintable),
}

impl Decoder {
    /// The decoder of an encoding, in lower case; empty: none was given. `None`: not known.
    pub fn of(encoding: &str) -> Option<Decoder> {
        match encoding {
            "" | "7bit" | "8bit" | "binary" => Some(Decoder::Identity),
            "base64" => Some(Decoder::Base64(Base64::default())),
            "quoted-printable" => Some(Decoder::QuotedPrintable(QuotedPrintable::default())),
            _ => None,
        }
    }

    /// Takes the next octets and appends what they give: never more than they are, plus what was
    /// held back.
    pub fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        match self {
            Decoder::Identity => out.extend_from_slice(octets),
            Decoder::Base64(decoder) => decoder.push(octets, out),
            Decoder::QuotedPrintable(decoder) => decoder.push(octets, out),
        }
    }

    /// The part is over.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self {
            Decoder::Identity => (),
            Decoder::Base64(decoder) => decoder.end_group(out),
            Decoder::QuotedPrintable(decoder) => decoder.finish(out),
        }
    }
}

/// What an octet is in base64: a digit, padding, or nothing.
const PADDING: u8 = 0x40;
const NOTHING: u8 = 0xff;
const DIGITS: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut table = [NOTHING; 256];
    let mut i = 0;
    while i < alphabet.len() {
        table[alphabet[i] as usize] = i as u8;
        i += 1;
    }
    table[b'=' as usize] = PADDING;
    table
};

/// Decodes base64. Octets outside the alphabet are passed over, as RFC 2045 says. Padding ends a
/// group and not the part: some mail is put together of several encoded pieces.
#[derive(Debug, Clone, Default)]
pub struct Base64 {
    /// Digits of the group so far, six bits each.
    bits: u32,
    digits: u8,
}

impl Base64 {
    fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        out.reserve(octets.len() / 4 * 3 + 3);
        for &octet in octets {
            match DIGITS[octet as usize] {
                NOTHING => (),
                PADDING => self.end_group(out),
                digit => {
                    self.bits = self.bits << 6 | u32::from(digit);
                    self.digits += 1;
                    if self.digits == 4 {
                        out.extend_from_slice(&self.bits.to_be_bytes()[1..]);
                        *self = Base64::default();
                    }
                }
            }
        }
    }

    /// The octets that an unfinished group is sure of.
    fn end_group(&mut self, out: &mut Vec<u8>) {
        match self.digits {
            2 => out.push((self.bits >> 4) as u8),
            3 => out.extend_from_slice(&((self.bits >> 2) as u16).to_be_bytes()),
            // One digit is less than an octet.
            _ => (),
        }
        *self = Base64::default();
    }
}

/// Decodes quoted-printable. What is no escape stands for itself; white space at the end of a line
/// was added on the way and goes (RFC 2045, section 6.7, rule 3).
#[derive(Debug, Clone, Default)]
pub struct QuotedPrintable {
    /// Octets whose meaning depends on the next one: "=" and one more, or white space, each of
    /// them perhaps with the return of a line break.
    held: Vec<u8>,
}

fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

fn hex(octet: u8) -> Option<u8> {
    (octet as char).to_digit(16).map(|digit| digit as u8)
}

impl QuotedPrintable {
    fn push(&mut self, mut octets: &[u8], out: &mut Vec<u8>) {
        out.reserve(octets.len());
        while let Some((&first, rest)) = octets.split_first() {
            if self.held.is_empty() {
                let special = |&b: &u8| b == b'=' || is_space(b);
                let plain = octets.iter().position(special).unwrap_or(octets.len());
                out.extend_from_slice(&octets[..plain]);
                octets = &octets[plain..];
                if let Some((&special, rest)) = octets.split_first() {
                    self.held.push(special);
                    octets = rest;
                }
            } else if self.settles(first, out) {
                octets = rest;
            }
        }
    }

    /// Looks at the octet after those that are held. True: it is taken; false: nothing is held
    /// any more, and it is to be looked at again.
    fn settles(&mut self, octet: u8, out: &mut Vec<u8>) -> bool {
        let last = self.held.last().copied().unwrap_or_default();
        let escape = self.held[0] == b'=';
        let in_hex = escape && self.held.len() > 1 && hex(self.held[1]).is_some();
        let may_break = last != b'\r' && self.held.len() < MAX_HELD_BYTES && !in_hex;
        match octet {
            b'\n' if !in_hex => {
                if !escape {
                    // A line ends, without the white space before.
                    out.extend((last == b'\r').then_some(b'\r'));
                    out.push(b'\n');
                }
                self.held.clear();
                true
            }
            b' ' | b'\t' | b'\r' if may_break => {
                self.held.push(octet);
                true
            }
            _ if escape && self.held.len() == 1 && hex(octet).is_some() => {
                self.held.push(octet);
                true
            }
            _ => {
                let pair = (
                    hex(self.held.get(1).copied().unwrap_or_default()),
                    hex(octet),
                );
                if let (true, (Some(high), Some(low))) = (in_hex, pair) {
                    out.push(high << 4 | low);
                    self.held.clear();
                    return true;
                }
                out.append(&mut self.held);
                false
            }
        }
    }

    /// The end of the part ends its last line, too.
    fn finish(&mut self, out: &mut Vec<u8>) {
        let escape = self.held.first() == Some(&b'=');
        match (escape, self.held.get(1).copied().and_then(hex)) {
            (true, Some(_)) => out.append(&mut self.held),
            (true, None) => (),
            (false, _) => out.extend((self.held.last() == Some(&b'\r')).then_some(b'\r')),
        }
        self.held.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(encoding: &str, octets: &[u8], piece: usize) -> Vec<u8> {
        let mut decoder = Decoder::of(encoding).unwrap();
        let mut out = Vec::new();
        for octets in octets.chunks(piece) {
            decoder.push(octets, &mut out);
        }
        decoder.finish(&mut out);
        out
    }

    /// Base64 by arithmetic on the whole, with line breaks and junk between the digits.
    fn to_base64(octets: &[u8], junk: &[(usize, u8)]) -> Vec<u8> {
        let alphabet: Vec<u8> = (b'A'..=b'Z')
            .chain(b'a'..=b'z')
            .chain(b'0'..=b'9')
            .chain(*b"+/")
            .collect();
        let bits: Vec<bool> = octets
            .iter()
            .flat_map(|b| (0..8).rev().map(move |i| b & (1 << i) != 0))
            .collect();
        let mut out: Vec<u8> = bits
            .chunks(6)
            .map(|six| {
                let whole = six.iter().copied().chain([false; 6]).take(6);
                alphabet[whole.fold(0, |n, bit| n * 2 + usize::from(bit))]
            })
            .collect();
        while !out.len().is_multiple_of(4) {
            out.push(b'=');
        }
        for (at, octet) in junk {
            out.insert(at % (out.len() + 1), *octet);
        }
        out
    }

    /// Quoted-printable where `soft` says before which octets a soft line break stands, and
    /// `escape` which octets are escaped without need.
    fn to_quoted(octets: &[u8], soft: &[usize], escape: &[usize]) -> Vec<u8> {
        let mut out = Vec::new();
        for (i, &b) in octets.iter().enumerate() {
            if soft.contains(&i) {
                out.extend_from_slice([&b"=\r\n"[..], b"=\n", b"= \t\r\n"][i % 3]);
            }
            let ends_line = matches!(octets.get(i + 1), None | Some(b'\r' | b'\n'));
            let printable = b.is_ascii_graphic() && b != b'=';
            let plain = printable || b == b'\n' || is_space(b) && !ends_line;
            match plain && !escape.contains(&i) {
                true => out.push(b),
                false if i % 2 == 0 => out.extend(format!("={b:02X}").bytes()),
                false => out.extend(format!("={b:02x}").bytes()),
            }
        }
        out
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let octet = prop_oneof![
            any::<u8>(),
            Just(b' '),
            Just(b'\n'),
            Just(b'='),
            Just(b'\r')
        ];
        proptest::collection::vec(octet, 0..300)
    }

    proptest! {
        #[test]
        fn base64_gives_back_what_was_encoded(
            octets in proptest::collection::vec(any::<u8>(), 0..300),
            junk in proptest::collection::vec(
                (any::<usize>(), prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b'-'), Just(0)]),
                0..20,
            ),
            piece in 1usize..100,
        ) {
            let encoded = to_base64(&octets, &junk);
            prop_assert_eq!(decode("base64", &encoded, piece), octets);
        }

        #[test]
        fn quoted_printable_gives_back_what_was_encoded(
            octets in text(),
            soft in proptest::collection::vec(0usize..300, 0..20),
            escape in proptest::collection::vec(0usize..300, 0..20),
            piece in 1usize..100,
        ) {
            let encoded = to_quoted(&octets, &soft, &escape);
            prop_assert_eq!(decode("quoted-printable", &encoded, piece), octets);
        }

        /// Whatever the octets are, and however they come.
        #[test]
        fn pieces_do_not_matter(
            octets in proptest::collection::vec(
                prop_oneof![
                    any::<u8>(), Just(b'='), Just(b' '), Just(b'\t'), Just(b'\r'), Just(b'\n'),
                    Just(b'A'), Just(b'4'),
                ],
                0..200,
            ),
            piece in 1usize..50,
        ) {
            for encoding in ["", "base64", "quoted-printable"] {
                let whole = decode(encoding, &octets, octets.len().max(1));
                prop_assert!(whole.len() <= octets.len());
                prop_assert_eq!(decode(encoding, &octets, piece), whole);
            }
        }
    }

    #[test]
    fn malformed_encodings_give_what_they_can() {
        for (encoded, decoded) in [
            // No padding, padding in the middle, too much of it, a single digit.
            (&b"aGVsbG8"[..], &b"hello"[..]),
            (b"aGVs\r\nbG8=aGVsbG8=", b"hellohello"),
            (b"aGVsbG8====\r\n", b"hello"),
            (b"====", b""),
            (b"Q", b""),
            (b"", b""),
        ] {
            assert_eq!(decode("base64", encoded, 3), decoded);
        }
        for (encoded, decoded) in [
            (&b"a=3Db=3db"[..], &b"a=b=b"[..]),
            (b"1 = 2, =G1, =", b"1 = 2, =G1, "),
            (b"=4", b"=4"),
            (b"=4\r\n=3D", b"=4\r\n="),
            (b"==3D", b"=="),
            (b"line  \t\r\nnext \nend \t", b"line\r\nnext\nend"),
            (b"a \rb", b"a \rb"),
            (b"a=\rb", b"a=\rb"),
            (b"soft=  \r\nbreak=\nand", b"softbreakand"),
        ] {
            let got = decode("quoted-printable", encoded, 1);
            assert_eq!(got, decoded, "{:?}", String::from_utf8_lossy(encoded));
        }
        let spaces = [vec![b' '; 5000], b"\n".to_vec()].concat();
        assert!(decode("quoted-printable", &spaces, 7).len() >= 4000);
        assert!(Decoder::of("x-uuencode").is_none());
    }
}
