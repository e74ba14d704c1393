//! A client that follows an account: it hears of changes by a watch, and takes over what has
//! changed in the mailboxes that the watch names, each from where it stood there.
//!
//! That is what IDLE, NOTIFY and a cache of a mail program rest on (RFC 2177, 5465, 7162). It looks
//! at nothing else: a change that the watch does not tell of, or that the answer leaves out, is
//! missing in what it knows at the end, where [`crate::invariants::followers`] compares it with a
//! full reading.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use posthouse_client::ids::{AccountName, MailboxId, MailboxRef};
use posthouse_client::watch::Change;
use posthouse_client::{Client, Error};
use tokio::time::Instant;

use crate::history::{Answer, Call, Done, Followed};

use super::{At, Inner, account_id, account_name};

/// Before a question is asked again.
const PAUSE: Duration = Duration::from_millis(300);
/// Stands for all mailboxes: none has this number.
const WHOLE: u32 = 0;
/// Problems that are kept.
const PROBLEMS: usize = 5;

/// What one follower knows.
pub struct Follower {
    /// It asks for changes of the whole account, not of each mailbox.
    whole: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Uids by mailbox, with the modseq up to which the message was last heard of.
    mailboxes: BTreeMap<u32, BTreeMap<u32, u64>>,
    /// Where each mailbox stands; also of those that are gone.
    tokens: BTreeMap<u32, u64>,
    /// The last modseq that the watch told, and all changes up to it are known.
    modseq: u64,
    problems: Vec<String>,
}

impl State {
    fn problem(&mut self, what: String) {
        if self.problems.len() < PROBLEMS {
            self.problems.push(what);
        }
    }
}

/// Begins to follow an account, unless somebody does.
pub(super) fn follow(at: &At<'_>, account: u32, page: u32, whole: bool) {
    let mut followers = at.inner.followers.lock();
    if followers.contains_key(&account) {
        return;
    }
    let follower = Arc::new(Follower {
        whole,
        state: Mutex::default(),
    });
    followers.insert(account, Arc::clone(&follower));
    let client = at.client(0);
    tokio::spawn(async move { follower.run(&client, account_id(account), page).await });
}

/// Waits until every follower knows of its account's last change, and records what it knows.
pub(super) async fn finish(inner: &Arc<Inner>, modseqs: &BTreeMap<u32, u64>, until: Instant) {
    let followers = inner.followers.lock().clone();
    for (account, follower) in followers {
        let at = At {
            inner,
            op: None,
            client: super::READER,
        };
        let wanted = modseqs.get(&account).copied().unwrap_or(0);
        while follower.state.lock().modseq < wanted && Instant::now() < until {
            tokio::time::sleep(PAUSE).await;
        }
        let call = Call::Follow {
            account: account_name(account),
        };
        at.call(call, async {
            let state = follower.state.lock();
            Answer::Done(Done::Followed(Followed {
                mailboxes: state.mailboxes.clone(),
                modseq: state.modseq,
                problems: state.problems.clone(),
            }))
        })
        .await;
    }
}

impl Follower {
    async fn run(&self, client: &Client, account: AccountName, page: u32) {
        let watch = client.watch();
        loop {
            let since = self.state.lock().modseq;
            let mut subscription = watch.subscribe(account.clone(), since);
            while let Some(change) = subscription.next().await {
                self.take(client, &account, page, change).await;
            }
            // The account is gone, or was not there yet; one of its name may come.
            *self.state.lock() = State::default();
            drop(subscription);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn take(&self, client: &Client, account: &AccountName, page: u32, change: Change) {
        {
            let mut state = self.state.lock();
            let known = state.modseq;
            if change.modseq < known && !change.resync {
                let told = change.modseq;
                state.problem(format!("modseq {told} was told after modseq {known}"));
            }
        }
        let mut mailboxes: Vec<u32> = change.mailboxes.iter().map(|id| id.0).collect();
        if self.whole {
            mailboxes = vec![WHOLE];
        } else if change.resync {
            let Some(listed) = again(|| client.list_mailboxes(account)).await else {
                return;
            };
            mailboxes.extend(listed.iter().map(|m| m.mailbox_id));
            // Those that are gone say so when they are asked for.
            mailboxes.extend(self.state.lock().mailboxes.keys().copied());
            mailboxes.sort_unstable();
            mailboxes.dedup();
        }
        for mailbox in mailboxes {
            self.catch_up(client, account, page, mailbox).await;
        }
        let mut state = self.state.lock();
        state.modseq = state.modseq.max(change.modseq);
    }

    /// Takes over what has changed in one mailbox, or in the whole account, page by page.
    async fn catch_up(&self, client: &Client, account: &AccountName, page: u32, mailbox: u32) {
        let which = || {
            (mailbox != WHOLE).then_some(MailboxRef::Id {
                id: MailboxId(mailbox),
                uidvalidity: 0,
            })
        };
        loop {
            let since = self.state.lock().tokens.get(&mailbox).copied().unwrap_or(0);
            let asked = match client.get_changes(account, which(), since, page).await {
                Ok(changes) => changes,
                Err(Error::NotFound { .. }) => {
                    self.state.lock().mailboxes.remove(&mailbox);
                    return;
                }
                Err(Error::TooOld { .. }) => {
                    let mut state = self.state.lock();
                    if since == 0 {
                        state.problem(format!("all changes of mailbox {mailbox} are too old"));
                        return;
                    }
                    state.problem(format!("modseq {since} of mailbox {mailbox} is too old"));
                    state.tokens.remove(&mailbox);
                    match mailbox {
                        WHOLE => state.mailboxes.clear(),
                        mailbox => drop(state.mailboxes.remove(&mailbox)),
                    }
                    continue;
                }
                Err(_) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let mut state = self.state.lock();
            if asked.more && asked.up_to <= since {
                state.problem(format!(
                    "a page after modseq {since} ends at {}",
                    asked.up_to
                ));
                return;
            }
            state.tokens.insert(mailbox, asked.up_to);
            let up_to = asked.up_to;
            for changes in asked.mailboxes {
                let id = changes.mailbox_id;
                if mailbox != WHOLE && id != mailbox {
                    state.problem(format!("asked for mailbox {mailbox}, told of {id}"));
                    continue;
                }
                if changes.destroyed {
                    state.mailboxes.remove(&id);
                    continue;
                }
                let known = state.mailboxes.entry(id).or_default();
                for uid in super::answer::uids(&changes.vanished) {
                    known.remove(&uid);
                }
                for uid in super::answer::uids(&changes.created) {
                    known.insert(uid, up_to);
                }
                let mut strange = Vec::new();
                for uid in super::answer::uids(&changes.updated) {
                    if known.insert(uid, up_to).is_none() {
                        strange.push(uid);
                    }
                }
                if !strange.is_empty() {
                    let what =
                        format!("uids {strange:?} of mailbox {id} were updated, not created");
                    state.problem(what);
                }
            }
            if !asked.more {
                return;
            }
        }
    }
}

/// Asks until there is an answer; `None`: there is no such account. No other error may end it, also
/// one that the client does not try again by itself, as of a stranger at the leader's address: the
/// watch does not tell the same change twice.
async fn again<T, F: Future<Output = Result<T, Error>>>(ask: impl Fn() -> F) -> Option<T> {
    loop {
        match ask().await {
            Ok(answer) => return Some(answer),
            Err(Error::NotFound { .. }) => return None,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
