//! STORE (RFC 9051, section 6.4.6; RFC 7162, section 3.1.3).

use bytes::BytesMut;
use posthouse_client::FlagChange;

use crate::imap::parse::Set;
use crate::imap::parse::store::Store;
use crate::imap::respond::text;
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;
use crate::imap::view;

/// STORE. The new flags are told as they are in the store afterwards, so that what others did
/// meanwhile is told with them.
pub(super) async fn store(
    s: &mut Session,
    uid: bool,
    set: &Set,
    mut command: Store,
) -> Result<Done, Stop> {
    let account = s.account()?;
    let view = &s.writable()?.view;
    let (uids, mailbox, before) = (view.resolve(uid, set)?, view.mailbox(), view.modseq);
    let spans = view.spans_of_change(&uids);
    if command.unchanged_since.is_some() {
        s.use_condstore();
    }
    // No client can change it (RFC 3501, section 2.3.2); some send it back with all the others.
    command
        .flags
        .retain(|flag| !flag.eq_ignore_ascii_case("\\Recent"));
    if uids.is_empty() {
        return Ok(Done::ok("no such messages"));
    }
    let change = FlagChange {
        uids: spans,
        mode: command.mode,
        flags: command.flags,
        unchanged_since: command.unchanged_since,
    };
    let changed = s.door.store.set_flags(&account, mailbox, change).await?;
    let (ours, modified) = (
        view::set_of(&changed.changed),
        view::set_of(&changed.modified),
    );
    let view = &mut s.selected()?.view;
    if changed.modseq == before + 1 && !ours.is_empty() {
        // Nothing else has happened in the account: all news is our own.
        view.modseq = changed.modseq;
    } else {
        s.refresh().await?;
    }
    let view = &mut s.selected()?.view;
    match command.silent {
        false => view.tell(&(&uids - &modified)),
        // Somebody else may have changed them as well; then they stay among the news.
        true if s.enabled.condstore => s.tell_flags(&ours, false).await?,
        true => {}
    }
    s.tell(uid, true).await?;
    let done = Done::ok("stored");
    if modified.is_empty() {
        return Ok(done);
    }
    let modified = match uid {
        true => modified,
        false => s.selected()?.view.numbers(&modified),
    };
    let mut out = BytesMut::from("MODIFIED ");
    text::set(&mut out, &modified);
    Ok(done.code(String::from_utf8_lossy(&out).into_owned()))
}
