//! CAPA (RFC 2449, section 5): what is offered, here and now.

use crate::pop3::connection::Connection;
use crate::pop3::reply::Reply;
use crate::pop3::session::State;
use crate::wire::Gone;

/// Answers CAPA.
pub fn capa(connection: &mut Connection) -> Result<(), Gone> {
    let session = &connection.session;
    let before_login = matches!(session.state, State::Authorization { .. });
    let (password, tls) = (
        session.may_say_password(),
        before_login && !session.tls && connection.door.tls.is_some(),
    );
    connection.wire.reply(&Reply::ok("what is offered:"));
    connection
        .wire
        .raw(b"TOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER\r\n");
    if password {
        connection.wire.raw(b"USER\r\nSASL PLAIN\r\n");
    }
    if tls {
        connection.wire.raw(b"STLS\r\n");
    }
    connection.wire.raw(b"IMPLEMENTATION Posthouse\r\n.\r\n");
    Ok(())
}
