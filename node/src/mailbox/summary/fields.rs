//! The fields of one header block (RFC 5322, section 2.2; RFC 2045; RFC 2183).
//!
//! The block is cut into fields here, and each known field's value is read by `mail-parser`
//! (addresses, dates, encoded words, RFC 2231 parameters). A value is cut before it is read: some
//! of those readers take more than linear time on values made for it. A reader that panics costs
//! its field, not the message.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mail_parser::parsers::MessageStream;
use mail_parser::parsers::fields::thread::thread_name;
use mail_parser::{Addr, ContentType, HeaderValue};

use super::{Address, Envelope, Part};

/// Octets of one value that are read.
const MAX_VALUE_BYTES: usize = 16 << 10;
/// Octets of a list of addresses or ids that are read.
const MAX_LIST_BYTES: usize = 64 << 10;
/// Octets of one decoded text that are kept.
const MAX_TEXT_BYTES: usize = 1000;
/// Addresses of one field that are kept.
const MAX_ADDRESSES: usize = 200;
/// Octets of one id that are kept.
const MAX_ID_BYTES: usize = 250;
/// Ids of one field that are kept; of References, the first and the last.
const MAX_IDS: usize = 100;
/// Parameters of one field that are kept.
const MAX_PARAMS: usize = 32;
/// Octets of a type, a disposition, an encoding, a parameter's name.
const MAX_TOKEN_BYTES: usize = 64;

/// What a header block says beyond the fields of its part.
#[derive(Debug, Default)]
pub struct Header {
    /// Boundary of a multipart, or empty.
    pub boundary: Vec<u8>,
    /// The body is a message that can be read as it stands.
    pub is_message: bool,
    /// The envelope, where the block is a message's.
    pub envelope: Option<Box<Envelope>>,
    /// Something was cut.
    pub truncated: bool,
}

/// Reads a header block. `of_message`: with an envelope; `digest`: the default type is a message.
pub fn read(block: &[u8], of_message: bool, digest: bool, part: &mut Part) -> Header {
    let mut reader = Reader {
        header: Header::default(),
        envelope: of_message.then(Box::<Envelope>::default),
        seen: 0,
    };
    for (name, value) in Fields(block) {
        reader.field(name, value, part);
    }
    let Reader {
        mut header,
        envelope,
        ..
    } = reader;
    header.envelope = envelope;
    if part.main_type.is_empty() {
        let (main_type, sub_type) = match digest {
            true => ("message", "rfc822"),
            false => ("text", "plain"),
        };
        part.main_type = main_type.to_owned();
        part.sub_type = sub_type.to_owned();
    }
    let plain = matches!(part.encoding.as_str(), "" | "7bit" | "8bit" | "binary");
    header.is_message = plain
        && part.main_type == "message"
        && matches!(part.sub_type.as_str(), "rfc822" | "global");
    if part.is_multipart()
        && let Some((_, boundary)) = part.params.iter().find(|(name, _)| name == "boundary")
    {
        header.boundary = boundary.trim_ascii_end().as_bytes().to_vec();
    }
    header
}

/// A subject without what replies and lists add to it (RFC 5256, section 2.1), without case.
pub fn base_subject(subject: &str) -> String {
    guarded(|| thread_name(subject).trim().to_lowercase()).unwrap_or_default()
}

/// Name and value of each field of a block; the value with its folds and line breaks. Lines that
/// are no field are passed over.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            let mut end = line_end(self.0, 0);
            while matches!(self.0.get(end), Some(b' ' | b'\t')) {
                end = line_end(self.0, end);
            }
            let (field, rest) = self.0.split_at(end);
            self.0 = rest;
            let first_line = &field[..line_end(field, 0)];
            if let Some(colon) = first_line.iter().position(|&b| b == b':')
                && !matches!(field[0], b' ' | b'\t')
            {
                return Some((field[..colon].trim_ascii_end(), &field[colon + 1..]));
            }
        }
        None
    }
}

/// Where the line that begins at `at` ends, its line feed included.
fn line_end(block: &[u8], at: usize) -> usize {
    let feed = block[at..].iter().position(|&b| b == b'\n');
    feed.map_or(block.len(), |i| at + i + 1)
}

struct Reader {
    header: Header,
    envelope: Option<Box<Envelope>>,
    /// One bit for each known field: of a field that occurs twice the first counts.
    seen: u32,
}

/// The fields that are read; the position is the bit in `seen`.
const KNOWN: [&str; 19] = [
    "subject",
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "bcc",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "content-type",
    "content-disposition",
    "content-transfer-encoding",
    "content-id",
    "content-description",
    "content-md5",
    "content-language",
    "content-location",
];

impl Reader {
    fn field(&mut self, name: &[u8], value: &[u8], part: &mut Part) {
        let Some(known) = KNOWN
            .iter()
            .position(|known| known.as_bytes().eq_ignore_ascii_case(name))
        else {
            return;
        };
        if self.seen & (1 << known) != 0 {
            return;
        }
        self.seen |= 1 << known;
        let name = KNOWN[known];
        let limit = match name {
            "from" | "sender" | "reply-to" | "to" | "cc" | "bcc" | "in-reply-to" | "references" => {
                MAX_LIST_BYTES
            }
            _ => MAX_VALUE_BYTES,
        };
        self.header.truncated |= value.len() > limit;
        let mut value = value[..value.len().min(limit)].to_vec();
        if value.last() != Some(&b'\n') {
            value.push(b'\n');
        }
        if guarded(|| self.known(name, &value, part)).is_none() {
            self.header.truncated = true;
        }
    }

    fn known(&mut self, name: &str, value: &[u8], part: &mut Part) {
        let cut = &mut self.header.truncated;
        match name {
            "content-type" => {
                if let HeaderValue::ContentType(t) = MessageStream::new(value).parse_content_type()
                {
                    content_type(t, part, cut);
                }
                return;
            }
            "content-disposition" => {
                if let HeaderValue::ContentType(d) = MessageStream::new(value).parse_content_type()
                {
                    part.disposition = token(&d.c_type);
                    part.disposition_params = params(&d, cut);
                }
                return;
            }
            "content-transfer-encoding" => {
                let text = text(value, cut);
                let end = text.find([' ', '\t', ';', '(']).unwrap_or(text.len());
                part.encoding = token(&text[..end]);
                return;
            }
            "content-id" => part.id = first_id(value, cut),
            "content-description" => part.description = text(value, cut),
            "content-md5" => part.md5 = clip(&raw_text(value), MAX_TOKEN_BYTES, cut),
            "content-location" => part.location = text(value, cut),
            "content-language" => {
                part.language = raw_text(value)
                    .split(',')
                    .map(|tag| clip(tag.trim(), MAX_TOKEN_BYTES, cut))
                    .filter(|tag| !tag.is_empty())
                    .take(MAX_PARAMS)
                    .collect();
            }
            _ => (),
        }
        let Some(envelope) = &mut self.envelope else {
            return;
        };
        match name {
            "subject" => envelope.subject = text(value, cut),
            "from" => envelope.from = addresses(value, cut),
            "sender" => envelope.sender = addresses(value, cut),
            "reply-to" => envelope.reply_to = addresses(value, cut),
            "to" => envelope.to = addresses(value, cut),
            "cc" => envelope.cc = addresses(value, cut),
            "bcc" => envelope.bcc = addresses(value, cut),
            "date" => {
                envelope.date_text = clip(&raw_text(value), 100, cut);
                envelope.date = match MessageStream::new(value).parse_date() {
                    HeaderValue::DateTime(date) if date.is_valid() => date.to_rfc3339(),
                    _ => String::new(),
                };
            }
            "message-id" => envelope.message_id = first_id(value, cut),
            "in-reply-to" => envelope.in_reply_to = ids(value, cut),
            "references" => envelope.references = ids(value, cut),
            _ => (),
        }
    }
}

/// Runs a reader that is not ours; `None` when it panics on its input.
fn guarded<T>(read: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read)).ok()
}

/// At most `limit` octets of a text, without control characters.
fn clip(text: &str, limit: usize, cut: &mut bool) -> String {
    let text = text.trim();
    *cut |= text.len() > limit;
    text[..text.floor_char_boundary(limit)]
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The value as it stands, unfolded.
fn raw_text(value: &[u8]) -> String {
    String::from_utf8_lossy(value)
        .replace(['\r', '\n'], "")
        .trim()
        .to_owned()
}

/// The value with its encoded words decoded (RFC 2047).
fn text(value: &[u8], cut: &mut bool) -> String {
    match MessageStream::new(value).parse_unstructured() {
        HeaderValue::Text(text) => clip(&text, MAX_TEXT_BYTES, cut),
        _ => String::new(),
    }
}

/// A token in lower case (RFC 2045, section 5.1); empty when it is none.
fn token(text: &str) -> String {
    let text = text.trim();
    let fits = text.len() <= MAX_TOKEN_BYTES;
    match fits
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&b))
    {
        true => text.to_ascii_lowercase(),
        false => String::new(),
    }
}

fn content_type(t: ContentType<'_>, part: &mut Part, cut: &mut bool) {
    part.params = params(&t, cut);
    let main_type = token(&t.c_type);
    let sub_type = t.c_subtype.as_deref().map(token).unwrap_or_default();
    let (main_type, sub_type) = match (main_type.as_str(), sub_type.as_str()) {
        // RFC 2046, section 5.1.7: an unknown multipart is a mixed one.
        ("multipart", "") => ("multipart", "mixed"),
        // RFC 2045, section 5.2: what is no type is plain text.
        ("text", "") | ("", _) => ("text", "plain"),
        (_, "") => ("application", "octet-stream"),
        (main_type, sub_type) => (main_type, sub_type),
    };
    (part.main_type, part.sub_type) = (main_type.to_owned(), sub_type.to_owned());
}

fn params(t: &ContentType<'_>, cut: &mut bool) -> Vec<(String, String)> {
    let given = t.attributes().unwrap_or_default();
    *cut |= given.len() > MAX_PARAMS;
    given
        .iter()
        .take(MAX_PARAMS)
        .map(|a| {
            let name = clip(&a.name, MAX_TOKEN_BYTES, cut).to_ascii_lowercase();
            (name, clip(&a.value, MAX_TEXT_BYTES, cut))
        })
        .collect()
}

fn ids(value: &[u8], cut: &mut bool) -> Vec<String> {
    let mut found: Vec<String> = match MessageStream::new(value).parse_id() {
        HeaderValue::Text(id) => vec![id.into_owned()],
        HeaderValue::TextList(ids) => ids.into_iter().map(String::from).collect(),
        _ => Vec::new(),
    };
    found.retain(|id| !id.contains(char::is_whitespace));
    if found.len() > MAX_IDS {
        // The first names the thread, the last ones the parent: the middle says least.
        *cut = true;
        found.drain(1..=found.len() - MAX_IDS);
    }
    found
        .iter()
        .map(|id| clip(id, MAX_ID_BYTES, cut))
        .filter(|id| !id.is_empty())
        .collect()
}

fn first_id(value: &[u8], cut: &mut bool) -> String {
    match MessageStream::new(value).parse_id() {
        HeaderValue::Text(id) => clip(&id, MAX_ID_BYTES, cut),
        HeaderValue::TextList(ids) => ids
            .first()
            .map(|id| clip(id, MAX_ID_BYTES, cut))
            .unwrap_or_default(),
        _ => String::new(),
    }
}

fn addresses(value: &[u8], cut: &mut bool) -> Vec<Address> {
    let mut out = Vec::new();
    let mailbox = |a: &Addr<'_>, cut: &mut bool| Address::Mailbox {
        name: clip(a.name.as_deref().unwrap_or_default(), MAX_TEXT_BYTES, cut),
        address: clip(
            a.address.as_deref().unwrap_or_default(),
            MAX_TEXT_BYTES,
            cut,
        ),
    };
    match MessageStream::new(value).parse_address() {
        HeaderValue::Address(mail_parser::Address::List(list)) => {
            out.extend(list.iter().take(MAX_ADDRESSES + 1).map(|a| mailbox(a, cut)));
        }
        HeaderValue::Address(mail_parser::Address::Group(groups)) => {
            for group in groups.iter().take(MAX_ADDRESSES) {
                let name = group.name.as_deref().map(|n| clip(n, MAX_TEXT_BYTES, cut));
                let named = name.is_some();
                out.extend(name.map(Address::GroupStart));
                let room = (MAX_ADDRESSES + 1).saturating_sub(out.len());
                out.extend(group.addresses.iter().take(room).map(|a| mailbox(a, cut)));
                out.extend(named.then_some(Address::GroupEnd));
            }
        }
        _ => (),
    }
    *cut |= out.len() > MAX_ADDRESSES;
    out.truncate(MAX_ADDRESSES);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(block: &str) -> (Part, Envelope, Header) {
        let mut part = Part::default();
        let mut header = read(block.as_bytes(), true, false, &mut part);
        let envelope = *header.envelope.take().unwrap();
        (part, envelope, header)
    }

    #[test]
    fn an_envelope_is_decoded() {
        let (part, e, header) = of(concat!(
            "Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\n",
            "Subject: =?utf-8?B?6am/56uZ?=\r\n =?utf-8?Q?_post?=\r\n",
            "From: =?iso-8859-1?Q?J=F6rg?= <joerg@example.org>\r\n",
            "To: friends: ann@example.org, \"B, C\" <bc@example.org>;, d@example.org\r\n",
            "Date: Sat, 20 Nov 2021 14:22:01 -0800\r\n",
            "Message-ID: <1@example.org>\r\n",
            "References: <a@x>\r\n\t<b@x>\r\n",
            "In-Reply-To: your message of Tuesday\r\n",
            "Subject: the second does not count\r\n",
        ));
        assert_eq!(e.subject, "驿站 post");
        assert_eq!(
            e.from,
            vec![Address::Mailbox {
                name: "Jörg".into(),
                address: "joerg@example.org".into()
            }]
        );
        assert_eq!(e.to[0], Address::GroupStart("friends".into()));
        assert_eq!(e.to.len(), 5);
        assert_eq!(e.date, "2021-11-20T14:22:01-08:00");
        assert_eq!(e.date_text, "Sat, 20 Nov 2021 14:22:01 -0800");
        assert_eq!(e.message_id, "1@example.org");
        assert_eq!(e.references, ["a@x", "b@x"]);
        assert!(e.in_reply_to.is_empty());
        assert_eq!(
            (part.main_type.as_str(), part.sub_type.as_str()),
            ("text", "plain")
        );
        assert!(!header.truncated);
    }

    #[test]
    fn mime_fields_are_read() {
        let (part, _, header) = of(concat!(
            "Content-Type : Multipart/Mixed;\n boundary=\"=_x y \"\n",
            "Content-Disposition: attachment; filename*=utf-8''na%C3%AFve.txt\n",
            "Content-Transfer-Encoding: BASE64 (really)\n",
            "Content-ID: <id@x>\n",
            "Content-Language: de, en\n",
        ));
        assert_eq!(header.boundary, b"=_x y");
        assert_eq!(part.disposition, "attachment");
        assert_eq!(
            part.disposition_params,
            [("filename".to_owned(), "naïve.txt".to_owned())]
        );
        assert_eq!(part.encoding, "base64");
        assert_eq!(part.id, "id@x");
        assert_eq!(part.language, ["de", "en"]);
    }

    #[test]
    fn long_lists_keep_the_first_and_the_last_ids() {
        let ids: String = (0..500).map(|i| format!("<{i}@x>\r\n ")).collect();
        let (_, e, header) = of(&format!("References: {ids}\r\n"));
        assert!(header.truncated);
        assert_eq!(e.references.len(), MAX_IDS);
        assert_eq!(e.references[0], "0@x");
        assert_eq!(e.references[MAX_IDS - 1], "499@x");
    }

    #[test]
    fn what_is_no_type_is_plain_text() {
        for bad in ["", ";", "text", "/plain", "te xt/plain; charset=utf-8"] {
            let (part, _, _) = of(&format!("Content-Type: {bad}\r\n"));
            assert_eq!(
                (part.main_type.as_str(), part.sub_type.as_str()),
                ("text", "plain"),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn base_subjects_ignore_replies_and_lists() {
        assert_eq!(base_subject("Re: [list] Fwd: The Post"), "the post");
        assert_eq!(base_subject(""), "");
    }
}
