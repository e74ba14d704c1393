//! The fields of one header block (RFC 5322, section 2.2; RFC 2045; RFC 2183).
//!
//! The block is cut into fields here, and each known field's value is read by `mail-parser`
//! (addresses, dates, encoded words, RFC 2231 parameters). A value is cut before it is read: some
//! of those readers take more than linear time on values made for it. A reader that panics costs
//! its field, not the message.
//!
//! A block is read in one of two ways: in short, for the summary that is stored with every message
//! ([`read`]), and at length, for whoever asks for what that leaves out ([`read_at_length`]).

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mail_parser::parsers::MessageStream;
use mail_parser::parsers::fields::thread::thread_name;
use mail_parser::{Addr, ContentType, HeaderValue};

use super::charset::{decode, readable};
use super::{Address, Envelope, Part, cut_addresses};

/// How much of the fields is kept.
#[derive(Debug)]
struct Limits {
    /// Octets of a text's value that are read.
    value_bytes: usize,
    /// Octets of a list of addresses or ids that are read.
    list_bytes: usize,
    /// Octets of one decoded text that are kept.
    text_bytes: usize,
    /// Octets of a date that are kept.
    date_bytes: usize,
    /// Addresses of one field that are kept.
    addresses: usize,
    /// Octets of one id that are kept.
    id_bytes: usize,
    /// Ids of one field that are kept; of References, the first and the last.
    ids: usize,
    /// Parameters of one field that are kept.
    params: usize,
}

/// Of a summary that is stored.
const SHORT: Limits = Limits {
    value_bytes: 16 << 10,
    list_bytes: 64 << 10,
    text_bytes: 1000,
    date_bytes: 100,
    addresses: 200,
    id_bytes: 250,
    ids: 100,
    params: 32,
};
/// At length: what a header block can hold, which the scanner bounds.
const LONG: Limits = Limits {
    value_bytes: 256 << 10,
    list_bytes: 256 << 10,
    text_bytes: 256 << 10,
    date_bytes: 1000,
    addresses: 10_000,
    id_bytes: 1000,
    ids: 10_000,
    params: 1000,
};
/// Octets of a list of addresses that are read at a time where it has very many encoded words ...
const ADDRESSES_AT_A_TIME: usize = 8 << 10;
/// ... so many that this is not enough to look for the end of each in all that follows, as their
/// reader may. Other lists are read at once: a group that is cut is two things.
const ADDRESSES_STEPS: usize = 4 << 20;
/// Octets of a type or a disposition with its parameters that are read: their reader compares
/// every parameter with every other.
const MAX_PARAMS_BYTES: usize = 16 << 10;
/// Octets of a type, a disposition, an encoding, a parameter's name.
const MAX_TOKEN_BYTES: usize = 64;
/// What one item of a list costs of what may be kept at length, beside its octets.
const ITEM_BYTES: usize = 16;

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
    let room = Room {
        limits: &SHORT,
        charset: None,
        left: usize::MAX,
        cut: false,
    };
    let (envelope, room) = Reader::read(block, of_message, room, part);
    let mut header = Header {
        envelope,
        truncated: room.cut,
        ..Header::default()
    };
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

/// Reads a header block for its values alone, as much of them as `left` octets have room for, which
/// it counts down. Octets that are no UTF-8 are taken for `charset`. The envelope, where it is
/// `of_message`; and whether something was cut all the same.
pub fn read_at_length(
    block: &[u8],
    of_message: bool,
    charset: &str,
    left: &mut usize,
    part: &mut Part,
) -> (Option<Box<Envelope>>, bool) {
    let room = Room {
        limits: &LONG,
        charset: Some(charset),
        left: *left,
        cut: false,
    };
    let (envelope, room) = Reader::read(block, of_message, room, part);
    *left = room.left;
    (envelope, room.cut)
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

/// What may be kept of a header block.
struct Room<'a> {
    limits: &'static Limits,
    /// Of octets that are no UTF-8; none: they are replaced.
    charset: Option<&'a str>,
    /// Octets that may still be kept.
    left: usize,
    /// Something was cut.
    cut: bool,
}

impl Room<'_> {
    /// At most `limit` octets of a text, without control characters.
    fn clip(&mut self, text: &str, limit: usize) -> String {
        let text = text.trim();
        let limit = limit.min(self.left);
        self.cut |= text.len() > limit;
        let text = &text[..text.floor_char_boundary(limit)];
        self.left -= text.len();
        text.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    }

    /// Whether a list may have one more item.
    fn item(&mut self) -> bool {
        let left = self.left.checked_sub(ITEM_BYTES);
        self.cut |= left.is_none();
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

struct Reader<'a> {
    room: Room<'a>,
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

impl<'a> Reader<'a> {
    fn read(
        block: &[u8],
        of_message: bool,
        room: Room<'a>,
        part: &mut Part,
    ) -> (Option<Box<Envelope>>, Room<'a>) {
        let mut reader = Reader {
            room,
            envelope: of_message.then(Box::<Envelope>::default),
            seen: 0,
        };
        for (name, value) in Fields(block) {
            reader.field(name, value, part);
        }
        (reader.envelope, reader.room)
    }

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
                self.room.limits.list_bytes
            }
            "content-type" | "content-disposition" => MAX_PARAMS_BYTES,
            _ => self.room.limits.value_bytes,
        };
        self.room.cut |= value.len() > limit;
        let value = &value[..value.len().min(limit)];
        let mut value = match self.room.charset {
            Some(charset) => readable(value, charset),
            None => Cow::Borrowed(value),
        }
        .into_owned();
        if value.last() != Some(&b'\n') {
            value.push(b'\n');
        }
        if guarded(|| self.known(name, &value, part)).is_none() {
            self.room.cut = true;
        }
    }

    fn known(&mut self, name: &str, value: &[u8], part: &mut Part) {
        let room = &mut self.room;
        match name {
            "content-type" => {
                if let HeaderValue::ContentType(t) = MessageStream::new(value).parse_content_type()
                {
                    content_type(t, part, room);
                }
                return;
            }
            "content-disposition" => {
                if let HeaderValue::ContentType(d) = MessageStream::new(value).parse_content_type()
                {
                    part.disposition = token(&d.c_type);
                    part.disposition_params = params(&d, room);
                }
                return;
            }
            "content-transfer-encoding" => {
                let text = text(value, room);
                let end = text.find([' ', '\t', ';', '(']).unwrap_or(text.len());
                part.encoding = token(&text[..end]);
                return;
            }
            "content-id" => part.id = first_id(value, room),
            "content-description" => part.description = text(value, room),
            "content-md5" => part.md5 = room.clip(&raw_text(value), MAX_TOKEN_BYTES),
            "content-location" => part.location = text(value, room),
            "content-language" => {
                part.language = raw_text(value)
                    .split(',')
                    .map(str::trim)
                    .filter(|tag| !tag.is_empty())
                    .take(room.limits.params)
                    .map(|tag| match room.item() {
                        true => room.clip(tag, MAX_TOKEN_BYTES),
                        false => String::new(),
                    })
                    .filter(|tag| !tag.is_empty())
                    .collect();
            }
            _ => (),
        }
        let Some(envelope) = &mut self.envelope else {
            return;
        };
        match name {
            "subject" => envelope.subject = text(value, room),
            "from" => envelope.from = addresses(value, room),
            "sender" => envelope.sender = addresses(value, room),
            "reply-to" => envelope.reply_to = addresses(value, room),
            "to" => envelope.to = addresses(value, room),
            "cc" => envelope.cc = addresses(value, room),
            "bcc" => envelope.bcc = addresses(value, room),
            "date" => {
                envelope.date_text = room.clip(&raw_text(value), room.limits.date_bytes);
                envelope.date = match MessageStream::new(value).parse_date() {
                    HeaderValue::DateTime(date) if date.is_valid() => date.to_rfc3339(),
                    _ => String::new(),
                };
            }
            "message-id" => envelope.message_id = first_id(value, room),
            "in-reply-to" => envelope.in_reply_to = ids(value, room),
            "references" => envelope.references = ids(value, room),
            _ => (),
        }
    }
}

/// Runs a reader that is not ours; `None` when it panics on its input.
fn guarded<T>(read: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read)).ok()
}

/// The value as it stands, unfolded.
fn raw_text(value: &[u8]) -> String {
    String::from_utf8_lossy(value)
        .replace(['\r', '\n'], "")
        .trim()
        .to_owned()
}

/// The value with its encoded words decoded (RFC 2047).
fn text(value: &[u8], room: &mut Room<'_>) -> String {
    let limit = room.limits.text_bytes;
    match room.charset {
        Some(charset) => room.clip(&decode(value, charset), limit),
        None => match MessageStream::new(value).parse_unstructured() {
            HeaderValue::Text(text) => room.clip(&text, limit),
            _ => String::new(),
        },
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

fn content_type(t: ContentType<'_>, part: &mut Part, room: &mut Room<'_>) {
    part.params = params(&t, room);
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

fn params(t: &ContentType<'_>, room: &mut Room<'_>) -> Vec<(String, String)> {
    let given = t.attributes().unwrap_or_default();
    room.cut |= given.len() > room.limits.params;
    let mut kept = Vec::new();
    for param in given.iter().take(room.limits.params) {
        if !room.item() {
            break;
        }
        let name = room.clip(&param.name, MAX_TOKEN_BYTES).to_ascii_lowercase();
        kept.push((name, room.clip(&param.value, room.limits.text_bytes)));
    }
    kept
}

fn ids(value: &[u8], room: &mut Room<'_>) -> Vec<String> {
    let mut found: Vec<String> = match MessageStream::new(value).parse_id() {
        HeaderValue::Text(id) => vec![id.into_owned()],
        HeaderValue::TextList(ids) => ids.into_iter().map(String::from).collect(),
        _ => Vec::new(),
    };
    found.retain(|id| !id.contains(char::is_whitespace));
    if found.len() > room.limits.ids {
        // The first names the thread, the last ones the parent: the middle says least.
        room.cut = true;
        found.drain(1..=found.len() - room.limits.ids);
    }
    let mut kept = Vec::with_capacity(found.len());
    for id in &found {
        if !room.item() {
            break;
        }
        kept.push(room.clip(id, room.limits.id_bytes));
    }
    kept.retain(|id| !id.is_empty());
    kept
}

fn first_id(value: &[u8], room: &mut Room<'_>) -> String {
    let limit = room.limits.id_bytes;
    match MessageStream::new(value).parse_id() {
        HeaderValue::Text(id) => room.clip(&id, limit),
        HeaderValue::TextList(ids) => ids
            .first()
            .map(|id| room.clip(id, limit))
            .unwrap_or_default(),
        _ => String::new(),
    }
}

fn addresses(value: &[u8], room: &mut Room<'_>) -> Vec<Address> {
    let mut out = Vec::new();
    let mut rest = value;
    while !rest.is_empty() && out.len() <= room.limits.addresses {
        let words = memchr::memmem::find_iter(rest, b"=?").count();
        let at_a_time = match words.saturating_mul(rest.len()) <= ADDRESSES_STEPS {
            true => rest.len(),
            false => ADDRESSES_AT_A_TIME,
        };
        let end = addresses_end(rest, at_a_time);
        some_addresses(&rest[..end.unwrap_or(at_a_time)], room, &mut out);
        let Some(end) = end else { break };
        rest = &rest[end..];
    }
    room.cut |= !rest.is_empty() || out.len() > room.limits.addresses;
    cut_addresses(&mut out, room.limits.addresses);
    out
}

/// How much of a list of addresses is read at a time: up to a comma between two of them, outside of a
/// group where there is one, or up to a line that ends with a comma. `None`: nobody knows where an
/// address ends.
fn addresses_end(list: &[u8], at_a_time: usize) -> Option<usize> {
    if list.len() <= at_a_time {
        return Some(list.len());
    }
    let list = &list[..at_a_time];
    let (mut between, mut in_group) = (None, None);
    let (mut quoted, mut comments, mut group) = (false, 0_u32, false);
    let mut octets = list.iter().enumerate();
    while let Some((at, octet)) = octets.next() {
        match octet {
            b'\\' if quoted || comments > 0 => drop(octets.next()),
            b'"' if comments == 0 => quoted = !quoted,
            _ if quoted => {}
            b'(' => comments += 1,
            b')' => comments = comments.saturating_sub(1),
            _ if comments > 0 => {}
            b':' => group = true,
            b';' => group = false,
            b',' if group => in_group = Some(at + 1),
            b',' => between = Some(at + 1),
            _ => {}
        }
    }
    let line = || {
        let feeds = list.iter().enumerate().rev().filter(|(_, b)| **b == b'\n');
        let mut ends = feeds.map(|(feed, _)| feed);
        ends.find(|feed| list[..*feed].trim_ascii_end().ends_with(b","))
            .map(|feed| feed + 1)
    };
    between.or(in_group).or_else(line)
}

/// Adds the addresses of a list to those before, and at most one more than are allowed.
fn some_addresses(list: &[u8], room: &mut Room<'_>, out: &mut Vec<Address>) {
    fn add(addresses: &[Addr<'_>], room: &mut Room<'_>, out: &mut Vec<Address>) {
        let limit = room.limits.text_bytes;
        for a in addresses {
            if out.len() > room.limits.addresses || !room.item() {
                return;
            }
            out.push(Address::Mailbox {
                name: room.clip(a.name.as_deref().unwrap_or_default(), limit),
                address: room.clip(a.address.as_deref().unwrap_or_default(), limit),
            });
        }
    }
    let mut list = list.to_vec();
    list.push(b'\n');
    match MessageStream::new(&list).parse_address() {
        HeaderValue::Address(mail_parser::Address::List(list)) => add(&list, room, out),
        HeaderValue::Address(mail_parser::Address::Group(groups)) => {
            for group in &groups {
                if out.len() > room.limits.addresses || !room.item() {
                    return;
                }
                let name = group.name.as_deref();
                out.extend(name.map(|n| Address::GroupStart(room.clip(n, room.limits.text_bytes))));
                add(&group.addresses, room, out);
                out.extend(name.map(|_| Address::GroupEnd));
            }
        }
        _ => (),
    }
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
        assert_eq!(e.references.len(), SHORT.ids);
        assert_eq!(e.references[0], "0@x");
        assert_eq!(e.references[SHORT.ids - 1], "499@x");
    }

    #[test]
    fn a_long_list_is_read_between_its_addresses() {
        for (list, at_a_time, end) in [
            ("a@x, b@x, c@x, d@x", 12, 9),
            ("\"a, b, c, d\" <a@x>, b@x", 20, 19),
            ("a@x, (b, (c), d, e, f, g)", 20, 4),
            ("a@x, g: b@x, c@x, d@x;", 20, 4),
            ("g: b@x, c@x, d@x, e@x;", 20, 17),
            ("a@x, \"b, c, d, e, f, g\\\", h", 20, 4),
            ("\",\n a@x b@x c@x d@x e@x", 20, 3),
        ] {
            let found = addresses_end(list.as_bytes(), at_a_time);
            assert_eq!(found, Some(end), "{list}");
        }
        assert_eq!(addresses_end(b"a@x b@x", 5), None);
        assert_eq!(addresses_end(b"a@x b@x", 7), Some(7));
    }

    #[test]
    fn a_group_that_is_cut_ends_all_the_same() {
        let many = "a@x, ".repeat(300);
        let (_, e, header) = of(&format!("To: team: {many};\r\nCc: {many} t: b@x;\r\n"));
        assert!(header.truncated);
        assert_eq!(e.to[0], Address::GroupStart("team".into()));
        assert_eq!(e.to[SHORT.addresses..], [Address::GroupEnd]);
        assert_eq!(e.cc.len(), SHORT.addresses);
        assert!(!e.cc.contains(&Address::GroupEnd));
    }

    #[test]
    fn at_length_all_of_a_block_is_read_as_far_as_there_is_room() {
        let many = "person@example.org,\r\n ".repeat(5000);
        let words = "word ".repeat(1000);
        let block = format!(
            "To: {many} last@x\r\nSubject: {words}\r\nContent-Type: x/y; a={}\r\n",
            "v".repeat(5000)
        );
        let read = |mut left: usize| {
            let mut part = Part::default();
            let (e, cut) = read_at_length(block.as_bytes(), true, "", &mut left, &mut part);
            (part, *e.unwrap(), cut, left)
        };
        let (part, e, cut, left) = read(1 << 20);
        assert!(!cut && left > 800_000, "{left}");
        assert_eq!((e.to.len(), e.subject.len()), (5001, 4999));
        assert_eq!(part.params[0].1.len(), 5000);
        let short =
            "From: Ann <a@x>, g: b@x;\nSubject: =?utf-8?Q?a?=\n b\nDate: x\nReferences: <1@x>\n";
        let mut part = Part::default();
        let (told, cut) = read_at_length(short.as_bytes(), true, "gbk", &mut 1000, &mut part);
        assert!(!cut && *told.unwrap() == of(short).1);
        let (_, e, cut, left) = read(10_000);
        assert!(cut && left < ITEM_BYTES && e.to.len() < 300 && e.subject.len() < ITEM_BYTES);
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
