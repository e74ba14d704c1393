//! Directories: names as a process sees them, and as the platter holds them.
//!
//! Creating, renaming and removing takes effect at once and becomes durable with the sync of the
//! directory. After a power failure a prefix of what was not synced is there, as on a file system
//! with journaled metadata; directories do not wait for each other.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rand::RngExt;

use super::inode::Inode;
use crate::stream::Stream;

/// A file, held by names, by handles, and by removals that a power failure may undo.
pub(super) struct Node {
    /// Numbers files in the order of their creation.
    pub id: u64,
    inode: Mutex<Inode>,
    /// Space taken on the disk by all files.
    used: Arc<AtomicU64>,
}

impl Node {
    /// A file on the disk whose files take up `used`.
    pub fn new(id: u64, inode: Inode, used: &Arc<AtomicU64>) -> Arc<Node> {
        used.fetch_add(inode.extent, Ordering::Relaxed);
        Arc::new(Node {
            id,
            inode: Mutex::new(inode),
            used: Arc::clone(used),
        })
    }

    /// Looks at it or changes it.
    pub fn with<T>(&self, change: impl FnOnce(&mut Inode) -> T) -> T {
        let mut inode = self.inode.lock();
        let before = inode.extent;
        let result = change(&mut inode);
        // Wraps where it shrinks, and so comes out right.
        let grown = inode.extent.wrapping_sub(before);
        self.used.fetch_add(grown, Ordering::Relaxed);
        result
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let extent = self.inode.get_mut().extent;
        self.used.fetch_sub(extent, Ordering::Relaxed);
    }
}

/// One change of a directory.
enum Change {
    Link(OsString, Arc<Node>),
    Rename(OsString, OsString),
    Unlink(OsString),
}

type Names = BTreeMap<OsString, Arc<Node>>;

#[derive(Default)]
struct Dir {
    seen: Names,
    durable: Names,
    unsynced: Vec<Change>,
}

impl Dir {
    fn change(&mut self, change: Change) {
        apply(&mut self.seen, &change);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            apply(&mut self.durable, &change);
        }
    }
}

fn apply(names: &mut Names, change: &Change) {
    match change {
        Change::Link(name, node) => {
            names.insert(name.clone(), Arc::clone(node));
        }
        Change::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
        Change::Unlink(name) => {
            names.remove(name);
        }
    }
}

/// All directories of a disk. Directories themselves are durable: who creates one syncs its
/// parent.
#[derive(Default)]
pub(super) struct Tree(BTreeMap<PathBuf, Dir>);

impl Tree {
    /// A tree with the directories that always exist: the root and the current one.
    pub fn new() -> Tree {
        let roots = ["/", "."].map(|root| (PathBuf::from(root), Dir::default()));
        Tree(BTreeMap::from(roots))
    }

    /// Whether it is a directory.
    pub fn is_dir(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// Creates a directory in an existing one; nothing happens when it is there.
    pub fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        if self.is_dir(path) {
            return Ok(());
        }
        if self.file(path)?.is_some() {
            return Err(ErrorKind::NotADirectory.into());
        }
        self.0.insert(path.to_owned(), Dir::default());
        Ok(())
    }

    /// The file of this name; an error when there is no such directory.
    pub fn file(&self, path: &Path) -> io::Result<Option<Arc<Node>>> {
        let (parent, name) = split(path)?;
        let dir = self.0.get(parent).ok_or(ErrorKind::NotFound)?;
        Ok(dir.seen.get(name).cloned())
    }

    /// Gives a file a name that is free.
    pub fn link(&mut self, path: &Path, node: Arc<Node>) -> io::Result<()> {
        let (parent, name) = split(path)?;
        self.dir(parent)?.change(Change::Link(name.into(), node));
        Ok(())
    }

    /// Renames, over an existing file or not.
    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.file(from)?.ok_or(ErrorKind::NotFound)?;
        if self.is_dir(to) {
            return Err(ErrorKind::IsADirectory.into());
        }
        let (old_dir, old) = split(from)?;
        let (new_dir, new) = split(to)?;
        if old_dir == new_dir {
            self.dir(old_dir)?
                .change(Change::Rename(old.into(), new.into()));
            return Ok(());
        }
        // Between directories a rename is one transaction of the file system. Both sides would
        // have to wait for each other; nobody does this, so it simply is durable at once.
        self.dir(new_dir)?.change(Change::Link(new.into(), node));
        self.dir(old_dir)?.change(Change::Unlink(old.into()));
        self.sync(new_dir)?;
        self.sync(old_dir)
    }

    /// Removes a file.
    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?.ok_or(ErrorKind::NotFound)?;
        let (parent, name) = split(path)?;
        self.dir(parent)?.change(Change::Unlink(name.into()));
        Ok(())
    }

    /// Makes the names of a directory durable.
    pub fn sync(&mut self, path: &Path) -> io::Result<()> {
        self.dir(path)?.sync();
        Ok(())
    }

    /// Names of files and directories, sorted.
    pub fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let dir = self.0.get(here(path)).ok_or(ErrorKind::NotFound)?;
        let files = dir.seen.keys().map(PathBuf::from);
        let below = self.0.keys().filter(|d| d.parent() == Some(path));
        let below = below.filter_map(|d| d.file_name().map(PathBuf::from));
        let mut names: Vec<PathBuf> = files.chain(below).collect();
        names.sort();
        Ok(names)
    }

    /// All files that have a name, with it, in the order of names.
    pub fn files(&self) -> impl Iterator<Item = (PathBuf, &Arc<Node>)> {
        let of = |(path, dir): (&PathBuf, _)| (path.clone(), dir);
        self.0.iter().map(of).flat_map(|(path, dir): (_, &Dir)| {
            dir.seen.iter().map(move |(name, node)| {
                let file = match path.as_os_str() == "." {
                    true => PathBuf::from(name),
                    false => path.join(name),
                };
                (file, node)
            })
        })
    }

    /// All directories.
    pub fn dirs(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.keys()
    }

    /// A file at rest, from an image.
    pub fn put(&mut self, path: &Path, node: Arc<Node>) -> io::Result<()> {
        let (parent, name) = split(path)?;
        let dir = self.0.entry(parent.to_owned()).or_default();
        dir.change(Change::Link(name.into(), node));
        dir.sync();
        Ok(())
    }

    /// The power fails: of each directory a prefix of its changes survives. Then every file that
    /// still has a name is handed to `each`.
    pub fn power_failure(&mut self, rng: &mut Stream, mut each: impl FnMut(&Node, &mut Stream)) {
        for dir in self.0.values_mut() {
            if !dir.unsynced.is_empty() {
                let kept = rng.random_range(0..=dir.unsynced.len());
                dir.unsynced.truncate(kept);
                dir.sync();
                dir.seen = dir.durable.clone();
            }
            dir.seen.values().for_each(|node| each(node, rng));
        }
    }

    fn dir(&mut self, path: &Path) -> io::Result<&mut Dir> {
        Ok(self.0.get_mut(here(path)).ok_or(ErrorKind::NotFound)?)
    }
}

/// A path of no components is the current directory.
fn here(path: &Path) -> &Path {
    match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    }
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((here(parent), name)),
        _ => Err(ErrorKind::InvalidInput.into()),
    }
}
