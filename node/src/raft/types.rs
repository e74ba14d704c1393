//! The types that openraft is instantiated with, and how entries look on disk and on the wire.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use openraft::{EmptyNode, EntryPayload};
use serde::{Deserialize, Serialize};

use crate::machine::command::{Command, Reply};
use crate::types::ReplicaId;

openraft::declare_raft_types!(
    /// Posthouse's instance of openraft.
    pub TypeConfig:
        D = Proposal,
        R = Reply,
        NodeId = ReplicaId,
        Node = EmptyNode,
        AsyncRuntime = crate::env::runtime::NodeRuntime,
);

/// Position and leadership of an entry.
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// A replica's vote.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// A log entry.
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
/// Committed membership and its position.
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot is a snapshot of.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
/// The leader of a log id: term and replica.
pub type LeaderId = openraft::alias::CommittedLeaderIdOf<TypeConfig>;

/// A command on its way through the log: the encoded head and, apart from it, the stored octets of
/// at most one chunk, so that they are never copied.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Postcard of a [`Command`].
    pub head: Bytes,
    /// Stored octets of the chunk that travels with the command; may be empty.
    pub stored: Bytes,
}

impl Proposal {
    /// Encodes a command.
    pub fn new(command: &Command, stored: Bytes) -> Proposal {
        let head = postcard::to_stdvec(command).expect("commands always encode");
        Proposal {
            head: head.into(),
            stored,
        }
    }

    /// Decodes the command.
    pub fn command(&self) -> Result<Command, Undecodable> {
        postcard::from_bytes(&self.head).map_err(|e| Undecodable(e.to_string()))
    }

    /// Octets in all.
    pub fn size(&self) -> usize {
        self.head.len() + self.stored.len()
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "command of {}+{} octets",
            self.head.len(),
            self.stored.len()
        )
    }
}

/// Octets that are not an entry of this format version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a log entry of this version: {0}")]
pub struct Undecodable(pub String);

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Octets before the head of a normal entry: tag and head length.
const NORMAL_PREFIX: u32 = 5;

/// The payload of an entry as parts that are written one after the other:
///
/// ```text
/// blank       00
/// normal      01 | head length, u32 LE | head | stored octets
/// membership  02 | postcard of openraft's Membership
/// ```
pub fn encode_payload(entry: &Entry) -> Vec<Bytes> {
    match &entry.payload {
        EntryPayload::Blank => vec![Bytes::from_static(&[BLANK])],
        EntryPayload::Normal(p) => {
            let mut prefix = BytesMut::with_capacity(NORMAL_PREFIX as usize + p.head.len());
            prefix.put_u8(NORMAL);
            prefix.put_u32_le(p.head.len() as u32);
            prefix.extend_from_slice(&p.head);
            match p.stored.is_empty() {
                true => vec![prefix.freeze()],
                false => vec![prefix.freeze(), p.stored.clone()],
            }
        }
        EntryPayload::Membership(m) => {
            let mut out = vec![MEMBERSHIP];
            out.extend(postcard::to_stdvec(m).expect("memberships always encode"));
            vec![out.into()]
        }
    }
}

/// The entry at `log_id` with this payload; the octets are shared, not copied.
pub fn decode_payload(log_id: LogId, payload: Bytes) -> Result<Entry, Undecodable> {
    let bad = |what: &str| Undecodable(what.to_owned());
    let payload = match payload.first() {
        Some(&BLANK) if payload.len() == 1 => EntryPayload::Blank,
        Some(&NORMAL) if payload.len() >= NORMAL_PREFIX as usize => {
            let len = u32::from_le_bytes(payload[1..5].try_into().expect("four octets")) as usize;
            let rest = payload.slice(NORMAL_PREFIX as usize..);
            if len > rest.len() {
                return Err(bad("the head is longer than the entry"));
            }
            EntryPayload::Normal(Proposal {
                head: rest.slice(..len),
                stored: rest.slice(len..),
            })
        }
        Some(&MEMBERSHIP) => EntryPayload::Membership(
            postcard::from_bytes(&payload[1..]).map_err(|e| bad(&e.to_string()))?,
        ),
        _ => return Err(bad("unknown tag")),
    };
    Ok(openraft::Entry { log_id, payload })
}

/// Where the stored octets of a normal entry begin inside its payload.
pub fn stored_offset(proposal: &Proposal) -> u32 {
    NORMAL_PREFIX + proposal.head.len() as u32
}

/// Octets of an entry's payload, for budgets.
pub fn payload_len(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Blank => 1,
        EntryPayload::Normal(p) => NORMAL_PREFIX as usize + p.size(),
        EntryPayload::Membership(_) => 256,
    }
}

/// The log id with these parts.
pub fn log_id(term: u64, leader: ReplicaId, index: u64) -> LogId {
    LogId::new(
        openraft::impls::leader_id_adv::LeaderId {
            term,
            node_id: leader,
        },
        index,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_from_their_payload() {
        let id = log_id(3, ReplicaId(7), 9);
        let normal = EntryPayload::Normal(Proposal {
            head: Bytes::from_static(b"head"),
            stored: Bytes::from_static(b"stored"),
        });
        for payload in [EntryPayload::Blank, normal] {
            let entry: Entry = openraft::Entry {
                log_id: id,
                payload,
            };
            let octets: Vec<u8> = encode_payload(&entry).concat();
            let back = decode_payload(id, octets.clone().into()).unwrap();
            assert_eq!(back.payload, entry.payload);
            for cut in 0..octets.len().min(9) {
                let _ = decode_payload(id, octets[..cut].to_vec().into());
            }
        }
        assert!(decode_payload(id, Bytes::from_static(b"\x01\xff\xff\xff\xff")).is_err());
        assert!(decode_payload(id, Bytes::new()).is_err());
    }
}
