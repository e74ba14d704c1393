//! GETQUOTA and GETQUOTAROOT (RFC 9208): usage, and no limit.
//!
//! The syntax has no word for "no limit", and a resource without a limit is left out by it; then
//! nobody would learn the usage. So a limit is told that no account reaches: 2^53 - 1 octets, the
//! largest that programs with floating-point numbers count exactly.

use crate::imap::respond::text::put;
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;

/// 2^53 - 1 octets in units of 1,024.
const STORAGE: u64 = ((1 << 53) - 1) / 1024;
/// As many messages as there are uids.
const MESSAGES: u64 = u32::MAX as u64;

async fn say(s: &mut Session) -> Result<(), Stop> {
    let account = s.account()?;
    let usage = s.door.store.usage(&account).await?;
    let storage = usage.bytes.div_ceil(1024);
    s.wire.say(&format!(
        "* QUOTA \"\" (STORAGE {storage} {STORAGE} MESSAGE {} {MESSAGES})",
        usage.messages
    ));
    Ok(())
}

/// GETQUOTA: there is one root, without a name.
pub(super) async fn get(s: &mut Session, root: &[u8]) -> Result<Done, Stop> {
    s.account()?;
    if !root.is_empty() {
        return Err(Done::no("NONEXISTENT", "there is no such quota root").into());
    }
    say(s).await?;
    Ok(Done::ok("that is all"))
}

/// GETQUOTAROOT: the mailbox need not exist.
pub(super) async fn root(s: &mut Session, name: &[u8]) -> Result<Done, Stop> {
    s.account()?;
    let name = s.name(name)?;
    put(s.wire.out(), "* QUOTAROOT ");
    s.say_name(name.as_str());
    put(s.wire.out(), " \"\"\r\n");
    say(s).await?;
    Ok(Done::ok("that is all"))
}
