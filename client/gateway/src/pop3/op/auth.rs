//! AUTH (RFC 5034): a login by SASL. PLAIN is the one mechanism: the store keeps hashes of
//! passwords, and so has to be told the password; TLS keeps it from everyone else.

use crate::pop3::command::Secret;
use crate::pop3::connection::Connection;
use crate::pop3::op::login::login;
use crate::pop3::reply::{self, Continue, Reply};
use crate::pop3::sasl::{self, BadPlain};
use crate::pop3::session::State;
use crate::wire::Gone;

/// Answers AUTH.
pub async fn auth(
    connection: &mut Connection,
    mechanism: Option<String>,
    initial: Option<Secret>,
) -> Result<(), Gone> {
    if let State::Transaction(_) = connection.session.state {
        return connection.error(&reply::LOGGED_IN);
    }
    let may = connection.session.may_say_password();
    match mechanism.as_deref() {
        // Older programs ask so for the mechanisms (RFC 1734 has none of it; many servers do).
        None => {
            connection.wire.reply(&Reply::ok("the mechanisms:"));
            connection
                .wire
                .raw(if may { b"PLAIN\r\n.\r\n" } else { b".\r\n" });
            return Ok(());
        }
        Some(_) if !may => return connection.error(&reply::TLS_FIRST),
        Some("PLAIN") => {}
        Some(_) => return connection.error(&reply::NO_MECHANISM),
    }
    let response = match initial {
        Some(response) => response,
        None => {
            connection.wire.reply(&Continue);
            let Some(line) = connection.line().await? else {
                return Ok(());
            };
            match String::from_utf8(line.to_vec()) {
                Ok(line) if line == "*" => return connection.error(&reply::CANCELLED),
                Ok(line) => Secret(line),
                Err(_) => return connection.error(&reply::BAD_RESPONSE),
            }
        }
    };
    match sasl::plain(&response.0) {
        Ok(plain) => login(connection, &plain.name, &plain.password).await,
        Err(BadPlain::Form) => connection.error(&reply::BAD_RESPONSE),
        Err(BadPlain::OtherIdentity) => connection.error(&reply::OTHER_IDENTITY),
    }
}
