//! NOTIFY (RFC 5465, section 3.1).

use posthouse_client::ids::MailboxName;

use super::status;
use crate::imap::notify::{MOST_ANNOTATED, Notify, Others};
use crate::imap::parse::RawName;
use crate::imap::parse::fetch::Item;
use crate::imap::parse::list::StatusItem;
use crate::imap::parse::notify::{self, Events, Filter, Group};
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;
use crate::imap::updates::Ask;

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
    let selected = s.selected.as_ref().map(|selected| selected.view.id.0);
    let mut others = None;
    let groups = groups(s, wishes.groups);
    if !groups.is_empty() {
        let listing = s.door.store.mailboxes(&account).await?;
        let wanted = |m| Others::wanted(&groups, m);
        let annotated = listing.mailboxes.iter().filter(|m| wanted(m).metadata);
        if annotated.count() > MOST_ANNOTATED {
            let text = "too many mailboxes to follow the annotations of";
            return Err(Done::no("NOTIFICATIONOVERFLOW", text).into());
        }
        for mailbox in listing.mailboxes.iter().filter(|_| wishes.status) {
            let wants = wanted(mailbox);
            if !wants.messages || Some(mailbox.mailbox_id) == selected {
                continue;
            }
            let mut items = vec![
                StatusItem::Messages,
                StatusItem::UidNext,
                StatusItem::UidValidity,
            ];
            if wants.flags {
                items.extend([StatusItem::Unseen, StatusItem::HighestModSeq]);
            }
            status::line(s, mailbox, &items, 0);
            s.wire.relieve(s.door.config.data_timeout()).await?;
        }
        let listened = Others::new(&*s.door.store, &account, groups, &listing).await;
        others = Some(listened?);
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

/// Groups that ask for something, with the names that there can be.
fn groups(s: &Session, groups: Vec<Group<RawName>>) -> Vec<Group<String>> {
    let names = |names: Vec<RawName>, tree: bool| -> Vec<String> {
        let name = |raw: RawName| match raw.is_empty() {
            // Below no name lies everything.
            true => tree.then(String::new),
            false => s
                .name(&raw)
                .ok()
                .map(|n: MailboxName| n.as_str().to_owned()),
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
