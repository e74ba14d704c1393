//! What both arms of the index must do: one suite, run over each of them.
//!
//! The simulator stands on the in-memory arm, so what it proves is worth as much as this contract.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{Batch, Family, Index, IndexOpener, Next, View};

/// Rows as keys and values.
pub type Rows = Vec<(Bytes, Bytes)>;

/// Every case, each in a directory of its own below `dir`.
pub async fn suite(opener: &dyn IndexOpener, dir: &Path) {
    batches_apply_in_order(&*open(opener, &dir.join("order")).await);
    scans_keep_their_bounds(&*open(opener, &dir.join("bounds")).await);
    views_stand_still(&*open(opener, &dir.join("views")).await);
    counters_add_up(&*open(opener, &dir.join("counters")).await).await;
    ranges_are_removed(&*open(opener, &dir.join("ranges")).await).await;
    flushed_rows_survive(opener, &dir.join("flushed")).await;
}

async fn open(opener: &dyn IndexOpener, path: &Path) -> Arc<dyn Index> {
    opener.open(path).await.expect("an empty directory opens")
}

fn write(index: &dyn Index, change: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::default();
    change(&mut batch);
    index.write(batch).expect("write");
}

fn get(view: &dyn View, family: Family, key: &'static str) -> Option<Bytes> {
    view.get(family, key.as_bytes()).expect("get")
}

/// All rows of a range, in either direction.
pub fn rows(view: &dyn View, family: Family, from: &[u8], to: &[u8], back: bool) -> Rows {
    let mut rows = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        Next::Continue
    };
    match back {
        false => view.scan(family, from, to, &mut visit),
        true => view.scan_back(family, from, to, &mut visit),
    }
    .expect("scan");
    rows
}

fn batches_apply_in_order(index: &dyn Index) {
    write(index, |b| {
        b.put(Family::State, "a", "1");
        b.put(Family::State, "a", "2");
        b.put(Family::State, "b", "1");
        b.delete(Family::State, "b");
        b.delete(Family::State, "c");
        b.put(Family::State, "c", "3");
        b.put(Family::Cold, "a", "cold");
        b.put(Family::State, "empty", "");
    });
    assert_eq!(get(index, Family::State, "a"), Some("2".into()));
    assert_eq!(get(index, Family::State, "b"), None);
    assert_eq!(get(index, Family::State, "c"), Some("3".into()));
    assert_eq!(get(index, Family::Cold, "a"), Some("cold".into()));
    assert_eq!(get(index, Family::Local, "a"), None, "families are apart");
    assert_eq!(get(index, Family::State, "empty"), Some(Bytes::new()));
}

fn scans_keep_their_bounds(index: &dyn Index) {
    let key = |n: u32| Bytes::copy_from_slice(&n.to_be_bytes());
    write(index, |b| {
        (0..300).for_each(|n| b.put(Family::State, key(n), key(n * 2)));
        b.put(Family::Cold, key(5), "other family");
    });
    let want: Rows = (10..290).map(|n| (key(n), key(n * 2))).collect();
    assert_eq!(
        rows(index, Family::State, &key(10), &key(290), false),
        want,
        "from is inclusive, to is not"
    );
    let back: Rows = want.iter().rev().cloned().collect();
    assert_eq!(rows(index, Family::State, &key(10), &key(290), true), back);
    for back in [false, true] {
        assert!(rows(index, Family::State, &key(10), &key(10), back).is_empty());
        assert!(rows(index, Family::State, &key(20), &key(10), back).is_empty());
        assert!(rows(index, Family::State, &key(900), &key(901), back).is_empty());
    }
    let mut seen = 0;
    index
        .scan(Family::State, &key(0), &key(300), &mut |key, value| {
            // A visitor may read.
            let row = index.get(Family::State, key).expect("get");
            assert_eq!(row.as_deref(), Some(value));
            seen += 1;
            match seen {
                70 => Next::Stop,
                _ => Next::Continue,
            }
        })
        .expect("scan");
    assert_eq!(seen, 70);
}

fn views_stand_still(index: &dyn Index) {
    write(index, |b| {
        b.put(Family::State, "a", "old");
        b.put(Family::State, "b", "old");
        b.put(Family::Local, "n", "old");
    });
    let old = index.view();
    write(index, |b| {
        b.put(Family::State, "a", "new");
        b.delete(Family::State, "b");
        b.put(Family::State, "c", "new");
        b.delete_range(Family::Local, "a", "z");
    });
    let new = index.view();
    write(index, |b| b.delete_range(Family::State, "a", "z"));
    assert_eq!(
        rows(&*old, Family::State, b"a", b"z", false),
        [("a".into(), "old".into()), ("b".into(), "old".into())]
    );
    assert_eq!(
        rows(&*new, Family::State, b"a", b"z", false),
        [("a".into(), "new".into()), ("c".into(), "new".into())]
    );
    assert_eq!(get(&*old, Family::Local, "n"), Some("old".into()));
    assert_eq!(get(&*new, Family::Local, "n"), None);
    assert!(rows(index, Family::State, b"a", b"z", false).is_empty());
    let (old, seen) = (old.clone(), get(&*old, Family::State, "a"));
    assert_eq!(get(&*old, Family::State, "a"), seen);
}

async fn counters_add_up(index: &dyn Index) {
    let counter = |view: &dyn View| {
        get(view, Family::Local, "n").map(|b| i64::from_le_bytes(b[..].try_into().unwrap()))
    };
    write(index, |b| b.add("n", 5));
    assert_eq!(counter(index), Some(5));
    write(index, |b| {
        b.add("n", -7);
        b.add("n", 4);
    });
    assert_eq!(counter(index), Some(2));
    index.flush().await.expect("flush");
    write(index, |b| b.add("n", i64::MAX));
    assert_eq!(counter(index), Some(i64::MAX.wrapping_add(2)));
    write(index, |b| b.delete(Family::Local, "n"));
    assert_eq!(counter(index), None);
    write(index, |b| b.add("n", 3));
    assert_eq!(counter(index), Some(3));
    write(index, |b| {
        b.put(Family::Local, "n", 10i64.to_le_bytes().to_vec());
        b.add("n", 1);
    });
    let mut sum = 0;
    index
        .scan(Family::Local, b"n", b"o", &mut |_, value| {
            sum = i64::from_le_bytes(value.try_into().unwrap());
            Next::Continue
        })
        .expect("scan");
    assert_eq!((sum, counter(index)), (11, Some(11)));
}

async fn ranges_are_removed(index: &dyn Index) {
    for round in 0..2 {
        write(index, |b| {
            for key in ["a", "b", "c", "d"] {
                b.put(Family::State, key, "1");
            }
            b.put(Family::Cold, "b", "1");
        });
        if round == 1 {
            index.flush().await.expect("flush");
        }
        write(index, |b| {
            b.delete_range(Family::State, "b", "d");
            b.put(Family::State, "c", "2");
            b.delete_range(Family::State, "z", "a");
            b.delete_range(Family::State, "d", "d");
        });
        let want: Rows = [("a", "1"), ("c", "2"), ("d", "1")]
            .map(|(k, v)| (k.into(), v.into()))
            .to_vec();
        assert_eq!(rows(index, Family::State, b"a", b"z", false), want);
        assert_eq!(get(index, Family::Cold, "b"), Some("1".into()));
    }
}

async fn flushed_rows_survive(opener: &dyn IndexOpener, path: &Path) {
    let index = open(opener, path).await;
    write(&*index, |b| {
        b.put(Family::State, "a", "1");
        b.put(Family::Cold, "a", "2");
        b.add("n", 3);
    });
    index.flush().await.expect("flush");
    assert!(index.bytes_written() > 0);
    index.verify().await.expect("nothing is damaged");
    drop(index);
    let index = open(opener, path).await;
    assert_eq!(get(&*index, Family::State, "a"), Some("1".into()));
    assert_eq!(get(&*index, Family::Cold, "a"), Some("2".into()));
    assert_eq!(
        get(&*index, Family::Local, "n"),
        Some(Bytes::copy_from_slice(&3i64.to_le_bytes()))
    );
}
