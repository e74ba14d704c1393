//! Modified UTF-7, in which IMAP4rev1 writes mailbox names (RFC 3501, section 5.1.3). Inside, names
//! are UTF-8; only the door knows this form.

use base64::Engine;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

/// Base64 with a comma for the slash, and never padded.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &IMAP_MUTF7,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// A name as IMAP4rev1 writes it.
pub fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut shifted: Vec<u8> = Vec::new();
    let flush = |shifted: &mut Vec<u8>, out: &mut String| {
        if !shifted.is_empty() {
            out.push('&');
            ENGINE.encode_string(&*shifted, out);
            out.push('-');
            shifted.clear();
        }
    };
    for c in name.chars() {
        match c {
            ' '..='~' => {
                flush(&mut shifted, &mut out);
                out.push(c);
                if c == '&' {
                    out.push('-');
                }
            }
            _ => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    shifted.extend_from_slice(&unit.to_be_bytes());
                }
            }
        }
    }
    flush(&mut shifted, &mut out);
    out
}

/// The name behind what IMAP4rev1 writes; `None` when it is no such thing. Plain UTF-8 is taken,
/// too: it cannot mean anything else, and clients send it.
pub fn decode(wire: &[u8]) -> Option<String> {
    let wire = std::str::from_utf8(wire).ok()?;
    let mut out = String::with_capacity(wire.len());
    let mut rest = wire;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end = rest.find('-')?;
        let shifted = &rest[..end];
        rest = &rest[end + 1..];
        if shifted.is_empty() {
            out.push('&');
            continue;
        }
        let octets = ENGINE.decode(shifted).ok()?;
        if octets.len() % 2 != 0 {
            return None;
        }
        let units = octets
            .chunks_exact(2)
            .map(|u| u16::from_be_bytes([u[0], u[1]]));
        for c in char::decode_utf16(units) {
            match c {
                // What needs no shift must not be shifted: a name has one form.
                Ok(' '..='~') | Err(_) => return None,
                Ok(c) => out.push(c),
            }
        }
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_names() {
        for (name, wire) in [
            ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("Entwürfe", "Entw&APw-rfe"),
            ("a&b", "a&-b"),
            ("😀", "&2D3eAA-"),
            ("plain", "plain"),
        ] {
            assert_eq!(encode(name), wire);
            assert_eq!(decode(wire.as_bytes()).as_deref(), Some(name));
        }
        for bad in ["&", "&AGE-", "&U", "&2D3-", "&APw=-", "&A-", "&!-"] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(decode(b"\xff"), None);
        assert_eq!(decode("ü".as_bytes()).as_deref(), Some("ü"));
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in "\\PC{0,20}") {
            let wire = encode(&name);
            prop_assert!(wire.is_ascii());
            let back = decode(wire.as_bytes());
            prop_assert_eq!(back.as_deref(), Some(name.as_str()));
        }

        #[test]
        fn any_octets_do_no_harm(octets in proptest::collection::vec(any::<u8>(), 0..50)) {
            let _ = decode(&octets);
        }
    }
}
