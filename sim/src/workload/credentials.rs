//! Passwords, and who may log in.

use posthouse_client::Error;
use posthouse_client::proto::AccountState;

use crate::history::{Answer, Call, Done};
use crate::plan::LoginState;

use super::{At, account_id, account_name, answer, request_id};

/// The octets of a password.
pub fn password(number: u32) -> String {
    match number {
        0 => String::new(),
        n => format!("password number {n}"),
    }
}

/// Sets a password, or removes it.
pub(super) async fn set_password(at: &At<'_>, account: u32, number: u32) {
    let (name, request) = (account_id(account), at.request());
    let client = at.client(0);
    let call = Call::SetPassword {
        account: account_name(account),
        password: number,
        request,
    };
    let octets = password(number);
    let work = client.set_password(&name, &octets, request_id(request));
    at.call(call, async { plain(work.await) }).await;
}

/// Asks whether a password is right, so many times.
pub(super) async fn login(at: &At<'_>, account: u32, number: u32, times: u32) {
    let name = account_id(account);
    let client = at.client(0);
    let password = password(number);
    for _ in 0..times {
        let call = Call::Login {
            account: account_name(account),
            password: number,
        };
        let work = client.authenticate(&name, &password, "192.0.2.1");
        at.call(call, async { plain(work.await.map(drop)) }).await;
    }
}

/// Lets the account in, freezes or closes it.
pub(super) async fn set_state(at: &At<'_>, account: u32, state: LoginState) {
    let (name, request) = (account_id(account), at.request());
    let client = at.client(0);
    let call = Call::SetState {
        account: account_name(account),
        state,
        request,
    };
    let state = match state {
        LoginState::Active => AccountState::Active,
        LoginState::Frozen => AccountState::Frozen,
        LoginState::Closed => AccountState::Closed,
    };
    let work = client.set_account_state(&name, state, request_id(request));
    at.call(call, async { plain(work.await.map(drop)) }).await;
}

fn plain(result: Result<(), Error>) -> Answer {
    match result {
        Ok(()) => Answer::Done(Done::Plain),
        Err(e) => answer::of(e),
    }
}
