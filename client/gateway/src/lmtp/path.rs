//! Addresses in MAIL and RCPT: `<local@domain>` (RFC 5321, section 4.1.2; RFC 6531 for UTF-8).
//!
//! An address leaves here in one canonical spelling, so that one account has one name: source
//! routes are dropped (RFC 5321, appendix C), and a quoted local part that needs no quotes loses
//! them (`"ann"@example.org` is `ann@example.org`, section 4.1.2). Nothing else is changed:
//! details after "+" are part of the name.

/// Why a path cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// No `<` where the path should begin, or no `>` after it.
    #[error("the address stands in angle brackets")]
    Brackets,
    /// The part before the `@`.
    #[error("the local part is malformed")]
    Local,
    /// The part after the `@`.
    #[error("the domain is malformed")]
    Domain,
    /// What stands before `:` in `<@relay.example:ann@example.org>`.
    #[error("the source route is malformed")]
    Route,
    /// Octets after `>` that are no parameters.
    #[error("parameters are separated by a space")]
    Trailing,
}

/// Reads a path at the start of `text`. Returns the address in its canonical spelling, empty for
/// `<>`, and what follows.
pub fn parse(text: &str) -> Result<(String, &str), BadPath> {
    let text = text.trim_start_matches(' ');
    let mut rest = text.strip_prefix('<').ok_or(BadPath::Brackets)?;
    if rest.starts_with('@') {
        let (route, after) = rest.split_once(':').ok_or(BadPath::Route)?;
        let hop = |h: &str| {
            h.strip_prefix('@')
                .is_some_and(|d| domain_end(d) == Some(d.len()))
        };
        if !route.split(',').all(hop) {
            return Err(BadPath::Route);
        }
        rest = after;
    }
    let mut address = String::new();
    if !rest.starts_with('>') {
        rest = match rest.starts_with('"') {
            true => quoted_local(rest, &mut address)?,
            false => plain_local(rest, &mut address)?,
        };
        if let Some(domain) = rest.strip_prefix('@') {
            let end = domain_end(domain).ok_or(BadPath::Domain)?;
            address.push('@');
            address.push_str(&domain[..end]);
            rest = &domain[end..];
        }
    }
    let rest = rest.strip_prefix('>').ok_or(BadPath::Brackets)?;
    match rest.is_empty() || rest.starts_with(' ') {
        true => Ok((address, rest)),
        false => Err(BadPath::Trailing),
    }
}

/// A dot-string, up to the `@` or `>` that ends it.
fn plain_local<'a>(text: &'a str, out: &mut String) -> Result<&'a str, BadPath> {
    let end = text.find(['@', '>']).ok_or(BadPath::Brackets)?;
    match is_dot_string(&text[..end]) {
        true => out.push_str(&text[..end]),
        false => return Err(BadPath::Local),
    }
    Ok(&text[end..])
}

/// A quoted string, written out without quotes where it can be, else with no more escapes than
/// it needs.
fn quoted_local<'a>(text: &'a str, out: &mut String) -> Result<&'a str, BadPath> {
    let mut local = String::new();
    let mut chars = text.char_indices().skip(1);
    let end = loop {
        match chars.next().ok_or(BadPath::Local)? {
            (at, '"') => break at + 1,
            (_, '\\') => local.push(chars.next().ok_or(BadPath::Local)?.1),
            (_, c) => local.push(c),
        }
    };
    if is_dot_string(&local) {
        out.push_str(&local);
    } else {
        out.push('"');
        for c in local.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
    Ok(&text[end..])
}

/// Atoms separated by single dots (RFC 5321, section 4.1.2).
fn is_dot_string(s: &str) -> bool {
    s.split('.')
        .all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

/// RFC 5322, section 3.2.3, with RFC 6531, section 3.3.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (c as u32) > 0x9f
}

/// The length of the domain or address literal at the start of `text`.
fn domain_end(text: &str) -> Option<usize> {
    if let Some(literal) = text.strip_prefix('[') {
        let close = literal.find(']')?;
        let dcontent = |b: u8| (33..=126).contains(&b) && !b"[]\\<>".contains(&b);
        return (close > 0 && literal[..close].bytes().all(dcontent)).then_some(close + 2);
    }
    let end = text.find(['>', ',', ':']).unwrap_or(text.len());
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || (c as u32) > 0x9f)
    };
    (end <= 255 && text[..end].split('.').all(label)).then_some(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> String {
        let (address, rest) = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(rest, "", "{text}");
        address
    }

    #[test]
    fn addresses_in_their_canonical_spelling() {
        for (wire, expected) in [
            ("<>", ""),
            ("<ann@example.org>", "ann@example.org"),
            ("  <ann@example.org>", "ann@example.org"),
            ("<ann+lists@example.org>", "ann+lists@example.org"),
            ("<postmaster>", "postmaster"),
            ("<ann@[192.0.2.1]>", "ann@[192.0.2.1]"),
            ("<ann@[IPv6:2001:db8::1]>", "ann@[IPv6:2001:db8::1]"),
            ("<\"ann\"@example.org>", "ann@example.org"),
            ("<\"a\\nn\"@example.org>", "ann@example.org"),
            ("<\"ann smith\"@example.org>", "\"ann smith\"@example.org"),
            (
                "<\"a\\\"b\\\\c@>\"@example.org>",
                "\"a\\\"b\\\\c@>\"@example.org",
            ),
            ("<\"\"@example.org>", "\"\"@example.org"),
            ("<@a.example:ann@example.org>", "ann@example.org"),
            ("<@a.example,@b.example:ann@example.org>", "ann@example.org"),
            ("<用户@例子.example>", "用户@例子.example"),
        ] {
            assert_eq!(address(wire), expected, "{wire}");
        }
        assert_eq!(parse("<a@b> SIZE=1"), Ok(("a@b".into(), " SIZE=1")));
    }

    #[test]
    fn what_is_no_address() {
        for (wire, expected) in [
            ("ann@example.org", BadPath::Brackets),
            ("<ann@example.org", BadPath::Brackets),
            ("<ann", BadPath::Brackets),
            ("<a b@example.org>", BadPath::Local),
            ("<.a@example.org>", BadPath::Local),
            ("<a..b@example.org>", BadPath::Local),
            ("<@example.org>", BadPath::Route),
            ("<@:a@b>", BadPath::Route),
            ("<\"a@example.org>", BadPath::Local),
            ("<a@>", BadPath::Domain),
            ("<a@b..c>", BadPath::Domain),
            ("<a@-b>", BadPath::Domain),
            ("<a@[]>", BadPath::Domain),
            ("<a@[1>", BadPath::Domain),
            ("<a@b c>", BadPath::Domain),
            ("<a@b@c>", BadPath::Domain),
            ("<a@b>SIZE=1", BadPath::Trailing),
            ("<\"a\"b@c>", BadPath::Brackets),
        ] {
            assert_eq!(parse(wire), Err(expected), "{wire}");
        }
    }

    proptest! {
        #[test]
        fn a_canonical_address_reads_back_as_itself(text in "<[a\"\\\\.@:,<> é\\[\\]-]{0,24}>?") {
            if let Ok((address, _)) = parse(&text) {
                let wire = format!("<{address}>");
                prop_assert_eq!(parse(&wire), Ok((address, "")));
            }
        }
    }
}
