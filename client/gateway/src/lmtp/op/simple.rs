//! RSET and QUIT (RFC 5321, sections 4.1.1.5 and 4.1.1.10).

use tokio::io::{AsyncRead, AsyncWrite};

use crate::lmtp::connection::Connection;
use crate::lmtp::reply;
use crate::wire::Gone;

/// Answers RSET: a message that BDAT has begun breaks off.
pub fn rset<S>(connection: &mut Connection<S>) -> Result<(), Gone>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    connection.session.transaction = None;
    connection.say(&reply::RESET)
}

/// Answers QUIT; the connection ends.
pub fn quit<S>(connection: &mut Connection<S>) -> Result<(), Gone>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    connection.wire.reply(&reply::BYE);
    Err(Gone::Quit)
}
