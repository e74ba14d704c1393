//! DELE and RSET (RFC 1939, section 5): marks, which live in this session alone.

use crate::pop3::connection::Connection;
use crate::pop3::reply::{self, Reply};
use crate::wire::Gone;

/// Answers DELE.
pub fn dele(connection: &mut Connection, number: u32) -> Result<(), Gone> {
    let Some(transaction) = connection.transaction() else {
        return connection.error(&reply::LOGIN_FIRST);
    };
    match transaction.maildrop.get(number) {
        Some(message) => {
            transaction.maildrop.delete(message);
            connection.say(&reply::MARKED)
        }
        None => connection.error(&reply::NO_MESSAGE),
    }
}

/// Answers RSET.
pub fn rset(connection: &mut Connection) -> Result<(), Gone> {
    let Some(transaction) = connection.transaction() else {
        return connection.error(&reply::LOGIN_FIRST);
    };
    transaction.maildrop.reset();
    let maildrop = &transaction.maildrop;
    let (count, bytes) = (maildrop.count(), maildrop.bytes());
    connection.say(&Reply::ok_with(format!(
        "{count} messages ({bytes} octets)"
    )))
}
