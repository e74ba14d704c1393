//! RCPT (RFC 5321, section 4.1.1.3): adds a recipient, if the cluster has such an account.

use posthouse_client::ids::AccountName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::lmtp::Door;
use crate::lmtp::command::BadCommand;
use crate::lmtp::connection::Connection;
use crate::lmtp::path::BadPath;
use crate::lmtp::reply::{self, Reply};
use crate::store::StoreError;
use crate::wire::Gone;

/// Answers RCPT.
pub async fn rcpt<S>(connection: &mut Connection<S>, recipient: String) -> Result<(), Gone>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let Some(transaction) = &connection.session.transaction else {
        return connection.error(&reply::MAIL_FIRST);
    };
    if transaction.chunks.is_some() {
        return connection.error(&reply::CHUNKS_OPEN);
    }
    if transaction.replies.len() >= connection.door.config.recipients {
        return connection.say(&reply::MANY_RECIPIENTS);
    }
    if !recipient.is_ascii() && !transaction.utf8 {
        return connection.error(&reply::NEEDS_UTF8);
    }
    let Ok(account) = AccountName::new(&recipient) else {
        let bad = BadCommand::Recipient(BadPath::Local);
        return connection.error(&Reply::to_bad_command(&bad));
    };
    if let Err(error) = lookup(&connection.door, &account).await {
        // An unknown address is everyday mail, no mistake of the sending server's.
        return connection.say(&Reply::to_store_error(&recipient, &error));
    }
    let accepted = Reply::with(250, "2.1.5", format!("<{recipient}> accepted"));
    if let Some(transaction) = &mut connection.session.transaction {
        transaction.add(recipient, account);
    }
    connection.say(&accepted)
}

async fn lookup(door: &Door, account: &AccountName) -> Result<(), StoreError> {
    if door.known.has(account) {
        return Ok(());
    }
    match timeout(door.config.lookup_timeout(), door.store.exists(account)).await {
        Err(_) => Err(StoreError::Unavailable("the deadline has passed".into())),
        Ok(Err(error)) => Err(error),
        Ok(Ok(false)) => Err(StoreError::NoAccount),
        Ok(Ok(true)) => {
            door.known.add(account.clone());
            Ok(())
        }
    }
}
