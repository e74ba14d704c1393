//! What happens to files at rest: they are copied, put back, wiped, and they rot.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::RngExt;

use super::inode::{Inode, PAGE, Page};
use super::names::{Node, Tree};
use super::{SimDisk, State};
use crate::stream::Stream;

/// Of a hundred rotten sectors, so many are garbage as a whole; in the others few bits flipped.
const GARBAGE_PERCENT: u32 = 30;

/// How often a pick looks for a page that holds anything but zeros.
const PICKS: u32 = 64;

/// Which parts of a file may rot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// None.
    Never,
    /// What was synced, and followed by another sync of the same file: a log may have said by then
    /// that it is whole.
    Settled,
    /// All that was synced.
    Synced,
}

/// A copy of all files as a reader sees them. Clones are cheap.
#[derive(Clone)]
pub struct Image(Arc<Files>);

struct Files {
    dirs: Vec<PathBuf>,
    files: BTreeMap<PathBuf, FileImage>,
}

struct FileImage {
    len: u64,
    extent: u64,
    pages: Vec<Option<Page>>,
}

impl Image {
    /// Octets of all files.
    pub fn octets(&self) -> u64 {
        self.0.files.values().map(|f| f.len).sum()
    }
}

impl SimDisk {
    /// A copy of all files, as of now. Pages are shared, nothing is copied.
    pub fn image(&self) -> Image {
        let state = self.0.state.lock();
        let file = |node: &Node| {
            node.with(|i| FileImage {
                len: i.len,
                extent: i.extent,
                pages: i.pages.clone(),
            })
        };
        Image(Arc::new(Files {
            dirs: state.tree.dirs().cloned().collect(),
            files: state.tree.files().map(|(p, n)| (p, file(n))).collect(),
        }))
    }

    /// Makes this or another disk what that one was when the image was taken, all of it durable. The
    /// process that uses it must be dead.
    pub fn restore(&self, image: &Image) {
        let mut state = self.0.state.lock();
        let mut tree = Tree::new();
        for dir in &image.0.dirs {
            // Cannot fail: parents come first, and no file is there yet.
            let _ = tree.create_dir(dir);
        }
        for (path, file) in &image.0.files {
            let inode = Inode::at_rest(self.sector(), file.len, file.extent, file.pages.clone());
            let node = self.new_node(&mut state, inode);
            // Cannot fail: its directory is in the image.
            let _ = tree.put(path, node);
        }
        state.tree = tree;
        drop(state);
        self.note(9, 0, image.octets(), &[]);
    }

    /// Removes all files but those that `keep` names, and directories that are empty then. The
    /// process that used it must be dead.
    pub fn wipe(&self, keep: &dyn Fn(&Path) -> bool) {
        let image = self.image();
        let files: BTreeMap<PathBuf, &FileImage> =
            image
                .0
                .files
                .iter()
                .fold(BTreeMap::new(), |mut kept, (path, file)| {
                    if keep(path) {
                        kept.insert(path.clone(), file);
                    }
                    kept
                });
        let left = |dir: &&PathBuf| files.keys().any(|file| file.starts_with(dir));
        let dirs = image.0.dirs.iter().filter(left).cloned().collect();
        let copy = |file: &FileImage| FileImage {
            len: file.len,
            extent: file.extent,
            pages: file.pages.clone(),
        };
        let files = files.iter().map(|(p, f)| (p.clone(), copy(f))).collect();
        self.restore(&Image(Arc::new(Files { dirs, files })));
    }

    /// Bits flip in so many sectors of files at rest: of pages that hold anything, are durable and
    /// clean, and that `decay` allows for their file. Says what was struck.
    pub fn rot(&self, sectors: u32, decay: &dyn Fn(&Path) -> Decay) -> Vec<String> {
        let mut rng = self.event_stream("disk.rot");
        let state = self.0.state.lock();
        let files: Vec<(PathBuf, &Arc<Node>, Vec<u32>)> = state
            .tree
            .files()
            .map(|(path, node)| {
                let pages = node.with(|i| at_rest(i, decay(&path)));
                (path, node, pages)
            })
            .collect();
        let struck = (0..sectors).filter_map(|_| strike(&files, &mut rng));
        let struck: Vec<String> = struck.collect();
        drop(files);
        drop(state);
        self.note(10, struck.len() as u64, rng.random(), &[]);
        struck
    }

    /// Octets of one file change, in pages that `decay` allows: all of `range`, or, unless `whole`,
    /// one bit in each of its pages. Says what was struck.
    pub fn rot_range(
        &self,
        path: &Path,
        range: Range<u64>,
        whole: bool,
        decay: Decay,
    ) -> Option<String> {
        let mut rng = self.event_stream("disk.rot.range");
        let file = self.0.state.lock().tree.file(path).ok().flatten()?;
        let struck = file.with(|inode| {
            let mut struck = 0;
            for page in at_rest(inode, decay) {
                let begin = u64::from(page) * PAGE as u64;
                let from = range.start.max(begin) - begin;
                let to = range.end.min(begin + PAGE as u64).saturating_sub(begin);
                let Some(Some(content)) = inode.pages.get_mut(page as usize) else {
                    continue;
                };
                if from >= to {
                    continue;
                }
                let part = &mut Arc::make_mut(content)[from as usize..to as usize];
                if whole {
                    rng.fill(part);
                } else {
                    let octet = rng.random_range(0..part.len());
                    part[octet] ^= 1 << rng.random_range(0..8);
                }
                struck += 1;
            }
            struck
        });
        self.note(11, struck, rng.random(), &[]);
        let (from, path) = (range.start, path.display());
        (struck > 0).then(|| format!("{path} from {from} on: {struck} pages"))
    }
}

impl State {
    /// Whether all that a process sees would survive a power failure.
    #[cfg(test)]
    pub(super) fn is_durable(&self) -> bool {
        self.tree
            .files()
            .all(|(_, node)| node.with(|i| i.is_durable()))
    }
}

/// Pages of a file that rot may strike.
fn at_rest(inode: &Inode, decay: Decay) -> Vec<u32> {
    let may = |page: &u32| match decay {
        Decay::Never => false,
        Decay::Settled => inode.is_clean(*page) && inode.is_settled(*page),
        Decay::Synced => inode.is_clean(*page),
    };
    let written = inode.pages.iter().enumerate().filter(|p| p.1.is_some());
    written.map(|p| p.0 as u32).filter(may).collect()
}

/// Strikes one sector of one of all pages, each as likely as the others.
fn strike(files: &[(PathBuf, &Arc<Node>, Vec<u32>)], rng: &mut Stream) -> Option<String> {
    let count: usize = files.iter().map(|f| f.2.len()).sum();
    if count == 0 {
        return None;
    }
    for _ in 0..PICKS {
        let mut pick = rng.random_range(0..count);
        let (path, node, pages) = files.iter().find(|f| {
            let here = pick < f.2.len();
            pick -= if here { 0 } else { f.2.len() };
            here
        })?;
        let page = pages[pick];
        if let Some((sector, what)) = node.with(|i| rot_page(i, page, rng)) {
            let offset = u64::from(page) * PAGE as u64 + sector as u64;
            return Some(format!("{} at {offset}: {what}", path.display()));
        }
    }
    None
}

/// Changes a sector of a page that is not all zeros; tells its place in the page and what happened.
fn rot_page(inode: &mut Inode, page: u32, rng: &mut Stream) -> Option<(usize, String)> {
    let size = inode.sector();
    let page = Arc::make_mut(inode.pages.get_mut(page as usize)?.as_mut()?);
    let holds = |n: &usize| page[n * size..(n + 1) * size].iter().any(|b| *b != 0);
    let written: Vec<usize> = (0..PAGE / size).filter(holds).collect();
    let at = size * *written.get(rng.random_range(0..written.len().max(1)))?;
    let sector = &mut page[at..at + size];
    if rng.random_ratio(GARBAGE_PERCENT, 100) {
        rng.fill(sector);
        return Some((at, format!("{size} octets of garbage")));
    }
    let bits = rng.random_range(1..=3);
    for _ in 0..bits {
        // Where something is, not in the padding behind it.
        let used = sector.iter().rposition(|b| *b != 0).map_or(size, |l| l + 1);
        sector[rng.random_range(0..used)] ^= 1 << rng.random_range(0..8);
    }
    Some((at, format!("{bits} bits flipped")))
}
