//! LHLO (RFC 2033, section 4.1): opens the session and says what is offered.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::lmtp::connection::Connection;
use crate::wire::Gone;

/// Answers LHLO. Said again, it resets (RFC 5321, section 4.1.4).
pub fn lhlo<S>(connection: &mut Connection<S>) -> Result<(), Gone>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    connection.session.greeted = true;
    connection.session.transaction = None;
    let config = &connection.door.config;
    let offer = format!(
        "250-{}\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n\
         250-CHUNKING\r\n250 SIZE {}\r\n",
        config.hostname, config.message_bytes
    );
    connection.wire.raw(offer.as_bytes());
    Ok(())
}
