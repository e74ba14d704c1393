//! FETCH (RFC 9051, section 6.4.5; RFC 3516, 7162, 8474, 8514, 8970, 9394) and the sections of a
//! message.

use std::fmt::Write;

use posthouse_client::proto::Section;
use posthouse_client::proto::section::Kind;

use super::command::bounded;
use super::token::Cursor;
use super::{Bad, Limits, search};

/// What FETCH asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FetchItems {
    /// The items in their order, none of them twice but sections.
    pub items: Vec<Item>,
    /// Only messages that have changed since (RFC 7162, section 3.1.4.1).
    pub changed_since: Option<u64>,
    /// Also tell what has vanished since (section 3.2.6).
    pub vanished: bool,
    /// Only these of the messages, by their positions (RFC 9394, section 3.3): counted from 1 or,
    /// negative, from the end.
    pub partial: Option<(i64, i64)>,
}

/// One item of a message.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Item {
    Envelope,
    Flags,
    InternalDate,
    Size,
    /// BODY: the structure without extension data.
    Body,
    BodyStructure,
    Uid,
    ModSeq,
    EmailId,
    ThreadId,
    SaveDate,
    Preview,
    Section(SectionItem),
}

/// A section: what is asked of the store, and how the answer is called.
#[derive(Debug, Clone, PartialEq)]
pub struct SectionItem {
    /// What is asked of the store.
    pub section: Section,
    /// The item's name in the answer, as `BODY[TEXT]<0>`.
    pub label: String,
    /// Reading it sets `\Seen`.
    pub sets_seen: bool,
    /// How its octets are told.
    pub form: Form,
}

/// How a section is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As a literal.
    Literal,
    /// As a literal that may hold any octets (RFC 3516).
    Literal8,
    /// As a number of octets.
    Size,
}

/// Reads what follows the set and a space.
pub fn parse(c: &mut Cursor<'_>, limits: &Limits) -> Result<FetchItems, Bad> {
    let mut fetch = FetchItems::default();
    match c.peek() {
        Some(b'(') => fetch.items = items(c, limits)?,
        _ => {
            let word = c.rest();
            let macros = [
                (
                    "ALL",
                    &[Item::Flags, Item::InternalDate, Item::Size, Item::Envelope][..],
                ),
                ("FAST", &[Item::Flags, Item::InternalDate, Item::Size]),
                (
                    "FULL",
                    &[
                        Item::Flags,
                        Item::InternalDate,
                        Item::Size,
                        Item::Envelope,
                        Item::Body,
                    ],
                ),
            ];
            let ends = |n: usize| word.get(n).is_none_or(|&b| b == b' ');
            match macros.iter().find(|(m, _)| {
                word.len() >= m.len()
                    && word[..m.len()].eq_ignore_ascii_case(m.as_bytes())
                    && ends(m.len())
            }) {
                Some((name, items)) => {
                    c.eat_word(name);
                    fetch.items = items.to_vec();
                }
                None => item(c, limits, &mut fetch.items)?,
            }
        }
    }
    if c.eat(b' ') {
        c.list(|c| {
            match c.word()?.as_str() {
                "CHANGEDSINCE" => {
                    c.space()?;
                    fetch.changed_since = Some(c.number63()?);
                }
                "VANISHED" => fetch.vanished = true,
                "PARTIAL" if fetch.partial.is_none() => {
                    c.space()?;
                    fetch.partial = Some(search::positions(c)?);
                }
                _ => return Err(Bad("unknown modifier")),
            }
            Ok(())
        })?;
        if fetch.vanished && fetch.changed_since.is_none() {
            return Err(Bad("VANISHED needs CHANGEDSINCE"));
        }
    }
    Ok(fetch)
}

/// Items in parentheses, at least one.
pub fn items(c: &mut Cursor<'_>, limits: &Limits) -> Result<Vec<Item>, Bad> {
    let mut items = Vec::new();
    c.list(|c| {
        bounded(&items, limits)?;
        item(c, limits, &mut items)
    })?;
    match items.is_empty() {
        true => Err(Bad("an item was expected")),
        false => Ok(items),
    }
}

fn item(c: &mut Cursor<'_>, limits: &Limits, items: &mut Vec<Item>) -> Result<(), Bad> {
    let name = c.word()?;
    let item = match name.as_str() {
        "ENVELOPE" => Item::Envelope,
        "FLAGS" => Item::Flags,
        "INTERNALDATE" => Item::InternalDate,
        "RFC822.SIZE" => Item::Size,
        "BODYSTRUCTURE" => Item::BodyStructure,
        "UID" => Item::Uid,
        "MODSEQ" => Item::ModSeq,
        "EMAILID" => Item::EmailId,
        "THREADID" => Item::ThreadId,
        "SAVEDATE" => Item::SaveDate,
        "PREVIEW" => {
            // Previews are made when mail arrives, so LAZY changes nothing.
            // What else stands in parentheses here modifies the whole FETCH.
            let mut ahead = *c;
            if ahead.eat_word(" (LAZY)") {
                *c = ahead;
            }
            Item::Preview
        }
        "RFC822" => old(Kind::All, "RFC822", true),
        "RFC822.HEADER" => old(Kind::Header, "RFC822.HEADER", false),
        "RFC822.TEXT" => old(Kind::Text, "RFC822.TEXT", true),
        "BODY" if c.peek() != Some(b'[') => Item::Body,
        "BODY" | "BODY.PEEK" => Item::Section(body(c, limits, name == "BODY")?),
        "BINARY" | "BINARY.PEEK" => {
            Item::Section(binary(c, limits, Form::Literal8, name == "BINARY")?)
        }
        "BINARY.SIZE" => Item::Section(binary(c, limits, Form::Size, false)?),
        _ => return Err(Bad("unknown item")),
    };
    if !items.contains(&item) {
        items.push(item);
    }
    Ok(())
}

/// The names of RFC 3501 for sections.
fn old(kind: Kind, label: &str, sets_seen: bool) -> Item {
    Item::Section(SectionItem {
        section: Section {
            kind: kind as i32,
            ..Section::default()
        },
        label: label.to_owned(),
        sets_seen,
        form: Form::Literal,
    })
}

/// Part numbers; the cursor stands behind the last dot or digit. `true`: behind a dot.
fn path(c: &mut Cursor<'_>, limits: &Limits) -> Result<(Vec<u32>, bool), Bad> {
    let mut path = Vec::new();
    while c.peek().is_some_and(|b| b.is_ascii_digit()) {
        if path.len() > 4 * limits.nesting {
            return Err(Bad("the section is nested too deep"));
        }
        path.push(c.positive()?);
        if !c.eat(b'.') {
            return Ok((path, false));
        }
    }
    let dot = !path.is_empty();
    Ok((path, dot))
}

fn body(c: &mut Cursor<'_>, limits: &Limits, sets_seen: bool) -> Result<SectionItem, Bad> {
    c.expect(b'[', "a section was expected")?;
    let (path, dot) = path(c, limits)?;
    let mut label = String::from("BODY[");
    write_path(&mut label, &path);
    let mut section = Section {
        path,
        ..Section::default()
    };
    if dot || section.path.is_empty() && c.peek() != Some(b']') {
        if dot {
            label.push('.');
        }
        let word = c.word()?;
        section.kind = match word.as_str() {
            "HEADER" => Kind::Header,
            "HEADER.FIELDS" => Kind::HeaderFields,
            "HEADER.FIELDS.NOT" => Kind::HeaderFieldsNot,
            "TEXT" => Kind::Text,
            "MIME" if dot => Kind::Mime,
            _ => return Err(Bad("unknown section")),
        } as i32;
        label.push_str(&word);
        if word.contains("FIELDS") {
            c.space()?;
            section.fields = c.list(|c| c.text())?;
            if section.fields.is_empty() || section.fields.len() > limits.items {
                return Err(Bad("too few or too many fields"));
            }
            write_fields(&mut label, &section.fields)?;
        }
    }
    c.expect(b']', "the section does not end")?;
    label.push(']');
    partial(c, &mut section, &mut label)?;
    Ok(SectionItem {
        section,
        label,
        sets_seen,
        form: Form::Literal,
    })
}

fn write_path(label: &mut String, path: &[u32]) {
    for (i, n) in path.iter().enumerate() {
        let _ = write!(label, "{}{n}", if i > 0 { "." } else { "" });
    }
}

/// Field names as they were asked for: clients compare them.
fn write_fields(label: &mut String, fields: &[String]) -> Result<(), Bad> {
    label.push_str(" (");
    for (i, field) in fields.iter().enumerate() {
        let good = |b: u8| b > b' ' && b < 0x7f && b != b':' && b != b'"' && b != b'\\';
        if field.is_empty() || !field.bytes().all(good) {
            return Err(Bad("that is no name of a header field"));
        }
        if i > 0 {
            label.push(' ');
        }
        match field.bytes().all(super::token::is_astring) {
            true => label.push_str(field),
            false => {
                let _ = write!(label, "\"{field}\"");
            }
        }
    }
    label.push(')');
    Ok(())
}

fn binary(
    c: &mut Cursor<'_>,
    limits: &Limits,
    form: Form,
    sets_seen: bool,
) -> Result<SectionItem, Bad> {
    c.expect(b'[', "a section was expected")?;
    let (path, dot) = path(c, limits)?;
    if dot {
        return Err(Bad("a part number was expected"));
    }
    c.expect(b']', "the section does not end")?;
    let mut label = String::from(match form {
        Form::Size => "BINARY.SIZE[",
        _ => "BINARY[",
    });
    write_path(&mut label, &path);
    label.push(']');
    let mut section = Section {
        decode: true,
        path,
        size_only: form == Form::Size,
        ..Section::default()
    };
    if form != Form::Size {
        partial(c, &mut section, &mut label)?;
    }
    Ok(SectionItem {
        section,
        label,
        sets_seen,
        form,
    })
}

/// `<offset.length>`: told back as `<offset>`.
fn partial(c: &mut Cursor<'_>, section: &mut Section, label: &mut String) -> Result<(), Bad> {
    if !c.eat(b'<') {
        return Ok(());
    }
    section.offset = c.number63()?;
    c.expect(b'.', "a length was expected")?;
    section.length = c.number63()?;
    if section.length == 0 {
        return Err(Bad("the length must not be 0"));
    }
    c.expect(b'>', "the range does not end")?;
    let _ = write!(label, "<{}>", section.offset);
    Ok(())
}
