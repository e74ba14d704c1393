//! One file: what a reader sees (the page cache) and what the platter holds.
//!
//! Only one copy is kept, in pages that are shared until somebody writes them. For each page that
//! was changed and not yet synced there is the page as it was before, so that a power failure can
//! take sectors back. Changes lie in layers, oldest first:
//!
//! ```text
//!   durable ◀─ failed sync ◀─ sync in flight ◀─ dirty ◀─ what is seen
//! ```
//!
//! A sync that ends makes durable what was there when it *began*. One that fails leaves its pages
//! clean and unwritten, as Linux does: the next sync succeeds and writes nothing of them (Rebello
//! et al., "Can Applications Recover from fsync Failures?", ATC '20).
//!
//! Lengths are metadata: changes of one file's length become durable in order, with the sync that
//! follows; a power failure keeps some of them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

/// Octets of a page.
pub(super) const PAGE: usize = 4096;

/// A page; a missing one reads as zero.
pub(super) type Page = Arc<[u8; PAGE]>;

/// A page as it was before a layer changed it.
#[derive(Clone)]
pub(super) struct Before {
    /// Its number in the file.
    pub page: u32,
    /// Which of its sectors the layer changed.
    pub sectors: u8,
    /// The change of length that freed the page in this layer.
    pub cut: Option<u64>,
    /// The page.
    pub old: Option<Page>,
}

/// Changes that a sync found dirty when it began.
#[derive(Clone)]
struct Layer {
    /// Which sync; `None` once it has failed.
    sync: Option<u64>,
    pages: Vec<Before>,
}

/// How long a file is, and how much space is reserved for it.
#[derive(Clone, Copy, Default)]
struct Length {
    len: u64,
    extent: u64,
}

/// A file.
#[derive(Clone)]
pub(super) struct Inode {
    /// Octets of a sector: 512 or 4096.
    sector: usize,
    /// Length that a reader sees.
    pub len: u64,
    /// Space taken: all that was written or reserved, up to the last page.
    pub extent: u64,
    pub pages: Vec<Option<Page>>,
    /// Changed since the last sync began, ascending by page.
    dirty: Vec<Before>,
    layers: Vec<Layer>,
    durable: Length,
    /// Changes of length that no sync has made durable, each with its number.
    lengths: VecDeque<(u64, Length)>,
    /// Pages that the last sync wrote, ascending: nothing that came later vouches for them.
    fresh: Vec<u32>,
    /// Number of the next sync or change of length.
    next: u64,
}

/// What a power failure did not take, one page at a time.
pub(super) struct Unsynced<'a> {
    /// The layers of the page, oldest first.
    pub entries: Vec<(&'a Before, bool)>,
    /// What a reader saw.
    pub seen: Option<&'a Page>,
}

impl Inode {
    /// An empty file on a disk with sectors of this size.
    pub fn new(sector: usize) -> Inode {
        Inode {
            sector,
            len: 0,
            extent: 0,
            pages: Vec::new(),
            dirty: Vec::new(),
            layers: Vec::new(),
            durable: Length::default(),
            lengths: VecDeque::new(),
            fresh: Vec::new(),
            next: 0,
        }
    }

    /// A file at rest.
    pub fn at_rest(sector: usize, len: u64, extent: u64, pages: Vec<Option<Page>>) -> Inode {
        Inode {
            len,
            extent,
            pages,
            durable: Length { len, extent },
            ..Inode::new(sector)
        }
    }

    /// Space that a write up to `end` would take in addition.
    pub fn growth(&self, end: u64) -> u64 {
        round_up(end).saturating_sub(self.extent)
    }

    /// Where a write must end so that it takes no more than `free` octets in addition.
    pub fn room(&self, free: u64) -> u64 {
        self.extent.saturating_add(free / PAGE as u64 * PAGE as u64)
    }

    /// Octets of `offset..offset + len`; `None` when the file is shorter.
    pub fn read(&self, offset: u64, len: usize) -> Option<Bytes> {
        let end = offset.checked_add(len as u64)?;
        if end > self.len {
            return None;
        }
        let mut out = vec![0; len];
        let mut done = 0;
        while done < len {
            let (page, within, n) = piece(offset + done as u64, len - done);
            if let Some(Some(page)) = self.pages.get(page) {
                out[done..done + n].copy_from_slice(&page[within..within + n]);
            }
            done += n;
        }
        Some(out.into())
    }

    /// Writes `data` at `at` into the cache.
    pub fn write(&mut self, at: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let (page, within, n) = piece(at + done as u64, data.len() - done);
            let sectors = self.sectors(within, within + n);
            self.touch(page, sectors);
            let data = &data[done..done + n];
            let slot = &mut self.pages[page];
            match slot.as_mut().map(Arc::get_mut) {
                Some(Some(own)) => own[within..within + n].copy_from_slice(data),
                _ => {
                    // Shared with the layer below, or not there.
                    let mut new = match slot {
                        Some(shared) if n < PAGE => **shared,
                        _ => [0; PAGE],
                    };
                    new[within..within + n].copy_from_slice(data);
                    *slot = Some(Arc::new(new));
                }
            }
            done += n;
        }
        let end = at + data.len() as u64;
        if !data.is_empty() {
            self.extent = self.extent.max(round_up(end));
            if end > self.len {
                self.change_len(end);
            }
        }
    }

    /// Reserves space up to `len`, which becomes the least length.
    pub fn allocate(&mut self, len: u64) {
        let extent = self.extent.max(round_up(len));
        if len > self.len || extent > self.extent {
            self.extent = extent;
            self.change_len(len.max(self.len));
        }
    }

    /// Cuts or extends.
    pub fn set_len(&mut self, len: u64) {
        if len == self.len {
            return;
        }
        if len < self.len {
            let cut = self.next;
            let first = len.div_ceil(PAGE as u64) as usize;
            for page in first..self.pages.len() {
                if self.pages[page].is_some() {
                    let all = self.sectors(0, PAGE);
                    self.touch(page, all).cut = Some(cut);
                    self.pages[page] = None;
                }
            }
            self.pages.truncate(first);
            self.extent = self.extent.min(round_up(len));
            let within = (len % PAGE as u64) as usize;
            if within > 0 && self.pages.get(first - 1).is_some_and(Option::is_some) {
                let sectors = self.sectors(within, PAGE);
                self.touch(first - 1, sectors);
                zero_tail(&mut self.pages[first - 1], within);
            }
        }
        self.change_len(len);
    }

    fn change_len(&mut self, len: u64) {
        self.len = len;
        let extent = self.extent;
        self.lengths.push_back((self.next, Length { len, extent }));
        self.next += 1;
    }

    /// Which sectors of a page hold its octets `from..to`.
    fn sectors(&self, from: usize, to: usize) -> u8 {
        let (first, last) = (from / self.sector, (to - 1) / self.sector);
        let upto = u16::MAX >> (15 - last);
        (upto & (u16::MAX << first)) as u8
    }

    /// Remembers a page before the dirty layer changes these sectors of it.
    fn touch(&mut self, page: usize, sectors: u8) -> &mut Before {
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        let number = page as u32;
        let at = match self.dirty.last() {
            Some(last) if last.page == number => Ok(self.dirty.len() - 1),
            Some(last) if last.page > number => {
                self.dirty.binary_search_by_key(&number, |b| b.page)
            }
            _ => Err(self.dirty.len()),
        };
        let at = at.unwrap_or_else(|at| {
            let before = Before {
                page: number,
                sectors: 0,
                cut: None,
                old: self.pages[page].clone(),
            };
            self.dirty.insert(at, before);
            at
        });
        let before = &mut self.dirty[at];
        before.sectors |= sectors;
        before
    }

    /// A sync begins: what is dirty now is what it will make durable. Returns its number.
    pub fn begin_sync(&mut self) -> u64 {
        let sync = self.next;
        self.next += 1;
        self.layers.push(Layer {
            sync: Some(sync),
            pages: std::mem::take(&mut self.dirty),
        });
        sync
    }

    /// A sync ends well, and with it everything that was on its way before.
    pub fn end_sync(&mut self, sync: u64) {
        let Some(at) = self.layers.iter().position(|l| l.sync == Some(sync)) else {
            return; // a later one ended before it and covered it
        };
        while let Some((_, length)) = self.lengths.pop_front_if(|l| l.0 < sync) {
            self.durable = length;
        }
        self.fresh.clear();
        let written = self.layers[at].pages.iter().map(|b| b.page);
        self.fresh.extend(written);
        if at == 0 {
            self.layers.remove(0);
            return;
        }
        let mut failed: Vec<Layer> = Vec::new();
        for layer in self.layers.drain(..=at) {
            match layer.sync {
                None => failed.push(layer),
                Some(_) => failed.iter_mut().for_each(|f| f.overwrite(&layer.pages)),
            }
        }
        failed.retain(|f| !f.pages.is_empty());
        self.layers.splice(..0, failed);
    }

    /// A sync fails: its pages are clean from now on, and not written.
    pub fn fail_sync(&mut self, sync: u64) {
        if let Some(layer) = self.layers.iter_mut().find(|l| l.sync == Some(sync)) {
            layer.sync = None;
        }
    }

    /// Whether the platter holds this page as it is seen.
    pub fn is_clean(&self, page: u32) -> bool {
        let mut all = self.layers.iter().map(|l| &l.pages).chain([&self.dirty]);
        all.all(|pages| pages.binary_search_by_key(&page, |b| b.page).is_err())
    }

    /// Whether a later sync of the file came after the one that wrote this page.
    pub fn is_settled(&self, page: u32) -> bool {
        self.fresh.binary_search(&page).is_err()
    }

    /// Whether a power failure would change nothing.
    pub fn is_durable(&self) -> bool {
        self.dirty.is_empty() && self.layers.is_empty() && self.lengths.is_empty()
    }

    /// Octets of a sector.
    pub fn sector(&self) -> usize {
        self.sector
    }

    /// Changes of length that a power failure may lose.
    pub fn lengths(&self) -> usize {
        self.lengths.len()
    }

    /// The pages that a power failure may change, each with its layers, after `kept` changes of
    /// length were kept. Returns the number below which changes of length survive.
    pub fn unsynced(&self, kept: usize) -> (u64, Vec<(u32, Unsynced<'_>)>) {
        let survived = match kept.checked_sub(1).and_then(|i| self.lengths.get(i)) {
            Some((number, _)) => number + 1,
            None => self.lengths.front().map_or(self.next, |l| l.0),
        };
        let mut pages: Vec<(u32, Unsynced<'_>)> = Vec::new();
        let flying = self
            .layers
            .iter()
            .map(|l| (&l.pages, l.sync.is_some()))
            .chain([(&self.dirty, false)]);
        for (entries, in_flight) in flying {
            for before in entries {
                let at = match pages.binary_search_by_key(&before.page, |p| p.0) {
                    Ok(at) => at,
                    Err(at) => {
                        let seen = self.pages.get(before.page as usize);
                        let unsynced = Unsynced {
                            entries: Vec::new(),
                            seen: seen.and_then(Option::as_ref),
                        };
                        pages.insert(at, (before.page, unsynced));
                        at
                    }
                };
                pages[at].1.entries.push((before, in_flight));
            }
        }
        (survived, pages)
    }

    /// Takes what a power failure left: everything in it is durable. `kept` as in
    /// [`Inode::unsynced`].
    pub fn settle(&mut self, kept: usize, pages: Vec<(u32, Option<Page>)>) {
        let last = kept.checked_sub(1).and_then(|i| self.lengths.get(i));
        let Length { len, extent } = last.map_or(self.durable, |l| l.1);
        for (number, page) in pages {
            let number = number as usize;
            if self.pages.len() <= number {
                self.pages.resize(number + 1, None);
            }
            self.pages[number] = page;
        }
        self.pages.truncate(len.div_ceil(PAGE as u64) as usize);
        let within = (len % PAGE as u64) as usize;
        if within > 0 && self.pages.len() as u64 == len.div_ceil(PAGE as u64) {
            let last = self.pages.len() - 1;
            zero_tail(&mut self.pages[last], within);
        }
        // Space behind that was taken by a write into a hole, if it is still there.
        let grown = self.pages.iter().rposition(Option::is_some);
        let grown = grown.map_or(0, |last| (last + 1) * PAGE) as u64;
        self.extent = extent.max(grown);
        self.len = len;
        self.durable = Length {
            len,
            extent: self.extent,
        };
        self.lengths.clear();
        self.layers.clear();
        self.dirty.clear();
    }
}

impl Layer {
    /// Forgets sectors that were written again, and synced.
    fn overwrite(&mut self, written: &[Before]) {
        for before in &mut self.pages {
            if let Ok(at) = written.binary_search_by_key(&before.page, |b| b.page) {
                before.sectors &= !written[at].sectors;
            }
        }
        self.pages.retain(|b| b.sectors != 0);
    }
}

fn zero_tail(page: &mut Option<Page>, from: usize) {
    if let Some(page) = page
        && page[from..].iter().any(|b| *b != 0)
    {
        Arc::make_mut(page)[from..].fill(0);
    }
}

/// The next multiple of a page.
fn round_up(octets: u64) -> u64 {
    octets.next_multiple_of(PAGE as u64)
}

/// Page of an offset, place in it, and how much of `len` lies in this page.
fn piece(offset: u64, len: usize) -> (usize, usize, usize) {
    let within = (offset % PAGE as u64) as usize;
    (
        (offset / PAGE as u64) as usize,
        within,
        len.min(PAGE - within),
    )
}
