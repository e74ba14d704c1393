//! What untagged answers say (RFC 9051, section 7).

use std::collections::BTreeSet;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;

use super::token::Token;

/// OK, NO, BAD or BYE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The word, in upper case.
    pub condition: String,
    /// What is in brackets, or empty.
    pub code: String,
    /// For people.
    pub text: String,
}

impl Status {
    /// From the tokens behind the tag.
    pub fn of(tokens: &[Token]) -> anyhow::Result<Status> {
        let (condition, text) = match tokens {
            [first, Token::Free(text)] => (first.word().context("no condition")?, text.as_str()),
            _ => bail!("no status: {tokens:?}"),
        };
        ensure!(
            ["OK", "NO", "BAD", "BYE", "PREAUTH"].contains(&&*condition),
            "{condition}"
        );
        let (code, text) = match text.strip_prefix('[') {
            None => ("", text),
            Some(rest) => {
                let (code, text) = rest.split_once(']').context("a code without an end")?;
                (code, text.strip_prefix(' ').context("a code without text")?)
            }
        };
        ensure!(!text.is_empty(), "a status without text");
        Ok(Status {
            condition,
            code: code.to_owned(),
            text: text.to_owned(),
        })
    }

    /// What follows this name in the code; empty if nothing does.
    pub fn code(&self, name: &str) -> Option<&str> {
        let (first, rest) = self.code.split_once(' ').unwrap_or((&self.code, ""));
        first.eq_ignore_ascii_case(name).then_some(rest)
    }
}

/// `* n FETCH (…)`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetch {
    /// Its sequence number.
    pub number: u32,
    /// UID.
    pub uid: Option<u32>,
    /// FLAGS, in upper case.
    pub flags: Option<BTreeSet<String>>,
    /// MODSEQ.
    pub modseq: Option<u64>,
    /// Every other item: its name and its tokens.
    pub items: Vec<(String, Vec<Token>)>,
}

impl Fetch {
    /// The octets of a section; `None` if it was not told, or told to be none.
    pub fn section(&self, name: &str) -> Option<&Bytes> {
        match self.item(name)? {
            [Token::Text(octets)] => Some(octets),
            _ => None,
        }
    }

    /// The tokens of an item.
    pub fn item(&self, name: &str) -> Option<&[Token]> {
        let mut items = self.items.iter();
        items.find_map(|(n, value)| n.eq_ignore_ascii_case(name).then_some(&value[..]))
    }

    fn of(number: u32, tokens: &[Token]) -> anyhow::Result<Fetch> {
        let mut fetch = Fetch {
            number,
            ..Fetch::default()
        };
        let inside = match tokens {
            [Token::Open, inside @ .., Token::Close] => inside,
            _ => bail!("FETCH without a list"),
        };
        let mut rest = inside;
        while let [name, more @ ..] = rest {
            let name = name.word().context("an item without a name")?;
            let (value, after) = value(more)?;
            rest = after;
            let twice = match &*name {
                "UID" => fetch.uid.replace(one(value)?.number()?).is_some(),
                "FLAGS" => fetch.flags.replace(words(value)?).is_some(),
                "MODSEQ" => match value {
                    [Token::Open, n, Token::Close] => fetch.modseq.replace(n.number()?).is_some(),
                    _ => bail!("MODSEQ {value:?}"),
                },
                _ => {
                    let twice = fetch.item(&name).is_some();
                    fetch.items.push((name.clone(), value.to_vec()));
                    twice
                }
            };
            ensure!(!twice, "{name} twice");
        }
        ensure!(fetch.uid != Some(0) && fetch.modseq != Some(0), "zero");
        Ok(fetch)
    }
}

fn one(value: &[Token]) -> anyhow::Result<&Token> {
    match value {
        [one] => Ok(one),
        _ => bail!("one value was expected: {value:?}"),
    }
}

fn words(value: &[Token]) -> anyhow::Result<BTreeSet<String>> {
    let [Token::Open, inside @ .., Token::Close] = value else {
        bail!("no list: {value:?}");
    };
    let mut out = BTreeSet::new();
    for token in inside {
        let word = token.word().context("no word in a list of words")?;
        ensure!(out.insert(word), "{token:?} twice");
    }
    Ok(out)
}

/// One token, or a list with all that is in it; and what follows.
fn value(tokens: &[Token]) -> anyhow::Result<(&[Token], &[Token])> {
    let mut depth = 0usize;
    for (i, token) in tokens.iter().enumerate() {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth = depth.checked_sub(1).context("no value")?,
            _ => {}
        }
        if depth == 0 {
            return Ok(tokens.split_at(i + 1));
        }
    }
    bail!("an item without a value")
}

/// What a search has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    /// Of ESEARCH (RFC 4731): by uid.
    pub uid: bool,
    /// The tag that ESEARCH names.
    pub tag: Option<Bytes>,
    /// Matches, as ranges, in the order in which they were told.
    pub all: Vec<(u32, u32)>,
    /// COUNT.
    pub count: Option<u32>,
    /// MIN.
    pub min: Option<u32>,
    /// MAX.
    pub max: Option<u32>,
    /// MODSEQ.
    pub modseq: Option<u64>,
}

/// An untagged answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Untagged {
    /// `* n EXISTS`
    Exists(u32),
    /// `* n EXPUNGE`
    Expunge(u32),
    /// `* VANISHED …` (RFC 7162)
    Vanished {
        /// With `(EARLIER)`.
        earlier: bool,
        /// Ranges.
        uids: Vec<(u32, u32)>,
    },
    /// `* n FETCH …`
    Fetch(Fetch),
    /// `* FLAGS (…)`
    Flags(BTreeSet<String>),
    /// `* SEARCH …` or `* ESEARCH …`
    Search(Search),
    /// `* OK …` and the like.
    Status(Status),
    /// Anything else.
    Other(Vec<Token>),
}

impl Untagged {
    /// From the tokens behind the star.
    pub fn of(tokens: &[Token]) -> anyhow::Result<Untagged> {
        if let [_, Token::Free(_)] = tokens {
            return Ok(Untagged::Status(Status::of(tokens)?));
        }
        let first = tokens.first().and_then(Token::word).context("no word")?;
        if first.bytes().all(|b| b.is_ascii_digit()) {
            let number: u32 = tokens[0].number()?;
            let what = tokens.get(1).and_then(Token::word).context("no word")?;
            return match (&*what, &tokens[2..]) {
                ("EXISTS", []) => Ok(Untagged::Exists(number)),
                ("EXPUNGE", []) if number > 0 => Ok(Untagged::Expunge(number)),
                ("RECENT", []) => Ok(Untagged::Other(tokens.to_vec())),
                ("FETCH", rest) if number > 0 => Ok(Untagged::Fetch(Fetch::of(number, rest)?)),
                _ => bail!("{tokens:?}"),
            };
        }
        match (&*first, &tokens[1..]) {
            ("VANISHED", [Token::Open, earlier, Token::Close, set]) => {
                ensure!(earlier.word().as_deref() == Some("EARLIER"), "{earlier:?}");
                let uids = ranges(set)?;
                Ok(Untagged::Vanished {
                    earlier: true,
                    uids,
                })
            }
            ("VANISHED", [set]) => {
                let uids = ranges(set)?;
                Ok(Untagged::Vanished {
                    earlier: false,
                    uids,
                })
            }
            ("FLAGS", list) => Ok(Untagged::Flags(words(list)?)),
            ("SEARCH", rest) => Ok(Untagged::Search(search(rest)?)),
            ("ESEARCH", rest) => Ok(Untagged::Search(esearch(rest)?)),
            _ => Ok(Untagged::Other(tokens.to_vec())),
        }
    }
}

fn search(mut rest: &[Token]) -> anyhow::Result<Search> {
    let mut found = Search::default();
    if let [before @ .., Token::Open, word, n, Token::Close] = rest {
        ensure!(word.word().as_deref() == Some("MODSEQ"), "{word:?}");
        found.modseq = Some(n.number()?);
        rest = before;
    }
    for token in rest {
        let n = token.number()?;
        found.all.push((n, n));
    }
    Ok(found)
}

fn esearch(mut rest: &[Token]) -> anyhow::Result<Search> {
    let mut found = Search::default();
    if let [
        Token::Open,
        tag,
        Token::Text(value),
        Token::Close,
        more @ ..,
    ] = rest
    {
        ensure!(tag.word().as_deref() == Some("TAG"), "{tag:?}");
        found.tag = Some(value.clone());
        rest = more;
    }
    if let [word, more @ ..] = rest
        && word.word().as_deref() == Some("UID")
    {
        found.uid = true;
        rest = more;
    }
    while let [name, value, more @ ..] = rest {
        match name.word().as_deref() {
            Some("ALL") => found.all = ranges(value)?,
            Some("COUNT") => found.count = Some(value.number()?),
            Some("MIN") => found.min = Some(value.number()?),
            Some("MAX") => found.max = Some(value.number()?),
            Some("MODSEQ") => found.modseq = Some(value.number()?),
            _ => bail!("{name:?} in ESEARCH"),
        }
        rest = more;
    }
    ensure!(rest.is_empty(), "{rest:?} at the end of ESEARCH");
    Ok(found)
}

/// A set of numbers as told by a server: no `*`, no zero.
pub fn members(set: &str) -> anyhow::Result<Vec<(u32, u32)>> {
    let mut out = Vec::new();
    for range in set.split(',') {
        let (first, last) = range.split_once(':').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse()?, last.parse()?);
        ensure!(0 < first && first <= last, "{range} in {set:.200}");
        out.push((first, last));
    }
    Ok(out)
}

fn ranges(token: &Token) -> anyhow::Result<Vec<(u32, u32)>> {
    match token {
        Token::Atom(set) => members(set),
        _ => bail!("{token:?} is no set"),
    }
}
