//! The words that IMAP commands are made of (RFC 9051, section 9): a cursor over one complete
//! command, with its literals where they stand.
//!
//! A literal is read in place: `{5}`, CRLF, and five octets of the same buffer. So a command is
//! one slice however it came over the wire, and whatever the slice holds, reading it allocates
//! no more than it is long.

use super::Bad;

/// A position in a command.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    octets: &'a [u8],
    at: usize,
}

/// An octet that may stand in an atom (RFC 9051, `ATOM-CHAR`).
pub fn is_atom(b: u8) -> bool {
    b > b' ' && b < 0x7f && !matches!(b, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

/// An octet that may stand in an astring without quotes. Octets of UTF-8 are taken, too: clients
/// that have enabled it (RFC 6855) may send them in quotes alone, yet some do not quote.
pub fn is_astring(b: u8) -> bool {
    is_atom(b) || b == b']' || b >= 0x80
}

impl<'a> Cursor<'a> {
    /// At the start of `octets`: a command without its final CRLF.
    pub fn new(octets: &'a [u8]) -> Cursor<'a> {
        Cursor { octets, at: 0 }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        &self.octets[self.at..]
    }

    /// Whether all has been read.
    pub fn is_done(&self) -> bool {
        self.at == self.octets.len()
    }

    /// Octets read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// All must have been read.
    pub fn end(&self) -> Result<(), Bad> {
        match self.is_done() {
            true => Ok(()),
            false => Err(Bad("more than the command takes")),
        }
    }

    /// The next octet.
    pub fn peek(&self) -> Option<u8> {
        self.octets.get(self.at).copied()
    }

    /// Skips `b` if it is next.
    pub fn eat(&mut self, b: u8) -> bool {
        let next = self.peek() == Some(b);
        self.at += usize::from(next);
        next
    }

    /// Skips `b`, which must be next.
    pub fn expect(&mut self, b: u8, why: &'static str) -> Result<(), Bad> {
        match self.eat(b) {
            true => Ok(()),
            false => Err(Bad(why)),
        }
    }

    /// Skips the space that must be next.
    pub fn space(&mut self) -> Result<(), Bad> {
        self.expect(b' ', "a space was expected")
    }

    /// Skips `word` if it is next, in any case.
    pub fn eat_word(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let next =
            rest.len() >= word.len() && rest[..word.len()].eq_ignore_ascii_case(word.as_bytes());
        self.at += if next { word.len() } else { 0 };
        next
    }

    /// Octets while `f` holds.
    pub fn take_while(&mut self, f: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let n = rest.iter().position(|&b| !f(b)).unwrap_or(rest.len());
        self.at += n;
        &rest[..n]
    }

    /// A word in upper case: of a command, an option, an attribute.
    pub fn word(&mut self) -> Result<String, Bad> {
        let word = self
            .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'=' | b'_'));
        match word {
            b"" => Err(Bad("a word was expected")),
            word => Ok(String::from_utf8_lossy(word).to_ascii_uppercase()),
        }
    }

    /// An atom as it stands.
    pub fn atom(&mut self) -> Result<&'a str, Bad> {
        let atom = self.take_while(is_atom);
        match std::str::from_utf8(atom) {
            Ok("") | Err(_) => Err(Bad("an atom was expected")),
            Ok(atom) => Ok(atom),
        }
    }

    /// Digits, at most `u64::MAX`.
    pub fn number(&mut self) -> Result<u64, Bad> {
        let digits = self.take_while(|b| b.is_ascii_digit());
        let digits = std::str::from_utf8(digits).unwrap_or_default();
        digits.parse().map_err(|_| Bad("a number was expected"))
    }

    /// A number of 32 bits.
    pub fn number32(&mut self) -> Result<u32, Bad> {
        self.number()?
            .try_into()
            .map_err(|_| Bad("the number is too large"))
    }

    /// A number of 32 bits that is not 0.
    pub fn positive(&mut self) -> Result<u32, Bad> {
        match self.number32()? {
            0 => Err(Bad("the number must not be 0")),
            n => Ok(n),
        }
    }

    /// A number of 63 bits (mod-sequences, RFC 7162, section 7).
    pub fn number63(&mut self) -> Result<u64, Bad> {
        match self.number()? {
            n if n > i64::MAX as u64 => Err(Bad("the number is too large")),
            n => Ok(n),
        }
    }

    /// A literal's announcement and its octets: `{n}`, `{n+}`, `~{n}`, `~{n+}`.
    fn literal(&mut self) -> Result<&'a [u8], Bad> {
        self.eat(b'~');
        self.expect(b'{', "a string was expected")?;
        let n = self.number32()? as usize;
        self.eat(b'+');
        self.expect(b'}', "a literal was expected")?;
        self.expect(b'\r', "a literal was expected")?;
        self.expect(b'\n', "a literal was expected")?;
        match self.rest() {
            rest if rest.len() < n => Err(Bad("the literal is not all there")),
            rest => {
                self.at += n;
                Ok(&rest[..n])
            }
        }
    }

    /// Whether a string is next that is not an atom; a name may begin with a tilde, too.
    fn at_string(&self) -> bool {
        matches!(self.rest(), [b'"' | b'{', ..] | [b'~', b'{', ..])
    }

    fn quoted(&mut self) -> Result<Vec<u8>, Bad> {
        self.expect(b'"', "a string was expected")?;
        let mut out = Vec::new();
        loop {
            match self.peek() {
                None | Some(b'\r' | b'\n' | 0) => {
                    return Err(Bad("the quoted string does not end"));
                }
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b @ (b'"' | b'\\')) => out.push(b),
                        _ => return Err(Bad("a backslash quotes only a quote or a backslash")),
                    }
                    self.at += 1;
                }
                Some(b) => {
                    out.push(b);
                    self.at += 1;
                }
            }
        }
    }

    /// A quoted string or a literal.
    pub fn string(&mut self) -> Result<Vec<u8>, Bad> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            _ => self.literal().map(<[u8]>::to_vec),
        }
    }

    /// A string or NIL.
    pub fn nstring(&mut self) -> Result<Option<Vec<u8>>, Bad> {
        match self.at_string() {
            true => self.string().map(Some),
            false if self.eat_word("NIL") => Ok(None),
            false => Err(Bad("a string or NIL was expected")),
        }
    }

    /// An atom (also with `]`) or a string.
    pub fn astring(&mut self) -> Result<Vec<u8>, Bad> {
        match self.at_string() {
            true => self.string(),
            false => match self.take_while(is_astring) {
                b"" => Err(Bad("a string was expected")),
                atom => Ok(atom.to_vec()),
            },
        }
    }

    /// An astring that must be UTF-8.
    pub fn text(&mut self) -> Result<String, Bad> {
        String::from_utf8(self.astring()?).map_err(|_| Bad("the string is not UTF-8"))
    }

    /// A mailbox name with wildcards (RFC 9051, `list-mailbox`).
    pub fn pattern(&mut self) -> Result<Vec<u8>, Bad> {
        match self.at_string() {
            true => self.string(),
            false => match self.take_while(|b| is_astring(b) || matches!(b, b'%' | b'*')) {
                b"" => Err(Bad("a mailbox pattern was expected")),
                pattern => Ok(pattern.to_vec()),
            },
        }
    }

    /// A flag or keyword; a system flag keeps its backslash.
    pub fn flag(&mut self) -> Result<String, Bad> {
        let system = self.eat(b'\\');
        let atom = self.atom()?;
        Ok(match system {
            true => format!("\\{atom}"),
            false => atom.to_owned(),
        })
    }

    /// Flags in parentheses, perhaps none.
    pub fn flags(&mut self) -> Result<Vec<String>, Bad> {
        self.list(Cursor::flag)
    }

    /// Things in parentheses, separated by spaces; perhaps none.
    pub fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, Bad>,
    ) -> Result<Vec<T>, Bad> {
        self.expect(b'(', "a parenthesis was expected")?;
        let mut out = Vec::new();
        if self.eat(b')') {
            return Ok(out);
        }
        loop {
            out.push(item(self)?);
            if self.eat(b')') {
                return Ok(out);
            }
            self.space()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_come_in_three_forms() {
        for (text, expected) in [
            (&b"abc]"[..], Some(&b"abc]"[..])),
            (b"\"a\\\"b\\\\ c\"", Some(b"a\"b\\ c")),
            (b"{3}\r\na\r\n", Some(b"a\r\n")),
            (b"{3+}\r\n)({", Some(b")({")),
            (b"~{2}\r\n\0\0", Some(b"\0\0")),
            (b"\"\"", Some(b"")),
            (b"~peter", Some(b"~peter")),
            (b"\"a\\n\"", None),
            (b"\"a", None),
            (b"{4}\r\nabc", None),
            (b"{99999999999999999999}\r\nabc", None),
            (b"(", None),
            (b"", None),
        ] {
            let mut cursor = Cursor::new(text);
            let got = cursor.astring().ok();
            assert_eq!(got.as_deref(), expected, "{text:?}");
            if got.is_some() {
                assert!(cursor.is_done());
            }
        }
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(Cursor::new(b"4294967295").number32(), Ok(u32::MAX));
        assert!(Cursor::new(b"4294967296").number32().is_err());
        assert!(Cursor::new(b"0").positive().is_err());
        assert!(Cursor::new(b"9223372036854775808").number63().is_err());
        assert!(Cursor::new(b"x").number().is_err());
    }

    #[test]
    fn lists_are_separated_by_single_spaces() {
        let flags = |s: &str| Cursor::new(s.as_bytes()).flags();
        assert_eq!(flags("()"), Ok(vec![]));
        assert_eq!(flags("(\\Seen a)"), Ok(vec!["\\Seen".into(), "a".into()]));
        assert!(flags("(\\Seen  a)").is_err());
        assert!(flags("(\\Seen").is_err());
    }
}
