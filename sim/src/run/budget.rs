//! What may be destroyed without breaking a promise.
//!
//! A shard with n replicas keeps its mail as long as fewer than half of them, rounded down, lose
//! what they have acknowledged. So of all nodes only that many ever suffer a destructive fault in
//! one run: the others may crash, lose power, be cut off or fill up as they like, because what they
//! have synced stays.
//!
//! An old image is a lost disk that goes on voting, unless those to whom it promised something since
//! tell it so. They remember that in memory alone, so it is not restored either when one of them
//! has ended since or cannot be asked, and nothing happens to them until the node that starts with
//! it has asked them (`chaos`).

use std::collections::BTreeSet;

use crate::plan::{FaultKind, Plan};

/// The nodes that have been hurt, and how many may be.
pub struct Budget {
    limit: Option<usize>,
    hurt: BTreeSet<u32>,
}

impl Budget {
    /// The budget of a plan.
    pub fn new(plan: &Plan) -> Budget {
        let replicas = (plan.replication as usize).min(plan.nodes.len());
        Budget {
            limit: plan.budget.then(|| replicas.saturating_sub(1) / 2),
            hurt: BTreeSet::new(),
        }
    }

    /// Takes a node for a destructive fault; an error says why it must be spared.
    pub fn take(&mut self, node: u32) -> Result<(), String> {
        let Some(limit) = self.limit else {
            return Ok(());
        };
        if self.hurt.contains(&node) || self.hurt.len() < limit {
            self.hurt.insert(node);
            return Ok(());
        }
        Err(match limit {
            0 => "with one or two replicas nothing may be destroyed".into(),
            _ => format!("{:?} have been hurt already", self.hurt),
        })
    }
}

/// The node that a fault destroys something of, if it does.
pub fn destroys(fault: &FaultKind) -> Option<u32> {
    match fault {
        FaultKind::DiskError { node, .. } if fault.is_destructive() => Some(*node),
        FaultKind::Rot { node, .. }
        | FaultKind::Misdirect { node }
        | FaultKind::DiskLost { node, .. }
        | FaultKind::Wiped { node, .. }
        | FaultKind::OldImage { node, .. }
        | FaultKind::Copied { node } => Some(*node),
        _ => None,
    }
}
