//! NOTIFY (RFC 5465, section 3.1).

use posthouse_client::Error;
use posthouse_client::ids::AccountName;

use super::status;
use crate::imap::notify::{MOST_ANNOTATED, MOST_MAILBOXES, Names, Notify, Others, all_counters};
use crate::imap::parse::RawName;
use crate::imap::parse::fetch::Item;
use crate::imap::parse::notify::{self, Events, Filter, Group};
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;
use crate::imap::updates::Ask;

/// Items of new messages; the store tells no more sections than this of one.
const MOST_ITEMS: usize = 100;

/// NOTIFY: from now on the client is told this, and nothing else.
pub(super) async fn notify(s: &mut Session, command: notify::Notify) -> Result<Done, Stop> {
    let account = s.account()?;
    let wishes = match command {
        notify::Notify::Set(wishes) => wishes,
        notify::Notify::None => {
            s.notify = Some(Box::default());
            return Ok(Done::ok("nothing is told any more"));
        }
    };
    if wishes.unknown {
        let code = format!("BADEVENT ({})", Events::NAMES);
        return Err(Done::no(&code, "there is no such event here").into());
    }
    let items = wishes.selected.as_ref().map_or(0, |s| s.items.len());
    if items > MOST_ITEMS {
        return Err(overflow("too many items of new messages"));
    }
    let selected = s.selected.as_ref().map(|selected| selected.view.id.0);
    let mut others = s.notify.as_mut().and_then(|n| n.others.take());
    let groups = groups(s, wishes.groups);
    if groups.is_empty() {
        others = None;
    } else {
        let begun = begin(s, &account, groups, wishes.status, selected, &mut others).await;
        if let Err(stop) = begun {
            // The wishes before are still there.
            if let Some(notify) = &mut s.notify {
                notify.others = others;
            }
            return Err(stop);
        }
    }
    if let Some(selected) = &wishes.selected
        && selected.items.contains(&Item::ModSeq)
    {
        s.use_condstore();
    }
    s.notify = Some(Box::new(Notify {
        selected: wishes.selected,
        others,
    }));
    // What has gathered is told in any case.
    s.update(Ask::Always, true).await?;
    Ok(Done::ok("so it will be"))
}

fn overflow(text: &'static str) -> Stop {
    Done::no("NOTIFICATIONOVERFLOW", text).into()
}

/// Listens to the account with these wishes, from now on or instead of those before; tells the
/// counters of mailboxes.
async fn begin(
    s: &mut Session,
    account: &AccountName,
    groups: Vec<Group<Names>>,
    status: bool,
    selected: Option<u32>,
    others: &mut Option<Others>,
) -> Result<(), Stop> {
    let door = s.door.clone();
    let listing = door.store.mailboxes(account).await?;
    if listing.mailboxes.len() > MOST_MAILBOXES {
        return Err(overflow("the account has too many mailboxes"));
    }
    let wants: Vec<Events> = listing
        .mailboxes
        .iter()
        .map(|m| Others::wanted(&groups, m))
        .collect();
    if wants.iter().filter(|wants| wants.metadata).count() > MOST_ANNOTATED {
        return Err(overflow("too many mailboxes to follow the annotations of"));
    }
    let store = &*door.store;
    let begun = match others {
        Some(others) => others.change(store, account, groups, &listing).await,
        None => {
            let new = Others::new(store, account, groups, &listing).await;
            new.map(|new| *others = Some(new))
        }
    };
    begun.map_err(|error| match error {
        Error::Refused { .. } => overflow("too many annotations to follow"),
        error => error.into(),
    })?;
    for (mailbox, wants) in listing.mailboxes.iter().zip(wants) {
        if !status || !wants.messages || Some(mailbox.mailbox_id) == selected {
            continue;
        }
        let items = all_counters(wants, wants.flags);
        status::line(s, mailbox, &items, 0);
        s.wire.relieve(door.config.data_timeout()).await?;
    }
    Ok(())
}

/// Groups that ask for something, with the names that there can be.
fn groups(s: &Session, groups: Vec<Group<Vec<RawName>>>) -> Vec<Group<Names>> {
    let names = |names: Vec<RawName>, tree: bool| -> Names {
        let name = |raw: RawName| match raw.is_empty() {
            true => tree.then(String::new),
            false => s.name(&raw).ok().map(|name| name.as_str().to_owned()),
        };
        names.into_iter().filter_map(name).collect()
    };
    let asking = groups.into_iter().filter(|g| g.events != Events::default());
    asking
        .map(|group| Group {
            filter: match group.filter {
                Filter::Personal => Filter::Personal,
                Filter::Subscribed => Filter::Subscribed,
                Filter::Subtree(roots) => Filter::Subtree(names(roots, true)),
                Filter::Mailboxes(all) => Filter::Mailboxes(names(all, false)),
            },
            events: group.events,
        })
        .collect()
}
