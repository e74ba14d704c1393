//! Temporary.
#![allow(missing_docs)]
use std::sync::Arc; use std::path::Path;
use futures::future::BoxFuture;
use posthouse_node::index::{memory::*, *};
use super::{fence::Fence, disk::SimDisk};
pub struct SimIndex { s: MemoryStore }
pub struct Image;
struct O(MemoryStore);
impl IndexOpener for O { fn open(&self, _: &Path) -> BoxFuture<'_, Result<Arc<dyn Index>, IndexError>> { let i: Arc<dyn Index> = self.0.open(); Box::pin(async move { Ok(i) }) } }
impl SimIndex {
  pub fn new(_: u64, _: u64, _: &SimDisk) -> SimIndex { SimIndex { s: MemoryStore::default() } }
  pub fn process(&self, _: Fence) -> Arc<dyn IndexOpener> { Arc::new(O(self.s.clone())) }
  pub fn crash(&self, _: bool) { self.s.crash(0) }
  pub fn rot(&self) {} pub fn heal(&self) {} pub fn wipe(&self) {}
  pub fn image(&self) -> Image { Image } pub fn restore(&self, _: &Image) {}
}
