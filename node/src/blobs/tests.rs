//! Blobs on a real journal and an index in memory, with a peer that has good octets or has not.
#![allow(clippy::disallowed_methods)] // it flips bits behind the journal's back

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::env::Env;
use crate::index::memory::MemoryStore;
use crate::index::values::BlobRow;
use crate::journal::Options;
use crate::workers::compaction::{Compaction, CompactionSettings};
use crate::workers::missing::Missing;
use crate::workers::refs;
use crate::workers::scrub::{Scrub, ScrubParts};

const SHARD: ShardId = ShardId(3);
const SPACE: Space = Space(5);
const PEER: NodeId = NodeId(2);

/// A peer that has the stored octets of every chunk, unless told otherwise.
#[derive(Default)]
struct FakePeer {
    chunks: parking_lot::Mutex<Vec<(BlobId, u32, Bytes)>>,
    asked: AtomicU64,
}

impl ChunkSource for FakePeer {
    fn fetch<'a>(
        &'a self,
        _: ShardId,
        blob: BlobId,
        seq: u32,
        good: &'a (dyn Fn(&[u8]) -> bool + Sync),
    ) -> BoxFuture<'a, Option<(NodeId, Bytes)>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let chunks = self.chunks.lock();
        let found = chunks.iter().find(|(b, s, _)| (*b, *s) == (blob, seq));
        let found = found.map(|(_, _, stored)| (PEER, stored.clone()));
        Box::pin(async move { found.filter(|(_, stored)| good(stored)) })
    }
}

struct World {
    dir: tempfile::TempDir,
    env: Env,
    journal: Arc<Journal>,
    index: Arc<dyn Index>,
    blobs: Arc<Blobs>,
    damage: Arc<DamageLog>,
    peer: Arc<FakePeer>,
}

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::real();
        let options = Options {
            segment_bytes: 1 << 20,
            ..Options::default()
        };
        let (journal, _) = Journal::open(&env, &dir.path().join("j"), options)
            .await
            .unwrap();
        let journal = Arc::new(journal);
        let index: Arc<dyn Index> = MemoryStore::default().open();
        let (damage, peer) = (
            Arc::new(DamageLog::default()),
            Arc::new(FakePeer::default()),
        );
        let blobs = Arc::new(Blobs::new(Parts {
            index: Arc::clone(&index),
            journal: Arc::clone(&journal),
            clock: Arc::clone(&env.clock),
            damage: Arc::clone(&damage),
            source: Arc::clone(&peer) as _,
        }));
        let lock = Arc::new(Mutex::new(()));
        blobs.set_owners(Box::new(move |shard| {
            let owner = Owner {
                replica: ReplicaId(1),
                apply_lock: Arc::clone(&lock),
            };
            (shard == SHARD).then_some(owner)
        }));
        let mut batch = Batch::default();
        let space = Bytes::copy_from_slice(&SPACE.0.to_be_bytes());
        batch.put(
            Family::Local,
            Key::ShardSpace(SHARD).encode(Space::NODE),
            space,
        );
        index.write(batch).unwrap();
        World {
            dir,
            env,
            journal,
            index,
            blobs,
            damage,
            peer,
        }
    }

    /// Stores a blob of these chunks as applying entries would. The peer gets it, too.
    async fn store(&self, chunks: &[&[u8]], codec: Codec) -> BlobId {
        let blob = BlobId::of(&chunks.concat());
        let mut metas = Vec::new();
        let mut batch = Batch::default();
        for (seq, raw) in (0..).zip(chunks) {
            let stored: Bytes = match codec {
                Codec::Raw => Bytes::copy_from_slice(raw),
                Codec::Zstd => zstd::bulk::compress(raw, 3).unwrap().into(),
            };
            let meta = ChunkMeta {
                raw_len: raw.len() as u32,
                stored_len: stored.len() as u32,
                codec,
                crc: crc32fast::hash(&stored),
            };
            metas.push(meta);
            let octets = vec![(SHARD, ReplicaId(1), stored.clone())];
            let places = self.blobs.append_pinned(octets).await.unwrap();
            let at = places.locations[0];
            let row = ChunkLoc::new(at, &meta);
            batch.put(
                Family::Local,
                Key::BlobLoc { blob, seq }.encode(SPACE),
                row.encode(),
            );
            let live = Key::SegmentLive(at.segment).encode(Space::NODE);
            batch.add(live, at.len as i64);
            self.peer.chunks.lock().push((blob, seq, stored));
        }
        let size = chunks.iter().map(|c| c.len() as u64).sum();
        let row = BlobRow {
            refs: 1,
            size,
            chunks: metas,
        };
        batch.put(Family::State, Key::Blob(blob).encode(SPACE), row.encode());
        self.index.write(batch).unwrap();
        blob
    }

    fn forget(&self, blob: BlobId) {
        let loc = self.loc(blob, 0).unwrap().location;
        let mut batch = Batch::default();
        batch.delete(Family::State, Key::Blob(blob).encode(SPACE));
        batch.delete(Family::Local, Key::BlobLoc { blob, seq: 0 }.encode(SPACE));
        batch.add(
            Key::SegmentLive(loc.segment).encode(Space::NODE),
            -(loc.len as i64),
        );
        self.index.write(batch).unwrap();
    }

    fn loc(&self, blob: BlobId, seq: u32) -> Option<ChunkLoc> {
        read::chunk_loc(&*self.index, SPACE, blob, seq).unwrap()
    }

    async fn read(&self, blob: BlobId, seq: u32) -> Result<Bytes, BlobError> {
        self.blobs.read_chunk(SHARD, blob, seq).await
    }

    fn file(&self, segment: u64) -> PathBuf {
        self.journal.segment_file(segment)
    }

    /// Flips a byte of a chunk's stored octets.
    fn rot(&self, blob: BlobId, seq: u32) {
        let at = self.loc(blob, seq).unwrap().location;
        let mut bytes = std::fs::read(self.file(at.segment)).unwrap();
        bytes[at.offset as usize + at.len as usize / 2] ^= 4;
        write_in_place(&self.file(at.segment), &bytes);
    }

    fn compaction(&self, may_receive: bool) -> Compaction {
        Compaction::new(
            self.env.clone(),
            self.dir.path().to_owned(),
            Arc::clone(&self.blobs),
            Box::new(move || may_receive.then(|| Box::new(()) as _)),
            CompactionSettings {
                live_percent_tight: 50,
                ..CompactionSettings::default()
            },
        )
    }

    fn scrub(&self) -> Scrub {
        Scrub::new(ScrubParts {
            env: self.env.clone(),
            blobs: Arc::clone(&self.blobs),
            damage: Arc::clone(&self.damage),
            on_index: Box::new(|e| panic!("{e}")),
            bytes_per_s: u64::MAX,
            every: std::time::Duration::ZERO,
        })
    }
}

/// The journal holds the file open: its inode must stay.
fn write_in_place(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

#[tokio::test]
async fn chunks_are_read_as_they_were_stored() {
    let world = World::new().await;
    let long = vec![b'x'; 100_000];
    for codec in [Codec::Raw, Codec::Zstd] {
        let blob = world.store(&[&long, codec_name(codec), b""], codec).await;
        assert_eq!(world.read(blob, 0).await.unwrap(), long);
        assert_eq!(world.read(blob, 1).await.unwrap(), codec_name(codec));
        assert_eq!(world.read(blob, 2).await.unwrap(), "");
        assert_eq!(world.read(blob, 3).await, Err(BlobError::Missing));
    }
    let unknown = world.read(BlobId([0; 32]), 0).await;
    assert_eq!(unknown, Err(BlobError::Missing));
    assert_eq!(world.peer.asked.load(Ordering::Relaxed), 0);
}

fn codec_name(codec: Codec) -> &'static [u8] {
    match codec {
        Codec::Raw => b"raw",
        Codec::Zstd => b"zstd",
    }
}

#[tokio::test]
async fn a_bad_chunk_is_served_from_a_peer_and_mended() {
    let world = World::new().await;
    let blob = world
        .store(&[b"first chunk", b"second chunk"], Codec::Raw)
        .await;
    let before = world.loc(blob, 1).unwrap();
    world.rot(blob, 1);
    assert_eq!(world.read(blob, 1).await.unwrap(), "second chunk");
    assert_eq!(world.read(blob, 0).await.unwrap(), "first chunk");
    let after = world.loc(blob, 1).unwrap();
    assert_ne!(after.location, before.location);
    let [finding] = &world.damage.list()[..] else {
        panic!("one finding")
    };
    assert_eq!(finding.offset, before.location.offset as u64);
    assert_eq!(finding.action, "repaired from node 2");
    assert_eq!(world.read(blob, 1).await.unwrap(), "second chunk");
    assert_eq!(world.peer.asked.load(Ordering::Relaxed), 1, "mended once");
    assert_eq!(
        live_bytes(&*world.index),
        23,
        "live octets are counted once"
    );
}

#[tokio::test]
async fn a_chunk_that_nobody_has_is_an_error_that_says_where() {
    let world = World::new().await;
    let blob = world.store(&[b"alone"], Codec::Raw).await;
    world.peer.chunks.lock().clear();
    world.rot(blob, 0);
    for _ in 0..2 {
        let Err(BlobError::Damaged(text)) = world.read(blob, 0).await else {
            panic!("damaged")
        };
        assert!(
            text.contains(".seg at ") && text.contains("waiting for a peer"),
            "{text}"
        );
    }
    assert_eq!(world.damage.list().len(), 1);
    // A peer with other octets under that name does not help.
    world
        .peer
        .chunks
        .lock()
        .push((blob, 0, Bytes::from_static(b"ALONE")));
    assert!(world.read(blob, 0).await.is_err());
}

#[tokio::test]
async fn a_chunk_without_a_location_gets_one() {
    let world = World::new().await;
    let blob = world.store(&[b"somewhere"], Codec::Zstd).await;
    let mut batch = Batch::default();
    batch.delete(Family::Local, Key::BlobLoc { blob, seq: 0 }.encode(SPACE));
    world.index.write(batch).unwrap();
    assert_eq!(world.read(blob, 0).await.unwrap(), "somewhere");
    assert!(world.loc(blob, 0).is_some());
}

#[tokio::test]
async fn a_move_loses_against_an_expunge() {
    let world = World::new().await;
    let blob = world.store(&[b"going"], Codec::Raw).await;
    let old = world.loc(blob, 0).unwrap();
    world.forget(blob);
    let key = Key::BlobLoc { blob, seq: 0 };
    for old in [Some(old), None] {
        let new = ChunkLoc {
            location: Location {
                segment: 9,
                ..old.unwrap_or(old_of()).location
            },
            ..old_of()
        };
        assert!(
            !world
                .blobs
                .relocate(SHARD, SPACE, &key, old, new)
                .await
                .unwrap()
        );
    }
    assert_eq!(world.loc(blob, 0), None);
    assert_eq!(live_bytes(&*world.index), 0);
}

fn old_of() -> ChunkLoc {
    ChunkLoc {
        location: Location {
            segment: 1,
            offset: 4096,
            len: 5,
        },
        codec: Codec::Raw,
        crc: 0,
        raw_len: 5,
    }
}

#[tokio::test]
async fn compaction_moves_survivors_and_frees_segments() {
    let world = World::new().await;
    let octets = |i: u32| vec![i as u8; 50_000];
    let mut blobs = Vec::new();
    for i in 0..100 {
        blobs.push(world.store(&[&octets(i)], Codec::Raw).await);
    }
    world.journal.seal().await.unwrap();
    let before = world.journal.segments().len();
    // Nothing to do while everything lives.
    assert_eq!(world.compaction(true).turn().await.unwrap(), None);
    let survives = |i: usize| i.is_multiple_of(4);
    for (i, blob) in blobs.iter().enumerate() {
        if !survives(i) {
            world.forget(*blob);
        }
    }
    // While a snapshot arrives, survivors move but nothing is freed.
    world.compaction(false).turn().await.unwrap();
    assert_eq!(world.journal.segments().len(), before);
    let mut turns = 0;
    while world.compaction(true).turn().await.unwrap().is_some() {
        turns += 1;
        assert!(turns < 20, "compaction comes to an end");
    }
    let after = world.journal.segments().len();
    assert!(after * 2 < before, "{before} segments, then {after}");
    for (i, blob) in blobs.iter().enumerate() {
        match survives(i) {
            true => assert_eq!(world.read(*blob, 0).await.unwrap(), octets(i as u32)),
            false => assert_eq!(world.read(*blob, 0).await, Err(BlobError::Missing)),
        }
    }
    assert_eq!(live_bytes(&*world.index), 25 * 50_000);
    assert_eq!(world.peer.asked.load(Ordering::Relaxed), 0);
    let all = refs::references(&*world.index, 1000, |_| true)
        .await
        .unwrap();
    let segments = world.journal.segments();
    for segment in refs::segments_of(&all) {
        assert!(
            segments.iter().any(|s| s.number == segment),
            "{segment} is gone"
        );
    }
}

#[tokio::test]
async fn a_snapshot_finds_octets_that_have_moved_since_it_began() {
    let world = World::new().await;
    let blob = world.store(&[b"survives"], Codec::Raw).await;
    let dead = world.store(&[&[7; 1000]], Codec::Raw).await;
    let (then, gone) = (world.loc(blob, 0).unwrap(), world.loc(dead, 0).unwrap());
    world.journal.seal().await.unwrap();
    world.store(&[b"newer"], Codec::Raw).await;
    world.forget(dead);
    world.compaction(true).turn().await.unwrap();
    assert_ne!(world.loc(blob, 0), Some(then));
    let old = world.blobs.load(then.location, then.crc).await;
    assert!(matches!(old, Err(JournalError::Gone { .. })), "{old:?}");
    let at = local::Chunk::Blob(blob, 0);
    let stored = world.blobs.stored(SHARD, at, then).await;
    assert_eq!(stored, Some(Bytes::from_static(b"survives")));
    let at = local::Chunk::Blob(dead, 0);
    assert_eq!(world.blobs.stored(SHARD, at, gone).await, None);
}

#[tokio::test]
async fn a_chunk_that_nobody_has_does_not_hold_up_those_of_other_shards() {
    let world = World::new().await;
    let lost = world.store(&[b"lost"], Codec::Raw).await;
    world.peer.chunks.lock().clear();
    let found = world.store(&[b"found"], Codec::Raw).await;
    let meta = |blob| {
        let row = read::blob(&*world.index, SPACE, blob).unwrap().unwrap();
        row.chunks[0]
    };
    // The rows of another shard, behind those of this one.
    let (shard, space) = (ShardId(SHARD.0 + 1), Space(SPACE.0 + 1));
    let row = BlobRow {
        refs: 1,
        size: 5,
        chunks: vec![meta(found)],
    };
    let mut batch = Batch::default();
    for blob in [lost, found] {
        batch.delete(Family::Local, Key::BlobLoc { blob, seq: 0 }.encode(SPACE));
    }
    batch.delete(Family::State, Key::Blob(found).encode(SPACE));
    batch.put(Family::State, Key::Blob(found).encode(space), row.encode());
    let place = Bytes::copy_from_slice(&space.0.to_be_bytes());
    batch.put(
        Family::Local,
        Key::ShardSpace(shard).encode(Space::NODE),
        place,
    );
    world.index.write(batch).unwrap();
    let missing = Missing::new(Arc::clone(&world.blobs));
    for shard in [SHARD, shard, SHARD] {
        let said = missing.turn().await.unwrap().unwrap();
        assert!(said.starts_with(&format!("shard {shard}: ")), "{said}");
    }
}

#[tokio::test]
async fn compaction_leaves_damaged_survivors_for_the_repair() {
    let world = World::new().await;
    let blob = world.store(&[&[7; 1000]], Codec::Raw).await;
    let segment = world.loc(blob, 0).unwrap().location.segment;
    world.rot(blob, 0);
    world.journal.seal().await.unwrap();
    world.store(&[b"newer"], Codec::Raw).await;
    let there = || world.journal.segments().iter().any(|s| s.number == segment);
    world.compaction(true).turn().await.unwrap();
    assert!(there(), "its octets have no other place yet");
    assert_eq!(world.read(blob, 0).await.unwrap(), vec![7; 1000]);
    world.compaction(true).turn().await.unwrap();
    assert!(!there());
    assert_eq!(world.read(blob, 0).await.unwrap(), vec![7; 1000]);
}

#[tokio::test]
async fn two_scrubs_at_once_leave_nothing_damaged() {
    let world = World::new().await;
    for i in 0..5u8 {
        let blob = world.store(&[&[i; 5000]], Codec::Raw).await;
        world.rot(blob, 0);
    }
    let (one, other) = (world.scrub(), world.scrub());
    let (one, other) = tokio::join!(one.run(), other.run());
    // Who comes late finds some mended, and says nothing of those.
    let found = [one.unwrap(), other.unwrap()];
    assert!(found.iter().all(|f| f.damaged == f.repaired), "{found:?}");
    assert!(found.iter().map(|f| f.damaged).sum::<u64>() >= 5);
    let after = world.scrub().run().await.unwrap();
    assert_eq!((after.damaged, after.repaired), (0, 0));
}

#[tokio::test]
async fn scrub_finds_and_mends_what_nobody_read() {
    let world = World::new().await;
    let mut blobs = Vec::new();
    for i in 0..20u8 {
        blobs.push(world.store(&[&[i; 5000], &[!i; 100]], Codec::Raw).await);
    }
    let clean = world.scrub().run().await.unwrap();
    assert_eq!((clean.damaged, clean.repaired, clean.blobs), (0, 0, 40));
    assert_eq!(clean.bytes, 20 * 5100);
    world.rot(blobs[3], 0);
    world.rot(blobs[7], 1);
    let lost = world.store(&[b"only here"], Codec::Raw).await;
    world.peer.chunks.lock().retain(|(blob, ..)| *blob != lost);
    world.rot(lost, 0);
    let dead = world.store(&[b"dead"], Codec::Raw).await;
    world.rot(dead, 0);
    world.forget(dead);
    let found = world.scrub().run().await.unwrap();
    assert_eq!((found.damaged, found.repaired), (3, 2));
    let actions: Vec<String> = world.damage.list().into_iter().map(|d| d.action).collect();
    let count = |what: &str| actions.iter().filter(|a| a.contains(what)).count();
    assert_eq!(count("repaired from node 2"), 2, "{actions:?}");
    assert_eq!(count("waiting for a peer"), 1, "{actions:?}");
    assert_eq!(count("nothing live"), 1, "{actions:?}");
    let asked = world.peer.asked.load(Ordering::Relaxed);
    assert_eq!(world.read(blobs[3], 0).await.unwrap(), vec![3; 5000]);
    assert_eq!(world.read(blobs[7], 1).await.unwrap(), vec![!7; 100]);
    assert_eq!(
        world.peer.asked.load(Ordering::Relaxed),
        asked,
        "they are mended already"
    );
    // What is still wrong counts again, what was mended or is dead does not, and what was done
    // stays listed.
    let again = world.scrub().run().await.unwrap();
    assert_eq!((again.damaged, again.repaired), (1, 0));
    let actions: Vec<String> = world.damage.list().into_iter().map(|d| d.action).collect();
    let count = |what: &str| actions.iter().filter(|a| a.contains(what)).count();
    assert_eq!(count("repaired from node 2"), 2, "{actions:?}");
    // Turn by turn, the paced worker comes to the same end.
    let scrub = world.scrub();
    let mut said = None;
    for _ in 0..world.journal.segments().len() {
        said = scrub.turn().await.unwrap().or(said);
    }
    assert!(said.unwrap().contains("damaged"));
}

#[tokio::test]
async fn scrub_mends_what_no_header_leads_to_any_more() {
    let world = World::new().await;
    world.store(&[b"before"], Codec::Raw).await;
    let blob = world.store(&[b"headless"], Codec::Raw).await;
    world.store(&[b"after"], Codec::Raw).await;
    world.journal.seal().await.unwrap();
    let at = world.loc(blob, 0).unwrap().location;
    let segments = world.journal.segments();
    let segment = segments.iter().find(|s| s.number == at.segment).unwrap();
    let mut bytes = std::fs::read(world.file(at.segment)).unwrap();
    // Its header and its octets, and the footer, which knows of them.
    for byte in [
        at.offset as usize - 30,
        at.offset as usize,
        segment.bytes as usize,
    ] {
        bytes[byte] ^= 4;
    }
    write_in_place(&world.file(at.segment), &bytes);
    let found = world.scrub().run().await.unwrap();
    assert_eq!((found.damaged, found.repaired), (1, 1));
    assert_ne!(world.loc(blob, 0).unwrap().location, at);
    let again = world.scrub().run().await.unwrap();
    assert_eq!((again.damaged, again.repaired), (0, 0));
    assert_eq!(world.read(blob, 0).await.unwrap(), "headless");
    assert_eq!(world.peer.asked.load(Ordering::Relaxed), 1, "mended once");
}
