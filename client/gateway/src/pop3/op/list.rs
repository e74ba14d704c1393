//! STAT and LIST (RFC 1939, section 5): how many messages, how large. Sizes are those of the
//! stored octets, see [`crate::pop3`].

use crate::pop3::connection::Connection;
use crate::pop3::reply::{self, Reply};
use crate::wire::Gone;

/// Answers STAT.
pub fn stat(connection: &mut Connection) -> Result<(), Gone> {
    let Some(transaction) = connection.transaction() else {
        return connection.error(&reply::LOGIN_FIRST);
    };
    let maildrop = &transaction.maildrop;
    let text = format!("{} {}", maildrop.count(), maildrop.bytes());
    connection.say(&Reply::ok_with(text))
}

/// Answers LIST with a number.
pub fn list_one(connection: &mut Connection, number: u32) -> Result<(), Gone> {
    let Some(transaction) = connection.transaction() else {
        return connection.error(&reply::LOGIN_FIRST);
    };
    match transaction.maildrop.get(number) {
        Some(message) => {
            let text = format!("{number} {}", message.size);
            connection.say(&Reply::ok_with(text))
        }
        None => connection.error(&reply::NO_MESSAGE),
    }
}

/// Answers LIST for all messages.
pub async fn list(connection: &mut Connection) -> Result<(), Gone> {
    let Some(transaction) = connection.transaction() else {
        return connection.error(&reply::LOGIN_FIRST);
    };
    let maildrop = &transaction.maildrop;
    let (last, text) = (
        maildrop.last(),
        format!(
            "{} messages ({} octets)",
            maildrop.count(),
            maildrop.bytes()
        ),
    );
    connection.wire.reply(&Reply::ok_with(text));
    let patience = connection.door.config.send_timeout();
    for number in 1..=last {
        let message = connection
            .transaction()
            .and_then(|t| t.maildrop.get(number));
        if let Some(message) = message {
            let line = format!("{number} {}\r\n", message.size);
            connection.wire.raw(line.as_bytes());
            connection.wire.ease(patience).await?;
        }
    }
    connection.wire.raw(b".\r\n");
    Ok(())
}
