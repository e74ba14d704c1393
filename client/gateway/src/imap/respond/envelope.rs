//! ENVELOPE (RFC 9051, section 7.5.2).

use bytes::BytesMut;
use posthouse_client::proto::address::Kind;
use posthouse_client::proto::{Address, Envelope};

use super::encoded::words;
use super::text::{nstring, put, string};

/// Writes an envelope. `utf8`: as text, not in encoded words.
pub fn envelope(out: &mut BytesMut, e: &Envelope, utf8: bool) {
    put(out, "(");
    nstring(out, &e.date_text, utf8);
    put(out, " ");
    nstring(out, &words(&e.subject, utf8), utf8);
    // Sender and Reply-To that are missing or empty are those of From.
    let or_from = |list: &'_ [Address]| match list.is_empty() {
        true => e.from.clone(),
        false => list.to_vec(),
    };
    let (sender, reply_to) = (or_from(&e.sender), or_from(&e.reply_to));
    for list in [&e.from, &sender, &reply_to, &e.to, &e.cc, &e.bcc] {
        put(out, " ");
        addresses(out, list, utf8);
    }
    put(out, " ");
    let ids: Vec<String> = e.in_reply_to.iter().map(|id| in_brackets(id)).collect();
    nstring(out, &ids.join(" "), utf8);
    put(out, " ");
    nstring(out, &in_brackets(&e.message_id), utf8);
    put(out, ")");
}

fn in_brackets(id: &str) -> String {
    match id {
        "" => String::new(),
        id => format!("<{id}>"),
    }
}

fn addresses(out: &mut BytesMut, list: &[Address], utf8: bool) {
    if list.is_empty() {
        return put(out, "NIL");
    }
    put(out, "(");
    for a in list {
        match a.kind() {
            Kind::GroupStart => {
                put(out, "(NIL NIL ");
                string(out, words(&a.name, utf8).as_bytes(), utf8);
                put(out, " NIL)");
            }
            Kind::GroupEnd => put(out, "(NIL NIL NIL NIL)"),
            Kind::Mailbox => {
                put(out, "(");
                nstring(out, &words(&a.name, utf8), utf8);
                put(out, " NIL ");
                // NIL would say that a group begins, or ends.
                let (local, host) = a.address.rsplit_once('@').unwrap_or((&a.address, ""));
                string(out, local.as_bytes(), utf8);
                put(out, " ");
                string(out, host.as_bytes(), utf8);
                put(out, ")");
            }
        }
    }
    put(out, ")");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(name: &str, address: &str) -> Address {
        Address {
            name: name.into(),
            address: address.into(),
            kind: Kind::Mailbox as i32,
        }
    }

    #[test]
    fn an_envelope_in_ascii_and_in_utf8() {
        let group = |kind: Kind, name: &str| Address {
            name: name.into(),
            kind: kind as i32,
            ..Address::default()
        };
        let e = Envelope {
            date_text: "Wed, 17 Jul 1996 02:23:25 -0700".into(),
            subject: "Grüße \"x\"".into(),
            from: vec![mailbox("Ann", "ann@example.org")],
            to: vec![
                group(Kind::GroupStart, "team"),
                mailbox("", "nobody"),
                group(Kind::GroupEnd, ""),
            ],
            message_id: "1@x".into(),
            in_reply_to: vec!["2@x".into(), "3@x".into()],
            ..Envelope::default()
        };
        let of = |utf8| {
            let mut out = BytesMut::new();
            envelope(&mut out, &e, utf8);
            String::from_utf8(out.to_vec()).unwrap()
        };
        let ann = "((\"Ann\" NIL \"ann\" \"example.org\"))";
        let rest = format!(
            "{ann} {ann} {ann} ((NIL NIL \"team\" NIL)(NIL NIL \"nobody\" \"\")(NIL NIL NIL NIL)) \
             NIL NIL \"<2@x> <3@x>\" \"<1@x>\")"
        );
        let date = "\"Wed, 17 Jul 1996 02:23:25 -0700\"";
        assert_eq!(
            of(false),
            format!("({date} \"=?UTF-8?B?R3LDvMOfZSAieCI=?=\" {rest}")
        );
        assert_eq!(of(true), format!("({date} \"Grüße \\\"x\\\"\" {rest}"));
    }
}
