//! Tokens of IMAP answers (RFC 9051, section 9), flat: however deep lists are nested, reading
//! them needs no stack.

use anyhow::{Context, bail, ensure};
use bytes::Bytes;

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// `(`
    Open,
    /// `)`
    Close,
    /// A word, a number, a flag, the name of a section; `NIL` too.
    Atom(String),
    /// A string in quotes, or a literal.
    Text(Bytes),
    /// The rest of a line that is for people, with the response code in front of it.
    Free(String),
}

impl Token {
    /// The word, in upper case.
    pub fn word(&self) -> Option<String> {
        match self {
            Token::Atom(word) => Some(word.to_ascii_uppercase()),
            _ => None,
        }
    }

    /// A number without sign and leading zeros.
    pub fn number<T: std::str::FromStr>(&self) -> anyhow::Result<T> {
        match self {
            Token::Atom(word)
                if word.bytes().all(|b| b.is_ascii_digit())
                    && (word == "0" || !word.starts_with('0')) =>
            {
                word.parse()
                    .ok()
                    .with_context(|| format!("{word} is too large"))
            }
            other => bail!("{other:?} is no number"),
        }
    }
}

/// The length of the literal that a line announces at its end.
pub fn literal(line: &[u8]) -> Option<usize> {
    let open = line.strip_suffix(b"}")?;
    let at = open.iter().rposition(|&b| b == b'{')?;
    let digits = std::str::from_utf8(&open[at + 1..]).ok()?;
    match digits.bytes().all(|b| b.is_ascii_digit()) {
        true => digits.parse().ok(),
        false => None,
    }
}

/// Words after which a line is for people (RFC 9051, section 7.1).
const STATES: [&str; 5] = ["OK", "NO", "BAD", "BYE", "PREAUTH"];

/// The tokens of one whole response, CRLF included.
pub fn tokens(whole: &Bytes) -> anyhow::Result<Vec<Token>> {
    let mut out: Vec<Token> = Vec::new();
    let mut depth = 0usize;
    let mut at = 0;
    // A space has just been read, or a token may stand here without one.
    let mut apart = true;
    let mut space = false;
    loop {
        let rest = &whole[at..];
        let state = out.len() == 2 && space && depth == 0 && is_state(&out[1]);
        let Some(&b) = rest.first() else {
            bail!("it ends without CRLF");
        };
        if state || out.first().is_some_and(|t| *t == Token::Atom("+".into())) && space {
            let text = rest.strip_suffix(b"\r\n").context("no CRLF")?;
            ensure!(!text.contains(&b'\r') && !text.contains(&0), "CR or NUL");
            out.push(Token::Free(String::from_utf8(text.to_vec())?));
            return Ok(out);
        }
        match b {
            b'\r' => {
                ensure!(rest == b"\r\n", "CR inside a line");
                ensure!(depth == 0, "a list without an end");
                ensure!(!space, "a space at the end");
                return Ok(out);
            }
            b' ' => {
                ensure!(!space, "two spaces");
                ensure!(out.last() != Some(&Token::Open), "a space after (");
                (space, apart) = (true, true);
                at += 1;
                continue;
            }
            b'(' => {
                let after = matches!(out.last(), Some(Token::Open | Token::Close));
                ensure!(apart || after, "( without a space");
                depth += 1;
                out.push(Token::Open);
                apart = true;
                at += 1;
            }
            b')' => {
                ensure!(depth > 0 && !space, ") without a list, or after a space");
                depth -= 1;
                out.push(Token::Close);
                apart = false;
                at += 1;
            }
            b'"' => {
                ensure!(apart, "a string without a space");
                let (text, used) = quoted(rest)?;
                out.push(Token::Text(text));
                apart = false;
                at += used;
            }
            b'{' | b'~' => {
                ensure!(apart, "a literal without a space");
                let line = rest.split(|&b| b == b'\n').next().unwrap_or_default();
                let head = line.len() + 1;
                let line = line.strip_suffix(b"\r").context("no CRLF")?;
                let digits = line.strip_prefix(b"~").unwrap_or(line);
                ensure!(
                    digits.first() == Some(&b'{')
                        && digits[1..].iter().filter(|&&b| b == b'{').count() == 0,
                    "no literal"
                );
                let length = literal(line).context("no literal")?;
                ensure!(rest.len() >= head + length, "a literal without its octets");
                if b == b'{' {
                    let octets = &rest[head..head + length];
                    ensure!(length == 0 || octets.len() == length, "short");
                }
                out.push(Token::Text(whole.slice(at + head..at + head + length)));
                apart = false;
                at += head + length;
            }
            _ => {
                ensure!(apart, "a word without a space");
                let used = atom(rest)?;
                let word = std::str::from_utf8(&rest[..used])?;
                out.push(Token::Atom(word.to_owned()));
                apart = false;
                at += used;
            }
        }
        space = false;
    }
}

fn is_state(token: &Token) -> bool {
    token.word().is_some_and(|word| STATES.contains(&&*word))
}

/// A word: up to a delimiter outside of brackets.
fn atom(rest: &[u8]) -> anyhow::Result<usize> {
    let mut inside = false;
    for (i, &b) in rest.iter().enumerate() {
        match b {
            b'[' => inside = true,
            b']' => inside = false,
            b' ' | b'(' | b')' | b'"' if inside => {}
            b' ' | b'(' | b')' | b'\r' => {
                ensure!(i > 0 && !inside, "no word");
                return Ok(i);
            }
            0..=31 | 127..=255 | b'"' | b'{' => bail!("{b} inside a word"),
            _ => {}
        }
    }
    bail!("a word without an end")
}

/// A string in quotes, and how long it was.
fn quoted(rest: &[u8]) -> anyhow::Result<(Bytes, usize)> {
    let mut out = Vec::new();
    let mut bytes = rest.iter().enumerate().skip(1);
    while let Some((i, &b)) = bytes.next() {
        match b {
            b'"' => {
                ensure!(std::str::from_utf8(&out).is_ok(), "quotes around no UTF-8");
                return Ok((out.into(), i + 1));
            }
            b'\\' => match bytes.next() {
                Some((_, &c @ (b'"' | b'\\'))) => out.push(c),
                other => bail!("a backslash before {other:?}"),
            },
            b'\r' | b'\n' | 0 => bail!("{b} inside quotes"),
            b => out.push(b),
        }
    }
    bail!("quotes without an end")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> anyhow::Result<Vec<Token>> {
        tokens(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn answers_are_cut_into_tokens() {
        let atom = |s: &str| Token::Atom(s.into());
        let got = of("* 1 FETCH (UID 3 BODY[HEADER.FIELDS (TO)]<0> {3}\r\na\r\n X \"q\\\"\")\r\n")
            .unwrap();
        let text = |s: &'static str| Token::Text(Bytes::from_static(s.as_bytes()));
        let expected = vec![
            atom("*"),
            atom("1"),
            atom("FETCH"),
            Token::Open,
            atom("UID"),
            atom("3"),
            atom("BODY[HEADER.FIELDS (TO)]<0>"),
            text("a\r\n"),
            atom("X"),
            text("q\""),
            Token::Close,
        ];
        assert_eq!(got, expected);
        assert_eq!(
            of("t1 OK [MODIFIED 3] not  all\r\n").unwrap().last(),
            Some(&Token::Free("[MODIFIED 3] not  all".into()))
        );
    }

    #[test]
    fn answers_that_are_wrong_are_refused() {
        for wrong in [
            "* 1  EXISTS\r\n",
            "* 1 FETCH ( UID 3)\r\n",
            "* 1 FETCH (UID 3 )\r\n",
            "* 1 FETCH (UID 3\r\n",
            "* 1 FETCH (UID 3))\r\n",
            "* \"a\"\"b\"\r\n",
            "* 1 EXISTS \r\n",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
