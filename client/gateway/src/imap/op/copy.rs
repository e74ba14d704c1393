//! COPY and MOVE (RFC 9051, sections 6.4.7 and 6.4.8; COPYUID: RFC 4315).

use bytes::BytesMut;
use posthouse_client::Copied;
use posthouse_client::ids::MailboxRef;

use crate::imap::parse::Set;
use crate::imap::respond::text::ranges;
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;
use crate::imap::updates::Ask;
use crate::imap::view;

async fn transfer(
    s: &mut Session,
    uid: bool,
    set: &Set,
    to: &[u8],
    moved: bool,
) -> Result<Option<Copied>, Stop> {
    let account = s.account()?;
    let view = match moved {
        true => &s.writable()?.view,
        false => &s.selected()?.view,
    };
    let (uids, from) = (view.resolve(uid, set)?, view.mailbox());
    let spans = view.spans_of_change(&uids);
    let to = MailboxRef::Name(s.name(to)?);
    if uids.is_empty() {
        return Ok(None);
    }
    let done = s.door.store.copy(&account, from, spans, to, moved).await;
    let copied = done.map_err(|error| Done::of_target_error(&error))?;
    s.stored_here(copied.uidvalidity, &view::set_of(&copied.to));
    Ok(Some(copied))
}

fn copyuid(copied: &Copied) -> Option<String> {
    if copied.from.is_empty() {
        return None;
    }
    let mut out = BytesMut::new();
    ranges(&mut out, &copied.from);
    out.extend_from_slice(b" ");
    ranges(&mut out, &copied.to);
    let pairs = String::from_utf8_lossy(&out).into_owned();
    Some(format!("COPYUID {} {pairs}", copied.uidvalidity))
}

/// COPY: all or none.
pub(super) async fn copy(s: &mut Session, uid: bool, set: &Set, to: &[u8]) -> Result<Done, Stop> {
    let copied = transfer(s, uid, set, to, false).await?;
    let code = copied.as_ref().and_then(copyuid);
    Ok(Done::ok("copied").code(code.unwrap_or_default()))
}

/// MOVE: the answer with COPYUID comes before the messages are told to be gone (RFC 6851, section
/// 4.3).
pub(super) async fn move_messages(
    s: &mut Session,
    uid: bool,
    set: &Set,
    to: &[u8],
) -> Result<Done, Stop> {
    let moved = transfer(s, uid, set, to, true).await?;
    if let Some(code) = moved.as_ref().and_then(copyuid) {
        s.wire.say(&format!("* OK [{code}] moved"));
    }
    s.update(Ask::Always, true).await?;
    s.with_modseq(Done::ok("moved"), moved.is_some())
}
