//! STLS (RFC 2595, section 4): from here on, TLS.

use crate::pop3::connection::Connection;
use crate::pop3::reply;
use crate::pop3::session::State;
use crate::tls;
use crate::wire::Gone;

/// Answers STLS.
///
/// What a client has sent together with STLS was not protected: somebody in between may have put
/// it there, and it must not count as said under TLS. A client that does so is sent away. What it
/// said before, the name for a login, is forgotten.
pub async fn stls(connection: &mut Connection) -> Result<(), Gone> {
    if let State::Transaction(_) = connection.session.state {
        return connection.error(&reply::LOGGED_IN);
    }
    if connection.session.tls {
        return connection.error(&reply::TLS_ALREADY);
    }
    let Some(config) = connection.door.tls.clone() else {
        return connection.error(&reply::NO_TLS);
    };
    if !connection.wire.input().is_empty() {
        connection.wire.reply(&reply::TLS_NOT_ALONE);
        return Err(Gone::Abuse);
    }
    let patience = connection.door.config.login_timeout();
    connection.wire.reply(&reply::TLS_BEGIN);
    connection.wire.flush(patience).await?;
    let shaken = connection
        .wire
        .upgrade(|stream| tls::accept(&config, stream, patience))
        .await;
    // A handshake that fails leaves nothing to talk over.
    shaken.map_err(|_| Gone::Closed)?;
    connection.session.tls = true;
    connection.session.state = State::Authorization { user: None };
    Ok(())
}
