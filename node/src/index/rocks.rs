//! The RocksDB arm.
use std::{path::Path, sync::Arc};

use futures::future::BoxFuture;

use super::{Index, IndexError, IndexOpener};

/// Opens RocksDB.
pub struct RocksOpener;

impl IndexOpener for RocksOpener {
    fn open(&self, _path: &Path) -> BoxFuture<'_, Result<Arc<dyn Index>, IndexError>> {
        todo!()
    }
}
