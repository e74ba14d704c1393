//! GETMETADATA and SETMETADATA (RFC 5464).
//!
//! One entry of a mailbox is no annotation: its special uses, which LIST tells as well. By this
//! entry mail programs change them of a mailbox that exists (RFC 6154, section 4).

use posthouse_client::Error;
use posthouse_client::ids::{MailboxName, MailboxRef};
use posthouse_client::proto::Annotation;

use super::mailboxes::of_use;
use crate::imap::notify::Own;
use crate::imap::parse::metadata::{GetMetadata, SetMetadata};
use crate::imap::respond::done::Condition;
use crate::imap::respond::text::{astring, one_line, put, string};
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;

/// Special uses of a mailbox, as LIST tells them, with spaces between them.
pub(in crate::imap) const SPECIAL_USE: &str = "/private/specialuse";
/// Octets of all special uses that there are, and more.
const SPECIAL_USE_BYTES: usize = 1_000;

/// The name of an entry in lower case, if it can be one (RFC 5464, section 3.2).
fn entry(name: &str) -> Result<String, Stop> {
    let lower = name.to_ascii_lowercase();
    let good = lower
        .strip_prefix("/private")
        .or_else(|| lower.strip_prefix("/shared"));
    let good = good.is_some_and(|rest| {
        rest.is_empty() || rest.starts_with('/') && !rest.ends_with('/') && !rest.contains("//")
    });
    let plain = |b: u8| (b' '..0x7f).contains(&b) && b != b'*' && b != b'%';
    match good && lower.bytes().all(plain) {
        true => Ok(lower),
        false => Err(Done::bad("that is no name of an entry").into()),
    }
}

fn target(s: &Session, name: &[u8]) -> Result<Option<MailboxName>, Stop> {
    match name {
        b"" => Ok(None),
        name => s.name(name).map(Some),
    }
}

/// How an entry stands to one that was asked for.
fn depth_below(entry: &str, asked: &str) -> Option<usize> {
    let rest = entry.strip_prefix(asked)?;
    match rest.is_empty() || rest.starts_with('/') {
        true => Some(rest.matches('/').count()),
        false => None,
    }
}

/// GETMETADATA.
pub(super) async fn get(s: &mut Session, command: GetMetadata) -> Result<Done, Stop> {
    let account = s.account()?;
    let name = target(s, &command.name)?;
    let asked = command
        .entries
        .iter()
        .map(|e| entry(e))
        .collect::<Result<Vec<_>, _>>()?;
    let mailbox = name.clone().map(MailboxRef::Name);
    let mut all = s.door.store.metadata(&account, mailbox).await?;
    let is_asked = |entry: &str| {
        let depths = asked.iter().filter_map(|asked| depth_below(entry, asked));
        let mut depths = depths.map(|depth| command.depth.is_none_or(|max| depth <= max.into()));
        depths.any(|near| near)
    };
    if let Some(name) = &name {
        all.retain(|a| !a.entry.eq_ignore_ascii_case(SPECIAL_USE));
        if is_asked(SPECIAL_USE) {
            all.extend(special_use(s, name).await?);
        }
    }
    let (mut told, mut longest) = (Vec::new(), 0u64);
    for annotation in &all {
        let size = annotation.value.len() as u64;
        if !is_asked(&annotation.entry.to_ascii_lowercase()) {
            continue;
        }
        match command.max_bytes {
            Some(max) if size > max => longest = longest.max(size),
            _ => told.push((annotation.entry.clone(), Some(&annotation.value[..]))),
        }
    }
    if command.depth == Some(0) {
        let there = |asked: &String| all.iter().any(|a| a.entry.eq_ignore_ascii_case(asked));
        told.extend(asked.into_iter().filter(|a| !there(a)).map(|a| (a, None)));
    }
    if !told.is_empty() {
        put(s.wire.out(), "* METADATA ");
        match &name {
            Some(name) => s.say_name(name.as_str()),
            None => put(s.wire.out(), "\"\""),
        }
        let utf8 = s.enabled.utf8;
        let out = s.wire.out();
        for (i, (entry, value)) in told.iter().enumerate() {
            put(out, if i == 0 { " (" } else { " " });
            astring(out, entry, utf8);
            put(out, " ");
            match value {
                None => put(out, "NIL"),
                Some(value) => {
                    // A value with NUL is told as a literal8 (RFC 5464, section 5).
                    if value.contains(&0) {
                        put(out, "~");
                    }
                    string(out, value, utf8);
                }
            }
        }
        put(out, ")\r\n");
    }
    let done = Done::ok("that is all");
    Ok(match longest {
        0 => done,
        longest => done.code(format!("METADATA LONGENTRIES {longest}")),
    })
}

/// METADATA without values: these have changed (RFC 5464, section 4.4.2).
pub(in crate::imap) fn say_changed(s: &mut Session, name: &str, entries: &[String]) {
    put(s.wire.out(), "* METADATA ");
    match name {
        "" => put(s.wire.out(), "\"\""),
        name => s.say_name(name),
    }
    for entry in entries {
        put(s.wire.out(), " ");
        astring(s.wire.out(), entry, false);
    }
    put(s.wire.out(), "\r\n");
}

/// The entry of a mailbox's special uses, if it has any.
async fn special_use(s: &mut Session, name: &MailboxName) -> Result<Option<Annotation>, Stop> {
    let listed = s.door.store.mailboxes(&s.account()?).await?;
    let found = listed.mailboxes.iter().find(|m| m.name == name.as_str());
    let uses = found.filter(|m| !m.special_use.is_empty());
    Ok(uses.map(|m| Annotation {
        entry: SPECIAL_USE.to_owned(),
        value: m.special_use.join(" ").into(),
        nil: false,
    }))
}

/// Sets all special uses of a mailbox; without a value, none.
async fn set_special_use(s: &mut Session, mailbox: MailboxRef, value: &[u8]) -> Result<Done, Stop> {
    let account = s.account()?;
    let text = std::str::from_utf8(value).ok();
    let Some(text) = text.filter(|text| text.len() <= SPECIAL_USE_BYTES) else {
        return Err(Done::no("USEATTR", "that use is not possible").into());
    };
    let uses = text.split_ascii_whitespace().map(str::to_owned).collect();
    let set = s.door.store.set_special_use(&account, mailbox, uses).await;
    set.map_err(of_use)?;
    Ok(Done::ok("set"))
}

/// SETMETADATA: all or none.
pub(super) async fn set(s: &mut Session, command: SetMetadata) -> Result<Done, Stop> {
    let account = s.account()?;
    let name = target(s, &command.name)?;
    let mut annotations = Vec::new();
    for (name, value) in command.entries {
        let entry = entry(&name)?;
        // The roots themselves hold nothing.
        if entry == "/private" || entry == "/shared" {
            return Err(Done::bad("that is no name of an entry").into());
        }
        annotations.push(Annotation {
            entry,
            nil: value.is_none(),
            value: value.unwrap_or_default().into(),
        });
    }
    let mailbox = name.clone().map(MailboxRef::Name);
    if let Some(mailbox) = &mailbox
        && let Some(uses) = annotations.iter().find(|a| a.entry == SPECIAL_USE)
    {
        // The store sets them by another command than annotations, and both would not be all or
        // none.
        return match annotations.len() {
            1 => set_special_use(s, mailbox.clone(), &uses.value).await,
            _ => Err(Done::no("CANNOT", "special uses are set by a command of their own").into()),
        };
    }
    let set = s
        .door
        .store
        .set_metadata(&account, mailbox, annotations.clone())
        .await;
    set.map_err(|error| match error {
        Error::TooLarge { limit, .. } => Stop::from(Done::no(
            &format!("METADATA MAXSIZE {limit}"),
            "the value is too long",
        )),
        // The store refuses annotations for one reason: they, or their octets, would be too many.
        Error::Refused { message } => Stop::from(Done {
            condition: Condition::No,
            code: "METADATA TOOMANY".to_owned(),
            text: one_line(&message).into(),
        }),
        error => error.into(),
    })?;
    let name = name.as_ref().map(MailboxName::as_str);
    s.note_own(Own::Annotated(name, &annotations));
    Ok(Done::ok("set"))
}
