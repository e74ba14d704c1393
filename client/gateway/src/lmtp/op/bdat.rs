//! BDAT (RFC 3030, section 2; RFC 2033, section 4.3): the message in counted chunks.
//!
//! The octets of a chunk follow their line whatever the answer will be, so they are always
//! read. A chunk is answered once; the last one is answered once per recipient. After a chunk
//! that was refused, all that follow are refused too, until RSET.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::lmtp::connection::Connection;
use crate::lmtp::incoming::Incoming;
use crate::lmtp::reply::{self, Reply};
use crate::lmtp::session::Transaction;
use crate::wire::Gone;

/// Answers BDAT.
pub async fn bdat<S>(connection: &mut Connection<S>, size: u64, last: bool) -> Result<(), Gone>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let refusal = match &connection.session.transaction {
        None => Some(&reply::MAIL_FIRST),
        Some(open) if open.replies.is_empty() => Some(&reply::RCPT_FIRST),
        Some(_) => None,
    };
    if let Some(refusal) = refusal {
        skip(connection, size).await?;
        return connection.error(refusal);
    }
    let Some(mut transaction) = connection.session.transaction.take() else {
        return Ok(());
    };
    let mut incoming = match transaction.chunks.take() {
        Some(begun) => begun,
        None => Incoming::start(&connection.door, &transaction).await,
    };
    take(connection, size, &mut incoming, &transaction).await?;
    if last {
        for reply in incoming.finish(&transaction).await {
            connection.wire.reply(&reply);
        }
        return Ok(());
    }
    let reply = match incoming.refused() {
        Some(reply) => reply.clone(),
        None => Reply::with(250, "2.0.0", format!("{size} octets received")),
    };
    transaction.chunks = Some(incoming);
    connection.session.transaction = Some(transaction);
    connection.say(&reply)
}

/// Reads the octets of a chunk into the message.
async fn take<S>(
    connection: &mut Connection<S>,
    size: u64,
    incoming: &mut Incoming,
    transaction: &Transaction,
) -> Result<(), Gone>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    // A chunk that cannot fit is refused before its first octet is kept.
    if incoming.size().saturating_add(size) > connection.door.config.message_bytes {
        incoming.refuse(reply::TOO_LARGE.clone());
    }
    let patience = connection.door.config.data_timeout();
    let wire = &mut connection.wire;
    let mut left = size;
    while left > 0 {
        if wire.input().is_empty() {
            wire.fill(patience).await?;
        }
        let n = wire
            .input()
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        incoming.write(&wire.input()[..n], transaction).await?;
        wire.advance(n);
        left -= n as u64;
    }
    Ok(())
}

/// Reads and drops the octets of a chunk that has no place to go.
async fn skip<S>(connection: &mut Connection<S>, size: u64) -> Result<(), Gone>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    if size > connection.door.config.message_bytes {
        return Err(Gone::Abuse);
    }
    let patience = connection.door.config.data_timeout();
    let wire = &mut connection.wire;
    let mut left = size;
    while left > 0 {
        if wire.input().is_empty() {
            wire.fill(patience).await?;
        }
        let n = wire
            .input()
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        wire.advance(n);
        left -= n as u64;
    }
    Ok(())
}
