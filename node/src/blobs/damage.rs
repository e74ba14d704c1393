//! What was found damaged since the node started, for the status page: where, why, what was done.

use std::collections::VecDeque;

use parking_lot::Mutex;
use posthouse_client::proto::Damage;

/// Findings that are kept; the oldest go first.
const KEPT: usize = 1000;

/// Damage found since the node started; bounded.
#[derive(Default)]
pub struct DamageLog(Mutex<VecDeque<Damage>>);

impl DamageLog {
    /// What was found, the newest last.
    pub fn list(&self) -> Vec<Damage> {
        self.0.lock().iter().cloned().collect()
    }

    /// Whether this place is listed.
    pub fn knows(&self, file: &str, offset: u64) -> bool {
        let log = self.0.lock();
        log.iter().any(|d| d.file == file && d.offset == offset)
    }

    /// Adds a finding. The same place again is the same finding: its newest action counts.
    pub fn add(&self, damage: Damage) {
        let mut log = self.0.lock();
        let same = |d: &&mut Damage| d.file == damage.file && d.offset == damage.offset;
        if let Some(known) = log.iter_mut().rev().find(same) {
            known.action = damage.action;
            known.time_ms = damage.time_ms;
            return;
        }
        tracing::error!(
            file = damage.file,
            offset = damage.offset,
            length = damage.length,
            action = damage.action,
            "damage: {}",
            damage.cause
        );
        if log.len() >= KEPT {
            log.pop_front();
        }
        log.push_back(damage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_listed_once_and_the_list_is_bounded() {
        let log = DamageLog::default();
        let at = |offset, action: &str| Damage {
            file: "f".into(),
            offset,
            action: action.into(),
            ..Damage::default()
        };
        log.add(at(1, "waiting for a peer"));
        log.add(at(1, "repaired"));
        assert_eq!(log.list(), [at(1, "repaired")]);
        (0..2000).for_each(|offset| log.add(at(offset, "")));
        assert_eq!(log.list().len(), KEPT);
        assert_eq!(log.list()[KEPT - 1].offset, 1999);
    }
}
