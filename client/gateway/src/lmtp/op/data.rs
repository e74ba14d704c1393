//! DATA (RFC 5321, section 4.1.1.4; RFC 2033, section 4.2): the message, dots stuffed; then one
//! reply per recipient.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::lmtp::connection::Connection;
use crate::lmtp::incoming::Incoming;
use crate::lmtp::reply;
use crate::lmtp::unstuff::Unstuff;
use crate::rare::{self, Rare};
use crate::wire::Gone;

/// Answers DATA.
pub async fn data<S>(connection: &mut Connection<S>) -> Result<(), Gone>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let refusal = match &connection.session.transaction {
        None => Some(&reply::MAIL_FIRST),
        Some(open) if open.chunks.is_some() => Some(&reply::CHUNKS_OPEN),
        Some(open) if open.replies.is_empty() => Some(&reply::RCPT_FIRST),
        Some(_) => None,
    };
    if let Some(refusal) = refusal {
        return connection.error(refusal);
    }
    // From here on the transaction ends with the message, whatever becomes of it.
    let Some(transaction) = connection.session.transaction.take() else {
        return Ok(());
    };
    let patience = connection.door.config.data_timeout();
    let wire = &mut connection.wire;
    wire.reply(&reply::GO_AHEAD);
    wire.flush(patience).await?;
    let mut incoming = Incoming::start(&connection.door, &transaction).await;
    let (mut unstuff, mut octets) = (Unstuff::default(), BytesMut::new());
    loop {
        if wire.input().is_empty() {
            let filled = wire.fill(patience).await;
            filled.inspect_err(|_| rare::hit(Rare::MessageBrokeOff))?;
        }
        let (used, end) = unstuff.feed(wire.input(), &mut octets);
        wire.advance(used);
        incoming.write(&octets, &transaction).await?;
        octets.clear();
        if end {
            break;
        }
    }
    for reply in incoming.finish(&transaction).await {
        connection.wire.reply(&reply);
    }
    Ok(())
}
