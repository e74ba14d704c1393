//! LOGOUT, ID (RFC 2971), NAMESPACE (RFC 9051, section 6.3.10).

use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;
use crate::imap::wire::Gone;

/// LOGOUT.
pub(super) async fn logout(s: &mut Session, tag: &str) -> Result<Done, Stop> {
    s.wire.say("* BYE until next time");
    s.wire.say(&format!("{tag} OK done"));
    Err(Gone::Logout.into())
}

/// ID: what this is. What the client says of itself is not kept.
pub(super) fn id(s: &mut Session) -> Result<Done, Stop> {
    let version = env!("CARGO_PKG_VERSION");
    s.wire.say(&format!(
        "* ID (\"name\" \"Posthouse\" \"version\" \"{version}\")"
    ));
    Ok(Done::ok("pleased to meet you"))
}

/// NAMESPACE: all mailboxes are the client's own.
pub(super) fn namespace(s: &mut Session) -> Result<Done, Stop> {
    s.account()?;
    s.wire.say("* NAMESPACE ((\"\" \"/\")) NIL NIL");
    Ok(Done::ok("that is all"))
}
