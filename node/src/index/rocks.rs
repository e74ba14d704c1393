//! The RocksDB arm.
//!
//! - No write-ahead log: the journal is the log. `atomic_flush`: what is on disk is always a
//!   prefix of the batches over all families together (without it, one in twenty kills was
//!   consistent; with it, all).
//! - Universal compaction: rows are small beside the bodies, but every one of them is rewritten by
//!   each merge, and the bytes written per message are a promise. A merge of sorted runs of similar
//!   size rewrites a row about half as often as levels do; the price, up to twice the index on disk
//!   during a merge, is small beside the journal.
//! - Bounded memory: one cache for data, index and filter blocks of all families, one bound on all
//!   write buffers, a bounded number of open files.

use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use rocksdb::statistics::{StatsLevel, Ticker};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB,
    DBCompactionStyle, DBCompressionType, DBRawIterator, ErrorKind, FlushOptions, LruCacheOptions,
    MergeOperands, Options, ReadOptions, Snapshot, UniversalCompactOptions, WriteBatch,
    WriteOptions,
};

use super::{Batch, Change, Family, Index, IndexError, IndexOpener, Next, View, add_counter};

/// Bytes of blocks kept in memory, over all families.
const CACHE_BYTES: usize = 64 << 20;
/// Log2 of the parts of the cache: few, since a part must hold what is read at a time.
const CACHE_SHARD_BITS: i32 = 3;
/// Bytes of rows not yet flushed, over all families.
const WRITE_BUFFER_BYTES: usize = 64 << 20;
/// Files that are kept open.
const OPEN_FILES: i32 = 512;
/// Bytes of an uncompressed block.
const BLOCK_BYTES: usize = 8 << 10;

/// Opens RocksDB.
pub struct RocksOpener;

impl IndexOpener for RocksOpener {
    fn open(&self, path: &Path) -> BoxFuture<'_, Result<Arc<dyn Index>, IndexError>> {
        let path = path.to_owned();
        async move {
            let rocks = blocking(move || Rocks::open(&path)).await?;
            let rocks = Arc::new(rocks);
            let newest = ReadOptions::default();
            Ok(Arc::new(RocksIndex { rocks, newest }) as Arc<dyn Index>)
        }
        .boxed()
    }
}

struct Rocks {
    db: DB,
    options: Options,
}

struct RocksIndex {
    rocks: Arc<Rocks>,
    /// For reads of the newest state.
    newest: ReadOptions,
}

/// A snapshot that keeps its database open.
struct RocksView {
    snapshot: ManuallyDrop<Snapshot<'static>>,
    /// For reads of single rows at the snapshot.
    at: ReadOptions,
    rocks: Arc<Rocks>,
}

impl Drop for RocksView {
    fn drop(&mut self) {
        // SAFETY: dropped once, here, while `rocks` is still alive.
        unsafe { ManuallyDrop::drop(&mut self.snapshot) }
    }
}

/// Runs file work beside the async threads.
#[allow(clippy::disallowed_methods)]
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IndexError> + Send + 'static,
) -> Result<T, IndexError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(IndexError::Failed(format!("index work did not end: {e}"))),
    }
}

fn failure(e: rocksdb::Error) -> IndexError {
    let text = e.to_string();
    let lost_file = e.kind() == ErrorKind::IOError
        && text.contains("No such file")
        && (text.contains(".sst") || text.contains("MANIFEST"));
    match e.kind() == ErrorKind::Corruption || lost_file {
        true => IndexError::Corrupt(text),
        false => IndexError::Failed(text),
    }
}

fn name(family: Family) -> &'static str {
    match family {
        Family::State => "state",
        Family::Cold => "cold",
        Family::Local => "local",
    }
}

fn merge_add(_key: &[u8], old: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let sum = operands.iter().fold(0i64, |sum, b| {
        sum.wrapping_add(b.try_into().map_or(0, i64::from_le_bytes))
    });
    Some(add_counter(old, sum).to_vec())
}

fn db_options() -> Options {
    let mut o = Options::default();
    o.create_if_missing(true);
    o.create_missing_column_families(true);
    o.set_atomic_flush(true);
    o.set_paranoid_checks(true);
    o.set_db_write_buffer_size(WRITE_BUFFER_BYTES);
    o.set_max_open_files(OPEN_FILES);
    o.set_max_background_jobs(2);
    o.set_bytes_per_sync(1 << 20);
    o.set_keep_log_file_num(2);
    o.set_max_log_file_size(4 << 20);
    o.set_stats_dump_period_sec(0);
    o.set_stats_persist_period_sec(0);
    o.enable_statistics();
    o.set_statistics_level(StatsLevel::ExceptHistogramOrTimers);
    o
}

fn family_options(family: Family, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_block_size(BLOCK_BYTES);
    table.set_format_version(6);
    // Most lookups find nothing (is the blob there, was the request seen) and end in the filter.
    // Filters and indexes are cut into blocks: whole ones are megabytes a file, do not fit into a
    // part of the cache, and would be read from the file at each lookup.
    table.set_hybrid_ribbon_filter(10.0, 1);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(4 << 10);
    table.set_pin_top_level_index_and_filter(true);

    let mut o = Options::default();
    o.set_block_based_table_factory(&table);
    o.set_write_buffer_size(match family {
        Family::State => 32 << 20,
        Family::Cold | Family::Local => 16 << 20,
    });
    o.set_max_write_buffer_number(3);
    o.set_compaction_style(DBCompactionStyle::Universal);
    let mut universal = UniversalCompactOptions::default();
    universal.set_size_ratio(20);
    universal.set_min_merge_width(3);
    universal.set_max_size_amplification_percent(100);
    o.set_universal_compaction_options(&universal);
    o.set_level_zero_file_num_compaction_trigger(6);
    o.set_level_zero_slowdown_writes_trigger(24);
    o.set_level_zero_stop_writes_trigger(40);
    o.set_target_file_size_base(64 << 20);
    o.set_compression_type(DBCompressionType::Lz4);
    o.set_bottommost_compression_type(DBCompressionType::Zstd);
    if family == Family::Local {
        o.set_merge_operator_associative("posthouse.add-i64", merge_add);
    }
    o
}

impl Rocks {
    fn open(path: &Path) -> Result<Rocks, IndexError> {
        refuse_half_a_database(path)?;
        let mut cache = LruCacheOptions::default();
        cache.set_capacity(CACHE_BYTES);
        cache.set_num_shard_bits(CACHE_SHARD_BITS);
        let cache = Cache::new_lru_cache_opts(&cache);
        let options = db_options();
        let families =
            Family::ALL.map(|f| ColumnFamilyDescriptor::new(name(f), family_options(f, &cache)));
        let db = DB::open_cf_descriptors(&options, path, families).map_err(failure)?;
        Ok(Rocks { db, options })
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.db
            .cf_handle(name(family))
            .expect("every family is opened with the database")
    }

    fn write(&self, batch: Batch) -> Result<(), IndexError> {
        let mut out = WriteBatch::default();
        for change in batch.changes {
            match change {
                Change::Put(f, key, value) => out.put_cf(self.family(f), key, value),
                Change::Delete(f, key) => out.delete_cf(self.family(f), key),
                Change::DeleteRange(f, from, to) if from < to => {
                    out.delete_range_cf(self.family(f), from, to)
                }
                Change::DeleteRange(..) => {}
                Change::Add(key, delta) => {
                    out.merge_cf(self.family(Family::Local), key, delta.to_le_bytes())
                }
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(out, &options).map_err(failure)
    }

    fn flush(&self) -> Result<(), IndexError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        let families = Family::ALL.map(|f| self.family(f));
        self.db.flush_cfs_opt(&families, &options).map_err(failure)
    }

    fn verify(&self) -> Result<(), IndexError> {
        for family in Family::ALL {
            let mut options = ReadOptions::default();
            options.set_verify_checksums(true);
            options.fill_cache(false);
            options.set_readahead_size(1 << 20);
            let mut rows = self.db.raw_iterator_cf_opt(self.family(family), options);
            rows.seek_to_first();
            while rows.valid() {
                rows.next();
            }
            rows.status().map_err(failure)?;
        }
        Ok(())
    }

    fn get(
        &self,
        family: Family,
        key: &[u8],
        options: &ReadOptions,
    ) -> Result<Option<Bytes>, IndexError> {
        let row = self
            .db
            .get_pinned_cf_opt(self.family(family), key, options)
            .map_err(failure)?;
        Ok(row.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        family: Family,
        (from, to): (&[u8], &[u8]),
        back: bool,
        mut options: ReadOptions,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        if from >= to {
            return Ok(());
        }
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        let mut rows: DBRawIterator = self.db.raw_iterator_cf_opt(self.family(family), options);
        match back {
            false => rows.seek(from),
            true => rows.seek_for_prev(to),
        }
        while let (Some(key), Some(value)) = (rows.key(), rows.value()) {
            if visit(key, value) == Next::Stop {
                return Ok(());
            }
            match back {
                false => rows.next(),
                true => rows.prev(),
            }
        }
        rows.status().map_err(failure)
    }
}

/// RocksDB makes a new database where the file CURRENT is missing, whatever else is there. Beside
/// table files that would be a loss that nobody notices.
#[allow(clippy::disallowed_methods)]
fn refuse_half_a_database(path: &Path) -> Result<(), IndexError> {
    let Ok(files) = std::fs::read_dir(path) else {
        return Ok(());
    };
    if path.join("CURRENT").exists() {
        return Ok(());
    }
    for file in files.flatten() {
        let file = file.path();
        if file.extension().is_some_and(|e| e == "sst") {
            return Err(IndexError::Corrupt(format!(
                "{} is there, but {} is missing",
                file.display(),
                path.join("CURRENT").display()
            )));
        }
    }
    Ok(())
}

impl RocksView {
    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        options
    }
}

impl View for RocksView {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        self.rocks.get(family, key, &self.at)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        self.rocks
            .scan(family, (from, to), false, self.options(), visit)
    }

    fn scan_back(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        self.rocks
            .scan(family, (from, to), true, self.options(), visit)
    }
}

impl View for RocksIndex {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        self.rocks.get(family, key, &self.newest)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        self.rocks
            .scan(family, (from, to), false, ReadOptions::default(), visit)
    }

    fn scan_back(
        &self,
        family: Family,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Next,
    ) -> Result<(), IndexError> {
        self.rocks
            .scan(family, (from, to), true, ReadOptions::default(), visit)
    }
}

impl Index for RocksIndex {
    fn view(&self) -> Arc<dyn View> {
        let rocks = self.rocks.clone();
        let snapshot = rocks.db.snapshot();
        // SAFETY: the snapshot refers to `rocks.db`, which the Arc beside it keeps in place and
        // alive until the snapshot has been dropped (`Drop for RocksView`).
        let snapshot = unsafe { std::mem::transmute::<Snapshot<'_>, Snapshot<'static>>(snapshot) };
        let mut at = ReadOptions::default();
        at.set_snapshot(&snapshot);
        Arc::new(RocksView {
            at,
            snapshot: ManuallyDrop::new(snapshot),
            rocks,
        })
    }

    fn write(&self, batch: Batch) -> Result<(), IndexError> {
        self.rocks.write(batch)
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        let rocks = self.rocks.clone();
        blocking(move || rocks.flush()).boxed()
    }

    fn bytes_written(&self) -> u64 {
        self.rocks.options.get_ticker_count(Ticker::FlushWriteBytes)
            + self
                .rocks
                .options
                .get_ticker_count(Ticker::CompactWriteBytes)
    }

    fn verify(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        let rocks = self.rocks.clone();
        blocking(move || rocks.verify()).boxed()
    }
}
