//! RETR and TOP (RFC 1939, sections 5 and 7): a message, or its beginning, straight from the store
//! to the client. One piece of it is held at a time, however large it is.
//!
//! When the octets break off in the middle, so does the connection: the line that ends the answer
//! would make the part count as the whole.

use futures::StreamExt;
use tokio::time::timeout;

use crate::pop3::connection::Connection;
use crate::pop3::reply::{self, Reply};
use crate::pop3::store::StoreError;
use crate::pop3::stuff::Stuff;
use crate::wire::Gone;

/// Octets of a message that are encoded between two sends.
const STEP_BYTES: usize = 64 * 1024;

/// Answers RETR.
pub async fn retr(connection: &mut Connection, number: u32) -> Result<(), Gone> {
    send(connection, number, Stuff::whole()).await
}

/// Answers TOP.
pub async fn top(connection: &mut Connection, number: u32, lines: u64) -> Result<(), Gone> {
    send(connection, number, Stuff::top(lines)).await
}

async fn send(connection: &mut Connection, number: u32, mut stuff: Stuff) -> Result<(), Gone> {
    let door = connection.door.clone();
    let Some(transaction) = connection.transaction() else {
        return connection.error(&reply::LOGIN_FIRST);
    };
    let Some(message) = transaction.maildrop.get(number) else {
        return connection.error(&reply::NO_MESSAGE);
    };
    let (account, inbox) = (transaction.account.clone(), transaction.maildrop.inbox());
    let patience = door.config.store_timeout();
    let fetched = timeout(patience, door.store.fetch(&account, inbox, message.uid)).await;
    let mut octets = match fetched {
        Ok(Ok(octets)) => octets,
        Ok(Err(error)) => return connection.say(&Reply::to_store_error(&error)),
        Err(_) => return connection.say(&reply::UNAVAILABLE),
    };
    let first = Reply::ok_with(format!("{} octets", message.size));
    connection.wire.reply(&first);
    'message: loop {
        let piece = match timeout(patience, octets.next()).await {
            Ok(None) => break,
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(error))) => return Err(broke_off(&error)),
            Err(_) => return Err(broke_off(&StoreError::Unavailable("too slow".into()))),
        };
        for part in piece.chunks(STEP_BYTES) {
            let full = stuff.feed(part, connection.wire.output());
            connection.wire.ease(door.config.send_timeout()).await?;
            if full {
                break 'message;
            }
        }
    }
    stuff.end(connection.wire.output());
    Ok(())
}

fn broke_off(why: &StoreError) -> Gone {
    tracing::warn!(%why, "a message broke off on its way to a POP3 client");
    Gone::BrokeOff
}
