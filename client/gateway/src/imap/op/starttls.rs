//! STARTTLS (RFC 9051, section 6.2.1).

use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;
use crate::imap::wire::Gone;

/// Begins TLS. Octets that came behind the command in the clear may be somebody else's: with them,
/// the connection ends.
pub(super) async fn starttls(s: &mut Session, tag: &str) -> Result<Done, Stop> {
    let Some(config) = s.door.tls.clone().filter(|_| !s.tls && !s.compressed) else {
        return Err(Done::bad("TLS cannot begin here").into());
    };
    if s.login.is_some() {
        return Err(Done::bad("TLS begins before the login").into());
    }
    if s.wire.has_input() {
        return Err(Gone::Abuse.into());
    }
    s.wire.say(&format!("{tag} OK begin TLS"));
    let patience = s.door.config.data_timeout();
    s.wire.start_tls(config, patience).await?;
    s.tls = true;
    s.private = true;
    // The answer has been given in the clear; there is none behind it.
    Err(Stop::Silent)
}
