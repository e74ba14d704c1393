//! MAIL (RFC 5321, section 4.1.1.2; SIZE: RFC 1870; SMTPUTF8: RFC 6531): opens a transaction.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::lmtp::connection::Connection;
use crate::lmtp::reply;
use crate::lmtp::session::Transaction;
use crate::wire::Gone;

/// Answers MAIL.
pub fn mail<S>(
    connection: &mut Connection<S>,
    sender: String,
    size: u64,
    utf8: bool,
) -> Result<(), Gone>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    if !connection.session.greeted {
        return connection.error(&reply::HELLO_FIRST);
    }
    if let Some(open) = &connection.session.transaction {
        let chunks = open.chunks.is_some();
        return connection.error(if chunks {
            &reply::CHUNKS_OPEN
        } else {
            &reply::NESTED_MAIL
        });
    }
    if !sender.is_ascii() && !utf8 {
        return connection.error(&reply::NEEDS_UTF8);
    }
    if size > connection.door.config.message_bytes {
        return connection.say(&reply::TOO_LARGE);
    }
    connection.session.transaction = Some(Transaction {
        sender,
        size_hint: size,
        utf8,
        ..Transaction::default()
    });
    connection.say(&reply::SENDER_OK)
}
