//! EXPUNGE and UID EXPUNGE (RFC 9051, sections 6.4.3 and 6.4.9; RFC 4315).

use posthouse_client::proto::UidRange;

use crate::imap::parse::Set;
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;
use crate::imap::updates::Ask;

impl Session {
    /// An answer to a command that removed messages, if it did (RFC 7162, section 3.2.7). Where
    /// the store could not be asked for what others have changed before, it is not the modseq of
    /// the removal that is told: the client would go on behind what it has missed.
    pub(super) fn with_modseq(&mut self, done: Done, removed: bool) -> Result<Done, Stop> {
        if !removed || !self.enabled.condstore {
            return Ok(done);
        }
        let safe = self.selected()?.view.safe_modseq();
        Ok(done.code(format!("HIGHESTMODSEQ {}", safe.max(1))))
    }
}

/// Removes what is `\Deleted`: of the messages that the client knows, or of a set of them.
pub(super) async fn expunge(s: &mut Session, set: Option<Set>) -> Result<Done, Stop> {
    let account = s.account()?;
    let view = &s.writable()?.view;
    let ranges = match &set {
        Some(set) => view.spans_of_change(&view.by_uid(set)),
        None => {
            let all = |last| UidRange { first: 1, last };
            view.uids().max().map(all).into_iter().collect()
        }
    };
    let mailbox = view.mailbox();
    let mut any = false;
    if !ranges.is_empty() {
        let expunged = s.door.store.expunge(&account, mailbox, ranges).await?;
        any = !expunged.vanished.is_empty();
    }
    s.update(Ask::Always, true).await?;
    s.with_modseq(Done::ok("expunged"), any)
}
