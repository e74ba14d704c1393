//! Shards: the merged view of all nodes, placement, and whether replicas agree.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use posthouse_client::proto::{GetPlacementResponse, HashStateResponse, Shard, SlotRange};
use posthouse_client::{Client, Error, Target};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::exit::{Failure, Outcome};
use crate::output::{Columns, print_json};

/// One node that is down must not hold up the picture that the others give.
const VIEW_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two comparisons of replicas that lag.
const HASH_STEP: Duration = Duration::from_millis(250);

/// Lists shards: with `local` one node's view, else the leaders' views of their shards.
pub async fn list(json: bool, client: &Client, target: &Target, local: bool) -> Outcome {
    let (shards, views) = match local {
        true => (client.shards(target, true).await?, Vec::new()),
        false => merged(client, target).await?,
    };
    if json {
        let view =
            |(node, shards): &(u64, Vec<Shard>)| json!({ "node_id": node, "shards": shards });
        let views: Vec<Value> = views.iter().map(view).collect();
        return print_json(&json!({ "shards": shards, "views": views }));
    }
    let mut table = Columns::new(&[
        "#Shard",
        "#Leader",
        "#Term",
        "#Last",
        "#Committed",
        "#Applied",
        "#Persisted",
        "#Purged",
        "Replicas (node role lag)",
        "Slots",
    ]);
    for s in &shards {
        let leader = match s.leader_node {
            0 => "none".to_owned(),
            node => node.to_string(),
        };
        let replica = |r: &posthouse_client::proto::Replica| match r.role.as_str() {
            "leader" => format!("{} leader", r.node_id),
            role => format!("{} {role} {}", r.node_id, r.lag),
        };
        table.row([
            s.shard.to_string(),
            leader,
            s.term.to_string(),
            s.last_log.to_string(),
            s.committed.to_string(),
            s.applied.to_string(),
            s.persisted.to_string(),
            s.purged.to_string(),
            s.replicas
                .iter()
                .map(replica)
                .collect::<Vec<_>>()
                .join(", "),
            slots(&s.slots),
        ]);
    }
    table.print("no shards")
}

type View = (u64, Vec<Shard>);

/// What all nodes say of their own replicas, and for each shard the best of it.
async fn merged(client: &Client, target: &Target) -> Result<(Vec<Shard>, Vec<View>), Failure> {
    let base = client.shards(target, false).await?;
    let placement = client.placement().await?;
    let nodes: Vec<u64> = placement.nodes().map(|(id, _)| id).collect();
    let asked = client.with_deadline(VIEW_TIMEOUT);
    let asked = &asked;
    let answers = join_all(nodes.iter().map(|node| async move {
        let shards = asked.shards(&Target::Node(*node), true).await;
        shards.map(|s| (*node, s))
    }));
    // Nodes that do not answer are seen in the lag that their leaders report.
    let views: Vec<View> = answers.await.into_iter().flatten().collect();
    Ok((best_views(base, &views), views))
}

/// For each shard the view of its leader in the highest term, else the highest term that anybody
/// knows. Only a leader knows how far the others are.
fn best_views(base: Vec<Shard>, views: &[View]) -> Vec<Shard> {
    let mut best: BTreeMap<u32, ((bool, u64), Shard)> = BTreeMap::new();
    let any = base.into_iter().map(|s| (0, s));
    let own = views
        .iter()
        .flat_map(|(n, list)| list.iter().map(|s| (*n, s.clone())));
    for (node, shard) in any.chain(own) {
        let rank = (node != 0 && shard.leader_node == node, shard.term);
        match best.get(&shard.shard) {
            Some((old, _)) if !better(rank, *old) => {}
            _ => {
                best.insert(shard.shard, (rank, shard));
            }
        }
    }
    best.into_values().map(|(_, shard)| shard).collect()
}

/// A deposed leader still calls itself one: only the newest term counts, then leadership.
fn better(new: (bool, u64), old: (bool, u64)) -> bool {
    (new.1, new.0) > (old.1, old.0)
}

fn slots(ranges: &[SlotRange]) -> String {
    let one = |r: &SlotRange| match r.first == r.last {
        true => r.first.to_string(),
        false => format!("{}-{}", r.first, r.last),
    };
    ranges.iter().map(one).collect::<Vec<_>>().join(",")
}

/// Prints the placement map.
pub fn print_placement(placement: &GetPlacementResponse) -> Outcome {
    crate::output::say(&format!(
        "cluster {}, placement version {}",
        placement.cluster_id, placement.version
    ))?;
    let mut table = Columns::new(&["#Shard", "Nodes", "#Leader", "Slots"]);
    for s in &placement.shards {
        let nodes: Vec<String> = s.nodes.iter().map(u64::to_string).collect();
        let leader = match s.leader_hint {
            0 => "unknown".to_owned(),
            node => node.to_string(),
        };
        table.row([
            s.shard.to_string(),
            nodes.join(", "),
            leader,
            slots(&s.slots),
        ]);
    }
    table.print("no shards")
}

type Replicas = Vec<(u64, Result<HashStateResponse, Error>)>;

/// Compares the state of the replicas of shards. Replicas agree when all that apply the same
/// index have the same hash and all have caught up; those that lag are asked again for a while.
pub async fn hash(json: bool, client: &Client, only: Vec<u32>, wait: Duration) -> Outcome {
    let until = Instant::now() + wait;
    let mut done: BTreeMap<u32, (Verdict, Replicas)> = BTreeMap::new();
    let placement = client.placement_of(&Target::Any).await?;
    let mut open: Vec<(u32, Vec<u64>)> = Vec::new();
    for s in &placement.shards {
        if only.is_empty() || only.contains(&s.shard) {
            open.push((s.shard, s.nodes.clone()));
        }
    }
    if let Some(missing) = only.iter().find(|s| open.iter().all(|(o, _)| o != *s)) {
        return Err(Error::not_found("shard", format!("there is no shard {missing}")).into());
    }
    while !open.is_empty() {
        let mut again = Vec::new();
        for (shard, nodes) in open {
            let replicas = join_all(nodes.iter().map(|node| async move {
                let target = Target::Node(*node);
                (*node, client.hash_state(&target, shard).await)
            }));
            let replicas = replicas.await;
            let verdict = verdict(&replicas);
            if verdict == Verdict::Lagging && Instant::now() < until {
                again.push((shard, nodes));
            }
            done.insert(shard, (verdict, replicas));
        }
        open = again;
        if !open.is_empty() {
            tokio::time::sleep(HASH_STEP).await;
        }
    }
    print_hashes(json, &done)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Equal,
    Lagging,
    Different,
}

fn verdict(replicas: &Replicas) -> Verdict {
    let mut at: BTreeMap<u64, &[u8]> = BTreeMap::new();
    let mut lagging = false;
    for (_, replica) in replicas {
        match replica {
            Ok(r) => match at.insert(r.applied, &r.hash) {
                Some(other) if other != r.hash => return Verdict::Different,
                _ => {}
            },
            Err(_) => lagging = true,
        }
    }
    match lagging || at.len() != 1 {
        true => Verdict::Lagging,
        false => Verdict::Equal,
    }
}

fn print_hashes(json: bool, done: &BTreeMap<u32, (Verdict, Replicas)>) -> Outcome {
    let worst = done
        .values()
        .map(|(v, _)| *v)
        .max()
        .unwrap_or(Verdict::Equal);
    let mut table = Columns::new(&["#Shard", "Verdict", "#Node", "#Applied", "#Rows", "Hash"]);
    let mut documents = Vec::new();
    for (shard, (verdict, replicas)) in done {
        let word = match verdict {
            Verdict::Equal => "equal",
            Verdict::Lagging => "lagging",
            Verdict::Different => "different",
        };
        let mut values = Vec::new();
        for (node, replica) in replicas {
            let (applied, rows, hash) = match replica {
                Ok(r) => {
                    let mut value = serde_json::to_value(r).map_err(std::io::Error::from)?;
                    let hash = value["hash"].as_str().unwrap_or_default().to_owned();
                    value["node_id"] = (*node).into();
                    values.push(value);
                    (r.applied.to_string(), r.rows.to_string(), hash)
                }
                Err(e) => {
                    values.push(json!({ "node_id": node, "error": e.to_string() }));
                    (String::new(), String::new(), e.to_string())
                }
            };
            let (shard, node) = (shard.to_string(), node.to_string());
            table.row([shard, word.to_owned(), node, applied, rows, hash]);
        }
        documents.push(json!({ "shard": shard, "verdict": word, "replicas": values }));
    }
    match json {
        true => print_json(&json!({
            "equal": worst == Verdict::Equal,
            "shards": documents,
        }))?,
        false => table.print("no shards")?,
    }
    match worst {
        Verdict::Equal => Ok(()),
        Verdict::Lagging => Err(Failure::Other(4, "replicas lag or do not answer".into())),
        Verdict::Different => Err(Failure::Other(1, "replicas differ".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(shard: u32, leader_node: u64, term: u64) -> Shard {
        Shard {
            shard,
            leader_node,
            term,
            ..Shard::default()
        }
    }

    #[test]
    fn the_newest_leader_is_believed() {
        let base = vec![shard(1, 1, 4), shard(2, 0, 1)];
        let views = vec![
            (1, vec![shard(1, 1, 4), shard(2, 3, 2)]),
            (2, vec![shard(1, 2, 5)]),
            (3, vec![shard(1, 2, 5), shard(2, 3, 2)]),
        ];
        let best = best_views(base, &views);
        assert_eq!(best.len(), 2);
        assert_eq!((best[0].leader_node, best[0].term), (2, 5));
        assert_eq!((best[1].leader_node, best[1].term), (3, 2));
    }

    #[test]
    fn replicas_agree_only_at_one_index_with_one_hash() {
        let replica = |node, applied, hash: &'static [u8]| {
            let response = HashStateResponse {
                applied,
                hash: hash.into(),
                rows: 1,
            };
            (node, Ok(response))
        };
        let gone = || {
            let message = "gone".into();
            (3, Err(Error::Transport { message }))
        };
        let equal = vec![replica(1, 7, b"a"), replica(2, 7, b"a")];
        assert_eq!(verdict(&equal), Verdict::Equal);
        let lagging = vec![replica(1, 7, b"a"), replica(2, 6, b"b")];
        assert_eq!(verdict(&lagging), Verdict::Lagging);
        let missing = vec![replica(1, 7, b"a"), gone()];
        assert_eq!(verdict(&missing), Verdict::Lagging);
        let different = vec![replica(1, 7, b"a"), replica(2, 7, b"b"), gone()];
        assert_eq!(verdict(&different), Verdict::Different);
    }
}
