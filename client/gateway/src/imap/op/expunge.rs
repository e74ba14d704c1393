//! EXPUNGE and UID EXPUNGE (RFC 9051, sections 6.4.3 and 6.4.9; RFC 4315).

use posthouse_client::proto::UidRange;

use crate::imap::parse::Set;
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;
use crate::imap::updates::Ask;

/// Removes what is `\Deleted`: of the messages that the client knows, or of a set of them.
pub(super) async fn expunge(s: &mut Session, set: Option<Set>) -> Result<Done, Stop> {
    let account = s.account()?;
    let view = &s.writable()?.view;
    let ranges = match &set {
        Some(set) => view.spans(&view.by_uid(set)),
        None => {
            let all = |last| UidRange { first: 1, last };
            view.uids().max().map(all).into_iter().collect()
        }
    };
    let mailbox = view.mailbox();
    let mut modseq = None;
    if !ranges.is_empty() {
        let expunged = s.door.store.expunge(&account, mailbox, ranges).await?;
        modseq = (!expunged.vanished.is_empty()).then_some(expunged.modseq);
    }
    s.update(Ask::Always, true).await?;
    let done = Done::ok("expunged");
    // RFC 7162, section 3.2.7.
    Ok(match modseq.filter(|_| s.enabled.condstore) {
        Some(modseq) => done.code(format!("HIGHESTMODSEQ {modseq}")),
        None => done,
    })
}
