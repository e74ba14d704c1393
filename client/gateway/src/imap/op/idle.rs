//! IDLE (RFC 9051, section 6.3.13; RFC 2177).

use crate::imap::notify::news;
use crate::imap::respond::{Done, Stop};
use crate::imap::session::Session;
use crate::imap::updates::Ask;
use crate::imap::wire::{Gone, Line};

/// Tells changes as they happen until the client says DONE.
pub(super) async fn idle(s: &mut Session) -> Result<Done, Stop> {
    s.account()?;
    s.wire.say("+ idling");
    s.update_as_notified(Ask::Always, true).await?;
    s.say_correction();
    let (limit, idle) = (s.door.config.line_bytes, s.door.config.idle_timeout());
    let until = tokio::time::Instant::now() + idle;
    loop {
        s.wire.flush(s.door.config.data_timeout()).await?;
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let news = {
            let wire = &mut s.wire;
            tokio::select! {
                biased;
                line = wire.line(limit, left, true) => Some(line?),
                () = news(&mut s.selected, &mut s.notify) => None,
            }
        };
        match news {
            None => s.announce(true).await?,
            Some(Line::Good(line)) if line.eq_ignore_ascii_case(b"DONE") => {
                return Ok(Done::ok("no longer idle"));
            }
            Some(_) => {
                s.errors += 1;
                if s.errors > s.door.config.errors {
                    return Err(Gone::Abuse.into());
                }
                return Err(Done::bad("DONE was expected").into());
            }
        }
    }
}
