//! By what an email finds its thread: one key for each id that it names, with its subject (RFC
//! 8474, section 5.2; RFC 8621, section 3).
//!
//! Two emails belong together when they have an id in common, in Message-ID, In-Reply-To or
//! References, and the same base subject: who replies to an old message in order to begin
//! something new writes a new subject. So a key is both, hashed; the machine compares keys alone.

use super::Summary;
use crate::machine::limits;
use crate::types::ThreadKey;

/// Ids of In-Reply-To that are taken: it names the parent, and rarely more than one.
const PARENTS: usize = 3;

/// The keys of an email: ascending, each once, at most [`limits::THREAD_KEYS`]; none for an email
/// that is a thread of its own.
///
/// Of many ids those are taken by which relatives are most surely found: its own, the first of
/// References (the root, which all of a thread have in common), the parent, and the nearest
/// ancestors.
pub fn keys(summary: &Summary) -> Vec<ThreadKey> {
    let envelope = &summary.envelope;
    let subject = collapsed(&summary.base_subject);
    // Without a subject, what has no relatives would be found by its id alone.
    if subject.is_empty() && envelope.references.is_empty() && envelope.in_reply_to.is_empty() {
        return Vec::new();
    }
    let own = Some(&envelope.message_id).filter(|id| !id.is_empty());
    let root = envelope.references.first();
    let parents = envelope.in_reply_to.iter().take(PARENTS);
    let nearest = envelope.references.iter().skip(1).rev();
    let ids = own.into_iter().chain(root).chain(parents).chain(nearest);
    let mut keys: Vec<ThreadKey> = Vec::with_capacity(limits::THREAD_KEYS);
    for id in ids {
        let key = key(id, &subject);
        if !keys.contains(&key) {
            keys.push(key);
        }
        if keys.len() == limits::THREAD_KEYS {
            break;
        }
    }
    keys.sort_unstable();
    keys
}

/// White space is what programs fold and unfold as they like.
fn collapsed(subject: &str) -> String {
    let words: Vec<&str> = subject.split_whitespace().collect();
    words.join(" ")
}

fn key(id: &str, subject: &str) -> ThreadKey {
    let mut hash = blake3::Hasher::new();
    hash.update(id.as_bytes());
    hash.update(&[0]);
    hash.update(subject.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize().as_bytes()[..8]);
    ThreadKey(u64::from_be_bytes(first))
}

#[cfg(test)]
mod tests {
    use super::super::summarize;
    use super::*;

    fn of(header: &str) -> Vec<ThreadKey> {
        keys(&summarize(format!("{header}\r\n\r\nx").as_bytes()))
    }

    fn meet(a: &[ThreadKey], b: &[ThreadKey]) -> bool {
        a.iter().any(|key| b.contains(key))
    }

    #[test]
    fn a_reply_meets_what_it_replies_to_by_any_of_its_fields() {
        let root = of("Message-ID: <1@x>\r\nSubject: Post");
        assert_eq!(root, [key("1@x", "post")]);
        for reply in [
            "In-Reply-To: <1@x>\r\nSubject: Re: Post",
            "References: <1@x> <2@x>\r\nSubject: RE: post",
            "References: <0@x>\r\n <1@x>\r\nSubject: [list] Re:\r\n  Post",
            "Message-ID: <1@x>\r\nSubject: Fwd: Post",
        ] {
            assert!(meet(&root, &of(reply)), "{reply}");
        }
        for other in [
            "In-Reply-To: <1@x>\r\nSubject: Something new",
            "In-Reply-To: <9@x>\r\nSubject: Re: Post",
            "Subject: Re: Post",
        ] {
            assert!(!meet(&root, &of(other)), "{other}");
        }
    }

    #[test]
    fn what_names_nobody_is_alone() {
        assert!(of("Subject: Post").is_empty());
        assert!(of("Message-ID: <1@x>").is_empty());
        assert!(of("Message-ID: <1@x>\r\nSubject: Re:").is_empty());
        assert_eq!(of("Message-ID: <1@x>\r\nReferences: <0@x>").len(), 2);
    }

    #[test]
    fn of_many_ids_the_nearest_and_the_root_are_kept_in_order() {
        let references: Vec<String> = (0..90).map(|n| format!("<{n}@x>")).collect();
        let found = of(&format!(
            "Message-ID: <me@x>\r\nSubject: s\r\nIn-Reply-To: <89@x>\r\nReferences: {}",
            references.join("\r\n ")
        ));
        assert_eq!(found.len(), limits::THREAD_KEYS);
        assert!(found.is_sorted_by(|a, b| a < b));
        let nearest = (81..90).map(|n| format!("{n}@x"));
        for id in ["me@x".to_owned(), "0@x".to_owned()]
            .into_iter()
            .chain(nearest)
        {
            assert!(found.contains(&key(&id, "s")), "{id}");
        }
    }

    /// Keys are on disks: others for the same email would part threads.
    #[test]
    fn keys_stay_what_they_are() {
        let hash = blake3::hash(b"1@x\0post");
        let first = u64::from_be_bytes(hash.as_bytes()[..8].try_into().unwrap());
        assert_eq!(key("1@x", "post"), ThreadKey(first));
    }
}
