//! CAPABILITY (RFC 9051, section 6.1.1): only what is complete is told.

use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;

/// Known before the login.
const ALWAYS: &str = "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE IDLE NAMESPACE";
/// Told after the login.
const INSIDE: &str = "UIDPLUS MOVE UNSELECT CONDSTORE QRESYNC ESEARCH SEARCHRES SORT SORT=DISPLAY \
    THREAD=REFERENCES WITHIN PARTIAL LIST-EXTENDED LIST-STATUS SPECIAL-USE CREATE-SPECIAL-USE \
    STATUS=SIZE CHILDREN BINARY MULTIAPPEND REPLACE METADATA OBJECTID SAVEDATE PREVIEW \
    QUOTA QUOTA=RES-STORAGE QUOTA=RES-MESSAGE UTF8=ACCEPT NOTIFY";

/// What the session can do now.
pub(in crate::imap) fn of(s: &Session) -> String {
    let mut out = ALWAYS.to_owned();
    if s.login.is_some() {
        out.push(' ');
        out.push_str(INSIDE);
        out.push_str(&format!(" APPENDLIMIT={}", s.door.config.message_bytes));
        if !s.compressed {
            out.push_str(" COMPRESS=DEFLATE");
        }
        return out;
    }
    if s.door.tls.is_some() && !s.tls {
        out.push_str(" STARTTLS");
    }
    out.push_str(match s.private {
        true => " AUTH=PLAIN AUTH=LOGIN",
        false => " LOGINDISABLED",
    });
    out
}

/// CAPABILITY.
pub(super) fn capability(s: &mut Session) -> Result<Done, Stop> {
    let line = format!("* CAPABILITY {}", of(s));
    s.wire.say(&line);
    Ok(Done::ok("that is all"))
}
