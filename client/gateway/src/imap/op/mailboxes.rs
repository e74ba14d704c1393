//! CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE (RFC 9051, sections 6.3.4 to 6.3.8; RFC 6154).

use posthouse_client::Error;

use crate::imap::notify::Own;
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;

/// CREATE, and the parents that the name needs.
pub(super) async fn create(s: &mut Session, name: &[u8], uses: Vec<String>) -> Result<Done, Stop> {
    let account = s.account()?;
    let name = s.name(name)?;
    let special = !uses.is_empty();
    let created = s.door.store.create(&account, &name, uses).await;
    let mailbox = created.map_err(|error| match special {
        true => of_use(error),
        false => error.into(),
    })?;
    s.note_own(Own::Created(&mailbox));
    let code = format!("MAILBOXID (M{})", mailbox.mailbox_id);
    Ok(Done::ok("created").code(code))
}

/// The answer when special uses could not be set (RFC 6154, section 3).
pub(super) fn of_use(error: Error) -> Stop {
    match error {
        Error::BadRequest { field, .. } if field != "mailbox" => {
            Done::no("USEATTR", "that use is not possible").into()
        }
        error => error.into(),
    }
}

/// DELETE; children stay.
pub(super) async fn delete(s: &mut Session, name: &[u8]) -> Result<Done, Stop> {
    let account = s.account()?;
    let name = s.name(name)?;
    s.door.store.delete(&account, &name).await?;
    s.note_own(Own::Deleted(name.as_str()));
    Ok(Done::ok("deleted"))
}

/// RENAME, with all children.
pub(super) async fn rename(s: &mut Session, from: &[u8], to: &[u8]) -> Result<Done, Stop> {
    let account = s.account()?;
    let (from, to) = (s.name(from)?, s.name(to)?);
    s.door.store.rename(&account, &from, &to).await?;
    s.note_own(Own::Renamed(from.as_str(), to.as_str()));
    Ok(Done::ok("renamed"))
}

/// SUBSCRIBE and UNSUBSCRIBE: to a name, which need not exist.
pub(super) async fn subscribe(s: &mut Session, name: &[u8], on: bool) -> Result<Done, Stop> {
    let account = s.account()?;
    let name = s.name(name)?;
    s.door.store.subscribe(&account, &name, on).await?;
    s.note_own(Own::Subscribed(name.as_str(), on));
    Ok(match on {
        true => Done::ok("subscribed"),
        false => Done::ok("not subscribed any more"),
    })
}
