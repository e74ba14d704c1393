//! LSUB (RFC 3501, section 6.3.9), for clients of IMAP4rev1.

use super::list::{Names, matches};
use crate::imap::respond::text::put;
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;

/// LSUB: subscribed names; and with `%`, levels above those that it hides.
pub(super) async fn lsub(s: &mut Session, reference: &[u8], pattern: &[u8]) -> Result<Done, Stop> {
    let account = s.account()?;
    let pattern = format!("{}{}", s.text_of(reference)?, s.text_of(pattern)?);
    if pattern.len() > 2_000 {
        return Err(Done::no("LIMIT", "the pattern is too long").into());
    }
    let answer = s.door.store.mailboxes(&account).await?;
    let names = Names::new(&answer);
    let patience = s.door.config.data_timeout();
    for (name, itself) in names.subscribed() {
        if !matches(&pattern, name) || !itself && !pattern.ends_with('%') {
            continue;
        }
        let attributes = if itself { "" } else { "\\Noselect" };
        put(s.wire.out(), &format!("* LSUB ({attributes}) \"/\" "));
        s.say_name(name);
        put(s.wire.out(), "\r\n");
        s.wire.relieve(patience).await?;
    }
    Ok(Done::ok("that is all"))
}
