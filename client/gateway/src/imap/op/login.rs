//! LOGIN and AUTHENTICATE with PLAIN or LOGIN (RFC 9051, section 6.2; RFC 4616;
//! draft-murchison-sasl-login; SASL-IR, RFC 4959).
//!
//! Passwords are asked of the store, which counts wrong ones and takes as long for an account
//! that is not there as for a wrong password. They travel only where nobody else can listen.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use posthouse_client::Error;
use posthouse_client::ids::AccountName;

use crate::imap::op::capability;
use crate::imap::parse::Secret;
use crate::imap::respond::{Done, Stop};
use crate::imap::session::{Login, Session};
use crate::imap::wire::Line;
use crate::serve::Places;

/// How long the answer to a wrong password is held back.
const WRONG: Duration = Duration::from_secs(1);

fn allowed(s: &Session) -> Result<(), Stop> {
    match (&s.login, s.private) {
        (Some(_), _) => Err(Done::bad("you have logged in already").into()),
        (None, true) => Ok(()),
        (None, false) => Err(Done::no("PRIVACYREQUIRED", "begin TLS first").into()),
    }
}

/// LOGIN.
pub(super) async fn login(s: &mut Session, user: Vec<u8>, password: Secret) -> Result<Done, Stop> {
    allowed(s)?;
    enter(s, &user, &password.0).await
}

/// AUTHENTICATE.
pub(super) async fn authenticate(
    s: &mut Session,
    mechanism: &str,
    initial: Option<Secret>,
) -> Result<Done, Stop> {
    allowed(s)?;
    match mechanism {
        "PLAIN" => {
            let response = response(s, "", initial).await?;
            // authzid NUL authcid NUL password (RFC 4616, section 2).
            let mut parts = response.0.splitn(3, |&b| b == 0);
            let (Some(acting), Some(user), Some(password)) =
                (parts.next(), parts.next(), parts.next())
            else {
                return Err(Done::bad("that is no PLAIN response").into());
            };
            if !acting.is_empty() && !acting.eq_ignore_ascii_case(user) {
                return Err(Done::no("AUTHORIZATIONFAILED", "nobody may act for others").into());
            }
            enter(s, user, password).await
        }
        "LOGIN" => {
            let user = response(s, "Username:", initial).await?;
            let password = response(s, "Password:", None).await?;
            enter(s, &user.0, &password.0).await
        }
        _ => Err(Done::no("CANNOT", "the mechanisms are PLAIN and LOGIN").into()),
    }
}

/// What the client answers to a challenge, if it has not said so with the command already.
async fn response(
    s: &mut Session,
    challenge: &str,
    initial: Option<Secret>,
) -> Result<Secret, Stop> {
    let response = match initial {
        Some(initial) => initial,
        None => {
            s.wire.say(&format!("+ {}", STANDARD.encode(challenge)));
            let limit = s.door.config.line_bytes;
            let patience = s.door.config.data_timeout();
            match s.wire.line(limit, patience, false).await? {
                Line::Good(line) => Secret(line.to_vec()),
                Line::TooLong(..) => return Err(Done::bad("the line is too long").into()),
            }
        }
    };
    match &response.0[..] {
        b"*" => Err(Done::bad("cancelled").into()),
        b"=" => Ok(Secret(Vec::new())),
        response => match STANDARD.decode(response) {
            Ok(decoded) => Ok(Secret(decoded)),
            Err(_) => Err(Done::bad("that is no base64").into()),
        },
    }
}

async fn enter(s: &mut Session, user: &[u8], password: &[u8]) -> Result<Done, Stop> {
    let wrong = || Done::no("AUTHENTICATIONFAILED", "wrong name or password");
    let text = |octets| std::str::from_utf8(octets).ok();
    let account = text(user).and_then(|user| AccountName::new(user).ok());
    let (Some(account), Some(password)) = (account, text(password)) else {
        return failed(s, wrong()).await;
    };
    let asked = s.door.store.authenticate(&account, password, &s.address);
    match asked.await {
        Ok(()) => {}
        Err(Error::BadCredentials { .. } | Error::BadRequest { .. } | Error::NotFound { .. }) => {
            return failed(s, wrong()).await;
        }
        Err(error) => return Err(error.into()),
    }
    let Some(place) = Places::take(&s.door.accounts, account.as_str()) else {
        return Err(Done::no("LIMIT", "too many sessions of this account").into());
    };
    s.login = Some(Login {
        account,
        _place: place,
    });
    let code = format!("CAPABILITY {}", capability::of(s));
    Ok(Done::ok("logged in").code(code))
}

/// Wrong passwords count as errors, so that guessing needs many connections as well.
async fn failed(s: &mut Session, done: Done) -> Result<Done, Stop> {
    s.errors += 1;
    tokio::time::sleep(WRONG).await;
    Err(done.into())
}
