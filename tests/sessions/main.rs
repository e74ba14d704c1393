//! IMAP sessions doing anything, on one account, through all nodes of a cluster, against models.
//!
//! | file | what it is |
//! |---|---|
//! | `ledger` | what all sessions have done, and what must be true of it |
//! | `belief` | a mailbox as a client knows it that believes what it is told |
//! | `session` | one client: connects, resynchronises, does something, is cut off |
//! | `deeds` | the commands that it draws, and what their answers must be |
//! | `follow` | the same by the client library: changes since, in pages, and watch |
//! | `many` | the tests: rounds of all that, with nodes killed, compared at the end of each |
//! | `hostile`, `nasty` | mail that is made to break readers, and what must become of it |
//!
//! `POSTHOUSE_SEED` chooses what is drawn, `POSTHOUSE_ROUNDS` how long it goes on. A seed does not
//! decide how sessions interleave, so that a failure may need several runs.

mod belief;
mod deeds;
mod follow;
mod hostile;
mod ledger;
mod many;
mod nasty;
mod session;

/// A number from the environment.
fn environment(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => otherwise,
    }
}
