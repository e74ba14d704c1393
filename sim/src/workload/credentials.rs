//! Passwords, those of people and those of programs, and who may log in.
//!
//! The store draws what programs get. The history holds hashes of these, which say which of them it
//! was and are the same on every run of a plan.

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
    at.call(call, async { plain(work.await.map(drop)) }).await;
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

/// The name of a program.
fn program(app: u32) -> String {
    format!("program {app}")
}

/// What stands for a secret in the history.
fn hash_of(secret: &str) -> String {
    let mut hash = blake3::hash(secret.as_bytes()).to_hex().to_string();
    hash.truncate(16);
    hash
}

/// Makes a password for a program, and keeps what it is told.
pub(super) async fn add_app(at: &At<'_>, account: u32, app: u32, repeat: u32) {
    let (name, program, request) = (account_id(account), program(app), at.request());
    for n in 0..=repeat {
        let client = at.client(n);
        let call = Call::AddAppPassword {
            account: account_name(account),
            name: program.clone(),
            request,
        };
        let work = client.add_app_password(&name, &program, request_id(request));
        at.call(call, async {
            match work.await {
                Ok(made) => {
                    let hash = hash_of(&made.password);
                    let mut told = at.inner.secrets.lock();
                    told.entry(account).or_default().push(made.password);
                    Answer::Done(Done::Secret(hash))
                }
                Err(e) => answer::of(e),
            }
        })
        .await;
    }
}

/// Removes the password of a program.
pub(super) async fn remove_app(at: &At<'_>, account: u32, app: u32, repeat: u32) {
    let (name, program, request) = (account_id(account), program(app), at.request());
    for n in 0..=repeat {
        let client = at.client(n);
        let call = Call::RemoveAppPassword {
            account: account_name(account),
            name: program.clone(),
            request,
        };
        let work = client.remove_app_password(&name, &program, request_id(request));
        at.call(call, async { plain(work.await.map(drop)) }).await;
    }
}

/// Lists the passwords of programs.
pub(super) async fn list_apps(at: &At<'_>, account: u32) {
    let name = account_id(account);
    let client = at.client(0);
    let call = Call::ListAppPasswords {
        account: account_name(account),
    };
    at.call(call, async {
        match client.list_app_passwords(&name).await {
            Ok(all) => {
                let names = all.app_passwords.into_iter().map(|app| app.name);
                let mut names: Vec<String> = names.collect();
                names.sort_unstable();
                let own = all.has_password;
                Answer::Done(Done::AppPasswords { own, names })
            }
            Err(e) => answer::of(e),
        }
    })
    .await;
}

/// Logs in by a password of a program that somebody was told.
pub(super) async fn app_login(at: &At<'_>, account: u32, pick: u32) {
    let secret = {
        let told = at.inner.secrets.lock();
        let of_account = told.get(&account).map_or(&[][..], Vec::as_slice);
        of_account
            .get(pick as usize % of_account.len().max(1))
            .cloned()
    };
    let Some(secret) = secret else {
        return;
    };
    // Case and hyphens do not matter (node/src/mailbox/passwords.rs).
    let typed = match pick % 3 {
        0 => secret.clone(),
        1 => secret.replace('-', ""),
        _ => secret.to_uppercase(),
    };
    let name = account_id(account);
    let client = at.client(0);
    let call = Call::AppLogin {
        account: account_name(account),
        secret: hash_of(&secret),
    };
    let work = client.authenticate(&name, &typed, "192.0.2.2");
    at.call(call, async {
        match work.await {
            Ok(who) => Answer::Done(Done::Entered(who.app_password)),
            Err(e) => answer::of(e),
        }
    })
    .await;
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
