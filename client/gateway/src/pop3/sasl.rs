//! The SASL mechanism PLAIN (RFC 4616), as POP3 carries it (RFC 5034).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What PLAIN says.
#[derive(PartialEq, Eq)]
pub struct Plain {
    /// Who logs in.
    pub name: String,
    /// With which password.
    pub password: String,
}

/// Why a response is no PLAIN message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPlain {
    /// No base64, or not the form of RFC 4616, section 2.
    Form,
    /// It asks to act for somebody else, which nobody may here.
    OtherIdentity,
}

/// Reads a response; `=` is the empty one (RFC 5034, section 4).
pub fn plain(response: &str) -> Result<Plain, BadPlain> {
    let response = if response == "=" { "" } else { response };
    let octets = STANDARD.decode(response).map_err(|_| BadPlain::Form)?;
    let text = String::from_utf8(octets).map_err(|_| BadPlain::Form)?;
    let mut parts = text.split('\0');
    let (Some(identity), Some(name), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(BadPlain::Form);
    };
    if name.is_empty() || password.is_empty() {
        return Err(BadPlain::Form);
    }
    if !identity.is_empty() && !identity.eq_ignore_ascii_case(name) {
        return Err(BadPlain::OtherIdentity);
    }
    Ok(Plain {
        name: name.to_owned(),
        password: password.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(message: &str) -> Result<(String, String), BadPlain> {
        plain(&STANDARD.encode(message)).map(|p| (p.name, p.password))
    }

    #[test]
    fn identities_names_and_passwords() {
        let ann = Ok(("Ann@example.org".to_owned(), "se cret".to_owned()));
        assert_eq!(read("\0Ann@example.org\0se cret"), ann);
        assert_eq!(read("ann@example.org\0Ann@example.org\0se cret"), ann);
        assert_eq!(read("ben\0ann\0secret"), Err(BadPlain::OtherIdentity));
        for bad in ["", "ann", "\0ann", "\0\0secret", "\0ann\0", "\0ann\0a\0b"] {
            assert_eq!(read(bad), Err(BadPlain::Form), "{bad:?}");
        }
        for bad in [
            "=",
            "*",
            "AGFubgBz",
            "AGFubgBzZWNyZXQ",
            "AP8A/w==",
            "AGFu bgBz",
        ] {
            let expected = bad != "AGFubgBz";
            assert_eq!(plain(bad).is_err(), expected, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_response_makes_it_panic(response in "\\PC{0,80}") {
            let _ = plain(&response);
        }
    }
}
