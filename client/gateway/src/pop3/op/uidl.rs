//! UIDL (RFC 1939, section 7): names of messages that stay the same from session to session, from
//! node to node, and are never given to another message.

use crate::pop3::connection::Connection;
use crate::pop3::reply::{self, Reply};
use crate::wire::Gone;

/// Answers UIDL with a number.
pub fn uidl_one(connection: &mut Connection, number: u32) -> Result<(), Gone> {
    let Some(transaction) = connection.transaction() else {
        return connection.error(&reply::LOGIN_FIRST);
    };
    let maildrop = &transaction.maildrop;
    match maildrop
        .get(number)
        .map(|message| maildrop.unique_id(message))
    {
        Some(id) => connection.say(&Reply::ok_with(format!("{number} {id}"))),
        None => connection.error(&reply::NO_MESSAGE),
    }
}

/// Answers UIDL for all messages.
pub async fn uidl(connection: &mut Connection) -> Result<(), Gone> {
    let Some(transaction) = connection.transaction() else {
        return connection.error(&reply::LOGIN_FIRST);
    };
    let last = transaction.maildrop.last();
    connection.wire.reply(&Reply::ok("unique ids:"));
    let patience = connection.door.config.send_timeout();
    for number in 1..=last {
        let line = connection.transaction().and_then(|t| {
            let message = t.maildrop.get(number)?;
            Some(format!("{number} {}\r\n", t.maildrop.unique_id(message)))
        });
        if let Some(line) = line {
            connection.wire.raw(line.as_bytes());
            connection.wire.ease(patience).await?;
        }
    }
    connection.wire.raw(b".\r\n");
    Ok(())
}
