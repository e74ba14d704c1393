//! An index that tells the node as soon as anybody reads a row that fails its checks.
//!
//! Whoever reads may be a client's call, a snapshot for a follower that lags, or a worker; each of
//! them can only fail. The node has to know: it gives the index up and gets its rows from its
//! peers, instead of failing the same way for as long as nobody verifies all of it.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Batch, Family, Index, IndexError, Next, View};

/// Told of every failure that is damage.
pub type OnDamage = Arc<dyn Fn(&IndexError) + Send + Sync>;

/// The index `inner`, whose damage `on_damage` hears of.
pub fn watched(inner: Arc<dyn Index>, on_damage: OnDamage) -> Arc<dyn Index> {
    Arc::new(Watched { inner, on_damage })
}

struct Watched<T: ?Sized> {
    on_damage: OnDamage,
    inner: Arc<T>,
}

impl<T: ?Sized> Watched<T> {
    fn tell<R>(&self, result: Result<R, IndexError>) -> Result<R, IndexError> {
        if let Err(e @ IndexError::Corrupt(_)) = &result {
            (self.on_damage)(e);
        }
        result
    }
}

impl<T: View + ?Sized> View for Watched<T> {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        self.tell(self.inner.get(family, key))
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        self.tell(self.inner.scan(family, from, to, visit))
    }

    fn scan_back(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        self.tell(self.inner.scan_back(family, from, to, visit))
    }
}

impl Index for Watched<dyn Index> {
    fn view(&self) -> Arc<dyn View> {
        Arc::new(Watched {
            inner: self.inner.view(),
            on_damage: Arc::clone(&self.on_damage),
        })
    }

    fn write(&self, batch: Batch) -> Result<(), IndexError> {
        self.tell(self.inner.write(batch))
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        async { self.tell(self.inner.flush().await) }.boxed()
    }

    fn bytes_written(&self) -> u64 {
        self.inner.bytes_written()
    }

    fn verify(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        async { self.tell(self.inner.verify().await) }.boxed()
    }
}
