//! Old images and copies of a directory: how they are put in place, and when that must not be.
//!
//! A node that starts with an old image has forgotten what it has promised since. Those to whom it
//! promised it remember that in memory alone, so they must be there to be asked. A copy must find its
//! original, or it takes itself for a node that has moved.

use super::{Chaos, Later};
use crate::outcome::EventKind;
use crate::plan::FaultKind;
use crate::run::cluster::Cluster;

impl Chaos {
    /// Puts the image that was taken for a fault in the place of a node's directory, unless that
    /// would break what restoring an image demands of the others.
    pub(super) fn restore(&mut self, n: u32, number: usize, cluster: &mut Cluster) {
        let forgotten = self.forgotten(number, n, cluster);
        let forgotten = forgotten.or_else(|| self.coming(n, cluster));
        let Some((_, disk, index)) = self.images.remove(&number) else {
            return;
        };
        let node = &cluster.nodes[n as usize];
        let host = node.host;
        let why = if node.retired.is_some() {
            Some("the node is gone".to_owned())
        } else if node.is_up(&cluster.stage) {
            Some("the node has started meanwhile".to_owned())
        } else {
            forgotten.or_else(|| unasked(n, cluster))
        };
        if let Some(why) = why {
            cluster.stats.held_back += 1;
            let event = EventKind::Fault {
                fault: number as u32,
                what: format!("the old image of node {n} is put in place"),
                until_ms: None,
                held_back: Some(why),
            };
            cluster.event(Some(n), event);
            return;
        }
        cluster.stage.host(host).disk.restore(&disk);
        cluster.stage.host(host).index.restore(&index);
        cluster.nodes[n as usize].images += 1;
        self.asking.insert(n);
    }

    /// Why a fault must not strike now, if it must not: a node with an old image still asks the others
    /// what it has promised, or a copy of a node looks for the original. None of them may end, stand
    /// still or be out of reach before it has its answers, or nobody could tell it any more. The one
    /// with the old image may end itself.
    pub(super) fn asked(&self, kind: &FaultKind, cluster: &Cluster) -> Option<String> {
        if !cluster.plan.budget {
            return None;
        }
        let count = cluster.plan.nodes.len() as u32;
        let own = match kind {
            FaultKind::Crash { node, .. }
            | FaultKind::RestartLoop { node, .. }
            | FaultKind::Stop { node, .. } => Some(*node % count),
            _ => None,
        };
        if let Some((_, original)) = self.looking.first() {
            return Some(format!("a copy of node {original} looks for it"));
        }
        let asking = self.asking.iter().find(|n| own != Some(**n))?;
        Some(format!(
            "node {asking} has an old image and asks what it has promised"
        ))
    }

    /// Why a node that starts now with an old image may not hear from all others what it has promised,
    /// because of what has begun already and is still to come.
    pub(super) fn coming(&self, n: u32, cluster: &Cluster) -> Option<String> {
        if !cluster.plan.budget {
            return None;
        }
        let mut nodes = cluster.nodes.iter().zip(0u32..).filter(|(_, o)| *o != n);
        let ends = nodes.find(|(node, o)| {
            let dies = |later: &Later| matches!(later, Later::Die(of, ..) if of == o);
            let stops = node.is_up(&cluster.stage) && !node.serves();
            stops || node.short_lives.is_some() || self.later.values().any(dies)
        });
        if let Some((_, other)) = ends {
            return Some(format!("node {other} may end before it is asked"));
        }
        let clogs = |later: &Later| matches!(later, Later::Clog(..));
        let clogged = self.later.values().any(clogs);
        clogged.then(|| "what it has promised cannot be asked for on a broken network".to_owned())
    }

    /// Why nobody may remember what a node has promised since the image for fault `number` was
    /// taken, if there is one. Promises are remembered in memory alone, those of a follower by its
    /// leader alone (`node/ARCHITECTURE.md`): a process that has ended since has taken its share of
    /// them along, and no node could know of an image that it is old.
    pub(super) fn forgotten(&self, number: usize, n: u32, cluster: &Cluster) -> Option<String> {
        let (since, ..) = self.images.get(&number)?;
        if !cluster.plan.budget {
            return None;
        }
        let lately = cluster.events.iter().rev();
        let mut lately = lately.take_while(|e| e.at_ms >= *since);
        lately.find_map(|event| match (&event.kind, event.node) {
            (EventKind::Ended { .. }, Some(other)) if other != n => {
                Some(format!("node {other} has ended since the image was taken"))
            }
            _ => None,
        })
    }

    /// Why a copy of a node that starts now could not find the original, where it must: two processes
    /// that stand for one node give its votes twice, and nothing but the copy's start prevents that.
    pub(super) fn unseen(&self, n: u32, cluster: &Cluster) -> Option<String> {
        if !cluster.plan.budget {
            return None;
        }
        let node = &cluster.nodes[n as usize];
        let ends = |later: &Later| matches!(later, Later::Die(of, ..) if *of == n);
        let ends = node.short_lives.is_some() || self.later.values().any(ends);
        if !node.serves() || cluster.stage.host(node.host).paused_until_us > cluster.stage.now_us()
        {
            return Some("a copy could not find the original, which does not answer".to_owned());
        }
        if ends {
            return Some("the original may end before its copy has found it".to_owned());
        }
        unasked(n, cluster).or_else(|| self.coming(n, cluster))
    }
}

/// Why a node that starts now could not ask all others what it has promised, where that must not be.
fn unasked(n: u32, cluster: &Cluster) -> Option<String> {
    if !cluster.plan.budget {
        return None;
    }
    if !cluster.stage.net().links().calm() {
        return Some("what it has promised cannot be asked for on a broken network".to_owned());
    }
    let now = cluster.stage.now_us();
    let mut others = cluster.nodes.iter().zip(0u32..).filter(|(_, o)| *o != n);
    let paused = others.find(|(node, _)| cluster.stage.host(node.host).paused_until_us > now);
    paused.map(|(_, other)| format!("node {other} stands still and cannot be asked"))
}
