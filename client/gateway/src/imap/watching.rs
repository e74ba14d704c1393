//! Whether something has happened in the selected mailbox (RFC 9051, section 5.2), or in any
//! (RFC 5465).
//!
//! A session listens to its account. So it asks the store for changes when there are some, and a
//! command that changes nothing costs no question; during IDLE the same news wake it up. A
//! listener that fails is made up for by asking from time to time.

use std::time::Duration;

use futures::FutureExt;
use posthouse_client::ids::{AccountName, MailboxId, ModSeq};

use super::store::{Change, Follow, Store};

/// How often the store is asked when nobody tells.
const ASK_EVERY: Duration = Duration::from_secs(20);
/// How soon a store that gave no answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A session's ear.
pub struct Watching {
    follow: Option<Box<dyn Follow>>,
    /// `None`: anything that happens to the account.
    mailbox: Option<MailboxId>,
    /// There is news that nobody has asked the store for.
    news: bool,
    /// The store was asked, and gave no answer.
    unanswered: bool,
}

impl Watching {
    /// Listens for changes of a mailbox, or of the whole account, after `since`.
    pub fn new(
        store: &dyn Store,
        account: &AccountName,
        mailbox: Option<MailboxId>,
        since: ModSeq,
    ) -> Watching {
        Watching {
            follow: Some(store.follow(account, since)),
            mailbox,
            news: false,
            unanswered: false,
        }
    }

    /// Whether there is news by now.
    pub fn has_news(&mut self) -> bool {
        while let Some(follow) = &mut self.follow {
            match follow.next().now_or_never() {
                None => break,
                Some(change) => self.hear(change),
            }
        }
        self.news || self.unanswered || self.follow.is_none()
    }

    /// Waits for news. Nothing is lost when it is dropped.
    pub async fn wait(&mut self) {
        while !self.news {
            if self.unanswered {
                tokio::time::sleep(ASK_AGAIN).await;
                return;
            }
            let Some(follow) = &mut self.follow else {
                tokio::time::sleep(ASK_EVERY).await;
                return;
            };
            let change = follow.next().await;
            self.hear(change);
        }
    }

    /// The store has been asked up to this moment.
    pub fn asked(&mut self) {
        (self.news, self.unanswered) = (false, false);
    }

    /// The store gave no answer: what it was asked for is still to be told, though nobody may
    /// speak of it again.
    pub fn not_answered(&mut self) {
        self.unanswered = true;
    }

    fn hear(&mut self, change: Option<Change>) {
        match change {
            None => self.follow = None,
            Some(change) => {
                let mine = self
                    .mailbox
                    .is_none_or(|id| change.mailboxes.contains(&id.0));
                self.news |= mine || change.resync || change.gone;
            }
        }
    }
}
