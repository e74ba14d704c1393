//! Opening a journal: which segments are there, what they say, and what is wrong with them.
//!
//! Sealed segments give their footers, and only those from the replay's begin on are read. The
//! unsealed tail is scanned, judged ([`super::scan`]), cut where it is torn, and then *written
//! again* from the last promise on and synced: after a failed fdatasync the page cache may hold
//! what the disk does not, a second fdatasync would not write it, but dirtying the pages does.
//! Then it is sealed, and appending goes on in a fresh segment with a salt and a number of its
//! own, so that nothing left behind the cut can ever be taken for a record.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::error::{Cause, DamagedRange, JournalError};
use super::format::{
    DATA_START, HeaderError, Kind, RECORD_HEADER, Record, Seal, SegmentHeader, VERSION,
};
use super::scan::{self, Item, SCAN_CHUNK, Verdict, Window};
use super::segment::{BIRTH_NAME, write_seal};
use super::table::{Slot, Table, segment_path, spare_path};
use super::{Options, Recovery, Replayed};
use crate::env::Env;
use crate::env::disk::{File, OpenMode};
use crate::rare::{self, Rare};

/// Bytes that are read at a time for payloads here and there.
const SMALL_CHUNK: usize = 16 << 10;

/// An opened journal, before its writer runs.
pub struct Opened {
    /// The segments.
    pub table: Table,
    /// The journal's identity.
    pub journal_id: [u8; 16],
    /// Freed files for reuse.
    pub spares: Vec<u64>,
    /// Number of the next segment.
    pub next_number: u64,
    /// What the owner gets to know.
    pub recovery: Recovery,
}

/// A segment's file before it is judged.
struct Found {
    number: u64,
    path: PathBuf,
    file: Arc<dyn File>,
    file_len: u64,
    header: Option<SegmentHeader>,
    /// Of the header, or of that of the file's former life.
    journal_id: Option<[u8; 16]>,
    /// From the header, or from a record when that is lost.
    salt: Option<u32>,
    seal: Option<Seal>,
}

/// Opens or creates.
pub async fn open(env: &Env, dir: &Path, options: &Options) -> Result<Opened, JournalError> {
    let started = tokio::time::Instant::now();
    let disk = &env.disk;
    let io = |what: &'static str| {
        let dir = dir.display().to_string();
        move |e: std::io::Error| JournalError::io(format!("{what} {dir}"), &e)
    };
    disk.create_dir_all(dir).await.map_err(io("create"))?;
    let (numbers, mut spares) = list(env, dir).await?;
    // A name that an earlier process could not make durable is visible all the same.
    disk.sync_dir(dir).await.map_err(io("sync"))?;
    while spares.len() > options.recycle_segments {
        if let Some(spare) = spares.pop() {
            let path = spare_path(dir, spare);
            disk.remove(&path).await.map_err(io("tidy"))?;
        }
    }
    let next_number = numbers.iter().chain(&spares).max().map_or(1, |n| n + 1);

    let mut recovery = Recovery::default();
    let mut segments = Vec::with_capacity(numbers.len());
    let mut journal_id = None;
    for number in numbers {
        let found = find(env, dir, number, &mut recovery).await?;
        if let Some(its) = found.journal_id {
            let id = *journal_id.get_or_insert(its);
            if id != its {
                return Err(JournalError::Foreign {
                    file: found.path,
                    why: "it belongs to another journal; was a data directory mixed with another?"
                        .into(),
                });
            }
        }
        segments.push(found);
    }
    let newest = segments.last().map_or(0, |s| s.number);
    // When the newest header is lost, everything that is there is replayed: more than needed is
    // harmless, because the stream restates itself.
    let replay_from = match segments.last().map(|s| &s.header) {
        Some(Some(header)) => header.replay_from,
        _ => 0,
    };
    let table = Table::new(disk.clone(), dir);
    recovery.segments = segments.len() as u64;
    for found in segments {
        let replay = found.number >= replay_from;
        let last = found.number == newest;
        let slot = take_in(found, last, replay, &mut recovery).await?;
        table.insert(slot.0, slot.1, None);
    }
    recovery.took_ms = started.elapsed().as_millis() as u64;
    Ok(Opened {
        table,
        journal_id: journal_id.unwrap_or_else(|| env.rng.id16()),
        spares,
        next_number,
        recovery,
    })
}

/// Numbers of the segments and of the spare files; what a crash left unfinished is removed.
async fn list(env: &Env, dir: &Path) -> Result<(Vec<u64>, Vec<u64>), JournalError> {
    let io = |e| JournalError::io(format!("list {}", dir.display()), &e);
    let (mut segments, mut spares) = (Vec::new(), Vec::new());
    for name in env.disk.list(dir).await.map_err(io)? {
        let number = |extension: &str| {
            let stem = name.to_str()?.strip_suffix(extension)?;
            let plain = stem.len() == 16 && stem.bytes().all(|b| b.is_ascii_hexdigit());
            u64::from_str_radix(stem, 16).ok().filter(|_| plain)
        };
        if let Some(number) = number(".seg") {
            segments.push(number);
        } else if let Some(number) = number(".spare") {
            spares.push(number);
        } else if name.to_str() == Some(BIRTH_NAME) {
            env.disk.remove(&dir.join(&name)).await.map_err(io)?;
            rare::hit(Rare::BirthUnfinished);
        } else {
            tracing::warn!(file = %dir.join(&name).display(), "not a file of the journal");
        }
    }
    segments.sort_unstable();
    spares.sort_unstable();
    Ok((segments, spares))
}

/// Opens a segment's file and reads its first block.
async fn find(
    env: &Env,
    dir: &Path,
    number: u64,
    recovery: &mut Recovery,
) -> Result<Found, JournalError> {
    let path = segment_path(dir, number);
    let io = |e| JournalError::io(format!("open {}", path.display()), &e);
    let file = env.disk.open(&path, OpenMode::ReadWrite).await;
    let file = file.map_err(io)?;
    let file_len = file.len().await.map_err(io)?;
    let mut window = Window::new(file.clone(), &path, file_len, DATA_START as usize);
    let block = window.get(0, DATA_START as usize).await?;
    let block = block.unwrap_or_default();
    let header = match SegmentHeader::decode(&block) {
        Ok(header) => Some(header),
        Err(HeaderError::Version(version)) => {
            return Err(JournalError::Foreign {
                file: path,
                why: format!(
                    "it has format version {version}, this program reads version {VERSION}; \
                     start the newer program on this directory"
                ),
            });
        }
        Err(HeaderError::Damaged) => None,
    };
    let journal_id = header.as_ref().map(|header| header.journal_id);
    // A file that is used again keeps the header of its former life when the disk loses the write
    // of the new one, or puts it elsewhere. That header says nothing of this life, whose own is
    // lost like one that has rotted.
    let header = header.filter(|header| header.number == number);
    let salt = match &header {
        Some(header) => Some(header.salt),
        None => {
            rare::hit(Rare::SegmentHeaderLost);
            recovery.damage.push(DamagedRange {
                file: path.clone(),
                segment: number,
                offset: 0,
                len: DATA_START.min(file_len),
                cause: Cause::SegmentHeader,
                record: None,
            });
            let mut window = Window::new(file.clone(), &path, file_len, SCAN_CHUNK);
            scan::find_salt(&mut window, number, file_len).await?
        }
    };
    if salt.is_none()
        && let Some(damage) = recovery.damage.last_mut()
    {
        damage.len = file_len;
    }
    let seal = salt.and_then(|salt| Seal::decode(&block, number, salt));
    let seal = seal.filter(|seal| seal.data_end >= DATA_START);
    Ok(Found {
        number,
        path,
        file,
        file_len,
        header,
        journal_id,
        salt,
        seal,
    })
}

/// Judges one segment, seals it where it was not, and adds its records to the replay.
async fn take_in(
    found: Found,
    last: bool,
    replay: bool,
    recovery: &mut Recovery,
) -> Result<(u64, Slot), JournalError> {
    let number = found.number;
    let salt = found.salt.unwrap_or_default();
    let mut slot = Slot {
        salt,
        created_ms: found.header.as_ref().map_or(0, |h| h.created_ms),
        data_end: found.seal.map_or(DATA_START, |s| s.data_end),
        file_len: found.file_len,
        seal: found.seal,
        pins: 0,
    };
    let mut window = Window::new(found.file.clone(), &found.path, found.file_len, SCAN_CHUNK);
    if let Some(seal) = &found.seal {
        if !replay {
            return Ok((number, slot));
        }
        if let Some(records) = scan::read_footer(&mut window, number, salt, seal).await? {
            if last {
                // What the cache shows may be the seal of a failed sync: like the tail, it is
                // written again before a successor relies on it.
                let footer = scan::encode_footer(&records, number, salt);
                let sealed = write_seal(&*found.file, &found.path, number, salt, *seal, footer);
                slot.file_len = sealed.await?.0;
            }
            replay_footer(&found, slot.file_len, records, recovery).await?;
            return Ok((number, slot));
        }
    }
    if found.header.is_none() && found.salt.is_none() {
        // Neither the header nor a single record is whole: nothing in here can be judged, so
        // nothing is changed.
        rare::hit(Rare::SegmentLost);
        slot.data_end = found.file_len;
        slot.seal = Some(Seal {
            data_end: found.file_len,
            count: 0,
            footer_crc: 0,
        });
        return Ok((number, slot));
    }
    recovery.scanned_segments += 1;
    rare::hit(Rare::FooterMadeAnew);
    match (&found.seal, last) {
        (Some(_), _) => rare::hit(Rare::FooterUnreadable),
        (None, false) => rare::hit(Rare::SealLost),
        (None, true) => {}
    }
    let (limit, exact) = match found.seal {
        Some(seal) if seal.data_end <= found.file_len => (seal.data_end, true),
        _ => (found.file_len, false),
    };
    let scanned = scan::scan(&mut window, number, salt, limit, exact).await?;
    let synced_upto = match found.seal {
        Some(seal) => seal.data_end,
        // It has a successor, and that is born after the seal was synced.
        None if !last => u64::MAX,
        None => scanned.synced_upto,
    };
    // In the last segment, a crash may have torn the sealing itself; all records are synced then,
    // and the footer is made anew. Once there is a successor, it is rot.
    if !last {
        recovery.damage.push(DamagedRange {
            file: found.path.clone(),
            segment: number,
            offset: found
                .seal
                .map_or(super::format::SEAL_OFFSET, |s| s.data_end),
            len: found.seal.map_or(RECORD_HEADER as u64, |s| s.footer_len()),
            cause: Cause::Footer,
            record: None,
        });
    }
    let mut verdict = scan::judge(scanned, synced_upto);
    // The file is shorter than what was sealed in it: what is gone leaves nothing to be scanned.
    if let Some(seal) = &found.seal
        && verdict.end < seal.data_end
    {
        verdict.items.push(Item::Gap(verdict.end, seal.data_end));
        verdict.end = seal.data_end;
    }
    rewrite_tail(&found, synced_upto, verdict.end).await?;
    let (footer, seal) = verdict.footer(number, salt);
    let sealed = write_seal(&*found.file, &found.path, number, salt, seal, footer).await;
    let (file_len, _) = sealed?;
    slot.data_end = seal.data_end;
    slot.seal = Some(seal);
    slot.file_len = file_len;
    recovery.torn_bytes += verdict.torn_bytes;
    if verdict.torn_bytes > 0 {
        rare::hit(Rare::TornTailCut);
    }
    let damage = verdict.damage(&found.path, number);
    if !damage.is_empty() {
        rare::hit(Rare::SyncedOctetsDamaged);
    }
    recovery.damage.extend(damage);
    if replay {
        replay_scan(&found, file_len, verdict, recovery).await?;
    }
    Ok((number, slot))
}

/// Writes the bytes that no mark vouches for once more, and syncs them.
async fn rewrite_tail(found: &Found, from: u64, to: u64) -> Result<(), JournalError> {
    let mut window = Window::new(found.file.clone(), &found.path, found.file_len, SCAN_CHUNK);
    let io = |e| JournalError::io(format!("rewrite {}", found.path.display()), &e);
    let mut at = from;
    while at < to {
        let len = (to - at).min(SCAN_CHUNK as u64);
        let Some(bytes) = window.get(at, len as usize).await? else {
            break;
        };
        found.file.write_at(at, vec![bytes]).await.map_err(io)?;
        at += len;
    }
    found.file.sync_data().await.map_err(io)
}

/// `file_len`: the seal that was written again may have shortened the file.
async fn replay_footer(
    found: &Found,
    file_len: u64,
    records: Vec<Record>,
    recovery: &mut Recovery,
) -> Result<(), JournalError> {
    // Damage that an earlier start found: it is reported again until the segment is gone.
    let markers: Vec<&Record> = records.iter().filter(|r| r.kind == Kind::Damage).collect();
    for marker in &markers {
        rare::hit(Rare::DamageRemembered);
        let mut damage = DamagedRange::of_marker(found.path.clone(), found.number, marker);
        let same = records
            .iter()
            .find(|r| r.kind != Kind::Damage && r.offset as u64 == marker.index);
        damage.record = same.and_then(|r| r.owned(found.number));
        recovery.damage.push(damage);
    }
    let damaged: Vec<u64> = markers.iter().map(|m| m.index).collect();
    let mut window = Window::new(found.file.clone(), &found.path, file_len, SMALL_CHUNK);
    for record in &records {
        if record.kind != Kind::Damage && !damaged.contains(&(record.offset as u64)) {
            replay(found, &mut window, record, recovery).await?;
        }
    }
    Ok(())
}

async fn replay_scan(
    found: &Found,
    file_len: u64,
    verdict: Verdict,
    recovery: &mut Recovery,
) -> Result<(), JournalError> {
    let mut window = Window::new(found.file.clone(), &found.path, file_len, SMALL_CHUNK);
    for item in &verdict.items {
        if let Item::Good(record) = item {
            replay(found, &mut window, record, recovery).await?;
        }
    }
    Ok(())
}

/// Adds one record to the replay; reads its payload unless it is a bulk kind.
async fn replay(
    found: &Found,
    window: &mut Window,
    record: &Record,
    recovery: &mut Recovery,
) -> Result<(), JournalError> {
    let Some((head, location)) = record.owned(found.number) else {
        return Ok(());
    };
    let mut payload = Bytes::new();
    if !head.kind.is_bulk() {
        let read = window
            .get(location.offset as u64, location.len as usize)
            .await?;
        let whole = read.filter(|bytes| crc32fast::hash(bytes) == record.payload_crc);
        let Some(bytes) = whole else {
            rare::hit(Rare::RotInSmallRecord);
            recovery.damage.push(DamagedRange {
                file: found.path.clone(),
                segment: found.number,
                offset: record.offset as u64,
                len: record.size(),
                cause: Cause::Payload,
                record: Some((head, location)),
            });
            return Ok(());
        };
        // The window is shared by many records: a copy keeps a vote from holding all of it.
        payload = Bytes::copy_from_slice(&bytes);
    }
    recovery.records.push(Replayed {
        head,
        location,
        payload,
    });
    Ok(())
}
