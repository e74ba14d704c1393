//! Programs that change one mailbox through different nodes at the same time: two mbsync, each with
//! a Maildir of its own, and imapclient. In the end everybody holds the same: what each has added,
//! without what each has removed.

use std::collections::BTreeSet;

use super::maildir::{letters_of, with_lf, without_marks};
use super::mbsync::mbsync;
use super::python::case;
use super::*;

/// Who dies in the middle of a round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dies {
    Nobody,
    Leader,
    /// The node that one mbsync talks to, which gives up and is run again with another one.
    ItsNode,
}

/// One round of changes by all of them, around 60 letters that are there.
async fn round(cluster: &mut Cluster, account: &str, dies: Dies) {
    create(cluster, account).await;
    append(cluster, account, &letters(0..60)).await;
    let dir = cluster.dir().to_owned();
    let (leader, [a, b]) = leader_and_others(cluster, account).await;
    // Through all three nodes, or through the two that live on.
    let c = if dies == Dies::Leader { a } else { leader };
    let victim = match dies {
        Dies::Nobody => None,
        Dies::Leader => Some(leader),
        Dies::ItsNode => Some(a),
    };
    let (mut doors, names) = ([Door::of(cluster, a), Door::of(cluster, b)], ["one", "two"]);
    let places = names.map(|name| folder(cluster, &format!("{account}-{name}")));
    for (i, name) in names.into_iter().enumerate() {
        run(name, &mut mbsync(&places[i], &doors[i], account), &dir).await;
        assert_eq!(maildir::count(&places[i].join("INBOX")), 60);
    }

    let line = |n: usize| format!("This is letter {n}.");
    let lines = |numbers: std::ops::Range<usize>| numbers.map(line).collect::<Vec<_>>();
    for (i, place) in places.iter().enumerate() {
        let inbox = place.join("INBOX");
        let first = 1000 * (i + 1);
        for (n, letter) in letters(first..first + 100).iter().enumerate() {
            maildir::add(&inbox, first + n, "S", letter);
        }
        maildir::mark(&inbox, &lines(10 * i..10 * i + 10), "T");
        maildir::mark(&inbox, &lines(20..30), ["F", "R"][i]);
    }
    let all = |cluster: &Cluster| {
        let mut third = case(&dir, "churn.py", "third", account, &[Door::of(cluster, c)]);
        [
            start("one", &mut mbsync(&places[0], &doors[0], account), &dir),
            start("two", &mut mbsync(&places[1], &doors[1], account), &dir),
            start("third", &mut third, &dir),
        ]
    };
    let [one, two, third] = all(cluster);
    if let Some(victim) = victim {
        until_some(
            "the round",
            async || count(cluster, account, "INBOX").await,
            120,
        )
        .await;
        cluster.kill(victim);
    }
    if dies == Dies::ItsNode {
        let mut one = one;
        assert!(
            !one.wait(PATIENCE).await.unwrap().success(),
            "it was too fast"
        );
        doors[0] = Door::of(cluster, c);
        run("one", &mut mbsync(&places[0], &doors[0], account), &dir).await;
    } else {
        finish("one", one, &dir).await;
    }
    finish("two", two, &dir).await;
    finish("third", third, &dir).await;

    // Each hears of the others' changes.
    for i in [0, 1, 0] {
        run(names[i], &mut mbsync(&places[i], &doors[i], account), &dir).await;
    }
    let flat = |flags: String, octets: &[u8]| (flags, with_lf(&without_marks(octets)));
    let stored = kept(cluster, account, "INBOX").await;
    let uids: BTreeSet<u32> = stored.iter().map(|m| m.uid).collect();
    assert_eq!(uids.len(), stored.len());
    let stored: Vec<_> = stored
        .iter()
        .map(|m| flat(letters_of(&m.flags), &m.octets))
        .collect();
    for (name, place) in names.iter().zip(&places) {
        let local = maildir::read(&place.join("INBOX")).into_iter();
        assert_same(name, local.map(|m| (m.flags, m.octets)), stored.clone());
    }

    // The changes, as they were made.
    let mine = |numbers: std::ops::Range<usize>, flags: &str| -> Vec<_> {
        let letters = letters(numbers);
        letters.iter().map(|l| flat(flags.to_owned(), l)).collect()
    };
    let mut expected = mine(20..30, "FR");
    expected.extend(mine(30..41, ""));
    expected.extend(mine(41..51, "R"));
    expected.extend(mine(1000..1100, "S"));
    expected.extend(mine(2000..2100, "S"));
    let thirds = |found: &Vec<u8>| {
        let text = String::from_utf8_lossy(found).into_owned();
        text.contains("\nSubject: letter 30")
            && (3001..3051).any(|n| text.contains(&format!("<letter-{n}@")))
    };
    let (added, others): (Vec<_>, Vec<_>) = stored.into_iter().partition(|(_, o)| thirds(o));
    assert_same("INBOX", others, expected);
    assert_eq!(added.len(), 50);
    assert_eq!(added.iter().collect::<BTreeSet<_>>().len(), 50);
    let archive = kept(cluster, account, "Archive").await;
    let archive = archive.iter().map(|m| m.octets.clone());
    assert_same("Archive", archive, letters(51..60));
    if let Some(victim) = victim {
        cluster.restart(victim).await.unwrap();
        cluster.wait_healthy(PATIENCE).await.unwrap();
    }
}

#[tokio::test]
async fn programs_change_one_mailbox_at_the_same_time() {
    let mut cluster = cluster().await;
    round(&mut cluster, "peace@example.org", Dies::Nobody).await;
    round(&mut cluster, "death@example.org", Dies::Leader).await;
    round(&mut cluster, "lost@example.org", Dies::ItsNode).await;
    cluster.wait_same_state(PATIENCE).await.unwrap();
}
