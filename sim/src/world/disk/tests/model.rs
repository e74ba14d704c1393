//! Random work on one file and then a power failure, against a model that knows of every sector
//! which contents it may have.

use rand::RngExt;

use super::super::inode::{Inode, PAGE};
use super::super::power;
use crate::stream::{Stream, stream};

const PAGES: usize = 5;

/// A sector's content at some moment: it is filled with the number of the write.
#[derive(Clone, Copy)]
struct Version {
    write: u8,
    /// Syncs that had begun before it.
    layer: u64,
}

struct Model {
    size: usize,
    /// Versions of each sector that a power failure may leave, oldest first; the last is seen.
    sectors: Vec<Vec<Version>>,
    /// Syncs in flight: number of the disk, layer.
    flying: Vec<(u64, u64)>,
    failed: Vec<u64>,
    layer: u64,
}

impl Model {
    fn new(size: usize) -> Model {
        let zero = Version { write: 0, layer: 0 };
        Model {
            size,
            sectors: vec![vec![zero]; PAGES * PAGE / size],
            flying: Vec::new(),
            failed: Vec::new(),
            layer: 1,
        }
    }

    fn write(&mut self, first: usize, count: usize, write: u8) {
        let layer = self.layer;
        for versions in &mut self.sectors[first..first + count] {
            versions.push(Version { write, layer });
        }
    }

    /// The oldest sync in flight ends well: what was seen when it began is the least, unless a
    /// failed one should have written it.
    fn end(&mut self, layer: u64) {
        for versions in &mut self.sectors {
            let seen = versions.iter().rposition(|v| v.layer <= layer);
            if let Some(at) = seen
                && !self.failed.contains(&versions[at].layer)
            {
                versions.drain(..at);
            }
        }
    }

    fn check(&self, inode: &Inode) -> (usize, usize) {
        let all = inode.read(0, PAGES * PAGE).unwrap();
        let (mut torn, mut old) = (0, 0);
        for (n, (content, versions)) in all.chunks(self.size).zip(&self.sectors).enumerate() {
            let may = |octet: u8| versions.iter().any(|v| v.write == octet);
            let whole = content.iter().all(|b| *b == content[0]);
            torn += usize::from(!whole);
            assert!(
                may(content[0]) && may(content[self.size - 1]),
                "sector {n} is {}, may be {:?}",
                content[0],
                versions.iter().map(|v| v.write).collect::<Vec<_>>()
            );
            old += usize::from(Some(content[0]) != versions.last().map(|v| v.write));
        }
        assert!(torn <= 1, "{torn} torn sectors");
        (torn, old)
    }
}

fn once(size: usize, rng: &mut Stream) -> (usize, usize) {
    let mut inode = Inode::new(size);
    inode.allocate((PAGES * PAGE) as u64);
    let sync = inode.begin_sync();
    inode.end_sync(sync);
    let mut model = Model::new(size);
    let all = model.sectors.len();
    for write in 1..rng.random_range(2..60u8) {
        match rng.random_range(0..10) {
            0..5 => {
                let first = rng.random_range(0..all);
                let count = rng.random_range(1..=(all - first).min(12));
                inode.write((first * size) as u64, &vec![write; count * size]);
                model.write(first, count, write);
            }
            5 | 6 => {
                model.flying.push((inode.begin_sync(), model.layer));
                model.layer += 1;
            }
            7 | 8 if !model.flying.is_empty() => {
                let (sync, layer) = model.flying.remove(0);
                inode.end_sync(sync);
                model.end(layer);
            }
            9 if !model.flying.is_empty() => {
                let (sync, layer) = model.flying.remove(0);
                inode.fail_sync(sync);
                model.failed.push(layer);
            }
            _ => {}
        }
    }
    power::fail(&mut inode, rng);
    assert!(inode.is_durable());
    let found = model.check(&inode);
    let left = inode.read(0, PAGES * PAGE);
    power::fail(&mut inode, rng);
    assert_eq!(inode.read(0, PAGES * PAGE), left, "it fails only once");
    found
}

#[test]
fn sectors_are_old_or_new() {
    for size in [512, 4096] {
        let (mut torn, mut old) = (0, 0);
        for case in 0..3000 {
            let found = once(size, &mut stream(case, "test.model", size as u64));
            torn += found.0;
            old += found.1;
        }
        assert!(torn > 50 && old > 1000, "{torn} torn, {old} old");
    }
}

#[test]
fn lengths_survive_as_a_prefix_and_cut_octets_do_not_come_back() {
    for case in 0..3000 {
        let mut rng = stream(case, "test.lengths", 0);
        let mut inode = Inode::new(512);
        inode.write(0, &[1; 3 * PAGE]);
        let mut may = vec![inode.len];
        let sync = inode.begin_sync();
        inode.end_sync(sync);
        // Content beyond the shortest length of all is old or zero, or written since.
        for write in 2..rng.random_range(2..20u8) {
            match rng.random_range(0..4) {
                0 => inode.set_len(rng.random_range(0..=4 * PAGE as u64)),
                1 => {
                    let at = rng.random_range(0..4 * PAGE as u64);
                    inode.write(at, &vec![write; rng.random_range(1..2000)]);
                }
                2 => inode.allocate(rng.random_range(0..=4 * PAGE as u64)),
                _ => {
                    let sync = inode.begin_sync();
                    inode.end_sync(sync);
                    may.clear();
                }
            }
            may.push(inode.len);
        }
        let seen = inode.read(0, inode.len as usize).unwrap();
        let durable = inode.is_durable();
        power::fail(&mut inode, &mut rng);
        assert!(may.contains(&inode.len), "{} of {may:?}", inode.len);
        let left = inode.read(0, inode.len as usize).unwrap();
        if durable {
            assert_eq!(left, seen);
        }
        // Behind the end there is nothing that growing again would show.
        let len = inode.len;
        inode.set_len(len + 3 * PAGE as u64);
        let grown = inode.read(len, 3 * PAGE).unwrap();
        assert!(grown.iter().all(|b| *b == 0), "what was cut came back");
    }
}

#[test]
fn a_cut_that_survives_leaves_zeros() {
    let mut lengths = [0, 0];
    for case in 0..400 {
        let mut rng = stream(case, "test.cut", 0);
        let mut inode = Inode::new(512);
        inode.write(0, &[1; 2 * PAGE]);
        let sync = inode.begin_sync();
        inode.end_sync(sync);
        inode.set_len(100);
        inode.set_len(2 * PAGE as u64);
        power::fail(&mut inode, &mut rng);
        let len = inode.len as usize;
        let left = inode.read(0, len).unwrap();
        assert!(left[..100.min(len)].iter().all(|b| *b == 1));
        match len {
            100 => lengths[0] += 1,
            _ if left[PAGE..].iter().all(|b| *b == 0) => lengths[1] += 1,
            _ => assert!(
                left[PAGE..].iter().all(|b| *b == 1),
                "pages are freed whole"
            ),
        }
    }
    assert!(lengths.iter().all(|n| *n > 20), "{lengths:?}");
}
