//! GETMETADATA and SETMETADATA (RFC 5464).

use posthouse_client::ids::{MailboxName, MailboxRef};
use posthouse_client::proto::Annotation;

use crate::imap::parse::metadata::{GetMetadata, SetMetadata};
use crate::imap::respond::text::{put, string};
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;

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
    let all = s.door.store.metadata(&account, mailbox).await?;
    let (mut told, mut longest) = (Vec::new(), 0u64);
    for annotation in &all {
        let wanted = asked.iter().any(|asked| {
            let depth = depth_below(&annotation.entry.to_ascii_lowercase(), asked);
            depth.is_some_and(|d| command.depth.is_none_or(|max| d <= max.into()))
        });
        let size = annotation.value.len() as u64;
        if !wanted {
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
            put(out, entry);
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
    let mailbox = name.map(MailboxRef::Name);
    let set = s
        .door
        .store
        .set_metadata(&account, mailbox, annotations)
        .await;
    set.map_err(|error| match error {
        posthouse_client::Error::TooLarge { limit, .. } => Stop::from(Done::no(
            &format!("METADATA MAXSIZE {limit}"),
            "the value is too long",
        )),
        error => error.into(),
    })?;
    Ok(Done::ok("set"))
}
