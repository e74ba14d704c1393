//! BODY and BODYSTRUCTURE (RFC 9051, section 7.5.2).

use bytes::BytesMut;
use posthouse_client::proto::{Envelope, Param, Part};

use super::encoded::{parameter, words};
use super::envelope::envelope;
use super::text::{nstring, number, put, string};

/// Levels that are written. The store summarises fewer; this bounds what a wrong answer could do.
const DEPTH: usize = 200;
/// In the place of a part that is not there: a multipart must have one.
const NOTHING: &str = "(\"text\" \"plain\" NIL NIL NIL \"7bit\" 0 0)";

/// How it is written.
#[derive(Debug, Clone, Copy)]
struct Style {
    /// With extension data.
    extended: bool,
    /// Text as it is, not in encoded words.
    utf8: bool,
}

/// Writes the structure of a message. `extended`: BODYSTRUCTURE.
pub fn structure(out: &mut BytesMut, parts: &[Part], extended: bool, utf8: bool) {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); parts.len()];
    for (i, part) in parts.iter().enumerate().skip(1) {
        let parent = part.parent as usize;
        if parent < i {
            children[parent].push(i);
        }
    }
    match parts.is_empty() {
        true => put(out, NOTHING),
        false => one(out, parts, &children, 0, Style { extended, utf8 }, DEPTH),
    }
}

fn one(
    out: &mut BytesMut,
    parts: &[Part],
    children: &[Vec<usize>],
    at: usize,
    style: Style,
    depth: usize,
) {
    let part = &parts[at];
    if depth == 0 {
        return put(out, NOTHING);
    }
    put(out, "(");
    if part.main_type == "multipart" {
        for &child in &children[at] {
            one(out, parts, children, child, style, depth - 1);
        }
        if children[at].is_empty() {
            put(out, NOTHING);
        }
        put(out, " ");
        word(out, &part.sub_type, "mixed");
        if style.extended {
            put(out, " ");
            params(out, &part.params, style.utf8);
            extension(out, part, style.utf8);
        }
        return put(out, ")");
    }
    // Only a message that was looked into can be told as one.
    let is_message = part.main_type == "message" && matches!(&*part.sub_type, "rfc822" | "global");
    let inner = children[at].first().filter(|_| is_message);
    match is_message && inner.is_none() && part.message.is_none() {
        true => put(out, "\"application\" \"octet-stream\""),
        false => {
            word(out, &part.main_type, "text");
            put(out, " ");
            word(out, &part.sub_type, "plain");
        }
    }
    put(out, " ");
    params(out, &part.params, style.utf8);
    put(out, " ");
    let id = match &*part.id {
        "" => String::new(),
        id => format!("<{id}>"),
    };
    nstring(out, &id, style.utf8);
    put(out, " ");
    nstring(out, &words(&part.description, style.utf8), style.utf8);
    put(out, " ");
    word(out, &part.encoding, "7bit");
    put(out, " ");
    number(out, part.end.saturating_sub(part.body));
    if is_message && (inner.is_some() || part.message.is_some()) {
        put(out, " ");
        let none = Envelope::default();
        envelope(out, part.message.as_ref().unwrap_or(&none), style.utf8);
        put(out, " ");
        match inner {
            Some(&inner) => one(out, parts, children, inner, style, depth - 1),
            None => put(out, NOTHING),
        }
        put(out, " ");
        number(out, part.lines);
    } else if part.main_type == "text" || part.main_type.is_empty() {
        put(out, " ");
        number(out, part.lines);
    }
    if style.extended {
        put(out, " ");
        nstring(out, &part.md5, style.utf8);
        extension(out, part, style.utf8);
    }
    put(out, ")");
}

/// A string that must not be empty.
fn word(out: &mut BytesMut, text: &str, default: &str) {
    let text = if text.is_empty() { default } else { text };
    string(out, text.as_bytes(), false);
}

fn params(out: &mut BytesMut, params: &[Param], utf8: bool) {
    if params.is_empty() {
        return put(out, "NIL");
    }
    for (i, param) in params.iter().enumerate() {
        put(out, if i == 0 { "(" } else { " " });
        let (name, value) = parameter(&param.name, &param.value, utf8);
        string(out, name.as_bytes(), utf8);
        put(out, " ");
        string(out, value.as_bytes(), utf8);
    }
    put(out, ")");
}

/// Disposition, languages, location.
fn extension(out: &mut BytesMut, part: &Part, utf8: bool) {
    put(out, " ");
    match part.disposition.is_empty() {
        true => put(out, "NIL"),
        false => {
            put(out, "(");
            string(out, part.disposition.as_bytes(), utf8);
            put(out, " ");
            params(out, &part.disposition_params, utf8);
            put(out, ")");
        }
    }
    put(out, " ");
    match &part.language[..] {
        [] => put(out, "NIL"),
        [one] => string(out, one.as_bytes(), utf8),
        several => {
            for (i, language) in several.iter().enumerate() {
                put(out, if i == 0 { "(" } else { " " });
                string(out, language.as_bytes(), utf8);
            }
            put(out, ")");
        }
    }
    put(out, " ");
    nstring(out, &part.location, utf8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(parts: &[Part], extended: bool) -> String {
        let mut out = BytesMut::new();
        structure(&mut out, parts, extended, false);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn part(parent: u32, kind: &str) -> Part {
        let (main_type, sub_type) = kind.split_once('/').unwrap();
        Part {
            parent,
            main_type: main_type.into(),
            sub_type: sub_type.into(),
            body: 10,
            end: 30,
            lines: 2,
            ..Part::default()
        }
    }

    #[test]
    fn parts_of_all_shapes() {
        assert_eq!(
            written(&[part(0, "text/plain")], false),
            "(\"text\" \"plain\" NIL NIL NIL \"7bit\" 20 2)"
        );
        let mut image = part(0, "image/png");
        image.disposition = "attachment".into();
        image.disposition_params = vec![Param {
            name: "filename".into(),
            value: "ü".into(),
        }];
        image.encoding = "base64".into();
        image.id = "1@x".into();
        image.language = vec!["de".into(), "en".into()];
        let image_text = "(\"image\" \"png\" NIL \"<1@x>\" NIL \"base64\" 20 NIL \
             (\"attachment\" (\"filename*\" \"UTF-8''%C3%BC\")) (\"de\" \"en\") NIL)";
        assert_eq!(
            written(
                &[part(0, "multipart/mixed"), part(0, "text/html"), image],
                true
            ),
            format!(
                "((\"text\" \"html\" NIL NIL NIL \"7bit\" 20 2 NIL NIL NIL NIL){image_text} \
                 \"mixed\" NIL NIL NIL NIL)"
            )
        );
        let mut message = part(0, "message/rfc822");
        message.message = Some(Envelope::default());
        assert_eq!(
            written(&[message, part(0, "text/plain")], false),
            "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 20 \
             (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) \
             (\"text\" \"plain\" NIL NIL NIL \"7bit\" 20 2) 2)"
        );
        assert_eq!(
            written(&[part(0, "multipart/x")], false),
            format!("({NOTHING} \"x\")")
        );
        assert_eq!(
            written(&[part(0, "message/rfc822")], false),
            "(\"application\" \"octet-stream\" NIL NIL NIL \"7bit\" 20)"
        );
    }

    proptest! {
        #[test]
        fn any_tree_is_written_with_balanced_parentheses(
            parts in proptest::collection::vec((any::<u32>(), 0u8..4), 0..60),
        ) {
            let kinds = ["multipart/mixed", "text/plain", "message/rfc822", "image/png"];
            let parts: Vec<Part> = parts.iter().enumerate()
                .map(|(i, (p, k))| part(p % (i as u32 + 2), kinds[*k as usize])).collect();
            let text = written(&parts, true);
            let mut depth = 0i64;
            for b in text.bytes() {
                depth += i64::from(b == b'(') - i64::from(b == b')');
                prop_assert!(depth >= 0);
            }
            prop_assert_eq!(depth, 0);
        }
    }
}
