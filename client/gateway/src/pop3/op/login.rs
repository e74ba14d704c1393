//! USER and PASS (RFC 1939, section 7), and what every login comes to.

use posthouse_client::ids::AccountName;
use tokio::time::timeout;

use crate::pop3::Door;
use crate::pop3::connection::Connection;
use crate::pop3::maildrop::Maildrop;
use crate::pop3::reply::{self, Reply};
use crate::pop3::session::{State, Transaction};
use crate::pop3::store::StoreError;
use crate::serve::Places;
use crate::wire::Gone;

/// Answers USER.
pub fn user(connection: &mut Connection, name: String) -> Result<(), Gone> {
    if !connection.session.may_say_password() {
        return connection.error(&reply::TLS_FIRST);
    }
    match &mut connection.session.state {
        State::Authorization { user } => {
            *user = Some(name);
            connection.say(&reply::NAME_TAKEN_DOWN)
        }
        State::Transaction(_) => connection.error(&reply::LOGGED_IN),
    }
}

/// Answers PASS.
pub async fn pass(connection: &mut Connection, password: &str) -> Result<(), Gone> {
    if !connection.session.may_say_password() {
        return connection.error(&reply::TLS_FIRST);
    }
    match &mut connection.session.state {
        State::Transaction(_) => connection.error(&reply::LOGGED_IN),
        State::Authorization { user } => match user.take() {
            None => connection.error(&reply::USER_FIRST),
            Some(name) => login(connection, &name, password).await,
        },
    }
}

/// Logs in, and looks at INBOX.
pub async fn login(connection: &mut Connection, name: &str, password: &str) -> Result<(), Gone> {
    let address = connection.session.address.clone();
    match enter(&connection.door, &address, name, password).await {
        Ok(transaction) => {
            let maildrop = &transaction.maildrop;
            let (count, bytes) = (maildrop.count(), maildrop.bytes());
            let text = format!("{count} messages ({bytes} octets)");
            connection.session.state = State::Transaction(transaction);
            connection.say(&Reply::ok_with(text))
        }
        Err(reply) => {
            connection.wire.reply(&reply);
            connection.session.failed_logins += 1;
            match connection.session.failed_logins >= connection.door.config.failed_logins {
                true => Err(Gone::Quit),
                false => Ok(()),
            }
        }
    }
}

async fn enter(
    door: &Door,
    address: &str,
    name: &str,
    password: &str,
) -> Result<Transaction, Reply> {
    let refused = |error: StoreError| {
        if let StoreError::Unavailable(why) | StoreError::Damaged(why) = &error {
            tracing::info!(%why, "a login could not be answered");
        }
        Reply::to_store_error(&error)
    };
    let late = |_| reply::UNAVAILABLE.clone();
    let patience = door.config.store_timeout();
    // What cannot be a name is nobody's.
    let Ok(account) = AccountName::new(name) else {
        return Err(reply::BAD_CREDENTIALS.clone());
    };
    let checked = timeout(patience, door.store.login(&account, password, address)).await;
    checked.map_err(late)?.map_err(refused)?;
    // Only now: strangers must not use up the places of an account.
    let place = Places::take(&door.accounts, account.as_str());
    let place = place.ok_or_else(|| reply::TOO_MANY_SESSIONS.clone())?;
    let opened = timeout(patience, door.store.open(&account, door.config.messages)).await;
    let contents = opened.map_err(late)?.map_err(refused)?;
    Ok(Transaction {
        account,
        maildrop: Maildrop::new(contents),
        place,
    })
}
