//! CLOSE and UNSELECT (RFC 9051, sections 6.4.1 and 6.4.2).

use posthouse_client::proto::UidRange;

use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;

/// CLOSE: removes what is `\Deleted` and says nothing of it.
pub(super) async fn close(s: &mut Session) -> Result<Done, Stop> {
    let account = s.account()?;
    let view = &s.selected()?.view;
    let (mailbox, last) = (view.mailbox(), view.uids().max());
    if let Some(last) = last.filter(|_| !view.read_only) {
        let all = vec![UidRange { first: 1, last }];
        s.door.store.expunge(&account, mailbox, all).await?;
    }
    s.deselect();
    Ok(Done::ok("closed"))
}

/// UNSELECT: removes nothing.
pub(super) fn unselect(s: &mut Session) -> Result<Done, Stop> {
    s.selected()?;
    s.deselect();
    Ok(Done::ok("no mailbox is selected"))
}
