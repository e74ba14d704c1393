//! Who a data directory is: the small file that makes a node the same node after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as AsyncMutex;

use crate::env::disk::Disk;
use crate::types::{NodeId, ReplicaId, ShardId};

/// Version of this file, and of the whole directory: of the commands in its journal, and of the
/// keys and rows of its index. Version 1 had no threads, subscriptions, annotations or passwords.
const VERSION: u32 = 2;

/// What the file ends with: the CRC-32 of all octets before it, in eight digits. A digit that rots
/// leaves JSON whole, and a node under another's number, or one that takes part with a replica that is
/// lost, endangers mail.
const CHECK: &str = ",\n  \"crc32\": \"";
/// And after the digits.
const CHECK_END: &str = "\"\n}";

/// Content of `DIR/identity.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityFile {
    /// Version of the directory.
    pub version: u32,
    /// UUID of the cluster, as text.
    pub cluster_id: String,
    /// The node.
    pub node: NodeId,
    /// True until the cluster's first command is committed, on the node that formed it.
    pub forming: bool,
    /// True before the first replica of the node can promise anything, and from then on: its
    /// directory holds a journal.
    #[serde(default)]
    pub held: bool,
    /// Replicas of the node that lost acknowledged data and are not replaced yet. The journal says it
    /// too; a replica without rows, of which nobody else knows that it was ever there, must not be
    /// forgotten with one octet of that.
    #[serde(default)]
    pub lost: BTreeSet<(ShardId, ReplicaId)>,
    /// Where another process was this node as well, and the cluster had it there; else empty. What
    /// this directory holds is older than what the other one has promised since.
    #[serde(default)]
    pub replaced_at: String,
    /// Where other nodes listened when last heard of.
    pub peers: BTreeMap<NodeId, String>,
}

/// What the files of all versions begin with.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk.
    #[error("cannot access {}: {cause}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The directory is that of another version.
    #[error("the data directory {} has format {found}, and this version of Posthouse reads format {VERSION} only; start the version that wrote it, or start with an empty data directory and join again", dir.display())]
    Format {
        /// Which directory.
        dir: PathBuf,
        /// Its version.
        found: u32,
    },
    /// Its content.
    #[error("{} is not a node's identity ({cause}); restore it from a copy, or start with an empty data directory and join again", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

fn path(dir: &Path) -> PathBuf {
    dir.join("identity.json")
}

impl IdentityFile {
    /// A node that forms a cluster or has joined one.
    pub fn new(cluster_id: [u8; 16], node: NodeId, forming: bool) -> IdentityFile {
        let cluster_id = uuid_text(&cluster_id);
        IdentityFile {
            version: VERSION,
            cluster_id,
            node,
            forming,
            held: false,
            lost: BTreeSet::new(),
            replaced_at: String::new(),
            peers: BTreeMap::new(),
        }
    }

    /// Reads it; `None` in a fresh directory.
    pub async fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<IdentityFile>, IdentityError> {
        let path = path(dir);
        let content = match disk.read(&path).await {
            Ok(Some(content)) => content,
            Ok(None) => return Ok(None),
            Err(cause) => return Err(IdentityError::Io { path, cause }),
        };
        let invalid = |cause: String| IdentityError::Invalid {
            path: path.clone(),
            cause,
        };
        // An editor ends a file with a line.
        let (content, vouched) = checked(content.trim_ascii_end()).map_err(invalid)?;
        // The version first: other versions may have other fields.
        let Versioned { version } =
            serde_json::from_slice(&content).map_err(|e| invalid(e.to_string()))?;
        if version != VERSION {
            return Err(IdentityError::Format {
                dir: dir.to_owned(),
                found: version,
            });
        }
        let file: IdentityFile =
            serde_json::from_slice(&content).map_err(|e| invalid(e.to_string()))?;
        file.cluster_id()
            .ok_or_else(|| invalid("the cluster id is not a UUID".into()))?;
        if !vouched {
            file.knows_all_of(&content).map_err(invalid)?;
        }
        Ok(Some(file))
    }

    /// Refuses what has a key that no file without a checksum can have: what is left of a checksum
    /// that is damaged itself.
    fn knows_all_of(&self, content: &[u8]) -> Result<(), String> {
        let object = |read: Result<serde_json::Value, serde_json::Error>| match read {
            Ok(serde_json::Value::Object(keys)) => Ok(keys),
            Ok(_) => Err("it is not an object".into()),
            Err(e) => Err(e.to_string()),
        };
        let known = object(serde_json::to_value(self))?;
        let found = object(serde_json::from_slice(content))?;
        match found.keys().find(|key| !known.contains_key(*key)) {
            Some(key) => Err(format!("`{key}` means nothing there")),
            None => Ok(()),
        }
    }

    /// Writes it durably.
    pub async fn save(&self, disk: &dyn Disk, dir: &Path) -> Result<(), IdentityError> {
        let path = path(dir);
        let content = serde_json::to_string_pretty(self).expect("an identity always encodes");
        disk.replace(&path, with_check(&content).into())
            .await
            .map_err(|cause| IdentityError::Io { path, cause })
    }

    /// The cluster's UUID.
    pub fn cluster_id(&self) -> Option<[u8; 16]> {
        parse_uuid(&self.cluster_id)
    }
}

/// The text of an identity, with its checksum as the last key.
fn with_check(content: &str) -> String {
    let head = content
        .strip_suffix("\n}")
        .expect("an identity is an object");
    let crc = crc32fast::hash(head.as_bytes());
    format!("{head}{CHECK}{crc:08x}{CHECK_END}")
}

/// The text without its checksum, which must fit, and whether there was one: files from before have
/// none.
fn checked(content: &[u8]) -> Result<(Vec<u8>, bool), String> {
    let tail = CHECK.len() + 8 + CHECK_END.len();
    let (head, tail) = content.split_at(content.len().saturating_sub(tail));
    let crc = tail.strip_prefix(CHECK.as_bytes());
    let Some(crc) = crc.and_then(|rest| rest.strip_suffix(CHECK_END.as_bytes())) else {
        return Ok((content.to_vec(), false));
    };
    if crc != format!("{:08x}", crc32fast::hash(head)).as_bytes() {
        return Err("its checksum does not fit, so the file is damaged".into());
    }
    Ok(([head, b"\n}"].concat(), true))
}

/// The file of a node that runs, changed by one at a time: no change undoes another.
pub struct KeptIdentity {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: AsyncMutex<IdentityFile>,
}

impl KeptIdentity {
    /// Keeps the file of `dir`, which says this.
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf, file: IdentityFile) -> KeptIdentity {
        let file = AsyncMutex::new(file);
        KeptIdentity { disk, dir, file }
    }

    /// What it says.
    pub async fn get(&self) -> IdentityFile {
        self.file.lock().await.clone()
    }

    /// Changes it, durably when this returns. Says whether there was anything to change.
    pub async fn change(
        &self,
        change: impl FnOnce(&mut IdentityFile),
    ) -> Result<bool, IdentityError> {
        let mut file = self.file.lock().await;
        let mut now = file.clone();
        change(&mut now);
        if now == *file {
            return Ok(false);
        }
        now.save(&*self.disk, &self.dir).await?;
        *file = now;
        Ok(true)
    }
}

/// Content of `DIR/join`, as long as a node is about to join: by what it is known again, should it die
/// after its one-use token was taken and before it heard who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinFile(pub [u8; 16]);

impl JoinFile {
    fn path(dir: &Path) -> PathBuf {
        dir.join("join")
    }

    /// The join that was begun in this directory, or a new one with the id `fresh`, durably.
    pub async fn begin(
        disk: &dyn Disk,
        dir: &Path,
        fresh: [u8; 16],
    ) -> Result<JoinFile, IdentityError> {
        let path = JoinFile::path(dir);
        let io = |cause| IdentityError::Io {
            path: path.clone(),
            cause,
        };
        if let Some(content) = disk.read(&path).await.map_err(io)? {
            // A damaged one is of no use: the cluster will say that the token was taken.
            if let Ok(id) = content.as_ref().try_into() {
                return Ok(JoinFile(id));
            }
        }
        let content = fresh.to_vec();
        disk.replace(&path, content.into()).await.map_err(io)?;
        Ok(JoinFile(fresh))
    }

    /// Forgets it: the node knows who it is.
    pub async fn end(disk: &dyn Disk, dir: &Path) -> Result<(), IdentityError> {
        let path = JoinFile::path(dir);
        let there = disk.read(&path).await;
        let removed = match there {
            Ok(None) => return Ok(()),
            Ok(Some(_)) => match disk.remove(&path).await {
                Ok(()) => disk.sync_dir(dir).await,
                Err(cause) => Err(cause),
            },
            Err(cause) => Err(cause),
        };
        removed.map_err(|cause| IdentityError::Io { path, cause })
    }
}

/// The usual text of a UUID (RFC 9562, section 4).
pub fn uuid_text(id: &[u8; 16]) -> String {
    let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

/// The UUID of this text.
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let hex: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    let mut id = [0; 16];
    if hex.len() != 32 {
        return None;
    }
    for (i, byte) in id.iter_mut().enumerate() {
        let digit = |c: u8| (c as char).to_digit(16);
        *byte = (digit(hex[2 * i])? << 4 | digit(hex[2 * i + 1])?) as u8;
    }
    Some(id)
}

/// A fresh random UUID, version 4.
pub fn new_uuid(random: [u8; 16]) -> [u8; 16] {
    let mut id = random;
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::disk::RealDisk;

    #[tokio::test]
    async fn a_directory_of_another_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ours = IdentityFile::new([7; 16], NodeId(3), false);
        ours.save(&RealDisk, dir.path()).await.unwrap();
        let read = IdentityFile::load(&RealDisk, dir.path()).await;
        assert_eq!(read.unwrap(), Some(ours.clone()));
        let old = IdentityFile { version: 1, ..ours };
        old.save(&RealDisk, dir.path()).await.unwrap();
        let e = IdentityFile::load(&RealDisk, dir.path()).await.unwrap_err();
        assert!(matches!(e, IdentityError::Format { found: 1, .. }), "{e}");
        assert!(e.to_string().contains("has format 1"), "{e}");
    }

    #[tokio::test]
    async fn damage_to_one_octet_is_found_wherever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut ours = IdentityFile::new([7; 16], NodeId(3), false);
        let lost = |n| (ShardId(n), ReplicaId::new(NodeId(3), n));
        ours.lost = [lost(1), lost(2)].into();
        ours.peers = [(NodeId(1), "10.0.0.1:6600".into())].into();
        ours.save(&RealDisk, dir.path()).await.unwrap();
        let whole = std::fs::read(path(dir.path())).unwrap();
        for at in 0..whole.len() {
            for flip in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut damaged = whole.clone();
                damaged[at] ^= flip;
                std::fs::write(path(dir.path()), &damaged).unwrap();
                let read = IdentityFile::load(&RealDisk, dir.path()).await;
                let said = read.expect_err("damage is found").to_string();
                assert!(
                    said.contains("restore it from a copy"),
                    "{at} {flip}: {said}"
                );
            }
            std::fs::write(path(dir.path()), &whole[..at]).unwrap();
            let read = IdentityFile::load(&RealDisk, dir.path()).await;
            assert!(read.is_err(), "cut at {at}");
        }
    }

    #[tokio::test]
    async fn a_file_from_before_there_was_a_checksum_gets_one_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let ours = IdentityFile::new([7; 16], NodeId(3), false);
        let old = serde_json::to_string_pretty(&ours).unwrap();
        std::fs::write(path(dir.path()), &old).unwrap();
        let read = IdentityFile::load(&RealDisk, dir.path()).await.unwrap();
        assert_eq!(read.as_ref(), Some(&ours));
        let kept = KeptIdentity::new(Arc::new(RealDisk), dir.path().to_owned(), ours);
        kept.change(|file| file.held = true).await.unwrap();
        let now = std::fs::read_to_string(path(dir.path())).unwrap();
        assert!(now.contains("crc32"), "{now}");
        let read = IdentityFile::load(&RealDisk, dir.path()).await.unwrap();
        assert!(read.is_some_and(|file| file.held));
    }

    #[tokio::test]
    async fn a_join_that_was_begun_goes_on_under_its_id_until_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let begin = |fresh| JoinFile::begin(&RealDisk, dir.path(), fresh);
        assert_eq!(begin([1; 16]).await.unwrap(), JoinFile([1; 16]));
        assert_eq!(begin([2; 16]).await.unwrap(), JoinFile([1; 16]));
        JoinFile::end(&RealDisk, dir.path()).await.unwrap();
        JoinFile::end(&RealDisk, dir.path()).await.unwrap();
        assert_eq!(begin([3; 16]).await.unwrap(), JoinFile([3; 16]));
    }

    #[tokio::test]
    async fn a_change_is_durable_and_undoes_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = IdentityFile::new([7; 16], NodeId(3), true);
        let kept = KeptIdentity::new(Arc::new(RealDisk), dir.path().to_owned(), file);
        assert!(kept.change(|file| file.held = true).await.unwrap());
        assert!(!kept.change(|file| file.held = true).await.unwrap());
        assert!(kept.change(|file| file.forming = false).await.unwrap());
        let read = IdentityFile::load(&RealDisk, dir.path()).await.unwrap();
        let read = read.unwrap();
        assert!(read.held && !read.forming);
    }

    #[test]
    fn uuids_read_back() {
        let id = new_uuid([0xab; 16]);
        assert_eq!(parse_uuid(&uuid_text(&id)), Some(id));
        assert_eq!(parse_uuid("x"), None);
        assert_eq!(parse_uuid(&"é".repeat(16)), None);
    }
}
