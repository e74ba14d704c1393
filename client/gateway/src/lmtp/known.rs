//! Accounts that were seen to exist a short while ago.
//!
//! Saves one question to the store for each RCPT of a busy sender. Only existence is remembered,
//! never absence, so that a new account receives at once; and an account that is deleted
//! meanwhile is refused after the message, by the store itself.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use posthouse_client::ids::AccountName;
use tokio::time::Instant;

use crate::spool::locked;

/// Two generations of names: the older one is dropped when the younger is full or old.
pub struct Known {
    generations: Mutex<Generations>,
    age: Duration,
    size: usize,
}

struct Generations {
    young: BTreeSet<AccountName>,
    old: BTreeSet<AccountName>,
    since: Instant,
}

impl Known {
    /// Remembers up to `size` names a generation, each for `age` to twice `age`.
    pub fn new(size: usize, age: Duration) -> Known {
        let generations = Generations {
            young: BTreeSet::new(),
            old: BTreeSet::new(),
            since: Instant::now(),
        };
        Known {
            generations: Mutex::new(generations),
            age,
            size,
        }
    }

    /// Whether the account was seen lately.
    pub fn has(&self, account: &AccountName) -> bool {
        let mut g = locked(&self.generations);
        self.turn(&mut g);
        g.young.contains(account) || g.old.contains(account)
    }

    /// The account exists.
    pub fn add(&self, account: AccountName) {
        let mut g = locked(&self.generations);
        self.turn(&mut g);
        g.young.insert(account);
    }

    /// The account does not exist after all.
    pub fn forget(&self, account: &AccountName) {
        let mut g = locked(&self.generations);
        g.young.remove(account);
        g.old.remove(account);
    }

    fn turn(&self, g: &mut Generations) {
        let age = g.since.elapsed();
        if age >= self.age || g.young.len() >= self.size {
            g.old = std::mem::take(&mut g.young);
            g.since = Instant::now();
        }
        if age >= self.age * 2 {
            g.old.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_forgotten_in_time_and_when_there_are_many() {
        let name = |n: u32| AccountName::new(&format!("a{n}@example.org")).unwrap();
        let age = Duration::from_millis(300);
        let known = Known::new(10, age);
        known.add(name(0));
        assert!(known.has(&name(0)) && !known.has(&name(1)));
        tokio::time::sleep(age * 2).await;
        assert!(!known.has(&name(0)));
        for n in 0..1000 {
            known.add(name(n));
        }
        let g = locked(&known.generations);
        assert!(g.young.len() + g.old.len() <= 20);
    }
}
