//! Reads: the mailboxes of an account, the messages of a mailbox page by page, one message whole.
//!
//! What a read found is what the octets say: a fetched message is hashed here, whatever the node
//! and the library say of it.

use futures::TryStreamExt;
use posthouse_client::ids::{AccountName, MailboxName};
use posthouse_client::proto::Message;
use posthouse_client::{Client, Error, ListOptions};

use crate::history::{AccountSeen, Answer, Call, Done, MailboxSeen, MessageSeen};

use super::known::Place;
use super::{At, account_id, account_name, answer, mailbox_name, mailbox_number};

/// Lists the mailboxes of an account.
pub(super) async fn mailboxes(at: &At<'_>, account: u32) -> Answer {
    let name = account_id(account);
    let client = at.client(0);
    let call = Call::Mailboxes {
        account: account_name(account),
    };
    let answer = at
        .call(call, async {
            match client.read_mailboxes(&name).await {
                Ok(listed) => {
                    let mailboxes = listed.mailboxes.into_iter().map(|m| {
                        let mut uses = m.special_use;
                        uses.sort_unstable();
                        let seen = MailboxSeen {
                            uid_validity: m.uidvalidity,
                            uid_next: m.uidnext,
                            highest_modseq: m.highest_modseq,
                            messages: m.messages,
                            unseen: m.unseen,
                            deleted: m.deleted,
                            bytes: m.bytes,
                            id: m.mailbox_id,
                            uses,
                            subscribed: m.subscribed,
                        };
                        (m.name, seen)
                    });
                    let mut subscriptions = listed.subscriptions;
                    subscriptions.sort_unstable();
                    Answer::Done(Done::Mailboxes(AccountSeen {
                        mailboxes: mailboxes.collect(),
                        subscriptions,
                        modseq: listed.highest_modseq,
                    }))
                }
                Err(e) => answer::of(e),
            }
        })
        .await;
    if let Answer::Done(Done::Mailboxes(all)) = &answer {
        let mut known = at.inner.known.lock();
        for (name, seen) in &all.mailboxes {
            if let Some(number) = mailbox_number(name) {
                known.named((account, number), seen.id, seen.uid_validity);
            }
        }
    }
    answer
}

/// Lists the messages of a mailbox, `page` at a time.
pub(super) async fn list(at: &At<'_>, account: u32, mailbox: &str, page: u32) -> Answer {
    let client = at.client(0);
    let call = Call::List {
        account: account_name(account),
        mailbox: mailbox.to_owned(),
    };
    let answer = at
        .call(call, async {
            match pages(&client, account, mailbox, page).await {
                Ok(answer) => answer,
                Err(e) => answer::of(e),
            }
        })
        .await;
    if let Answer::Done(Done::Messages { messages, .. }) = &answer
        && let Some(number) = mailbox_number(mailbox)
    {
        let listed = messages.iter().map(|m| (m.uid, m.modseq));
        at.inner.known.lock().listed((account, number), listed);
    }
    answer
}

async fn pages(client: &Client, account: u32, mailbox: &str, page: u32) -> Result<Answer, Error> {
    let name = account_id(account);
    let mailbox = MailboxName::new(mailbox)?;
    let options = ListOptions {
        page,
        with_summary: true,
        ..ListOptions::default()
    };
    let pages = client.list_pages(&name, &mailbox, options);
    let mut pages = std::pin::pin!(pages);
    let mut first = None;
    let mut count = 0;
    let mut messages = Vec::new();
    while let Some(page) = pages.try_next().await? {
        let state = page.mailbox.unwrap_or_default();
        let (uid_validity, _) = *first.get_or_insert((state.uidvalidity, state.highest_modseq));
        if uid_validity != state.uidvalidity {
            return Ok(Answer::Unknown("another mailbox between two pages".into()));
        }
        count += 1;
        messages.extend(page.messages.into_iter().map(seen));
    }
    let (uid_validity, highest_modseq) = first.unwrap_or_default();
    Ok(Answer::Done(Done::Messages {
        uid_validity,
        highest_modseq,
        one_page: count == 1,
        messages,
    }))
}

fn seen(message: Message) -> MessageSeen {
    let mut flags = message.flags;
    flags.sort_unstable();
    MessageSeen {
        uid: message.uid,
        modseq: message.modseq,
        flags,
        size: message.size,
        date_ms: message.internal_date_ms,
        blob: answer::hex(&message.blob_id),
    }
}

/// Reads one of the messages that are known.
pub(super) async fn fetch_pick(at: &At<'_>, place: Place, pick: u32) {
    let picked = at.inner.known.lock().pick(place, pick, 1);
    for (uid, _) in picked {
        fetch(at, place.0, &mailbox_name(place.1), uid).await;
    }
}

/// Reads one message whole.
pub(super) async fn fetch(at: &At<'_>, account: u32, mailbox: &str, uid: u32) -> Answer {
    let name = account_id(account);
    let client = at.client(0);
    let call = Call::Fetch {
        account: account_name(account),
        mailbox: mailbox.to_owned(),
        uid,
        era: 0,
    };
    at.call(call, async {
        match octets(at, &client, &name, mailbox, uid).await {
            Ok(answer) => answer,
            Err(e) => answer::of(e),
        }
    })
    .await
}

async fn octets(
    at: &At<'_>,
    client: &Client,
    account: &AccountName,
    mailbox: &str,
    uid: u32,
) -> Result<Answer, Error> {
    let mailbox = MailboxName::new(mailbox)?;
    let mut fetched = at.opened(client.fetch(account, &mailbox, uid)).await?;
    let (mut hasher, mut size) = (blake3::Hasher::new(), 0);
    while let Some(piece) = fetched.octets.try_next().await? {
        hasher.update(&piece);
        size += piece.len() as u64;
    }
    Ok(Answer::Done(Done::Octets {
        blob: hasher.finalize().to_hex().to_string(),
        size,
    }))
}
