//! The base subject (RFC 5256, section 2.1), and whether a subject is that of a reply or forward.
//!
//! Threads need both, and exactly as the RFC has them: two servers shall show the same threads.
//! (The summary's base subject knows the marks of many languages and is made for thread ids.)

/// A subject without what replies and forwards add to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// What is left; its case as it was.
    pub text: String,
    /// Whether marks of a reply or a forward were removed.
    pub is_reply: bool,
}

/// The base subject of a decoded subject. Linear in its octets.
pub fn base(subject: &str) -> Base {
    // Section 2.1, step 1: one space for each run of white space.
    let words: Vec<&str> = subject.split_ascii_whitespace().collect();
    let joined = words.join(" ");
    let mut rest = joined.as_str();
    let mut is_reply = false;
    loop {
        // Step 2: trailers.
        while let Some(shorter) = strip_end(rest, "(fwd)") {
            rest = shorter.trim_ascii_end();
            is_reply = true;
        }
        // Steps 3 to 5: leaders, and blobs that leave something. A leader may begin with blobs:
        // if none follows all of them, none follows fewer.
        loop {
            rest = rest.trim_ascii_start();
            let after = skip_blobs(rest);
            if let Some(left) = skip_mark(after.rest) {
                rest = left;
                is_reply = true;
                continue;
            }
            rest = match after.rest {
                "" => after.last_blob,
                left => left,
            };
            break;
        }
        // Step 6.
        match strip_start(rest, "[fwd:").and_then(|inner| inner.strip_suffix(']')) {
            Some(inner) => {
                rest = inner.trim_ascii();
                is_reply = true;
            }
            None => break,
        }
    }
    Base {
        text: rest.to_owned(),
        is_reply,
    }
}

fn strip_start<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(mark.len())?;
    start.eq_ignore_ascii_case(mark).then_some(rest)
}

fn strip_end<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let (rest, end) = text.split_at_checked(text.len().checked_sub(mark.len())?)?;
    end.eq_ignore_ascii_case(mark).then_some(rest)
}

/// One `subj-blob`: brackets with neither bracket inside, and white space.
fn skip_blob(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('[')?;
    let end = inner.find(['[', ']'])?;
    let rest = inner[end..].strip_prefix(']')?;
    Some(rest.trim_ascii_start())
}

struct AfterBlobs<'a> {
    rest: &'a str,
    /// From where the last of the blobs begins.
    last_blob: &'a str,
}

fn skip_blobs(text: &str) -> AfterBlobs<'_> {
    let (mut rest, mut last_blob) = (text, text);
    while let Some(left) = skip_blob(rest) {
        last_blob = rest;
        rest = left;
    }
    AfterBlobs { rest, last_blob }
}

/// `subj-refwd`: "re", "fw" or "fwd", an optional blob, a colon.
fn skip_mark(text: &str) -> Option<&str> {
    let marks = ["re", "fwd", "fw"];
    let rest = marks.iter().find_map(|mark| strip_start(text, mark))?;
    let rest = rest.trim_ascii_start();
    skip_blob(rest).unwrap_or(rest).strip_prefix(':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn marks_of_replies_and_forwards_are_removed() {
        for (subject, text, is_reply) in [
            ("", "", false),
            ("post", "post", false),
            ("Re: post", "post", true),
            ("RE : Fw: fwd: post (fwd) (FWD)", "post", true),
            ("[list] Re: [list] post", "post", true),
            ("re[2]: post", "post", true),
            ("re [2] : post", "post", true),
            ("[list] post", "post", false),
            ("[a] [b]", "[b]", false),
            ("Re: [a] [b]", "[b]", true),
            ("[fwd: Re: the  post ]", "the post", true),
            ("Re: [Fwd: [fwd: post]]", "post", true),
            ("[fwd: post", "[fwd: post", false),
            ("[a[b] post", "[a[b] post", false),
            ("regarding: post", "regarding: post", false),
            ("re post", "re post", false),
            ("Re:", "", true),
            ("(fwd)", "", true),
            ("AW: post", "AW: post", false),
            ("re: 驿站", "驿站", true),
            ("驿站", "驿站", false),
        ] {
            let found = base(subject);
            assert_eq!(
                (found.text.as_str(), found.is_reply),
                (text, is_reply),
                "{subject:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_base_of_a_base_is_itself(subject in "(\\[|\\]|re|fwd|:|\\(fwd\\)| |a|\\[fwd:|é){0,20}") {
            let once = base(&subject).text;
            let twice = base(&once);
            prop_assert_eq!(&twice.text, &once);
            prop_assert!(!twice.is_reply);
        }
    }

    #[test]
    fn hostile_subjects_cost_no_more_than_their_octets() {
        for unit in ["[a]", "re:", "(fwd)", "[fwd:", "[a]re:", "re[a]:"] {
            base(&unit.repeat(100_000));
            base(&format!("{}{}", unit.repeat(50_000), "]".repeat(50_000)));
        }
    }
}
