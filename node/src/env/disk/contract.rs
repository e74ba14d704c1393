//! What every disk owes the node, as code.
//!
//! The real disk and any simulated one run through this one suite, so that a test on a simulated
//! disk says something about the real one. It panics with the first difference. What a crash
//! leaves behind is not in here: only a simulated disk can be crashed at will.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{Disk, File, OpenMode};

/// Runs the whole suite in `scratch`, an existing empty directory.
pub async fn check(disk: Arc<dyn Disk>, scratch: &Path) {
    let dir = scratch.join("a/b");
    disk.create_dir_all(&dir).await.expect("creates parents");
    disk.create_dir_all(&dir)
        .await
        .expect("creating again is no error");
    opening(&*disk, &dir).await;
    positioned_io(&*disk, &dir).await;
    lengths(&*disk, &dir).await;
    names(&*disk, &dir).await;
    whole_files(&*disk, &dir).await;
    handles_survive_names(&*disk, &dir).await;
    concurrent_io(&*disk, &dir).await;
    locks(&*disk, &dir).await;
    let space = disk.space(&dir).await.expect("space");
    assert!(space.total_bytes > 0 && space.free_bytes <= space.total_bytes);
}

async fn create(disk: &dyn Disk, path: &Path) -> Arc<dyn File> {
    disk.open(path, OpenMode::CreateNew).await.expect("creates")
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn opening(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("opening");
    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        let missing = disk.open(&path, mode).await.err().expect("is missing");
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
    create(disk, &path).await;
    let exists = disk.open(&path, OpenMode::CreateNew).await.err();
    assert_eq!(exists.expect("exists").kind(), ErrorKind::AlreadyExists);
    let reader = disk.open(&path, OpenMode::Read).await.expect("opens");
    let refused = reader.write_at(0, vec![bytes("x")]).await;
    assert!(refused.is_err(), "a read-only handle must not write");
    let no_dir = disk.open(&dir.join("none/x"), OpenMode::CreateNew).await;
    assert_eq!(no_dir.err().expect("no parent").kind(), ErrorKind::NotFound);
}

async fn positioned_io(disk: &dyn Disk, dir: &Path) {
    let file = create(disk, &dir.join("io")).await;
    file.write_at(0, vec![bytes("hello"), bytes(""), bytes(" world")])
        .await
        .expect("writes");
    assert_eq!(file.read_at(0, 11).await.expect("reads"), "hello world");
    assert_eq!(file.read_at(6, 5).await.expect("reads"), "world");
    assert_eq!(file.read_at(11, 0).await.expect("reads nothing"), "");
    let short = file.read_at(6, 6).await.expect_err("past the end");
    assert_eq!(short.kind(), ErrorKind::UnexpectedEof);
    file.write_and_sync(6, vec![bytes("W")])
        .await
        .expect("overwrites");
    file.sync_data().await.expect("syncs");
    assert_eq!(file.read_at(0, 11).await.expect("reads"), "hello World");
    file.write_at(20, vec![bytes("far")])
        .await
        .expect("writes past the end");
    assert_eq!(file.len().await.expect("length"), 23);
    let hole = file.read_at(11, 9).await.expect("reads the hole");
    assert!(hole.iter().all(|b| *b == 0), "a hole reads as zero");
    file.write_at(0, vec![]).await.expect("writes nothing");
}

async fn lengths(disk: &dyn Disk, dir: &Path) {
    let file = create(disk, &dir.join("lengths")).await;
    file.write_at(0, vec![bytes("0123456789")])
        .await
        .expect("writes");
    file.set_len(4).await.expect("cuts");
    assert_eq!(file.len().await.expect("length"), 4);
    file.set_len(8).await.expect("extends");
    let all = file.read_at(0, 8).await.expect("reads");
    assert_eq!(&all[..], b"0123\0\0\0\0", "cut bytes must not come back");
    file.allocate(100).await.expect("allocates");
    assert_eq!(file.len().await.expect("length"), 100);
    file.allocate(50)
        .await
        .expect("a smaller reservation is no change");
    assert_eq!(file.len().await.expect("length"), 100);
    let all = file.read_at(0, 100).await.expect("reads");
    assert_eq!(&all[..4], b"0123");
    assert!(all[4..].iter().all(|b| *b == 0));
}

async fn names(disk: &dyn Disk, dir: &Path) {
    let dir = dir.join("names");
    disk.create_dir_all(&dir).await.expect("creates");
    for name in ["b", "a", "c"] {
        let file = create(disk, &dir.join(name)).await;
        file.write_and_sync(0, vec![bytes(name)])
            .await
            .expect("writes");
    }
    disk.sync_dir(&dir).await.expect("syncs");
    let list = disk.list(&dir).await.expect("lists");
    let list: Vec<_> = list.iter().map(|p| p.to_str().expect("text")).collect();
    assert_eq!(list, ["a", "b", "c"], "bare names, sorted");
    disk.rename(&dir.join("a"), &dir.join("b"))
        .await
        .expect("renames over");
    disk.remove(&dir.join("c")).await.expect("removes");
    assert_eq!(disk.list(&dir).await.expect("lists").len(), 1);
    let b = disk
        .read(&dir.join("b"))
        .await
        .expect("reads")
        .expect("is there");
    assert_eq!(b, "a");
    let missing = disk.remove(&dir.join("c")).await.expect_err("is gone");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let missing = disk.rename(&dir.join("x"), &dir.join("y")).await;
    assert_eq!(missing.expect_err("is missing").kind(), ErrorKind::NotFound);
    let missing = disk.list(&dir.join("none")).await.expect_err("is missing");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

async fn whole_files(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("whole");
    assert_eq!(disk.read(&path).await.expect("reads"), None);
    disk.replace(&path, bytes("one")).await.expect("creates");
    assert_eq!(
        disk.read(&path).await.expect("reads").expect("is there"),
        "one"
    );
    disk.replace(&path, bytes("2")).await.expect("replaces");
    assert_eq!(
        disk.read(&path).await.expect("reads").expect("is there"),
        "2"
    );
    let names = disk.list(dir).await.expect("lists");
    let left = |p: &std::path::PathBuf| p.to_string_lossy().starts_with("whole.");
    assert!(!names.iter().any(left), "no temporary file is left");
}

async fn handles_survive_names(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("handle");
    let file = create(disk, &path).await;
    file.write_at(0, vec![bytes("kept")]).await.expect("writes");
    disk.rename(&path, &dir.join("renamed"))
        .await
        .expect("renames");
    file.write_at(4, vec![bytes("!")])
        .await
        .expect("writes by handle");
    let content = disk.read(&dir.join("renamed")).await.expect("reads");
    assert_eq!(content.expect("is there"), "kept!");
    disk.remove(&dir.join("renamed")).await.expect("removes");
    assert_eq!(file.read_at(0, 5).await.expect("still reads"), "kept!");
}

async fn concurrent_io(disk: &dyn Disk, dir: &Path) {
    let file = create(disk, &dir.join("concurrent")).await;
    let writes = (0..16u8).map(|i| {
        let part = Bytes::from(vec![i; 512]);
        file.write_and_sync(u64::from(i) * 512, vec![part])
    });
    for done in futures::future::join_all(writes).await {
        done.expect("writes");
    }
    let all = file.read_at(0, 16 * 512).await.expect("reads");
    for (i, part) in all.chunks(512).enumerate() {
        assert!(part.iter().all(|b| *b as usize == i));
    }
}

async fn locks(disk: &dyn Disk, dir: &Path) {
    let held = disk.lock_dir(dir).await.expect("locks");
    let second = disk.lock_dir(dir).await.err().expect("is held");
    assert_eq!(second.kind(), ErrorKind::WouldBlock);
    drop(held);
    disk.lock_dir(dir).await.expect("locks again once released");
}
