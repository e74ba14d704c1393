//! APPEND (RFC 9051, section 6.3.12; several messages: RFC 3502) and REPLACE (RFC 8508).
//!
//! The octets go into a spool piece by piece while they arrive, as the store may need them twice:
//! when a leader dies in the middle, they are sent again. A literal that the client asks leave for
//! is refused before it is sent.

use bytes::BytesMut;
use posthouse_client::Replaced;
use posthouse_client::ids::MailboxRef;
use roaring::RoaringBitmap;

use crate::imap::parse::append::{self, Announced, Head, Item};
use crate::imap::respond::text::set;
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;
use crate::imap::store::Message;
use crate::imap::updates::Ask;
use crate::imap::wire::Line;
use crate::lmtp::body::{self, Body, BodyError};

/// APPEND or REPLACE, from the first message on.
pub(in crate::imap) async fn append(s: &mut Session, head: Head) -> Result<Done, Stop> {
    let target = match target(s, &head) {
        Ok(target) => target,
        Err(Stop::Done(done)) => return refuse(s, head.item.literal, done).await,
        Err(stop) => return Err(stop),
    };
    let messages = read(s, head.item, target.replace.is_some()).await?;
    let count = messages.len() as u32;
    let account = s.account()?;
    let store = &s.door.store;
    let appended = store
        .append(&account, target.mailbox, &messages, target.replace)
        .await;
    let stored = appended
        .map_err(|error| Done::of_target_error(&error))?
        .first;
    let mut uids = RoaringBitmap::new();
    uids.insert_range(stored.uid..stored.uid.saturating_add(count));
    s.stored_here(stored.uidvalidity, &uids);
    let mut code = BytesMut::new();
    set(&mut code, &uids);
    let uids = String::from_utf8_lossy(&code);
    let code = format!("APPENDUID {} {uids}", stored.uidvalidity);
    if target.replace.is_some() {
        // RFC 8508, section 3.3: in front of what vanishes.
        s.wire.say(&format!("* OK [{code}] stored"));
        s.update(Ask::Always, true).await?;
        // It has removed a message as UID EXPUNGE does, which is answered so (RFC 7162, section
        // 3.2.9).
        return s.with_modseq(Done::ok("replaced"), true);
    }
    Ok(Done::ok("stored").code(code))
}

struct Target {
    mailbox: MailboxRef,
    replace: Option<Replaced>,
}

fn target(s: &mut Session, head: &Head) -> Result<Target, Stop> {
    s.account()?;
    let mailbox = MailboxRef::Name(s.name(&head.name)?);
    let Some((uid, set)) = &head.replace else {
        return Ok(Target {
            mailbox,
            replace: None,
        });
    };
    let view = &s.writable()?.view;
    match view.resolve(*uid, set)?.min() {
        Some(replaced) => Ok(Target {
            mailbox,
            replace: Some(Replaced {
                mailbox: view.id,
                uidvalidity: view.uidvalidity,
                uid: replaced,
            }),
        }),
        None => Err(Done::no("NONEXISTENT", "there is no such message").into()),
    }
}

/// Ends the command before a literal is taken.
async fn refuse(s: &mut Session, literal: Announced, done: Done) -> Result<Done, Stop> {
    let config = s.door.config.clone();
    s.wire.skip(literal, &config).await?;
    Err(done.into())
}

/// All messages of the command.
async fn read(s: &mut Session, first: Item, single: bool) -> Result<Vec<Message>, Stop> {
    let (limit, most) = (s.door.config.message_bytes, s.door.config.append_messages);
    let (line_bytes, patience) = (s.door.config.line_bytes, s.door.config.data_timeout());
    let (mut messages, mut item) = (Vec::new(), first);
    loop {
        let literal = item.literal;
        if literal.len > limit {
            return refuse(s, literal, Done::no("TOOBIG", "the message is too large"))
                .await
                .map(|_| Vec::new());
        }
        if messages.len() >= if single { 1 } else { most } {
            return refuse(s, literal, Done::no("LIMIT", "too many messages"))
                .await
                .map(|_| Vec::new());
        }
        if literal.waits {
            s.wire.say("+ go on");
        }
        let body = spool(s, literal.len).await?;
        let mut rest = match s.wire.line(line_bytes, patience, false).await? {
            Line::Good(line) => line,
            Line::TooLong(_, literal) => {
                let done = Done::bad("the line is too long");
                return match literal {
                    Some(literal) => refuse(s, literal, done).await.map(|_| Vec::new()),
                    None => Err(done.into()),
                };
            }
        };
        let next = match literal.utf8 && !rest.starts_with(b")") {
            true => Err(Done::bad("a parenthesis was expected")),
            false => {
                let rest = rest.split_off(usize::from(literal.utf8));
                match rest.is_empty() {
                    true => Ok(None),
                    false => append::next(&rest)
                        .map(Some)
                        .map_err(|bad| Done::bad(bad.0)),
                }
            }
        };
        let body = match (next.is_ok(), body, literal.len) {
            (_, Ok(_), 0) => Err(Done::no("CANNOT", "there is no message without octets")),
            (_, body, _) => body,
        };
        let (next, body) = match (next, body) {
            (Ok(next), Ok(body)) => (next, body),
            (next, body) => {
                // Whatever else the command holds is passed over.
                let more = match &next {
                    Ok(next) => next.as_ref().map(|next| next.literal),
                    Err(_) => append::announced(&rest),
                };
                let done = next.err().or(body.err());
                let done = done.unwrap_or_else(|| Done::bad("that is no message"));
                match more {
                    Some(more) => return refuse(s, more, done).await.map(|_| Vec::new()),
                    None => return Err(done.into()),
                }
            }
        };
        messages.push(Message {
            body,
            flags: item
                .flags
                .into_iter()
                .filter(|f| !f.eq_ignore_ascii_case("\\Recent"))
                .collect(),
            // 0 would mean now.
            internal_date_ms: item
                .date_ms
                .map_or(0, |ms| u64::try_from(ms).unwrap_or(0).max(1)),
        });
        match next {
            Some(next) => item = next,
            None => return Ok(messages),
        }
    }
}

/// Takes the octets of one message. Those that find no room are read and dropped.
async fn spool(s: &mut Session, len: u64) -> Result<Result<Body, Done>, Stop> {
    let patience = s.door.config.data_timeout();
    let (writer, body) = body::pipe(s.door.room.clone());
    let mut writer = Ok(writer);
    let mut left = len;
    while left > 0 {
        let piece = s.wire.piece(left, patience).await?;
        left -= piece.len() as u64;
        let failed = match &mut writer {
            Ok(writer) => writer.append(&piece).await.err(),
            Err(_) => None,
        };
        if let Some(error) = failed {
            writer = Err(no_room(&error));
        }
    }
    let completed = match writer {
        Ok(writer) => writer.complete().await.map_err(|error| no_room(&error)),
        Err(done) => Err(done),
    };
    Ok(completed.map(|()| body))
}

fn no_room(error: &BodyError) -> Done {
    if let BodyError::Spool(error) = error {
        tracing::error!(%error, "the spool failed");
    }
    Done::no("UNAVAILABLE", "there is no room for the message now")
}
