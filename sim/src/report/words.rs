//! A client's call and its answer in words, for timelines and event logs.

use crate::history::{Answer, Call, Done, Octets, StoredAt};
use crate::plan::FlagMode;

/// Longest list that is written out.
const LISTED: usize = 8;

/// What was asked and what was answered, on one line.
pub fn call(call: &Call, answer: &Answer) -> String {
    format!("{}: {}", asked(call), answered(answer))
}

fn asked(call: &Call) -> String {
    match call {
        Call::CreateAccount { account } => format!("create account {}", short(account)),
        Call::DeleteAccount { account } => format!("delete account {}", short(account)),
        Call::CreateMailbox { account, mailbox } => {
            format!("create {mailbox} of {}", short(account))
        }
        Call::Deliver {
            accounts,
            mailbox,
            given,
            octets,
            request,
            may_exist,
        } => {
            let names = list(accounts.iter().map(|a| short(a).to_owned()));
            let how = match request {
                Some(id) => format!(", {}", id_of(id)),
                None => ", by LMTP".to_owned(),
            };
            let broken = if *may_exist { "" } else { ", broken off" };
            let into = match mailbox.as_str() {
                "INBOX" => String::new(),
                other => format!("{other} of "),
            };
            let what = format!("{}{}", body(octets), given.words());
            format!("deliver {what} to {into}{names}{how}{broken}")
        }
        Call::Append {
            account,
            mailbox,
            octets,
            given,
            request,
        } => {
            let (who, id) = (short(account), id_of(request));
            let what = format!("{}{}", body(octets), given.words());
            format!("append {what} to {mailbox} of {who}, {id}")
        }
        Call::SetFlags {
            account,
            mailbox,
            uids,
            mode,
            flags,
            unchanged_since,
            ..
        } => {
            let sign = match mode {
                FlagMode::Add => '+',
                FlagMode::Remove => '-',
                FlagMode::Replace => '=',
            };
            let since = match unchanged_since {
                0 => String::new(),
                modseq => format!(" unless changed since {modseq}"),
            };
            format!(
                "flags {sign}({}) on {}{since}",
                flags.join(" "),
                messages(account, mailbox, uids)
            )
        }
        Call::Expunge {
            account,
            mailbox,
            uids,
            force,
            ..
        } => {
            let only = if *force { "" } else { "deleted of " };
            format!("expunge {only}{}", messages(account, mailbox, uids))
        }
        Call::Mailboxes { account } => format!("list mailboxes of {}", short(account)),
        Call::List { account, mailbox } => format!("list {mailbox} of {}", short(account)),
        Call::Fetch {
            account,
            mailbox,
            uid,
            ..
        } => format!("fetch {}", messages(account, mailbox, &[*uid])),
        other => asked_of_mailboxes(other),
    }
}

fn asked_of_mailboxes(call: &Call) -> String {
    let of = |mailbox: &Option<String>, account: &str| match mailbox {
        Some(mailbox) => format!("{mailbox} of {}", short(account)),
        None => short(account).to_owned(),
    };
    match call {
        Call::MakeMailbox {
            account, mailbox, ..
        } => format!("make {mailbox} of {}", short(account)),
        Call::DeleteMailbox {
            account,
            mailbox,
            era,
            ..
        } => format!("delete {mailbox}{} of {}", numbered(*era), short(account)),
        Call::RenameMailbox {
            account,
            mailbox,
            to,
            ..
        } => format!("rename {mailbox} of {} to {to}", short(account)),
        Call::Subscribe {
            account,
            mailbox,
            on,
            ..
        } => {
            let how = if *on { "subscribe" } else { "unsubscribe" };
            format!("{how} {mailbox} of {}", short(account))
        }
        Call::SpecialUse {
            account,
            mailbox,
            uses,
            ..
        } => {
            let who = short(account);
            format!("use {mailbox} of {who} as ({})", uses.join(" "))
        }
        Call::SetMetadata {
            account,
            mailbox,
            entry,
            value,
            ..
        } => format!("annotate {}: {entry} is {value:?}", of(mailbox, account)),
        Call::Metadata { account, mailbox } => {
            format!("read annotations of {}", of(mailbox, account))
        }
        Call::AppendMany {
            account,
            mailbox,
            items,
            given,
            request,
        } => {
            let bodies = format!("{}{}", list(items.iter().map(body)), given.words());
            let (who, id) = (short(account), id_of(request));
            format!("append {bodies} to {mailbox} of {who}, {id}")
        }
        Call::Replace {
            account,
            mailbox,
            era,
            uid,
            octets,
            given,
            request,
        } => {
            let old = messages(account, &format!("{mailbox}{}", numbered(*era)), &[*uid]);
            let new = format!("{}{}", body(octets), given.words());
            format!("replace {old} by {new}, {}", id_of(request))
        }
        Call::Carry {
            account,
            to_account,
            mailbox,
            era,
            to,
            to_era,
            uids,
            away,
            request,
        } => {
            let how = if *away { "move" } else { "copy" };
            let from = format!("{mailbox}{}", numbered(*era));
            let (what, id) = (messages(account, &from, uids), id_of(request));
            let whose = match to_account {
                Some(other) => format!(" of {}", short(other)),
                None => String::new(),
            };
            format!("{how} {what} to {to}{whose}{}, {id}", numbered(*to_era))
        }
        Call::Search {
            account,
            mailbox,
            era,
            flag,
            on,
            ..
        } => {
            let not = if *on { "" } else { "not " };
            let (which, who) = (numbered(*era), short(account));
            format!("search {mailbox}{which} of {who} for {not}{flag}")
        }
        Call::Select { account, mailbox } => format!("select {mailbox} of {}", short(account)),
        Call::Follow { account } => format!("follow {}", short(account)),
        Call::SetPassword {
            account, password, ..
        } => format!("set password {password} of {}", short(account)),
        Call::Login { account, password } => {
            format!("log in to {} by password {password}", short(account))
        }
        Call::SetState { account, state, .. } => {
            format!("set {} {state:?}", short(account)).to_lowercase()
        }
        other => asked_by_programs(other),
    }
}

fn asked_by_programs(call: &Call) -> String {
    match call {
        Call::AddAppPassword {
            account,
            name,
            request,
        } => {
            let (who, id) = (short(account), id_of(request));
            format!("make a password of {who} for {name}, {id}")
        }
        Call::RemoveAppPassword {
            account,
            name,
            request,
        } => {
            let (who, id) = (short(account), id_of(request));
            format!("remove the password of {who} for {name}, {id}")
        }
        Call::ListAppPasswords { account } => format!("list passwords of {}", short(account)),
        Call::AppLogin { account, secret } => {
            format!("log in to {} by the secret {secret}", short(account))
        }
        Call::Sort {
            account,
            mailbox,
            flag,
            on,
            by,
            reverse,
        } => {
            let not = if *on { "" } else { "not " };
            let by = format!("{by:?}").to_lowercase();
            let back = if *reverse { ", reversed" } else { "" };
            format!(
                "sort {mailbox} of {} for {not}{flag} by {by}{back}",
                short(account)
            )
        }
        Call::Thread {
            account,
            mailbox,
            flag,
            on,
        } => {
            let not = if *on { "" } else { "not " };
            format!("thread {mailbox} of {} for {not}{flag}", short(account))
        }
        Call::Stay { account, mailbox } => {
            format!("what a session knows of {mailbox} of {}", short(account))
        }
        Call::Status { account, mailbox } => {
            format!("ask for the counters of {mailbox} of {}", short(account))
        }
        Call::Names { account } => format!("list names of mailboxes of {}", short(account)),
        Call::Usage { account } => format!("ask what {} holds", short(account)),
        Call::Accounts => "list accounts".into(),
        Call::Maildrop { account } => format!("list the maildrop of {}", short(account)),
        other => format!("{other:?}"),
    }
}

/// How a mailbox is called that is named by its number.
fn numbered(era: u32) -> String {
    match era {
        0 => String::new(),
        era => format!(" (uidvalidity {era})"),
    }
}

fn answered(answer: &Answer) -> String {
    match answer {
        Answer::Refused(why) => format!("refused, {why}"),
        Answer::Unknown(why) => format!("unknown, {why}"),
        Answer::Done(done) => match done {
            Done::Plain => "done".into(),
            Done::Delivered(results) => list(results.iter().map(|result| match result {
                Ok(at) => stored(at),
                Err(answer) => answered(answer),
            })),
            Done::Appended(at) => stored(at),
            Done::Flags {
                modseq,
                changed,
                unchanged,
            } => {
                let kept = match unchanged.is_empty() {
                    true => String::new(),
                    false => format!(", kept {}", numbers(unchanged)),
                };
                format!("changed {} at modseq {modseq}{kept}", numbers(changed))
            }
            Done::Expunged { modseq, uids } => {
                format!("gone {} at modseq {modseq}", numbers(uids))
            }
            Done::Made { id, uid_validity } => format!("number {id}, uidvalidity {uid_validity}"),
            Done::Changed { modseq } => format!("modseq {modseq}"),
            Done::Annotations(all) => list(all.iter().map(|(e, v)| format!("{e} {v:?}"))),
            Done::AppendedAll { first, count } => format!("{count} from {}", stored(first)),
            Done::Carried {
                modseq, from, to, ..
            } => format!("{} as {} at modseq {modseq}", numbers(from), numbers(to)),
            Done::Status(seen) => format!(
                "{} messages, {} unseen, {} deleted, {} octets, uidnext {}",
                seen.messages, seen.unseen, seen.deleted, seen.bytes, seen.uid_next
            ),
            Done::Names(all) => list(all.keys().cloned()),
            Done::Selected {
                uid_next, messages, ..
            } => format!("{messages} messages, uidnext {uid_next}"),
            Done::Found(uids) | Done::Sorted(uids) => format!("found {}", numbers(uids)),
            Done::Threads(nodes) => {
                let uids: Vec<u32> = nodes.iter().map(|(uid, _)| *uid).collect();
                format!("found {}", numbers(&uids))
            }
            Done::Secret(hash) => format!("the secret is {hash}"),
            Done::AppPasswords { own, names } => {
                let own = if *own { "its own and " } else { "" };
                format!("{own}those of {} programs", names.len())
            }
            Done::Entered(name) => format!("let in as {name:?}"),
            Done::Maildrop {
                messages, bytes, ..
            } => {
                let uids: Vec<u32> = messages.iter().map(|(uid, _)| *uid).collect();
                format!("uids {}, {bytes} octets", numbers(&uids))
            }
            Done::Usage(held) => format!(
                "{} mailboxes, {} messages, {} unseen, {} deleted, {} octets",
                held.mailboxes, held.messages, held.unseen, held.deleted, held.bytes
            ),
            Done::Accounts(all) => list(all.iter().map(|(name, _)| short(name).to_owned())),
            Done::Believed(believed) if believed.uid_validity == 0 => "in no mailbox".into(),
            Done::Believed(believed) => {
                let uids: Vec<u32> = believed.messages.iter().map(|(uid, _)| *uid).collect();
                format!("uids {}", numbers(&uids))
            }
            Done::Followed(followed) => format!("known up to modseq {}", followed.modseq),
            Done::Mailboxes(all) => list(all.mailboxes.iter().map(|(name, seen)| {
                format!(
                    "{name} {} messages, {} unseen, uidnext {}, modseq {}",
                    seen.messages, seen.unseen, seen.uid_next, seen.highest_modseq
                )
            })),
            Done::Messages {
                highest_modseq,
                messages,
                ..
            } => {
                let uids: Vec<u32> = messages.iter().map(|m| m.uid).collect();
                format!("uids {}, modseq {highest_modseq}", numbers(&uids))
            }
            Done::Octets { blob, size } => {
                format!("{size} octets, {}", blob.get(..12).unwrap_or(blob))
            }
        },
    }
}

/// All accounts of a run are in one domain.
fn short(account: &str) -> &str {
    account.split('@').next().unwrap_or(account)
}

fn body(octets: &Octets) -> String {
    format!("{} octets (body {})", octets.size, octets.body)
}

fn id_of(request: &[u8; 16]) -> String {
    let hex: String = request[..4].iter().map(|b| format!("{b:02x}")).collect();
    format!("request {hex}")
}

fn messages(account: &str, mailbox: &str, uids: &[u32]) -> String {
    format!("{} in {mailbox} of {}", numbers(uids), short(account))
}

fn stored(at: &StoredAt) -> String {
    match at.uid {
        // LMTP does not say.
        0 => "stored".into(),
        uid => format!("stored as {uid} at modseq {}", at.modseq),
    }
}

fn numbers(uids: &[u32]) -> String {
    match uids.is_empty() {
        true => "none".into(),
        false => list(uids.iter().map(u32::to_string)),
    }
}

fn list(items: impl ExactSizeIterator<Item = String>) -> String {
    let more = items.len().saturating_sub(LISTED);
    let shown: Vec<String> = items.take(LISTED).collect();
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Given;

    #[test]
    fn calls_are_short_to_read() {
        let deliver = Call::Deliver {
            accounts: vec!["user0@sim.example".into(), "user3@sim.example".into()],
            mailbox: "INBOX".into(),
            given: Given::default(),
            octets: Octets { body: 7, size: 300 },
            request: Some([0xab; 16]),
            may_exist: true,
        };
        let at = StoredAt {
            uid_validity: 1,
            uid: 4,
            modseq: 9,
        };
        let gone = Answer::Refused("no such account".into());
        let answer = Answer::Done(Done::Delivered(vec![Ok(at), Err(gone)]));
        assert_eq!(
            call(&deliver, &answer),
            "deliver 300 octets (body 7) to user0, user3, request abababab: stored as 4 at modseq \
             9, refused, no such account"
        );
        let uids: Vec<u32> = (1..=20).collect();
        assert_eq!(numbers(&uids), "1, 2, 3, 4, 5, 6, 7, 8 and 12 more");
        assert_eq!(numbers(&[]), "none");
    }
}
