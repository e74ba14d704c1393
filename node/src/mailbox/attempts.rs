//! How often somebody may be wrong about a password.
//!
//! Three buckets are asked before a password is looked at, and each lets tokens grow again:
//!
//! - of the account *and* the peer: who was wrong too often about this account waits;
//! - of the account: many peers together are no faster. It does not hold for a peer that has not
//!   been wrong about the account lately, or has known its password: a crowd that guesses cannot
//!   lock the owner out;
//! - of the peer: nor is one peer with many accounts. A peer that has known the account's password
//!   is let through, because a web mailer is one peer with many users.
//!
//! Accounts are told apart by name, whether they exist or not: the answer to an unknown one is the
//! same. A token is taken before the look and given back after a right password, so that guesses
//! made at the same time count, too, and so do those that their caller does not wait for.
//!
//! All of it is in the memory of the shard's leader and bounded; a new leader begins with full
//! buckets.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::{MailboxError, Result};

/// A bucket: so many tokens, and one more after each of these.
#[derive(Debug, Clone, Copy)]
struct Terms {
    tokens: u32,
    every: Duration,
}

/// Of one peer at one account.
const PAIR: Terms = Terms {
    tokens: 20,
    every: Duration::from_secs(10),
};
/// Of one account.
const ACCOUNT: Terms = Terms {
    tokens: 100,
    every: Duration::from_secs(2),
};
/// Of one peer.
const PEER: Terms = Terms {
    tokens: 300,
    every: Duration::from_millis(500),
};
/// How long a peer is remembered to have known an account's password.
const TRUSTED: Duration = Duration::from_secs(24 * 3600);
/// Buckets of each kind.
const BUCKETS: usize = 50_000;
/// Octets of a peer that is no address.
const PEER_BYTES: usize = 100;

/// Where an attempt comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// An IPv4 address, also one that is mapped into IPv6.
    V4([u8; 4]),
    /// The network of an IPv6 address: whoever has one has all of a /64 (RFC 6177).
    V6([u8; 8]),
    /// Something else that a door calls its peer.
    Other(String),
}

impl Peer {
    /// From an IP address, with or without a port.
    pub fn new(peer: &str) -> Result<Peer> {
        let ip = match peer.parse::<SocketAddr>() {
            Ok(addr) => Ok(addr.ip()),
            Err(_) => peer.parse::<IpAddr>(),
        };
        match ip.map(|ip| ip.to_canonical()) {
            Ok(IpAddr::V4(ip)) => Ok(Peer::V4(ip.octets())),
            Ok(IpAddr::V6(ip)) => {
                let mut net = [0; 8];
                net.copy_from_slice(&ip.octets()[..8]);
                Ok(Peer::V6(net))
            }
            Err(_) if (1..=PEER_BYTES).contains(&peer.len()) => Ok(Peer::Other(peer.to_owned())),
            Err(_) => Err(MailboxError::bad("peer", "must be an IP address")),
        }
    }
}

/// A bucket is the time at which it will be full: each token taken puts that off.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    full_at: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Bucket {
        Bucket { full_at: now }
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// How long until there is a token; zero: there is one.
    fn wait(&self, terms: Terms, now: Instant) -> Duration {
        let missing = self.full_at.saturating_duration_since(now);
        missing.saturating_sub(terms.every * (terms.tokens - 1))
    }

    /// Takes a token, or what is left of one; says how much that was.
    fn take(&mut self, terms: Terms, now: Instant) -> Duration {
        let from = self.full_at.max(now);
        let most = now + terms.every * terms.tokens;
        self.full_at = (from + terms.every).min(most);
        self.full_at.saturating_duration_since(from)
    }

    fn give_back(&mut self, taken: Duration) {
        self.full_at -= taken;
    }
}

#[derive(Debug)]
struct Pair {
    bucket: Bucket,
    trusted_until: Option<Instant>,
}

impl Pair {
    fn is_trusted(&self, now: Instant) -> bool {
        self.trusted_until.is_some_and(|until| until > now)
    }
}

#[derive(Default)]
struct Buckets {
    pairs: BTreeMap<(String, Peer), Pair>,
    accounts: BTreeMap<String, Bucket>,
    peers: BTreeMap<Peer, Bucket>,
}

/// The attempts of one node.
#[derive(Default)]
pub struct Attempts {
    buckets: Mutex<Buckets>,
}

/// An attempt under way. It counts as a wrong one, unless it is said to be another.
pub struct Attempt<'a> {
    attempts: &'a Attempts,
    account: String,
    peer: Peer,
    /// What it took from the buckets: of the pair, of the account, of the peer. A trusted peer goes
    /// on where the others' buckets are empty, and must not fill them.
    taken: [Duration; 3],
}

impl Attempts {
    /// Takes the tokens of an attempt, or says how long to wait before the next one.
    pub fn begin(&self, account: &str, peer: &Peer) -> Result<Attempt<'_>, Duration> {
        let now = Instant::now();
        let mut buckets = self.buckets.lock();
        let Buckets {
            pairs,
            accounts,
            peers,
        } = &mut *buckets;
        make_room(pairs, |pair| match pair.trusted_until {
            Some(until) => pair.bucket.full_at.max(until),
            None => pair.bucket.full_at,
        });
        make_room(accounts, |bucket| bucket.full_at);
        make_room(peers, |bucket| bucket.full_at);
        let key = (account.to_owned(), peer.clone());
        let pair = pairs.entry(key).or_insert_with(|| Pair {
            bucket: Bucket::new(now),
            trusted_until: None,
        });
        let of_account = accounts
            .entry(account.to_owned())
            .or_insert_with(|| Bucket::new(now));
        let of_peer = peers
            .entry(peer.clone())
            .or_insert_with(|| Bucket::new(now));
        let mut wait = pair.bucket.wait(PAIR, now);
        if !pair.is_trusted(now) {
            wait = wait.max(of_peer.wait(PEER, now));
            if !pair.bucket.is_full(now) {
                wait = wait.max(of_account.wait(ACCOUNT, now));
            }
        }
        if !wait.is_zero() {
            return Err(wait);
        }
        let taken = [
            pair.bucket.take(PAIR, now),
            of_account.take(ACCOUNT, now),
            of_peer.take(PEER, now),
        ];
        Ok(Attempt {
            attempts: self,
            account: account.to_owned(),
            peer: peer.clone(),
            taken,
        })
    }
}

impl Attempt<'_> {
    /// The password was right.
    pub fn right(self) {
        self.give_back(true);
    }

    /// Nothing was found out about the password.
    pub fn undecided(self) {
        self.give_back(false);
    }

    fn give_back(self, trusted: bool) {
        let [of_pair, of_account, of_peer] = self.taken;
        let mut buckets = self.attempts.buckets.lock();
        if let Some(bucket) = buckets.accounts.get_mut(&self.account) {
            bucket.give_back(of_account);
        }
        if let Some(bucket) = buckets.peers.get_mut(&self.peer) {
            bucket.give_back(of_peer);
        }
        if let Some(pair) = buckets.pairs.get_mut(&(self.account, self.peer)) {
            pair.bucket.give_back(of_pair);
            if trusted {
                pair.trusted_until = Some(Instant::now() + TRUSTED);
            }
        }
    }
}

/// Makes room for one more: forgets the half that says least, which is what is full again or will
/// be soon.
fn make_room<K: Ord, V>(map: &mut BTreeMap<K, V>, matters_until: impl Fn(&V) -> Instant) {
    if map.len() < BUCKETS {
        return;
    }
    let mut times: Vec<Instant> = map.values().map(&matters_until).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    let mut over = map.len() - middle;
    map.retain(|_, value| {
        let goes = matters_until(value) <= median && over > 0;
        over -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::new(text).unwrap()
    }

    /// Attempts with wrong passwords until one is not looked at.
    fn guess(attempts: &Attempts, account: &str, from: &str) -> u32 {
        let mut looked_at = 0;
        while attempts.begin(account, &peer(from)).is_ok() {
            looked_at += 1;
            assert!(looked_at < 10_000);
        }
        looked_at
    }

    #[test]
    fn a_peer_is_a_network_of_those_that_one_customer_gets() {
        assert_eq!(peer("192.0.2.1"), peer("192.0.2.1:143"));
        assert_eq!(peer("192.0.2.1"), peer("::ffff:192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert_eq!(peer("2001:db8::1"), peer("[2001:db8::ffff]:993"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("unix"), Peer::Other("unix".into()));
        assert!(Peer::new("").is_err());
        assert!(Peer::new(&"x".repeat(101)).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_wrong_too_often_waits_and_may_try_again_then() {
        let attempts = Attempts::default();
        assert_eq!(guess(&attempts, "a@x", "192.0.2.1"), PAIR.tokens);
        let wait = attempts.begin("a@x", &peer("192.0.2.1")).err().unwrap();
        assert_eq!(wait, PAIR.every);
        tokio::time::advance(wait).await;
        assert_eq!(guess(&attempts, "a@x", "192.0.2.1"), 1);
        // Another account, and another peer, are not concerned.
        assert!(attempts.begin("b@x", &peer("192.0.2.1")).is_ok());
        assert!(attempts.begin("a@x", &peer("192.0.2.2")).is_ok());
        tokio::time::advance(PAIR.every * PAIR.tokens).await;
        assert_eq!(guess(&attempts, "a@x", "192.0.2.1"), PAIR.tokens);
    }

    #[tokio::test(start_paused = true)]
    async fn right_passwords_cost_no_tokens() {
        let attempts = Attempts::default();
        for _ in 0..1000 {
            attempts.begin("a@x", &peer("::1")).ok().unwrap().right();
            attempts
                .begin("b@x", &peer("::1"))
                .ok()
                .unwrap()
                .undecided();
        }
        assert_eq!(guess(&attempts, "a@x", "::1"), PAIR.tokens);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_that_guesses_does_not_lock_the_owner_out() {
        let attempts = Attempts::default();
        let owner = peer("192.0.2.200");
        attempts.begin("a@x", &owner).ok().unwrap().right();
        let crowd: u32 = (0..50)
            .map(|n| guess(&attempts, "a@x", &format!("198.51.100.{n}")))
            .sum();
        // Each has its first guess; the others come out of the account's bucket.
        assert!(crowd <= ACCOUNT.tokens + 50, "{crowd}");
        // The owner, where it was seen before and where it was not, may even mistype.
        for owner in [&owner, &peer("192.0.2.201")] {
            drop(attempts.begin("a@x", owner).ok().unwrap());
        }
        attempts.begin("a@x", &owner).ok().unwrap().right();
        // Who was wrong and never right waits with the crowd.
        assert!(attempts.begin("a@x", &peer("192.0.2.201")).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn one_peer_cannot_try_a_password_at_every_account() {
        let attempts = Attempts::default();
        let web = peer("192.0.2.7");
        attempts.begin("known@x", &web).ok().unwrap().right();
        let tried = (0..1000)
            .filter(|n| attempts.begin(&format!("u{n}@x"), &web).is_ok())
            .count();
        assert_eq!(tried as u32, PEER.tokens);
        attempts.begin("known@x", &web).ok().unwrap().right();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_and_the_worst_stay() {
        let attempts = Attempts::default();
        assert_eq!(guess(&attempts, "a@x", "192.0.2.1"), PAIR.tokens);
        for n in 0..2 * BUCKETS as u32 {
            let from = Peer::V4(n.to_be_bytes());
            let _ = attempts.begin(&format!("u{n}"), &from);
        }
        {
            let buckets = attempts.buckets.lock();
            assert!(buckets.pairs.len() <= BUCKETS);
            assert!(buckets.accounts.len() <= BUCKETS);
            assert!(buckets.peers.len() <= BUCKETS);
        }
        assert!(attempts.begin("a@x", &peer("192.0.2.1")).is_err());
    }
}
