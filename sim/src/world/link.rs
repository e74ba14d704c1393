//! What lies between two hosts: delay, and what the rules of the moment do to it.

use std::collections::BTreeMap;

use rand::RngExt;

use super::HostId;
use crate::plan;
use crate::stream::{Stream, stream};

/// A rule that changes links while it is in force.
#[derive(Debug, Clone)]
pub enum Rule {
    /// Hosts in different groups do not reach each other.
    Partition(BTreeMap<HostId, u32>),
    /// Nothing gets from the first to the second.
    OneWay(HostId, HostId),
    /// Nothing gets in or out.
    Clogged(HostId),
    /// Every packet from the first to the second takes so much longer, µs.
    Slow(HostId, HostId, u64),
    /// Of a thousand packets, so many end their connection.
    Resets(u32),
    /// Of a thousand messages whose order does not matter, so many come twice or late.
    Disorder(u32),
}

/// All links.
pub struct Links {
    seed: u64,
    settings: plan::Network,
    zones: BTreeMap<HostId, u32>,
    rules: BTreeMap<u64, Rule>,
    next_rule: u64,
    draws: BTreeMap<(HostId, HostId), Stream>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// It arrives after so many µs.
    After(u64),
    /// It arrives after the first, and once more after the second.
    Twice(u64, u64),
    /// Its connection breaks.
    Reset,
}

impl Links {
    /// Healthy links.
    pub fn new(seed: u64, settings: plan::Network) -> Links {
        Links {
            seed,
            settings,
            zones: BTreeMap::new(),
            rules: BTreeMap::new(),
            next_rule: 0,
            draws: BTreeMap::new(),
        }
    }

    /// Says where a host is.
    pub fn place(&mut self, host: HostId, zone: u32) {
        self.zones.insert(host, zone);
    }

    /// Puts a rule in force; gives its number.
    pub fn add(&mut self, rule: Rule) -> u64 {
        self.next_rule += 1;
        self.rules.insert(self.next_rule, rule);
        self.next_rule
    }

    /// One more host is in this group of a partition, as long as that is in force.
    pub fn take_in(&mut self, number: u64, host: HostId, group: u32) {
        if let Some(Rule::Partition(groups)) = self.rules.get_mut(&number) {
            groups.insert(host, group);
        }
    }

    /// Ends a rule.
    pub fn remove(&mut self, number: u64) {
        self.rules.remove(&number);
    }

    /// Ends all rules.
    pub fn heal(&mut self) {
        self.rules.clear();
    }

    /// Whether no rule is in force.
    pub fn calm(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether packets get from one host to another.
    pub fn open(&self, from: HostId, to: HostId) -> bool {
        !self.rules.values().any(|rule| match rule {
            Rule::Partition(groups) => match (groups.get(&from), groups.get(&to)) {
                (Some(a), Some(b)) => a != b,
                _ => false,
            },
            Rule::OneWay(a, b) => (from, to) == (*a, *b),
            Rule::Clogged(host) => (from == *host || to == *host) && from != to,
            _ => false,
        })
    }

    /// What becomes of a packet; `orderless`: whether it may come twice or late.
    pub fn passage(&mut self, from: HostId, to: HostId, orderless: bool) -> Passage {
        let s = &self.settings;
        let (mut delay, mut jitter) = (s.delay_ms * 1000, s.jitter_ms * 1000);
        if self.zones.get(&from) != self.zones.get(&to) {
            delay += s.zone_delay_ms * 1000;
            jitter += s.zone_delay_ms * 500;
        }
        let (mut resets, mut disorder) = (0, 0);
        for rule in self.rules.values() {
            match rule {
                Rule::Slow(a, b, by) if (from, to) == (*a, *b) => {
                    delay += by;
                    jitter += by / 4;
                }
                Rule::Resets(n) => resets += n,
                Rule::Disorder(n) => disorder += n,
                _ => {}
            }
        }
        let seed = self.seed;
        let draws = self.draws.entry((from, to)).or_insert_with(|| {
            let index = u64::from(from.0) << 32 | u64::from(to.0);
            stream(seed, "link", index)
        });
        if jitter > 0 {
            delay += draws.random_range(0..=jitter);
        }
        if resets > 0 && draws.random_range(0..1000) < resets {
            return Passage::Reset;
        }
        if orderless && disorder > 0 && draws.random_range(0..1000) < disorder {
            let late = draws.random_range(1_000..400_000);
            return match draws.random_bool(0.5) {
                true => Passage::Twice(delay, delay + late),
                false => Passage::After(delay + late),
            };
        }
        Passage::After(delay)
    }
}
