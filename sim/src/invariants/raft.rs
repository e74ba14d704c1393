//! Invariant 6, what Raft promises, seen from outside the library: log matching, leader completeness,
//! committed entries never change, no vote and nothing that was acknowledged to a leader is
//! forgotten (Ongaro 2014, figure 3.2 and section 3.8), and the order of the positions of a log.
//!
//! Election safety takes openraft's form: a leader is a term *and* a replica, both ordered, and of
//! two leaders of one term only entries of one can be committed at a position.

use std::collections::BTreeMap;

use posthouse_node::raft::types::LogId;

use super::Findings;
use crate::run::look::{Promise, Replica};

/// Name in reports.
pub const NAME: &str = "raft";

/// Everything that was ever seen.
#[derive(Default)]
pub struct Raft {
    /// The committed entries of each shard, by index, each with the lowest term of a replica that
    /// knew it to be committed: it was committed in that term or before.
    committed: BTreeMap<u32, BTreeMap<u64, (LogId, u64)>>,
    /// How far each life of a replica has been compared with them.
    compared: BTreeMap<(u32, u64, u32), u64>,
    /// What each life of a replica was at.
    last_seen: BTreeMap<(u32, u64, u32), Seen>,
    /// The last vote that a replica has made durable, and on which disk.
    voted: BTreeMap<(u32, u64), (u32, Promise)>,
    /// The last leader to which a replica has acknowledged anything: it had made its vote for that
    /// one durable before.
    followed: BTreeMap<(u32, u64), Promise>,
    /// Committed entries that a replica has acknowledged to a leader, or told of as a leader.
    acknowledged: BTreeMap<(u32, u64), u64>,
    /// Committed entries that a replica has made durable while it led.
    own: BTreeMap<(u32, u64), Own>,
    /// The highest term in which a replica led.
    led: BTreeMap<(u32, u64), u64>,
}

/// What never goes back in one life.
#[derive(Default, Clone, Copy)]
struct Seen {
    term: u64,
    vote: Promise,
    committed: u64,
    marked: u64,
    applied: u64,
}

/// What a leader has made durable itself. It says so with what it sends; before that nobody could
/// remind it, should its directory become an older one of itself.
#[derive(Default)]
struct Own {
    /// On which disk: so many old images had been restored.
    images: u32,
    /// Up to here.
    upto: u64,
    /// Its term, where its log ended, and how much of it was durable when it was looked at.
    /// Whatever was appended behind that end has told another replica so.
    telling: Option<(u64, u64, u64)>,
}

fn told((term, replica, elected): Promise) -> String {
    let elected = if elected { ", elected" } else { "" };
    format!("{replica:#x} in term {term}{elected}")
}

fn index(id: Option<LogId>) -> u64 {
    id.map_or(0, |id| id.index)
}

impl Raft {
    /// Looks at one replica. `id_at` gives the id of an entry of its log, where it still holds it.
    /// `may_forget`: it runs with an old image and could not ask anyone yet what it has promised.
    pub fn look(
        &mut self,
        r: &Replica,
        may_forget: bool,
        id_at: &dyn Fn(u64) -> Option<LogId>,
        found: &mut Findings,
    ) {
        let mut bad = |what: String| {
            found.report(
                NAME,
                Some(r.node),
                format!("shard {} replica {:#x}: {what}", r.shard, r.id),
            )
        };
        self.positions(r, &mut bad);
        self.monotonic(r, &mut bad);
        self.votes(r, &mut bad);
        if !may_forget {
            self.remembers(r, &mut bad);
        }
        self.compare(r, id_at, &mut bad);
        self.leadership(r, id_at, &mut bad);
    }

    /// `purged <= persisted <= applied <= committed <= last`. A group that has stopped may have ended
    /// between the rows of a snapshot and the log that begins behind them: its start sees to that.
    ///
    /// A snapshot has no position of its own. It is a view of the applied rows, made durable when
    /// it is built: whoever is sent one gets what `persisted` covers, so `purged <= persisted` says
    /// that everything purged is in it.
    ///
    /// The log is told what is committed before that is applied, and writes it down later. So what
    /// a start or a snapshot has brought may be ahead of that mark; it is durable, though.
    fn positions(&self, r: &Replica, bad: &mut dyn FnMut(String)) {
        let order = [
            ("purged", index(r.purged)),
            ("persisted", index(r.persisted)),
            ("applied", index(r.applied)),
        ];
        for pair in order.windows(2) {
            if pair[0].1 > pair[1].1 {
                bad(format!(
                    "{} {} is beyond {} {}",
                    pair[0].0, pair[0].1, pair[1].0, pair[1].1
                ));
            }
        }
        let sure = index(r.marked).max(index(r.persisted));
        if index(r.applied) > sure {
            bad(format!(
                "applied {} is beyond what is committed, {sure}",
                index(r.applied)
            ));
        }
        if r.role != "down" && index(r.marked) > index(r.last) {
            bad(format!(
                "committed {} is beyond the last entry {}",
                index(r.marked),
                index(r.last)
            ));
        }
        if r.role != "down" && index(r.applied) > index(r.last) {
            bad(format!(
                "applied {} is beyond the last entry {}",
                index(r.applied),
                index(r.last)
            ));
        }
    }

    /// Terms, votes, commits and applies of one life never go back.
    fn monotonic(&mut self, r: &Replica, bad: &mut dyn FnMut(String)) {
        let life = (r.shard, r.id, r.incarnation);
        let now = Seen {
            term: r.term,
            vote: r.vote,
            committed: index(r.committed),
            marked: index(r.marked),
            applied: index(r.applied),
        };
        let before = self.last_seen.insert(life, now).unwrap_or_default();
        if now.vote < before.vote {
            let (before, now) = (told(before.vote), told(now.vote));
            bad(format!("its vote went back from {before} to {now}"));
        }
        for (what, before, now) in [
            ("term", before.term, now.term),
            ("commit", before.committed, now.committed),
            ("committed mark", before.marked, now.marked),
            ("apply", before.applied, now.applied),
        ] {
            if now < before {
                bad(format!("its {what} went back from {before} to {now}"));
            }
        }
    }

    /// A vote that is durable still holds in the next lives on the same disk.
    fn votes(&mut self, r: &Replica, bad: &mut dyn FnMut(String)) {
        let voted = self.voted.entry((r.shard, r.id)).or_default();
        if voted.0 != r.images {
            *voted = (r.images, Promise::default());
        }
        if r.vote < voted.1 {
            let (before, now) = (told(voted.1), told(r.vote));
            bad(format!("it has voted for {before} and knows only of {now}"));
        }
        voted.1 = voted.1.max(r.durable_vote);
    }

    /// What was promised in one life still holds in the next ones.
    fn remembers(&self, r: &Replica, bad: &mut dyn FnMut(String)) {
        if let Some(&led) = self.led.get(&(r.shard, r.id))
            && r.term < led
        {
            bad(format!(
                "it forgot term {led}, in which it led, and is in term {}",
                r.term
            ));
        }
        let whose = (r.shard, r.id);
        if let Some(&followed) = self.followed.get(&whose)
            && r.vote < followed
        {
            let (before, now) = (told(followed), told(r.vote));
            bad(format!(
                "it forgot that it followed {before}: its vote is {now}"
            ));
        }
        // What it has acknowledged and was committed is still there.
        let own = self.own.get(&whose).filter(|own| own.images == r.images);
        let acknowledged = self.acknowledged.get(&whose).copied();
        if let Some(acknowledged) = acknowledged.max(own.map(|own| own.upto))
            && index(r.last) < acknowledged
        {
            bad(format!(
                "it acknowledged entry {acknowledged} and its log ends at {}",
                index(r.last)
            ));
        }
    }

    /// What it has committed is what everybody has committed.
    fn compare(
        &mut self,
        r: &Replica,
        id_at: &dyn Fn(u64) -> Option<LogId>,
        bad: &mut dyn FnMut(String),
    ) {
        let committed = self.committed.entry(r.shard).or_default();
        let upto = self
            .compared
            .entry((r.shard, r.id, r.incarnation))
            .or_default();
        // What is applied is committed, whatever the library says of commits. A mark beyond the end
        // of the log is that of a snapshot on its way into the state machine. Until the log begins
        // anew behind it, it may end with what a deposed leader appended and nobody committed.
        let last = index(r.last);
        let marks = [index(r.committed), index(r.applied)];
        let end = marks.into_iter().filter(|at| *at <= last).max();
        let end = end.unwrap_or_default();
        let mut next = (*upto + 1).max(index(r.purged) + 1);
        while next <= end {
            if let Some(id) = id_at(next) {
                let (known, term) = committed.entry(next).or_insert((id, r.term));
                if *known != id {
                    bad(format!(
                        "entry {next} is {id} here and was committed as {known}"
                    ));
                }
                *term = (*term).min(r.term);
            }
            next += 1;
        }
        *upto = (*upto).max(end);
    }

    /// A leader has everything that was committed before its term.
    fn leadership(
        &mut self,
        r: &Replica,
        id_at: &dyn Fn(u64) -> Option<LogId>,
        bad: &mut dyn FnMut(String),
    ) {
        if r.role != "leader" {
            return;
        }
        let led = self.led.entry((r.shard, r.id)).or_default();
        *led = (*led).max(r.term);
        let committed = self.committed.entry(r.shard).or_default();
        // By the term of its commit, not of its entry: one of an earlier term may be committed by a
        // later leader, of which one that was cut off since its election knows nothing.
        let earlier = committed.iter().rev().find(|(_, (_, term))| *term < r.term);
        if let Some((&at, (id, _))) = earlier
            && at > index(r.purged)
            && id_at(at) != Some(*id)
        {
            bad(format!(
                "it leads term {} without entry {at} ({id}), which was committed before",
                r.term
            ));
        }
        let mut others = 0;
        for (member, matched) in &r.matched {
            if *member == r.id {
                continue;
            }
            if matched.is_some() {
                let followed = self.followed.entry((r.shard, *member)).or_default();
                *followed = (*followed).max((r.term, r.id, false));
            }
            let sure = index(*matched).min(index(r.committed));
            others = others.max(sure);
            let known = self.acknowledged.entry((r.shard, *member)).or_default();
            *known = (*known).max(sure);
        }
        self.tells(r, others);
    }

    /// What a leader has made durable itself, and has told the others, who have acknowledged
    /// committed entries up to `others`.
    fn tells(&mut self, r: &Replica, others: u64) {
        let matched = r.matched.iter().find(|(member, _)| *member == r.id);
        let sure = matched.map_or(0, |(_, matched)| index(*matched).min(index(r.committed)));
        let own = self.own.entry((r.shard, r.id)).or_default();
        if own.images != r.images {
            *own = Own {
                images: r.images,
                ..Own::default()
            };
        }
        own.upto = own.upto.max(sure);
        match own.telling {
            Some((term, end, _)) if term == r.term && others <= end => return,
            Some((term, _, upto)) if term == r.term => {
                let known = self.acknowledged.entry((r.shard, r.id)).or_default();
                *known = (*known).max(upto);
            }
            _ => {}
        }
        own.telling = Some((r.term, index(r.last), sure));
    }
}

#[cfg(test)]
mod tests {
    use posthouse_node::raft::types::log_id;
    use posthouse_node::types::ReplicaId;

    use super::*;

    fn follower(id: u64, last: LogId, committed: LogId) -> Replica {
        Replica {
            node: id as u32,
            incarnation: 1,
            images: 0,
            shard: 1,
            id,
            role: "follower",
            term: 3,
            vote: (3, 1, true),
            durable_vote: (3, 1, true),
            last: Some(last),
            committed: Some(committed),
            marked: Some(last.min(committed)),
            applied: None,
            persisted: None,
            purged: None,
            matched: Vec::new(),
            voters: Vec::new(),
        }
    }

    #[test]
    fn what_a_leader_told_nobody_may_be_gone_with_its_disk() {
        let id = |index| log_id(3, ReplicaId(1), index);
        let leads = |last, others| Replica {
            role: "leader",
            matched: vec![(1, Some(id(last))), (2, Some(id(others)))],
            ..follower(1, id(last), id(others))
        };
        let back = |images, last| Replica {
            images,
            incarnation: 2,
            ..follower(1, id(last), id(last))
        };
        let forgot = |seen: &[Replica]| {
            let (mut raft, mut found) = (Raft::default(), Findings::default());
            for r in seen {
                raft.look(r, false, &|at| Some(id(at)), &mut found);
            }
            !found.violations.is_empty()
        };
        assert!(!forgot(&[leads(9, 9), back(1, 8)]));
        assert!(forgot(&[leads(9, 9), back(0, 8)]));
        // The tenth entry said that the ninth is durable, the eleventh that the tenth is.
        assert!(!forgot(&[leads(9, 9), leads(10, 10), back(1, 9)]));
        assert!(forgot(&[leads(9, 9), leads(10, 10), back(1, 8)]));
        assert!(forgot(&[
            leads(9, 9),
            leads(10, 10),
            leads(11, 11),
            back(1, 9)
        ]));
        // Nobody has acknowledged the tenth.
        assert!(!forgot(&[leads(9, 9), leads(10, 9), back(1, 8)]));
    }

    #[test]
    fn a_vote_outlives_its_process_where_its_disk_does() {
        let id = log_id(3, ReplicaId(1), 9);
        let voted = |term, incarnation, images| Replica {
            vote: (term, 2, false),
            durable_vote: (term, 2, false),
            incarnation,
            images,
            ..follower(1, id, id)
        };
        let not_yet_durable = Replica {
            durable_vote: (3, 1, true),
            ..voted(4, 1, 0)
        };
        let leads = Replica {
            role: "leader",
            term: 4,
            matched: vec![(1, Some(id)), (2, Some(id))],
            ..follower(2, id, id)
        };
        let forgot = |seen: &[Replica], may_forget| {
            let (mut raft, mut found) = (Raft::default(), Findings::default());
            for r in seen {
                raft.look(r, may_forget, &|_| Some(id), &mut found);
            }
            !found.violations.is_empty()
        };
        assert!(!forgot(&[voted(4, 1, 0), voted(4, 2, 0)], false));
        assert!(forgot(&[voted(4, 1, 0), voted(3, 2, 0)], false));
        assert!(forgot(&[voted(4, 1, 0), voted(3, 1, 0)], false));
        // Another disk, or one that the vote has not reached.
        assert!(!forgot(&[voted(4, 1, 0), voted(3, 2, 1)], false));
        assert!(!forgot(&[not_yet_durable, voted(3, 2, 0)], false));
        // Nobody but the leader that it followed knows, until it asks.
        assert!(forgot(&[leads.clone(), voted(3, 2, 1)], false));
        assert!(!forgot(&[leads, voted(3, 2, 1)], true));
    }

    #[test]
    fn only_what_is_committed_is_applied() {
        let at = |index| Some(log_id(3, ReplicaId(1), index));
        let found = |marked, persisted, applied| {
            let (mut raft, mut found) = (Raft::default(), Findings::default());
            let r = Replica {
                marked: at(marked),
                persisted: at(persisted),
                applied: at(applied),
                ..follower(1, at(9).unwrap(), at(9).unwrap())
            };
            raft.look(&r, false, &at, &mut found);
            found.violations.len()
        };
        assert_eq!(found(7, 5, 7), 0);
        assert_eq!(found(7, 5, 8), 1);
        // As a start or a snapshot leaves it.
        assert_eq!(found(3, 8, 8), 0);
        assert_eq!(found(10, 5, 7), 1);
    }

    #[test]
    fn what_a_snapshot_is_about_to_replace_counts_for_nothing() {
        let old = |index| log_id(1, ReplicaId(1), index);
        let new = |index| log_id(2, ReplicaId(2), index);
        let (mut raft, mut found) = (Raft::default(), Findings::default());
        let leader = follower(2, new(9), new(9));
        raft.look(&leader, false, &|at| Some(new(at)), &mut found);
        // It has led and was cut off; a snapshot up to entry 9 is on its way into its state.
        let arriving = follower(1, old(7), new(9));
        raft.look(&arriving, false, &|at| Some(old(at)), &mut found);
        assert!(found.violations.is_empty(), "{:?}", found.violations);
        // A log that goes on beyond what is committed has it all, or has diverged.
        let diverged = follower(1, old(10), new(9));
        raft.look(&diverged, false, &|at| Some(old(at)), &mut found);
        assert!(!found.violations.is_empty());
    }
}
