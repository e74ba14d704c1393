//! SEARCH, SORT and THREAD (RFC 9051, section 6.4.4; RFC 5032, 5182, 5256, 7162, 8474, 8514,
//! 9394).
//!
//! Keys are read into the store's own form, except where the answer depends on the session: sets
//! of messages, `$`, and ages, which count from the moment of the search.

use posthouse_client::proto::search_key::{Field, Flag, Key, Range};
use posthouse_client::proto::sort_key::By;

use super::command::bounded;
use super::date::{self, DAY_MS};
use super::token::Cursor;
use super::{Bad, Limits, Set};

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Term {
    /// All of them.
    All(Vec<Term>),
    /// One of them at least.
    Any(Vec<Term>),
    /// Not this one.
    Not(Box<Term>),
    /// Messages by sequence number.
    Numbers(Set),
    /// Messages by uid.
    Uids(Set),
    /// Arrived so many seconds ago at least (`true`) or at most (RFC 5032).
    Age(bool, u32),
    /// Changed at or after this modseq (RFC 7162).
    ModSeq(u64),
    /// What the store reads as it is.
    Store(Key),
    /// No message.
    Nothing,
}

impl Term {
    /// Whether it names messages by sequence number.
    pub fn has_numbers(&self) -> bool {
        match self {
            Term::All(terms) | Term::Any(terms) => terms.iter().any(Term::has_numbers),
            Term::Not(term) => term.has_numbers(),
            Term::Numbers(set) => matches!(set, Set::Ranges(_)),
            Term::Uids(_) | Term::Age(..) | Term::ModSeq(_) | Term::Store(_) | Term::Nothing => {
                false
            }
        }
    }
}

/// What SEARCH answers with (RFC 9051, section 6.4.4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Returns {
    /// MIN.
    pub min: bool,
    /// MAX.
    pub max: bool,
    /// ALL.
    pub all: bool,
    /// COUNT.
    pub count: bool,
    /// SAVE (RFC 5182).
    pub save: bool,
    /// PARTIAL (RFC 9394): two positions, counted from 1 or, negative, from the end.
    pub partial: Option<(i64, i64)>,
}

/// SEARCH.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// RETURN was given: the answer is an ESEARCH.
    pub returns: Option<Returns>,
    /// What is searched.
    pub term: Term,
    /// A key looks at modseqs: the answer tells the highest.
    pub modseq: bool,
    /// The strings are in a charset that is not known.
    pub bad_charset: bool,
    /// SEARCH names their charset, which it need not.
    pub named_charset: bool,
}

/// SORT.
#[derive(Debug, Clone, PartialEq)]
pub struct Sort {
    /// Criteria, each perhaps reversed.
    pub by: Vec<(By, bool)>,
    /// What is searched.
    pub search: Search,
}

/// THREAD=REFERENCES.
#[derive(Debug, Clone, PartialEq)]
pub struct Thread {
    /// The algorithm, in upper case.
    pub algorithm: String,
    /// What is searched.
    pub search: Search,
}

/// Reads what follows SEARCH and a space.
pub fn parse(c: &mut Cursor<'_>, limits: &Limits) -> Result<Search, Bad> {
    let mut returns = None;
    if c.eat_word("RETURN ") {
        returns = Some(options(c)?);
        c.space()?;
    }
    let mut bad_charset = false;
    let named_charset = c.eat_word("CHARSET ");
    if named_charset {
        bad_charset = !is_known_charset(&c.astring()?);
        c.space()?;
    }
    let search = keys(c, limits, bad_charset)?;
    Ok(Search {
        returns,
        named_charset,
        ..search
    })
}

/// Reads what follows SORT and a space.
pub fn parse_sort(c: &mut Cursor<'_>, limits: &Limits) -> Result<Sort, Bad> {
    let mut by = Vec::new();
    let mut reverse = false;
    c.list(|c| {
        bounded(&by, limits)?;
        let criterion = match c.word()?.as_str() {
            "REVERSE" if !reverse => {
                reverse = true;
                return Ok(());
            }
            "ARRIVAL" => By::Arrival,
            "CC" => By::Cc,
            "DATE" => By::Date,
            "FROM" => By::From,
            "SIZE" => By::Size,
            "SUBJECT" => By::Subject,
            "TO" => By::To,
            "DISPLAYFROM" => By::DisplayFrom,
            "DISPLAYTO" => By::DisplayTo,
            _ => return Err(Bad("unknown sort criterion")),
        };
        by.push((criterion, std::mem::take(&mut reverse)));
        Ok(())
    })?;
    if by.is_empty() || reverse {
        return Err(Bad("a sort criterion was expected"));
    }
    c.space()?;
    let search = with_charset(c, limits)?;
    Ok(Sort { by, search })
}

/// Reads what follows THREAD and a space.
pub fn parse_thread(c: &mut Cursor<'_>, limits: &Limits) -> Result<Thread, Bad> {
    let algorithm = c.word()?;
    c.space()?;
    let search = with_charset(c, limits)?;
    Ok(Thread { algorithm, search })
}

fn with_charset(c: &mut Cursor<'_>, limits: &Limits) -> Result<Search, Bad> {
    let charset = c.astring()?;
    c.space()?;
    keys(c, limits, !is_known_charset(&charset))
}

fn is_known_charset(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"UTF-8") || name.eq_ignore_ascii_case(b"US-ASCII")
}

fn options(c: &mut Cursor<'_>) -> Result<Returns, Bad> {
    let mut returns = Returns::default();
    c.list(|c| {
        match c.word()?.as_str() {
            "MIN" => returns.min = true,
            "MAX" => returns.max = true,
            "ALL" => returns.all = true,
            "COUNT" => returns.count = true,
            "SAVE" => returns.save = true,
            "PARTIAL" if returns.partial.is_none() => {
                c.space()?;
                returns.partial = Some(positions(c)?);
            }
            _ => return Err(Bad("unknown return option")),
        }
        Ok(())
    })?;
    // RFC 9394, section 3.1.
    if returns.all && returns.partial.is_some() {
        return Err(Bad("ALL and PARTIAL exclude each other"));
    }
    let any = returns.min || returns.max || returns.all || returns.count || returns.save;
    if !any && returns.partial.is_none() {
        returns.all = true;
    }
    Ok(returns)
}

/// Two positions of PARTIAL (RFC 9394, `partial-range`), as written: they are told back so.
pub(super) fn positions(c: &mut Cursor<'_>) -> Result<(i64, i64), Bad> {
    let back = c.eat(b'-');
    let first = i64::from(c.positive()?);
    c.expect(b':', "a range was expected")?;
    if c.eat(b'-') != back {
        return Err(Bad("both ends of PARTIAL count from the same side"));
    }
    let last = i64::from(c.positive()?);
    Ok(if back { (-first, -last) } else { (first, last) })
}

struct Reader<'l> {
    limits: &'l Limits,
    keys: usize,
    modseq: bool,
    bad_text: bool,
}

fn keys(c: &mut Cursor<'_>, limits: &Limits, bad_charset: bool) -> Result<Search, Bad> {
    let mut reader = Reader {
        limits,
        keys: 0,
        modseq: false,
        bad_text: false,
    };
    let mut terms = vec![reader.term(c, 0)?];
    while c.eat(b' ') {
        terms.push(reader.term(c, 0)?);
    }
    let term = match terms.len() {
        1 => terms.swap_remove(0),
        _ => Term::All(terms),
    };
    Ok(Search {
        returns: None,
        term,
        modseq: reader.modseq,
        bad_charset: bad_charset || reader.bad_text,
        named_charset: false,
    })
}

fn flag(name: &str, on: bool) -> Term {
    Term::Store(Key::Flag(Flag {
        name: name.to_owned(),
        off: !on,
    }))
}

/// From the start of a day (included) to the start of another (excluded).
fn days(key: fn(Range) -> Key, from: Option<i64>, to: Option<i64>) -> Term {
    let ms = |day: i64| u64::try_from(day.saturating_mul(DAY_MS)).unwrap_or(0);
    match (from.map_or(0, ms), to.map(ms)) {
        // No moment of this store is before 1970.
        (_, Some(0)) => Term::Nothing,
        (from, to) => Term::Store(key(Range {
            from,
            to: to.unwrap_or(0),
        })),
    }
}

impl Reader<'_> {
    fn text(&mut self, c: &mut Cursor<'_>) -> Result<String, Bad> {
        c.space()?;
        Ok(String::from_utf8(c.astring()?).unwrap_or_else(|_| {
            self.bad_text = true;
            String::new()
        }))
    }

    fn term(&mut self, c: &mut Cursor<'_>, depth: usize) -> Result<Term, Bad> {
        self.keys += 1;
        if depth > self.limits.nesting || self.keys > self.limits.items {
            return Err(Bad("the search is too complex"));
        }
        match c.peek() {
            Some(b'(') => {
                let terms = c.list(|c| self.term(c, depth + 1))?;
                return match terms.is_empty() {
                    true => Err(Bad("a search key was expected")),
                    false => Ok(Term::All(terms)),
                };
            }
            Some(b'0'..=b'9' | b'*' | b'$') => {
                return Ok(Term::Numbers(Set::parse(c, self.limits)?));
            }
            _ => {}
        }
        let word = c.word()?;
        if let Some(term) = simple(&word) {
            return Ok(term);
        }
        if let Some(term) = self.dated(c, &word)? {
            return Ok(term);
        }
        Ok(match word.as_str() {
            "NOT" => {
                c.space()?;
                Term::Not(Box::new(self.term(c, depth + 1)?))
            }
            "OR" => {
                c.space()?;
                let one = self.term(c, depth + 1)?;
                c.space()?;
                Term::Any(vec![one, self.term(c, depth + 1)?])
            }
            "UID" => {
                c.space()?;
                Term::Uids(Set::parse(c, self.limits)?)
            }
            "KEYWORD" | "UNKEYWORD" => {
                c.space()?;
                flag(&c.flag()?, word == "KEYWORD")
            }
            "LARGER" => {
                c.space()?;
                let n = c.number63()?;
                Term::Store(Key::Size(Range { from: n + 1, to: 0 }))
            }
            "SMALLER" => {
                c.space()?;
                match c.number63()? {
                    0 => Term::Nothing,
                    to => Term::Store(Key::Size(Range { from: 0, to })),
                }
            }
            "OLDER" | "YOUNGER" => {
                c.space()?;
                Term::Age(word == "OLDER", c.positive()?)
            }
            "MODSEQ" => self.modseq(c)?,
            "EMAILID" | "THREADID" => {
                c.space()?;
                let id = c.astring()?;
                let (letter, key): (_, fn(u64) -> Key) = match word.as_str() {
                    "EMAILID" => (b'E', Key::EmailId),
                    _ => (b'T', Key::ThreadId),
                };
                object_number(&id, letter).map_or(Term::Nothing, |n| Term::Store(key(n)))
            }
            "HEADER" => {
                let name = self.text(c)?;
                let text = self.text(c)?;
                Term::Store(Key::Header(Field { name, text }))
            }
            "FROM" => Term::Store(Key::From(self.text(c)?)),
            "TO" => Term::Store(Key::To(self.text(c)?)),
            "CC" => Term::Store(Key::Cc(self.text(c)?)),
            "BCC" => Term::Store(Key::Bcc(self.text(c)?)),
            "SUBJECT" => Term::Store(Key::Subject(self.text(c)?)),
            "BODY" => Term::Store(Key::Body(self.text(c)?)),
            "TEXT" => Term::Store(Key::Text(self.text(c)?)),
            _ => return Err(Bad("unknown search key")),
        })
    }

    fn dated(&mut self, c: &mut Cursor<'_>, word: &str) -> Result<Option<Term>, Bad> {
        let (key, rest): (fn(Range) -> Key, _) = match word {
            "BEFORE" | "ON" | "SINCE" => (Key::InternalDateMs, word),
            _ => match (word.strip_prefix("SENT"), word.strip_prefix("SAVED")) {
                (Some(rest), _) => (Key::SentMs, rest),
                (_, Some(rest)) => (Key::SaveDateMs, rest),
                _ => return Ok(None),
            },
        };
        if !matches!(rest, "BEFORE" | "ON" | "SINCE") {
            return Ok(None);
        }
        c.space()?;
        let day = date::date(c)?;
        Ok(Some(match rest {
            "BEFORE" => days(key, None, Some(day)),
            "SINCE" => days(key, Some(day), None),
            _ => days(key, Some(day), Some(day + 1)),
        }))
    }

    /// `MODSEQ [entry type] n`: modseqs are kept for messages alone, so the entry does not matter
    /// (RFC 7162, section 3.1.5).
    fn modseq(&mut self, c: &mut Cursor<'_>) -> Result<Term, Bad> {
        c.space()?;
        if c.peek() == Some(b'"') {
            c.string()?;
            c.space()?;
            if !matches!(c.word()?.as_str(), "PRIV" | "SHARED" | "ALL") {
                return Err(Bad("the entry type is priv, shared or all"));
            }
            c.space()?;
        }
        self.modseq = true;
        Ok(Term::ModSeq(c.number63()?))
    }
}

/// Keys without arguments.
fn simple(word: &str) -> Option<Term> {
    Some(match word {
        "ALL" | "OLD" | "SAVEDATESUPPORTED" => Term::All(Vec::new()),
        "ANSWERED" => flag("\\Answered", true),
        "DELETED" => flag("\\Deleted", true),
        "DRAFT" => flag("\\Draft", true),
        "FLAGGED" => flag("\\Flagged", true),
        "SEEN" => flag("\\Seen", true),
        "UNANSWERED" => flag("\\Answered", false),
        "UNDELETED" => flag("\\Deleted", false),
        "UNDRAFT" => flag("\\Draft", false),
        "UNFLAGGED" => flag("\\Flagged", false),
        "UNSEEN" => flag("\\Seen", false),
        // \Recent is not kept: no message has it.
        "RECENT" | "NEW" => Term::Nothing,
        _ => return None,
    })
}

/// The number behind an object id of this door (RFC 8474): a letter and a decimal number.
pub fn object_number(id: &[u8], letter: u8) -> Option<u64> {
    let digits = id.strip_prefix(&[letter])?;
    let plain = digits.first() != Some(&b'0') || digits.len() == 1;
    let all = digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| plain && all)?;
    text.parse().ok()
}
