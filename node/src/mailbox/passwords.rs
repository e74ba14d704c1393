//! Passwords: hashing, comparing, drawing, and remembering which ones were right.
//!
//! What people choose is hashed with Argon2id (RFC 9106), off the threads that serve everybody and
//! few at a time, because each takes memory by the megabyte. What this node draws for programs has
//! 128 random bits, which nobody guesses, so a plain BLAKE3 protects it. Nothing here prints a
//! password or a hash.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{
    ARGON2ID_IDENT, Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version,
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::error::{MailboxError, Result};
use super::limits::{HASHES_AT_ONCE, HASHES_WAITING, PasswordCost};
use super::turns::Turns;
use crate::env::Env;
use crate::env::rng::Rng;
use crate::index::values::{CredentialRow, Secret};
use crate::types::*;

/// Digits of RFC 4648, section 6, in lower case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Digits of a drawn password: 128 bits.
const APP_DIGITS: usize = 26;
/// Digits of each group of them, for people.
const GROUP: usize = 4;
/// Right passwords that are remembered.
const REMEMBERED: usize = 10_000;
/// What a caller is told when too many wait.
const RETRY_AFTER_MS: u64 = 1000;

/// Checks and makes passwords for one node.
pub struct Passwords {
    argon2: Argon2<'static>,
    rng: Arc<dyn Rng>,
    /// Of hashes.
    turns: Turns,
    /// Held while a hash is computed, and while one is waited for.
    places: Arc<Semaphore>,
    /// A hash that no password has: what an unknown account is checked against.
    nobody: String,
    /// Drawn when the process starts: what is remembered is worth nothing without it.
    key: [u8; 32],
    remembered: Mutex<Remembered>,
}

/// Marks of right passwords, the oldest of which go first.
#[derive(Default)]
struct Remembered {
    marks: BTreeSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Passwords {
    /// With hashes of this cost.
    pub fn new(env: &Env, cost: PasswordCost) -> Passwords {
        let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, None)
            .expect("the settings were checked");
        let (mut salt, mut output, mut key) = ([0; 16], [0; 32], [0; 32]);
        env.rng.fill(&mut salt);
        env.rng.fill(&mut output);
        env.rng.fill(&mut key);
        let nobody = nobody(&params, &salt, &output).expect("its parts have the right lengths");
        Passwords {
            argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params),
            rng: Arc::clone(&env.rng),
            turns: Turns::new(&env.compute, HASHES_AT_ONCE),
            places: Arc::new(Semaphore::new(HASHES_AT_ONCE + HASHES_WAITING)),
            nobody,
            key,
            remembered: Mutex::default(),
        }
    }

    /// The PHC string of a new password.
    pub async fn hash(&self, password: String) -> Result<String> {
        let mut salt = [0; 16];
        self.rng.fill(&mut salt);
        let argon2 = self.argon2.clone();
        let hashed = self.in_turn(move || {
            let hash = argon2.hash_password_with_salt(password.as_bytes(), &salt);
            hash.map(|hash: PasswordHash| hash.to_string())
        });
        hashed.await?.map_err(|_| {
            // Out of memory, if anything: lengths were checked.
            MailboxError::Unavailable("the password could not be hashed".into())
        })
    }

    /// Whether a PHC string is that of this password; `None` takes as long and says no.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        let argon2 = self.argon2.clone();
        let verified = self.in_turn(move || match PasswordHash::new(&hash) {
            // With the parameters of the hash.
            Ok(hash) => argon2.verify_password(password.as_bytes(), &hash).is_ok(),
            Err(_) => {
                tracing::error!("the hash of a password cannot be read");
                false
            }
        });
        Ok(verified.await? && known)
    }

    /// Computes something, few at a time.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(MailboxError::Busy {
                retry_after_ms: RETRY_AFTER_MS,
            });
        };
        let in_place = move || {
            let found = work();
            drop(place);
            found
        };
        self.turns.run(in_place).await
    }

    /// A new password for a program, and its hash.
    pub fn draw(&self) -> (String, [u8; 32]) {
        let digits = base32(u128::from_be_bytes(self.rng.id16()));
        let groups: Vec<&str> = (0..APP_DIGITS)
            .step_by(GROUP)
            .map(|at| &digits[at..APP_DIGITS.min(at + GROUP)])
            .collect();
        (
            groups.join("-"),
            *blake3::hash(digits.as_bytes()).as_bytes(),
        )
    }

    /// Which of these credentials is a program's with this password. Case, hyphens and spaces do
    /// not matter. All are compared, and each in constant time.
    pub fn app<'a>(
        &self,
        password: &str,
        credentials: &'a [(String, CredentialRow)],
    ) -> Option<&'a str> {
        let digits: String = password
            .chars()
            .filter(|c| !matches!(c, '-' | ' '))
            .map(|c| c.to_ascii_lowercase())
            .collect();
        let hash = blake3::hash(digits.as_bytes());
        let mut found = None;
        for (name, row) in credentials {
            if let Secret::App(stored) = &row.secret
                && hash == blake3::Hash::from_bytes(*stored)
            {
                found = Some(name.as_str());
            }
        }
        found.filter(|_| digits.len() == APP_DIGITS)
    }

    /// Whether this was found to be the password with this stamp.
    pub fn remembers(&self, account: AccountId, stamp: ModSeq, password: &str) -> bool {
        let mark = self.mark(account, stamp, password);
        self.remembered.lock().marks.contains(&mark)
    }

    /// Remembers that this is the password with this stamp; a later one has another stamp.
    pub fn remember(&self, account: AccountId, stamp: ModSeq, password: &str) {
        let mark = self.mark(account, stamp, password);
        let mut remembered = self.remembered.lock();
        if !remembered.marks.insert(mark) {
            return;
        }
        remembered.order.push_back(mark);
        if remembered.order.len() > REMEMBERED
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.marks.remove(&oldest);
        }
    }

    fn mark(&self, account: AccountId, stamp: ModSeq, password: &str) -> [u8; 32] {
        let mut hash = blake3::Hasher::new_keyed(&self.key);
        hash.update(&account.0.to_be_bytes());
        hash.update(&stamp.to_be_bytes());
        hash.update(password.as_bytes());
        *hash.finalize().as_bytes()
    }
}

/// The PHC string of a hash of these parts.
fn nobody(params: &Params, salt: &[u8], output: &[u8]) -> Option<String> {
    let hash = PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params).ok()?,
        salt: Some(Salt::new(salt).ok()?),
        hash: Some(Output::new(output).ok()?),
    };
    Some(hash.to_string())
}

/// 26 digits, the first of which holds three bits.
fn base32(bits: u128) -> String {
    let digit = |n: usize| BASE32[(bits >> (5 * n)) as usize & 31] as char;
    (0..APP_DIGITS).rev().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings that cost next to nothing.
    pub const CHEAP: PasswordCost = PasswordCost {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };

    fn passwords() -> Passwords {
        Passwords::new(&Env::real(), CHEAP)
    }

    fn row(secret: Secret) -> CredentialRow {
        CredentialRow {
            created_ms: 0,
            modseq: 1,
            secret,
        }
    }

    #[tokio::test]
    async fn a_hash_knows_its_password_and_its_parameters() {
        let (own, other) = (passwords(), passwords());
        let hash = own.hash("correct horse".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{hash}");
        assert_ne!(hash, own.hash("correct horse".into()).await.unwrap());
        let verify = |p: &str, hash: Option<&str>| other.verify(p.into(), hash.map(str::to_owned));
        assert!(verify("correct horse", Some(&hash)).await.unwrap());
        assert!(!verify("correct horsf", Some(&hash)).await.unwrap());
        assert!(!verify("correct horse", None).await.unwrap());
        assert!(!verify("correct horse", Some("$no hash")).await.unwrap());
        // Costlier ones are made from now on; the old hash is read as it was made.
        let dear = PasswordCost {
            memory_kib: 64,
            passes: 3,
            lanes: 2,
        };
        let dear = Passwords::new(&Env::real(), dear);
        let old = Some(hash.clone());
        assert!(dear.verify("correct horse".into(), old).await.unwrap());
        let new = dear.hash("correct horse".into()).await.unwrap();
        assert!(new.contains("m=64,t=3,p=2"), "{new}");
        assert!(verify("correct horse", Some(&new)).await.unwrap());
    }

    #[test]
    fn the_hash_of_nobody_has_the_form_and_cost_of_all_others() {
        let p = passwords();
        let hash = PasswordHash::new(&p.nobody).unwrap();
        assert!(p.nobody.starts_with("$argon2id$v=19$m=8,t=1,p=1$"));
        assert_eq!(hash.hash.unwrap().len(), 32);
        let other = passwords();
        assert_ne!(p.nobody, other.nobody);
    }

    #[test]
    fn drawn_passwords_are_found_however_they_are_typed() {
        let p = passwords();
        let (password, hash) = p.draw();
        assert_eq!(password.len(), 26 + 6);
        assert!(password.split('-').all(|g| g.len() <= 4));
        let credentials = [
            (String::new(), row(Secret::Password("x".into()))),
            ("mutt".to_owned(), row(Secret::App(p.draw().1))),
            ("phone".to_owned(), row(Secret::App(hash))),
        ];
        let plain = password.replace('-', "");
        for typed in [
            password.clone(),
            plain.clone(),
            password.to_uppercase(),
            password.replace('-', " "),
        ] {
            assert_eq!(p.app(&typed, &credentials), Some("phone"), "{typed}");
        }
        assert_eq!(p.app(&plain[1..], &credentials), None);
        assert_eq!(p.app("", &credentials), None);
        assert_eq!(base32(0), "a".repeat(26));
        assert_eq!(base32(u128::MAX), format!("h{}", "7".repeat(25)));
        assert_eq!(base32(1 << 127), format!("e{}", "a".repeat(25)));
    }

    #[test]
    fn what_is_remembered_is_one_password_of_one_time_and_bounded() {
        let p = passwords();
        let account = AccountId(7);
        p.remember(account, 3, "secret");
        assert!(p.remembers(account, 3, "secret"));
        assert!(!p.remembers(account, 4, "secret"));
        assert!(!p.remembers(AccountId(8), 3, "secret"));
        assert!(!p.remembers(account, 3, "secre"));
        assert!(!passwords().remembers(account, 3, "secret"));
        for n in 0..REMEMBERED as u64 {
            p.remember(AccountId(9), n, "other");
        }
        assert!(!p.remembers(account, 3, "secret"));
        assert_eq!(p.remembered.lock().marks.len(), REMEMBERED);
    }

    #[tokio::test]
    async fn too_many_at_once_are_told_to_come_back() {
        let p = Arc::new(passwords());
        let all = p
            .turns
            .free
            .clone()
            .acquire_many_owned(HASHES_AT_ONCE as u32);
        let all = all.await.unwrap();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..HASHES_AT_ONCE + HASHES_WAITING {
            let p = Arc::clone(&p);
            waiting.spawn(async move { p.verify("x".into(), None).await });
        }
        while p.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let one_more = p.verify("x".into(), None).await;
        assert!(matches!(one_more, Err(MailboxError::Busy { .. })));
        drop(all);
        while let Some(done) = waiting.join_next().await {
            assert!(!done.unwrap().unwrap());
        }
        assert!(!p.verify("x".into(), None).await.unwrap());
    }
}
