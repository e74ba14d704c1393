//! How the contract's messages look as JSON: names as in the proto, octets in hex.
//!
//! An account id uses all of its 64 bits, more than a JSON number holds in most readers (RFC 8259,
//! section 6), so it is printed in hex too.

use bytes::Bytes;
use serde::Serializer;

pub(crate) fn hex<S: Serializer>(octets: &Bytes, to: S) -> Result<S::Ok, S::Error> {
    let mut text = String::with_capacity(2 * octets.len());
    for octet in octets {
        text.push_str(&format!("{octet:02x}"));
    }
    to.serialize_str(&text)
}

pub(crate) fn hex_u64<S: Serializer>(id: &u64, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format!("{id:016x}"))
}

#[cfg(test)]
mod tests {
    use crate::proto::{Account, Message};

    #[test]
    fn names_are_those_of_the_proto_and_octets_are_hex() {
        let account = Account {
            name: "ann@example.org".into(),
            account_id: 0xabcd_0000_0000_0007,
            ..Account::default()
        };
        let json = serde_json::to_value(&account).unwrap();
        assert_eq!(json["account_id"], "abcd000000000007");
        assert_eq!(json["highest_modseq"], 0);
        let message = Message {
            blob_id: vec![0, 0xff].into(),
            ..Message::default()
        };
        let json = serde_json::to_value(&message).unwrap();
        assert_eq!(json["blob_id"], "00ff");
        assert!(json["envelope"].is_null());
    }
}
