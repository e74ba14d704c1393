//! QUIT (RFC 1939, sections 4 and 6): the one place where messages are removed. All marked ones
//! go in one step, under one request id; without marks, nothing is asked of the store.

use tokio::time::timeout;

use crate::pop3::connection::Connection;
use crate::pop3::reply;
use crate::wire::Gone;

/// Answers QUIT; the connection ends.
pub async fn quit(connection: &mut Connection) -> Result<(), Gone> {
    let door = connection.door.clone();
    let said = match connection.transaction() {
        None => &reply::BYE,
        Some(transaction) => {
            let (account, inbox) = (&transaction.account, transaction.maildrop.inbox());
            let uids = transaction.maildrop.deleted();
            let asked = async {
                match uids.is_empty() {
                    true => Ok(()),
                    false => door.store.remove(account, inbox, uids).await,
                }
            };
            match timeout(door.config.store_timeout(), asked).await {
                Ok(Ok(())) => &reply::BYE,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "messages were not removed at QUIT");
                    &reply::NOT_REMOVED
                }
                Err(_) => {
                    tracing::warn!("no answer in time to a removal at QUIT");
                    &reply::NOT_REMOVED
                }
            }
        }
    };
    connection.wire.reply(said);
    Err(Gone::Quit)
}
