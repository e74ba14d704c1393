//! STATUS (RFC 9051, section 6.3.11).

use posthouse_client::ids::{MailboxId, MailboxRef};
use posthouse_client::proto::search_key::{Flag, Key};
use posthouse_client::proto::{Mailbox, SearchKey};

use futures::StreamExt;

use crate::imap::parse::list::StatusItem;
use crate::imap::respond::text::put;
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;
use crate::imap::store::{Event, Query, Wanted};
use crate::imap::view;

/// STATUS of one mailbox.
pub(super) async fn status(
    s: &mut Session,
    name: &[u8],
    items: &[StatusItem],
) -> Result<Done, Stop> {
    let account = s.account()?;
    let name = s.name(name)?;
    let all = s.door.store.mailboxes(&account).await?;
    let found = all.mailboxes.iter().find(|m| m.name == name.as_str());
    let Some(mailbox) = found else {
        return Err(Done::no("NONEXISTENT", "there is no such mailbox").into());
    };
    say(s, mailbox, items).await?;
    Ok(Done::ok("that is all"))
}

/// `* STATUS name (items)` as the client asks for it.
pub(super) async fn say(s: &mut Session, m: &Mailbox, items: &[StatusItem]) -> Result<(), Stop> {
    let storage = match items.contains(&StatusItem::DeletedStorage) && m.deleted > 0 {
        true => deleted_bytes(s, m).await?,
        false => 0,
    };
    line(s, m, items, storage);
    if items.contains(&StatusItem::HighestModSeq) {
        // RFC 7162, section 3.1: asking for it is using it.
        s.use_condstore();
    }
    Ok(())
}

/// `* STATUS name (items)`. `storage`: octets that EXPUNGE would free.
pub(in crate::imap) fn line(s: &mut Session, m: &Mailbox, items: &[StatusItem], storage: u64) {
    put(s.wire.out(), "* STATUS ");
    s.say_name(&m.name);
    put(s.wire.out(), " (");
    for (i, item) in items.iter().enumerate() {
        let value = match item {
            StatusItem::Messages => m.messages,
            StatusItem::Recent => 0,
            StatusItem::UidNext => m.uidnext.into(),
            StatusItem::UidValidity => m.uidvalidity.into(),
            StatusItem::Unseen => m.unseen,
            StatusItem::Deleted => m.deleted,
            StatusItem::Size => m.bytes,
            StatusItem::HighestModSeq => m.highest_modseq.max(1),
            StatusItem::AppendLimit => s.door.config.message_bytes,
            StatusItem::DeletedStorage => storage,
            StatusItem::MailboxId => 0,
        };
        let space = if i > 0 { " " } else { "" };
        let text = match item {
            StatusItem::MailboxId => format!("{space}MAILBOXID (M{})", m.mailbox_id),
            item => format!("{space}{} {value}", item.name()),
        };
        put(s.wire.out(), &text);
    }
    put(s.wire.out(), ")\r\n");
}

/// Octets that EXPUNGE would free (RFC 9208, section 4.1.4): no counter knows them.
async fn deleted_bytes(s: &mut Session, m: &Mailbox) -> Result<u64, Stop> {
    let account = s.account()?;
    let mailbox = MailboxRef::Id {
        id: MailboxId(m.mailbox_id),
        uidvalidity: m.uidvalidity,
    };
    let deleted = Key::Flag(Flag {
        name: "\\Deleted".to_owned(),
        off: false,
    });
    let query = Query {
        key: Some(SearchKey { key: Some(deleted) }),
        ..Query::default()
    };
    let found = s
        .door
        .store
        .search(&account, mailbox.clone(), query)
        .await?;
    if found.uids.is_empty() {
        return Ok(0);
    }
    let wanted = Wanted {
        uids: view::ranges(&found.uids),
        ..Wanted::default()
    };
    let mut rows = s.door.store.fetch(&account, mailbox, wanted);
    let mut sum = 0u64;
    while let Some(event) = rows.next().await {
        if let Event::Message(row) = event? {
            sum = sum.saturating_add(row.size);
        }
    }
    Ok(sum)
}
