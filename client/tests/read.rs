//! Streams of messages and sections against a pretended cluster, whose streams break off.

#![allow(clippy::disallowed_methods)]

#[allow(dead_code)]
mod fake;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fake::FakeCluster;
use futures::TryStreamExt;
use posthouse_client::ids::{AccountName, MailboxName};
use posthouse_client::proto::section_data::Outcome;
use posthouse_client::proto::{Section, UidRange};
use posthouse_client::*;

fn octets(seed: u64, len: usize) -> Bytes {
    (0..len as u64)
        .map(|i| ((i + seed) * (i + 3 * seed) % 251) as u8)
        .collect()
}

/// A cluster with an account that has these messages.
async fn with_mail(lens: &[usize]) -> (FakeCluster, Client, AccountName, Vec<Bytes>) {
    let cluster = FakeCluster::start().await;
    let addrs: Vec<String> = (1..=3).map(|n| cluster.addr(n)).collect();
    let client = Client::new(&addrs, Settings::default()).unwrap();
    let a = cluster.account_of(1, "a");
    let mail: Vec<Bytes> = (1..).zip(lens).map(|(i, &n)| octets(i, n)).collect();
    let mut world = cluster.world.lock();
    world.mail.insert(a.as_str().to_owned(), mail.clone());
    drop(world);
    (cluster, client, a, mail)
}

fn section(path: &[u32], offset: u64, length: u64) -> Section {
    Section {
        path: path.to_vec(),
        offset,
        length,
        ..Section::default()
    }
}

/// What was handed out: the messages in their order, and the octets of each section.
type Got = (Vec<u32>, BTreeMap<(u32, u32), (Vec<u8>, bool)>);

async fn collect(mut stream: FetchStream) -> Result<Got, Error> {
    let mut uids = Vec::new();
    let mut sections: BTreeMap<(u32, u32), (Vec<u8>, bool)> = BTreeMap::new();
    let mut sizes = BTreeMap::new();
    while let Some(event) = stream.next().await? {
        match event {
            FetchEvent::Rows(_) => panic!("no columns were asked for"),
            FetchEvent::Message(m) => uids.push(m.uid),
            FetchEvent::Section(s) => {
                let key = (*uids.last().unwrap(), s.index);
                let (all, last) = sections.entry(key).or_default();
                assert!(!*last, "something came after the last piece of {key:?}");
                let total = *sizes.entry(key).or_insert(s.size);
                assert_eq!(all.len() as u64 + s.size, total);
                all.extend_from_slice(&s.data);
                *last = s.last;
                assert_eq!(s.last, all.len() as u64 == total);
                if s.index == 2 {
                    assert_eq!(s.outcome, Outcome::NoSuchPart as i32);
                }
            }
        }
    }
    assert!(stream.next().await?.is_none());
    Ok((uids, sections))
}

#[tokio::test]
async fn a_broken_stream_goes_on_in_the_middle_of_a_section_at_the_next_leader() {
    let (cluster, client, a, mail) = with_mail(&[9000, 0, 1, 4200, 700, 20_000]).await;
    for email in [false, true] {
        let options = FetchOptions {
            sections: vec![
                section(&[], 0, 0),
                section(&[1], 5, 2000),
                section(&[2], 0, 0),
                section(&[1], 0, 0),
            ],
            email,
            ..FetchOptions::default()
        };
        for breaks in [710, 1400, 2100, 3333, 9010, 11_000, 14_000] {
            {
                let mut world = cluster.world.lock();
                world.fetch_breaks = (breaks, 1000);
                world.breaks_move_leader = true;
                world.calls.clear();
            }
            let inbox = MailboxName::inbox();
            let stream = client.fetch_messages(&a, &inbox, options.clone()).await;
            let stream = stream.unwrap();
            assert_eq!(stream.highest_modseq(), 99);
            assert_eq!(stream.keywords()[&7], "$Seven");
            let (uids, sections) = collect(stream).await.unwrap();
            assert_eq!(uids, [1, 2, 3, 4, 5, 6]);
            for (uid, whole) in (1..).zip(&mail) {
                let half = &whole[whole.len() / 2..];
                let range = &half[half.len().min(5)..half.len().min(2005)];
                for (index, expected) in (0..).zip([&whole[..], range, b"", half]) {
                    let (got, last) = &sections[&(uid, index)];
                    assert!(got == expected && *last, "{uid} {index} {breaks}");
                }
            }
            let nodes = cluster.world.lock().calls.clone();
            let reads = |n| nodes.contains(&(n, "read"));
            assert!(reads(1) && reads(2) && reads(3));
        }
    }
}

#[tokio::test]
async fn messages_without_sections_come_once_each() {
    let (cluster, client, a, _) = with_mail(&[1; 50]).await;
    cluster.world.lock().fetch_breaks = (90, 100);
    let options = FetchOptions {
        uids: [(2, 4), (6, 6), (8, 40), (45, 0)]
            .map(|(first, last)| UidRange { first, last })
            .to_vec(),
        changed_since: 2,
        ..FetchOptions::default()
    };
    let stream = client
        .fetch_messages(&a, &MailboxName::inbox(), options)
        .await;
    let events = stream.unwrap().into_stream();
    let events: Vec<_> = events.try_collect().await.unwrap();
    let uids = events.iter().map(|event| match event {
        FetchEvent::Message(m) => m.uid,
        other => panic!("{other:?}"),
    });
    let expected = [3, 4, 6].into_iter().chain(8..=40).chain(45..=50);
    assert!(uids.eq(expected));
}

#[tokio::test]
async fn a_stream_that_gets_nowhere_ends_with_its_error() {
    let (cluster, client, a, _) = with_mail(&[5000]).await;
    cluster.world.lock().fetch_breaks = (500, 1000);
    let options = FetchOptions {
        sections: vec![section(&[], 0, 0)],
        ..FetchOptions::default()
    };
    let stream = client
        .fetch_messages(&a, &MailboxName::inbox(), options)
        .await;
    let error = collect(stream.unwrap()).await.unwrap_err();
    assert!(
        matches!(error, Error::Unavailable { .. } | Error::Transport { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_fetch_that_nobody_answers_ends_by_its_deadline() {
    let (cluster, client, a, _) = with_mail(&[10]).await;
    client.placement().await.unwrap();
    cluster.world.lock().frozen = vec![1, 2, 3];
    let second = Duration::from_secs(1);
    let (client, inbox) = (client.with_deadline(second), MailboxName::inbox());
    let begun = Instant::now();
    let fetched = client.fetch_messages(&a, &inbox, FetchOptions::default());
    let error = fetched.await.err().unwrap();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    assert!(begun.elapsed() < second * 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_message_that_is_expunged_meanwhile_is_not_handed_out_in_part() {
    let (cluster, client, a, _) = with_mail(&[10, 5000]).await;
    cluster.world.lock().fetch_breaks = (2000, 1000);
    let options = FetchOptions {
        sections: vec![section(&[], 0, 0)],
        ..FetchOptions::default()
    };
    let stream = client
        .fetch_messages(&a, &MailboxName::inbox(), options)
        .await;
    let mut stream = stream.unwrap();
    for _ in 0..4 {
        stream.next().await.unwrap().unwrap();
    }
    cluster.world.lock().mail.get_mut(a.as_str()).unwrap().pop();
    let error = collect_rest(stream).await;
    assert!(
        matches!(&error, Error::NotFound { what, .. } if what == "message"),
        "{error:?}"
    );
}

async fn collect_rest(mut stream: FetchStream) -> Error {
    loop {
        match stream.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended as if it were whole"),
            Err(error) => return error,
        }
    }
}

#[tokio::test]
async fn damaged_messages_are_noticed_where_the_blob_id_is_known() {
    let (cluster, client, a, _) = with_mail(&[5000]).await;
    cluster.world.lock().damage = true;
    let inbox = MailboxName::inbox();
    let mut options = FetchOptions {
        sections: vec![section(&[], 0, 0)],
        ..FetchOptions::default()
    };
    let stream = client.fetch_messages(&a, &inbox, options.clone()).await;
    assert!(collect(stream.unwrap()).await.is_ok());
    options.email = true;
    let stream = client.fetch_messages(&a, &inbox, options).await;
    let error = collect(stream.unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
}
