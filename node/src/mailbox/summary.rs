//! What is known of a message without reading it: envelope, structure, preview.
//!
//! Built once, at the leader, while the message arrives, and stored beside it; so listing a
//! mailbox, RFC 9051's ENVELOPE and BODYSTRUCTURE, and the fetch of any section by its byte range
//! read this row and never the blob.
//!
//! ```text
//! octets ─▶ scan (boundaries, offsets, lines; streaming) ─▶ fields (one header block at a time)
//!                          └─▶ preview (first text of the message)         ─▶ Summary ─▶ shrink
//!                                                                             └─▶ threads
//! ```
//!
//! The tree is cut by our own streaming scanner, the fields are read by `mail-parser`. A parser of
//! whole messages would need 150 MB of memory for the largest, and its tree of nested messages
//! overflows the stack on a message nested deep enough; the scanner's memory is bounded by its
//! limits alone, and its time is linear in the octets.
//!
//! Everything is bounded, and nothing fails: what is cut off is marked by [`Summary::truncated`],
//! and read from the octets again for whoever asks for it.
//! Encoded as one octet of version and the postcard of the struct.

pub mod charset;
pub mod fields;
pub mod preview;
pub mod scan;
pub mod shrink;
pub mod threads;

use serde::{Deserialize, Serialize};

/// The version that [`Summary::encode`] writes.
pub const SUMMARY_VERSION: u8 = 1;
/// Octets that an encoded summary never exceeds.
pub const MAX_SUMMARY_BYTES: usize = 64 << 10;

/// Everything that is known of a message without its octets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Of the message itself.
    pub envelope: Envelope,
    /// Subject without "Re:", "Fwd:" and list tags (RFC 5256, section 2.1), for threads.
    pub base_subject: String,
    /// At most 256 characters of the message's text (RFC 8970).
    pub preview: String,
    /// Whether any part is more than the message's own text.
    pub has_attachment: bool,
    /// Whether parts, fields or values were cut off at a limit.
    pub truncated: bool,
    /// The parts in the order of their octets; the first is the message itself.
    pub parts: Vec<Part>,
}

/// The fields of RFC 9051's ENVELOPE, decoded, and those that make threads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Decoded text.
    pub subject: String,
    /// RFC 5322, section 3.6.2, as the following.
    pub from: Vec<Address>,
    /// Empty when the field is absent; a reader takes `from` then.
    pub sender: Vec<Address>,
    /// Empty when the field is absent; a reader takes `from` then.
    pub reply_to: Vec<Address>,
    /// Primary recipients.
    pub to: Vec<Address>,
    /// Further recipients.
    pub cc: Vec<Address>,
    /// Hidden recipients.
    pub bcc: Vec<Address>,
    /// The Date field as RFC 3339; empty when it cannot be read.
    pub date: String,
    /// The Date field as it stands.
    pub date_text: String,
    /// Without angle brackets, as all ids here.
    pub message_id: String,
    /// Ids.
    pub in_reply_to: Vec<String>,
    /// Ids; when cut, the first and the last of them are kept.
    pub references: Vec<String>,
}

/// One address, or the beginning or end of a group (RFC 5322, section 3.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// A mailbox.
    Mailbox {
        /// Decoded display name, or empty.
        name: String,
        /// `local@domain`, or what stands in its place.
        address: String,
    },
    /// The group of this name begins.
    GroupStart(String),
    /// The group ends.
    GroupEnd,
}

/// Cuts a list of addresses after so many items; a group that is cut ends all the same.
fn cut_addresses(list: &mut Vec<Address>, items: usize) {
    if list.len() > items {
        list.truncate(items);
        let mut last = list.iter().rev();
        let edge = last.find(|a| !matches!(a, Address::Mailbox { .. }));
        if matches!(edge, Some(Address::GroupStart(_))) {
            list.push(Address::GroupEnd);
        }
    }
}

/// One MIME part (RFC 2045). Offsets count octets of the stored message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Index of the part that contains it; of the first part, its own (0).
    pub parent: u32,
    /// Type, lower case: "text".
    pub main_type: String,
    /// Subtype, lower case: "plain". A "multipart" without parts had no usable boundary.
    pub sub_type: String,
    /// Parameters of Content-Type, names in lower case, values decoded (RFC 2231).
    pub params: Vec<(String, String)>,
    /// Content-Disposition, lower case, or empty.
    pub disposition: String,
    /// Its parameters.
    pub disposition_params: Vec<(String, String)>,
    /// Content-ID, without angle brackets.
    pub id: String,
    /// Content-Description, decoded.
    pub description: String,
    /// Content-Transfer-Encoding, lower case; empty: none given, which means 7bit.
    pub encoding: String,
    /// Content-MD5 (RFC 1864).
    pub md5: String,
    /// Content-Language.
    pub language: Vec<String>,
    /// Content-Location (RFC 2557).
    pub location: String,
    /// Where its header begins.
    pub header: u64,
    /// Where its body begins.
    pub body: u64,
    /// Where its body ends; the line break before a boundary belongs to the boundary.
    pub end: u64,
    /// Line feeds in its body.
    pub lines: u64,
    /// Envelope of the message that a "message/rfc822" part contains.
    pub message: Option<Box<Envelope>>,
}

impl Part {
    /// Whether it contains parts of its own.
    pub fn is_multipart(&self) -> bool {
        self.main_type == "multipart"
    }

    /// Whether a reader shows it as a file rather than as the message's text.
    pub fn is_attachment(&self) -> bool {
        let named = |params: &[(String, String)], key: &str| params.iter().any(|(k, _)| k == key);
        let signature = matches!(
            self.sub_type.as_str(),
            "pgp-signature" | "pkcs7-signature" | "x-pkcs7-signature" | "pgp-encrypted"
        );
        match self.disposition.as_str() {
            _ if self.is_multipart() || signature => false,
            "attachment" => true,
            // A picture that the text refers to by its id is a piece of the text.
            "inline" | "" if !self.id.is_empty() && self.main_type == "image" => false,
            _ if named(&self.disposition_params, "filename") => true,
            "inline" => false,
            _ => self.main_type != "text" || named(&self.params, "name"),
        }
    }

    /// Octets of its body as they stand, encoded.
    pub fn size(&self) -> u64 {
        self.end.saturating_sub(self.body)
    }
}

/// An encoded summary that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a summary of version {version} cannot be read")]
pub struct BadSummary {
    /// Its first octet; 0 when it is empty.
    pub version: u8,
}

impl Summary {
    /// The encoded summary, shortened step by step until it fits [`MAX_SUMMARY_BYTES`].
    pub fn encode(self) -> Vec<u8> {
        shrink::to_fit(self)
    }

    fn encode_whole(&self) -> Vec<u8> {
        let out = vec![SUMMARY_VERSION];
        postcard::to_extend(self, out).unwrap_or_else(|_| vec![SUMMARY_VERSION])
    }

    /// Reads an encoded summary.
    pub fn decode(octets: &[u8]) -> Result<Summary, BadSummary> {
        match octets.split_first() {
            Some((&SUMMARY_VERSION, rest)) => postcard::from_bytes(rest).map_err(|_| BadSummary {
                version: SUMMARY_VERSION,
            }),
            Some((&version, _)) => Err(BadSummary { version }),
            None => Err(BadSummary { version: 0 }),
        }
    }
}

/// The summary of octets that are in memory.
pub fn summarize(octets: &[u8]) -> Summary {
    let mut scanner = scan::Scanner::new();
    scanner.push(octets);
    scanner.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &[u8] = b"From: Ann <ann@x>\r\nTo: g: b@x;\r\nSubject: Re: Post\r\n\
        Date: Sat, 20 Nov 2021 14:22:01 -0800\r\nMessage-ID: <1@x>\r\nReferences: <0@x>\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\n\r\ntext\r\n--b\r\nContent-Type: message/rfc822\r\n\
        Content-Disposition: attachment; filename=f\r\n\r\nSubject: in\r\n\r\nx\r\n--b--\r\n";

    /// What version 1 looks like. Rows of this version are on disks: a change of the struct needs
    /// a new version and a reader for this one.
    #[test]
    fn version_one_is_read_as_it_was_written() {
        let golden = include_str!("summary/golden-v1.hex").trim();
        let summary = summarize(MAIL);
        let octets = summary.clone().encode();
        let hex: String = octets.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, golden);
        assert_eq!(Summary::decode(&octets), Ok(summary));
    }

    #[test]
    fn a_summary_says_what_is_in_the_message() {
        let summary = summarize(MAIL);
        assert_eq!(summary.base_subject, "post");
        assert_eq!(summary.preview, "text");
        assert!(summary.has_attachment);
        let [root, text, attached, inner] = summary.parts.as_slice() else {
            panic!("{:?}", summary.parts);
        };
        assert!(root.is_multipart() && !text.is_attachment() && attached.is_attachment());
        assert_eq!(attached.message.as_ref().unwrap().subject, "in");
        let octets = |p: &Part| &MAIL[p.body as usize..p.end as usize];
        assert_eq!(
            (octets(text), octets(inner)),
            (b"text".as_slice(), b"x".as_slice())
        );
        assert_eq!(octets(attached), b"Subject: in\r\n\r\nx");
        assert_eq!((attached.size(), attached.lines, inner.parent), (16, 2, 2));
    }

    #[test]
    fn what_belongs_to_the_text_is_no_attachment() {
        let of = |header: &str| summarize(format!("{header}\r\n\r\nx").as_bytes()).has_attachment;
        assert!(!of("Content-Type: text/plain"));
        assert!(!of("Content-Type: image/png\r\nContent-ID: <1@x>"));
        assert!(!of("Content-Type: application/pgp-signature; name=s.asc"));
        assert!(of("Content-Type: application/pdf"));
        assert!(of("Content-Type: text/plain; name=notes.txt"));
        assert!(of("Content-Disposition: inline; filename=a.txt"));
        assert!(!of("Content-Disposition: inline"));
    }
}
