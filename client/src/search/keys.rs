//! Keys of searches, made in few words, and put into a shape that every node takes.

use crate::error::Error;
use crate::proto::search_key::{Field, Flag, Key, Keys, Range, Uids};
use crate::proto::{SearchKey, UidRange};

/// Messages inside of messages that a request may carry at most; gRPC's decoders take no more
/// than 100, and the request is one of them.
const MAX_NESTING: usize = 98;
/// Conditions of a key at most.
const MAX_NODES: usize = 1000;

fn wire(key: Key) -> SearchKey {
    SearchKey { key: Some(key) }
}

fn list(keys: impl IntoIterator<Item = SearchKey>) -> Keys {
    Keys {
        keys: keys.into_iter().collect(),
    }
}

/// All of these; of none: every message.
pub fn all_of(keys: impl IntoIterator<Item = SearchKey>) -> SearchKey {
    wire(Key::AllOf(list(keys)))
}

/// Any of these; of none: no message.
pub fn any_of(keys: impl IntoIterator<Item = SearchKey>) -> SearchKey {
    wire(Key::AnyOf(list(keys)))
}

/// Not this.
pub fn not(key: SearchKey) -> SearchKey {
    wire(Key::Not(Box::new(key)))
}

/// One of these uids.
pub fn uids(uids: Vec<UidRange>) -> SearchKey {
    wire(Key::Uids(Uids { uids }))
}

/// Carries this flag or keyword.
pub fn flag(name: impl Into<String>) -> SearchKey {
    wire(Key::Flag(Flag {
        name: name.into(),
        off: false,
    }))
}

/// Does not carry it.
pub fn no_flag(name: impl Into<String>) -> SearchKey {
    wire(Key::Flag(Flag {
        name: name.into(),
        off: true,
    }))
}

fn range(from: u64, to: Option<u64>) -> Option<Range> {
    match to {
        // No number is below 0, and 0 would be no bound.
        Some(0) => None,
        to => Some(Range {
            from,
            to: to.unwrap_or(0),
        }),
    }
}

fn ranged(from: u64, to: Option<u64>, key: fn(Range) -> Key) -> SearchKey {
    range(from, to).map_or_else(|| any_of([]), |range| wire(key(range)))
}

/// Arrived at `from` or later and before `to`; milliseconds since 1970.
pub fn arrived(from: u64, to: Option<u64>) -> SearchKey {
    ranged(from, to, Key::InternalDateMs)
}

/// The day in the Date field, as written, begins at `from` or later and before `to`; milliseconds
/// since 1970 as if it were in UTC.
pub fn sent(from: u64, to: Option<u64>) -> SearchKey {
    ranged(from, to, Key::SentMs)
}

/// Came into the mailbox at `from` or later and before `to` (RFC 8514); milliseconds since 1970.
pub fn saved(from: u64, to: Option<u64>) -> SearchKey {
    ranged(from, to, Key::SaveDateMs)
}

/// Has at least `from` and fewer than `to` octets.
pub fn size(from: u64, to: Option<u64>) -> SearchKey {
    ranged(from, to, Key::Size)
}

/// Last touched by this change or a later one (RFC 7162).
pub fn modseq(from: u64) -> SearchKey {
    ranged(from, None, Key::Modseq)
}

/// A field of this name contains the text; an empty text: there is such a field.
pub fn header(name: impl Into<String>, text: impl Into<String>) -> SearchKey {
    wire(Key::Header(Field {
        name: name.into(),
        text: text.into(),
    }))
}

/// From contains the text.
pub fn from(text: impl Into<String>) -> SearchKey {
    wire(Key::From(text.into()))
}

/// To contains the text.
pub fn to(text: impl Into<String>) -> SearchKey {
    wire(Key::To(text.into()))
}

/// The subject contains the text.
pub fn subject(text: impl Into<String>) -> SearchKey {
    wire(Key::Subject(text.into()))
}

/// A text part contains the text, decoded.
pub fn body(text: impl Into<String>) -> SearchKey {
    wire(Key::Body(text.into()))
}

/// A text part or a header contains the text, decoded.
pub fn text(text: impl Into<String>) -> SearchKey {
    wire(Key::Text(text.into()))
}

/// The same key with fewer levels: lists in lists of their kind, lists of one and double negations
/// are dissolved. A long chain of alternatives, which IMAP can only write as a deep tree, becomes
/// one list.
pub fn simplify(key: SearchKey) -> SearchKey {
    match key.key {
        Some(Key::AllOf(keys)) => {
            let mut flat = Vec::new();
            flatten(keys.keys, true, &mut flat);
            only(flat).unwrap_or_else(all_of)
        }
        Some(Key::AnyOf(keys)) => {
            let mut flat = Vec::new();
            flatten(keys.keys, false, &mut flat);
            only(flat).unwrap_or_else(any_of)
        }
        Some(Key::Not(inner)) => match simplify(*inner).key {
            Some(Key::Not(inner)) => *inner,
            key => not(SearchKey { key }),
        },
        key => SearchKey { key },
    }
}

fn only(mut keys: Vec<SearchKey>) -> Result<SearchKey, Vec<SearchKey>> {
    match keys.len() {
        1 => Ok(keys.remove(0)),
        _ => Err(keys),
    }
}

fn flatten(keys: Vec<SearchKey>, all: bool, out: &mut Vec<SearchKey>) {
    for key in keys {
        match (simplify(key).key, all) {
            (Some(Key::AllOf(inner)), true) | (Some(Key::AnyOf(inner)), false) => {
                out.extend(inner.keys);
            }
            (key, _) => out.push(SearchKey { key }),
        }
    }
}

/// Whether a request can carry the key: a node would not even be able to say what is wrong with
/// one that is nested too deeply.
pub fn check(key: &SearchKey) -> Result<(), Error> {
    // A key is a message, and in a list it is in another one.
    let mut open = vec![(key, 1)];
    let mut nodes = 0;
    while let Some((key, nesting)) = open.pop() {
        nodes += 1;
        if nodes > MAX_NODES {
            return Err(Error::bad_request(
                "key",
                format!("has more than {MAX_NODES} conditions"),
            ));
        }
        if nesting + 2 > MAX_NESTING {
            return Err(Error::bad_request("key", "is nested too deeply"));
        }
        match &key.key {
            Some(Key::AllOf(keys) | Key::AnyOf(keys)) => {
                open.extend(keys.keys.iter().map(|key| (key, nesting + 2)));
            }
            Some(Key::Not(inner)) => open.push((inner, nesting + 1)),
            Some(_) => (),
            None => return Err(Error::bad_request("key", "is empty")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::SearchRequest;
    use prost::Message;

    fn carried(key: &SearchKey) -> bool {
        let request = SearchRequest {
            key: Some(key.clone()),
            ..SearchRequest::default()
        };
        SearchRequest::decode(request.encode_to_vec().as_slice()).is_ok()
    }

    #[test]
    fn chains_become_lists() {
        let deep = (0..500).fold(subject("x"), |key, n| any_of([subject(n.to_string()), key]));
        let flat = simplify(deep);
        assert!(matches!(&flat.key, Some(Key::AnyOf(keys)) if keys.keys.len() == 501));
        assert!(check(&flat).is_ok() && carried(&flat));
        assert_eq!(simplify(all_of([any_of([not(not(body("x")))])])), body("x"));
        assert_eq!(simplify(not(all_of([]))), not(all_of([])));
        assert_eq!(
            simplify(all_of([body("a"), all_of([body("b"), any_of([])])])),
            all_of([body("a"), body("b"), any_of([])])
        );
    }

    #[test]
    fn what_passes_the_check_can_be_carried() {
        let last = || uids(vec![UidRange { first: 1, last: 2 }]);
        let lists = |n| (0..n).fold(last(), |key, _| all_of([key]));
        let nots = |n| (0..n).fold(last(), |key, _| not(key));
        for n in 0..120 {
            for key in [lists(n), nots(n)] {
                assert!(check(&key).is_err() || carried(&key), "{n}");
            }
        }
        assert!(check(&lists(47)).is_ok() && check(&nots(95)).is_ok());
        assert!(check(&lists(60)).is_err() && check(&nots(120)).is_err());
        assert!(check(&any_of(vec![body("x"); 1000])).is_err());
        assert!(check(&SearchKey { key: None }).is_err());
    }

    #[test]
    fn nothing_is_below_zero() {
        assert_eq!(size(0, Some(0)), any_of([]));
        assert_eq!(simplify(size(5, None)), size(5, None));
    }
}
