//! The final reading: once everything has healed, all that is there is read, and everything must
//! answer.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use crate::history::{Answer, Done, MessageSeen};

use super::{At, Inner, READER, account_name, follow, read, stay};

/// How long one question is asked again.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two times.
const PAUSE: Duration = Duration::from_millis(200);

/// Reads every account, every mailbox, every message.
pub(super) async fn read_all(inner: &std::sync::Arc<Inner>) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    let at = At {
        inner,
        op: None,
        client: READER,
    };
    let all = join_all((0..inner.accounts).map(|account| one_account(&at, account, until))).await;
    let mut modseqs = BTreeMap::new();
    let mut mailboxes = BTreeMap::new();
    for (account, read) in (0..).zip(all) {
        let read = read?;
        modseqs.insert(account, read.modseq);
        let of = |(era, messages)| ((account, era), messages);
        mailboxes.extend(read.mailboxes.into_iter().map(of));
    }
    follow::finish(inner, &modseqs, Instant::now() + PATIENCE).await;
    stay::finish(inner, &mailboxes, Instant::now() + PATIENCE).await;
    Ok(())
}

/// What an account has.
#[derive(Default)]
struct Read {
    /// Its modseq; 0: it does not exist.
    modseq: u64,
    /// By uidvalidity.
    mailboxes: Vec<(u32, stay::Final)>,
}

async fn one_account(at: &At<'_>, account: u32, until: Instant) -> Result<Read, String> {
    let name = account_name(account);
    let what = format!("the mailboxes of {name}");
    let answer = asked(&what, until, || read::mailboxes(at, account)).await?;
    let Answer::Done(Done::Mailboxes(mailboxes)) = answer else {
        // It does not exist, which is an answer.
        return Ok(Read::default());
    };
    let mut read = Read {
        modseq: mailboxes.modseq,
        ..Read::default()
    };
    for (mailbox, seen) in &mailboxes.mailboxes {
        let what = format!("the messages in {mailbox} of {name}");
        let answer = asked(&what, until, || read::list(at, account, mailbox, 0)).await?;
        let Answer::Done(Done::Messages { messages, .. }) = answer else {
            return Err(format!("{what}: {answer:?}"));
        };
        let flags = |m: &MessageSeen| {
            m.flags
                .iter()
                .map(|flag| flag.to_ascii_lowercase())
                .collect()
        };
        let there = messages.iter().map(|m| (m.uid, flags(m))).collect();
        read.mailboxes.push((seen.uid_validity, there));
        for message in messages {
            let what = format!("message {} in {mailbox} of {name}", message.uid);
            asked(&what, until, || {
                read::fetch(at, account, mailbox, message.uid)
            })
            .await?;
        }
    }
    Ok(read)
}

/// Asks until there is an answer, be it a refusal.
async fn asked<F: Future<Output = Answer>>(
    what: &str,
    until: Instant,
    ask: impl Fn() -> F,
) -> Result<Answer, String> {
    loop {
        match ask().await {
            Answer::Unknown(why) if Instant::now() >= until => {
                return Err(format!("{what}: no answer: {why}"));
            }
            Answer::Unknown(_) => tokio::time::sleep(PAUSE).await,
            answer => return Ok(answer),
        }
    }
}
