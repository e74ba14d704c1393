//! The accept loop that every door has, and places for those who come.
//!
//! Exists because of the client that opens connections without end: a door takes so many in all
//! and so many from one address, and tells the others so in a word that cannot hold it up.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::listen::{Listener, Stream};
use crate::spool::locked;

/// How long an accept that has failed is not tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time for the word to a client that finds no place.
const REFUSAL: Duration = Duration::from_millis(10);

/// Whom a door takes.
pub struct Admission<'a> {
    /// Connections at a time.
    pub connections: usize,
    /// Places of the addresses that they come from.
    pub addresses: &'a Arc<Places>,
    /// What is said to those who find no place; nothing for a door that begins with TLS.
    pub refusal: &'a [u8],
    /// Time that connections have to end when the door closes.
    pub grace: Duration,
}

/// Serves connections until `shutdown`: each is handed to `serve_one` with the peer's address as
/// text. Then connections have the grace time, and this returns when none is left. Dropping the
/// future ends all connections at once.
pub async fn serve<F, Fut>(
    listener: &dyn Listener,
    shutdown: CancellationToken,
    admission: Admission<'_>,
    serve_one: F,
) where
    F: Fn(Box<dyn Stream>, String) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((mut stream, peer)) => {
                    let place = match connections.len() < admission.connections {
                        true => Places::take(admission.addresses, &address_of(&peer)),
                        false => None,
                    };
                    let Some(place) = place else {
                        // A short word, without letting the peer hold up the others.
                        let word = async {
                            stream.write_all(admission.refusal).await?;
                            stream.shutdown().await
                        };
                        let _ = tokio::time::timeout(REFUSAL, word).await;
                        continue;
                    };
                    let served = serve_one(stream, peer);
                    connections.spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    // Most often the process is out of file descriptors: wait for some.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    let rest = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(admission.grace, rest).await.is_err() {
        tracing::info!(open = connections.len(), "connections are cut off");
        connections.shutdown().await;
    }
}

/// The address without its port; as it is when it has none.
pub fn address_of(peer: &str) -> String {
    match peer.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_string(),
        Err(_) => peer
            .rsplit_once(':')
            .map_or(peer, |(host, _)| host)
            .to_owned(),
    }
}

/// Whether the peer is on this machine, so that nobody else can listen: then a password may come
/// without TLS.
pub fn is_loopback(peer: &str) -> bool {
    let address = peer
        .parse::<SocketAddr>()
        .map(|address| address.ip())
        .or_else(|_| peer.parse::<IpAddr>());
    address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// So many places for each name: connections of one address, or sessions of one account.
#[derive(Debug)]
pub struct Places {
    each: usize,
    taken: Mutex<BTreeMap<String, usize>>,
}

impl Places {
    /// `each` places for every name.
    pub fn new(each: usize) -> Arc<Places> {
        Arc::new(Places {
            each,
            taken: Mutex::default(),
        })
    }

    /// A place for `name`, if one is left.
    pub fn take(places: &Arc<Places>, name: &str) -> Option<Place> {
        let mut taken = locked(&places.taken);
        match taken.get_mut(name) {
            Some(count) if *count >= places.each => return None,
            Some(count) => *count += 1,
            None if places.each == 0 => return None,
            None => {
                taken.insert(name.to_owned(), 1);
            }
        }
        Some(Place {
            places: places.clone(),
            name: name.to_owned(),
        })
    }
}

/// A taken place; given back on drop.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    name: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = locked(&self.places.taken);
        if let Some(count) = taken.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_name_and_come_back() {
        let places = Places::new(2);
        let first = Places::take(&places, "a").unwrap();
        let second = Places::take(&places, "a").unwrap();
        assert!(Places::take(&places, "a").is_none());
        let _other = Places::take(&places, "b").unwrap();
        drop(first);
        let _third = Places::take(&places, "a").unwrap();
        assert!(Places::take(&places, "a").is_none());
        drop(second);
        assert_eq!(locked(&places.taken).len(), 2);
        assert!(Places::take(&Places::new(0), "a").is_none());
    }

    #[test]
    fn who_is_on_this_machine() {
        for local in [
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_loopback(local), "{local}");
        }
        for far in [
            "192.0.2.1:1",
            "[2001:db8::1]:1",
            "localhost:1",
            "",
            "127.0.0.1.example:1",
        ] {
            assert!(!is_loopback(far), "{far}");
        }
        assert_eq!(address_of("[::1]:110"), "::1");
        assert_eq!(address_of("node-1:110"), "node-1");
    }
}
