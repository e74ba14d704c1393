//! COMPRESS=DEFLATE (RFC 4978).

use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;

/// Begins to compress behind the answer.
pub(super) async fn compress(s: &mut Session, tag: &str, mechanism: &str) -> Result<Done, Stop> {
    s.account()?;
    if s.compressed {
        return Err(Done::no("COMPRESSIONACTIVE", "it is compressed already").into());
    }
    if mechanism != "DEFLATE" {
        return Err(Done::bad("the mechanism is DEFLATE").into());
    }
    s.wire.say(&format!("{tag} OK compressed from here on"));
    let patience = s.door.config.data_timeout();
    s.wire.start_deflate(patience).await?;
    s.compressed = true;
    Err(Stop::Silent)
}
