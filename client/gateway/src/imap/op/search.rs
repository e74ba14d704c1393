//! SEARCH (RFC 9051, section 6.4.4; ESEARCH, SEARCHRES: RFC 4731, 5182; PARTIAL: RFC 9394).
//!
//! The store searches what is stored now; the client is told of messages that it knows. So sets
//! are resolved here, and matches that the client has not been told of are left out.

use futures::StreamExt;
use posthouse_client::proto::SearchKey;
use posthouse_client::proto::search_key::{Key, Keys, Range, Uids};
use roaring::RoaringBitmap;

use crate::imap::parse::search::{Returns, Search, Term};
use crate::imap::respond::text::{number, put, set, string};
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;
use crate::imap::store::{Event, Matches, Query, Wanted};
use crate::imap::view::{self, View};

/// SEARCH.
pub(super) async fn search(
    s: &mut Session,
    tag: &str,
    uid: bool,
    command: Search,
) -> Result<Done, Stop> {
    if command.named_charset && s.enabled.utf8 {
        // RFC 6855, section 3: everything is UTF-8 then.
        return Err(Done::bad("no CHARSET after UTF8=ACCEPT is enabled").into());
    }
    let save = command.returns.is_some_and(|r| r.save);
    let found = match find(s, &command, Query::default()).await {
        Ok(found) => found,
        Err(stop) => {
            // RFC 5182, section 2.1: a search that fails saves nothing.
            if let (true, Stop::Done(done), Some(selected)) = (save, &stop, &mut s.selected)
                && done.condition == crate::imap::respond::done::Condition::No
            {
                selected.view.saved = RoaringBitmap::new();
            }
            return Err(stop);
        }
    };
    let view = &s.selected()?.view;
    let uids = &found.uids & view.uids();
    let told = if uid {
        uids.clone()
    } else {
        view.numbers(&uids)
    };
    let returns = match command.returns {
        None if !s.enabled.rev2 => {
            plain(s, &told, command.modseq.then_some(found.modseq)).await?;
            return Ok(Done::ok("that is all"));
        }
        None => Returns {
            all: true,
            ..Returns::default()
        },
        Some(returns) => returns,
    };
    let part = returns.partial.map(|range| part_of(&told, range));
    let ends = ends_of(&uids, &returns);
    if returns.save {
        s.selected()?.view.saved = saved_of(&uids, &returns);
        if !(returns.all || returns.count || returns.min || returns.max || part.is_some()) {
            return Ok(Done::ok("saved"));
        }
    }
    let only_ends =
        (returns.min || returns.max) && !returns.all && !returns.count && part.is_none();
    let modseq = match command.modseq && !uids.is_empty() {
        false => None,
        true if only_ends => Some(highest(s, &ends).await?),
        true => Some(found.modseq),
    };
    let out = s.wire.out();
    put(out, "* ESEARCH (TAG ");
    string(out, tag.as_bytes(), false);
    put(out, if uid { ") UID" } else { ")" });
    for (wanted, name, value) in [
        (returns.min, " MIN ", told.min()),
        (returns.max, " MAX ", told.max()),
    ] {
        if let Some(value) = value.filter(|_| wanted) {
            put(out, name);
            number(out, value.into());
        }
    }
    if returns.count {
        put(out, " COUNT ");
        number(out, told.len());
    }
    if returns.all && !told.is_empty() {
        put(out, " ALL ");
        set(out, &told);
    }
    if let (Some(part), Some((first, last))) = (part, returns.partial) {
        put(out, &format!(" PARTIAL ({first}:{last} "));
        match part.is_empty() {
            true => put(out, "NIL"),
            false => set(out, &part),
        }
        put(out, ")");
    }
    if let Some(modseq) = modseq {
        put(out, " MODSEQ ");
        number(out, modseq);
    }
    put(out, "\r\n");
    Ok(Done::ok("that is all"))
}

/// `* SEARCH n n (MODSEQ m)`.
async fn plain(s: &mut Session, told: &RoaringBitmap, modseq: Option<u64>) -> Result<(), Stop> {
    let patience = s.door.config.data_timeout();
    put(s.wire.out(), "* SEARCH");
    for n in told {
        let out = s.wire.out();
        put(out, " ");
        number(out, n.into());
        if s.wire.is_full() {
            s.wire.flush(patience).await?;
        }
    }
    if let Some(modseq) = modseq.filter(|_| !told.is_empty()) {
        put(s.wire.out(), &format!(" (MODSEQ {modseq})"));
    }
    put(s.wire.out(), "\r\n");
    Ok(())
}

/// Asks the store. Modseqs in a search are a use of CONDSTORE.
pub(super) async fn find(s: &mut Session, search: &Search, query: Query) -> Result<Matches, Stop> {
    let account = s.account()?;
    let now = s.door.store.now_ms();
    let view = &s.selected()?.view;
    if search.bad_charset {
        return Err(Done::no("BADCHARSET (US-ASCII UTF-8)", "the charset is not known").into());
    }
    let query = Query {
        key: Some(key_of(&search.term, view, now)),
        ..query
    };
    let mailbox = view.mailbox();
    if search.modseq {
        s.use_condstore();
    }
    Ok(s.door.store.search(&account, mailbox, query).await?)
}

fn key(key: Key) -> SearchKey {
    SearchKey { key: Some(key) }
}

fn uids(view: &View, uids: &RoaringBitmap) -> SearchKey {
    match uids.is_empty() {
        true => nothing(),
        false => key(Key::Uids(Uids {
            uids: view.spans(uids),
        })),
    }
}

fn nothing() -> SearchKey {
    let all = key(Key::AllOf(Keys::default()));
    key(Key::Not(Box::new(all)))
}

fn key_of(term: &Term, view: &View, now: u64) -> SearchKey {
    let each = |terms: &[Term]| Keys {
        keys: terms.iter().map(|t| key_of(t, view, now)).collect(),
    };
    key(match term {
        Term::All(terms) => Key::AllOf(each(terms)),
        Term::Any(terms) => Key::AnyOf(each(terms)),
        Term::Not(term) => Key::Not(Box::new(key_of(term, view, now))),
        // Numbers that nobody has match nothing.
        Term::Numbers(set) => return uids(view, &view.by_number_if_any(set)),
        Term::Uids(set) => return uids(view, &view.by_uid(set)),
        Term::Nothing => return nothing(),
        Term::Store(key) => key.clone(),
        Term::ModSeq(from) => Key::Modseq(Range { from: *from, to: 0 }),
        Term::Age(older, seconds) => {
            let moment = now.saturating_sub(u64::from(*seconds) * 1000);
            match (older, moment) {
                (true, 0) => return nothing(),
                (true, to) => Key::InternalDateMs(Range { from: 0, to }),
                (false, from) => Key::InternalDateMs(Range { from, to: 0 }),
            }
        }
    })
}

/// Those of the messages that have changed since.
pub(super) async fn changed(
    s: &mut Session,
    of: RoaringBitmap,
    since: u64,
) -> Result<RoaringBitmap, Stop> {
    let account = s.account()?;
    let view = &s.selected()?.view;
    let from = since.saturating_add(1);
    let keys = vec![uids(view, &of), key(Key::Modseq(Range { from, to: 0 }))];
    let query = Query {
        key: Some(key(Key::AllOf(Keys { keys }))),
        ..Query::default()
    };
    let mailbox = view.mailbox();
    let found = s.door.store.search(&account, mailbox, query).await?;
    Ok(found.uids & of)
}

/// What SAVE keeps: all that was found where all of it is told or counted, otherwise the part and
/// the ends that are told (RFC 5182, section 2.4; RFC 9394, section 3.2).
fn saved_of(uids: &RoaringBitmap, returns: &Returns) -> RoaringBitmap {
    let some = returns.min || returns.max || returns.partial.is_some();
    if returns.all || returns.count || !some {
        return uids.clone();
    }
    let part = returns.partial.map(|range| part_of(uids, range));
    ends_of(uids, returns) | part.unwrap_or_default()
}

/// The first and the last, as far as they are asked for.
fn ends_of(uids: &RoaringBitmap, returns: &Returns) -> RoaringBitmap {
    let min = uids.min().filter(|_| returns.min);
    let max = uids.max().filter(|_| returns.max);
    min.into_iter().chain(max).collect()
}

/// Positions of a set, counted from 1, or from its end with negative numbers.
pub(super) fn part_of(set: &RoaringBitmap, (first, last): (i64, i64)) -> RoaringBitmap {
    let n = i64::try_from(set.len()).unwrap_or(i64::MAX);
    // Either end may come first; counted from the end, -1 is the last.
    let (low, high) = (first.min(last), first.max(last));
    let (from, to) = match first < 0 {
        true => (n + low, n + high),
        false => (low - 1, high - 1),
    };
    let at = |i: i64| set.select(u32::try_from(i).ok()?);
    let (from, to) = (from.max(0), to.min(n - 1));
    match (from <= to).then(|| (at(from), at(to))) {
        Some((Some(a), Some(b))) => {
            let mut out = RoaringBitmap::new();
            out.insert_range(a..=b);
            out & set
        }
        _ => RoaringBitmap::new(),
    }
}

/// The highest modseq of these messages.
async fn highest(s: &mut Session, uids: &RoaringBitmap) -> Result<u64, Stop> {
    let account = s.account()?;
    let mailbox = s.selected()?.view.mailbox();
    let wanted = Wanted {
        uids: view::ranges(uids),
        ..Wanted::default()
    };
    let mut rows = s.door.store.fetch(&account, mailbox, wanted);
    let mut highest = 0;
    while let Some(event) = rows.next().await {
        if let Event::Message(row) = event? {
            highest = highest.max(row.modseq);
        }
    }
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::parse::{Command, Limits, parse};

    #[test]
    fn parts_are_counted_from_either_end() {
        let set: RoaringBitmap = [2, 4, 6, 8, 10].into_iter().collect();
        let of = |range| part_of(&set, range).iter().collect::<Vec<_>>();
        assert_eq!(of((1, 2)), [2, 4]);
        assert_eq!(of((4, 99)), [8, 10]);
        assert_eq!(of((6, 9)), [] as [u32; 0]);
        assert_eq!(of((-1, -1)), [10]);
        assert_eq!(of((-2, -1)), [8, 10]);
        assert_eq!(of((-1, -2)), [8, 10]);
        assert_eq!(of((2, 1)), [2, 4]);
        assert_eq!(of((-99, -4)), [2, 4]);
        assert_eq!(of((-99, -6)), [] as [u32; 0]);
        assert_eq!(part_of(&RoaringBitmap::new(), (1, 5)).len(), 0);
    }

    #[test]
    fn what_is_told_is_saved() {
        let set: RoaringBitmap = [2, 4, 6, 8, 10].into_iter().collect();
        for (options, expected) in [
            ("SAVE", &[2, 4, 6, 8, 10][..]),
            ("SAVE MIN", &[2]),
            ("SAVE MIN MAX", &[2, 10]),
            ("SAVE PARTIAL -2:-2", &[8]),
            ("SAVE MIN PARTIAL -2:-2", &[2, 8]),
            ("SAVE MAX PARTIAL -2:-2", &[8, 10]),
            ("SAVE MIN MAX PARTIAL 2:3", &[2, 4, 6, 10]),
            ("SAVE COUNT PARTIAL -2:-2", &[2, 4, 6, 8, 10]),
            ("SAVE MIN COUNT", &[2, 4, 6, 8, 10]),
            ("SAVE MAX ALL", &[2, 4, 6, 8, 10]),
        ] {
            let command = format!("a SEARCH RETURN ({options}) ALL");
            let Ok(Command::Search(_, search)) = parse(command.as_bytes(), &Limits::default()).1
            else {
                panic!("{command}")
            };
            let saved = saved_of(&set, &search.returns.unwrap());
            assert_eq!(saved.iter().collect::<Vec<_>>(), expected, "{options}");
        }
    }
}
