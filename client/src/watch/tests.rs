//! What subscribers are told of what nodes say.

use super::*;

fn name() -> AccountName {
    AccountName::new("a@x").unwrap()
}

fn place(seen: ModSeq) -> Arc<Place> {
    let place = Arc::new(Place::default());
    place.waiting.lock().seen = seen;
    place
}

/// An account of shard 1 at a modseq, with these subscribers.
fn state(seen: ModSeq, places: &[&Arc<Place>]) -> State {
    let mut state = State::default();
    let subscribers = (0..).zip(places.iter().map(|p| Arc::clone(p))).collect();
    let entry = Entry {
        seen,
        suspect: false,
        asked_again: false,
        shard: Some(1),
        subscribers,
    };
    state.accounts.insert(name(), entry);
    state.shards.entry(1).or_default().accounts.insert(name());
    state
}

fn event(modseq: ModSeq, mailboxes: &[u32]) -> WatchEvent {
    WatchEvent {
        account: "a@x".into(),
        modseq,
        mailboxes: mailboxes.to_vec(),
        ..WatchEvent::default()
    }
}

fn taken(place: &Place) -> Option<(ModSeq, Vec<u32>, bool)> {
    let change = place.waiting.lock().change.take()?;
    let mailboxes = change.mailboxes.iter().map(|m| m.0).collect();
    Some((change.modseq, mailboxes, change.resync))
}

#[test]
fn an_event_covers_only_who_has_seen_what_came_before_it() {
    let (behind, level, ahead) = (place(4), place(5), place(7));
    let mut state = state(5, &[&behind, &level, &ahead]);
    state.told(1, &event(6, &[1, 2]));
    assert_eq!(taken(&behind), Some((6, vec![], true)));
    assert_eq!(taken(&level), Some((6, vec![1, 2], false)));
    assert_eq!(taken(&ahead), None);
    state.told(1, &event(8, &[3]));
    for place in [&behind, &level, &ahead] {
        assert_eq!(taken(place), Some((8, vec![3], false)));
    }
    // Once more, and from a stream of another shard.
    state.told(1, &event(8, &[3]));
    state.told(2, &event(9, &[3]));
    assert_eq!(taken(&level), None);
    assert_eq!(state.accounts[&name()].seen, 8);
}

#[test]
fn what_waits_is_one_change_with_few_mailboxes() {
    let slow = place(0);
    let mut state = state(0, &[&slow]);
    for n in 1..=10 {
        state.told(1, &event(n, &[(11 - n) as u32, 3]));
    }
    assert_eq!(taken(&slow), Some((10, (1..=10).collect(), false)));
    let many: Vec<u32> = (0..=MAILBOXES as u32).collect();
    state.told(1, &event(11, &many));
    state.told(1, &event(12, &[1]));
    assert_eq!(taken(&slow), Some((12, vec![], true)));
}

#[test]
fn a_resync_may_lead_back() {
    let reader = place(50);
    let mut state = state(50, &[&reader]);
    let resync = WatchEvent {
        resync: true,
        ..event(2, &[])
    };
    state.told(1, &resync);
    assert_eq!(taken(&reader), Some((2, vec![], true)));
    state.told(1, &event(3, &[1]));
    assert_eq!(taken(&reader), Some((3, vec![1], false)));
}

#[test]
fn what_may_be_of_before_is_not_taken_at_its_word() {
    let reader = place(5);
    let mut state = state(5, &[&reader]);
    state.accounts.get_mut(&name()).unwrap().suspect = true;
    let gone = WatchEvent {
        gone: true,
        ..event(0, &[])
    };
    state.told(1, &gone);
    assert!(state.shards[&1].unsent.contains(&name()), "asked again");
    assert_eq!(taken(&reader), None);
    state.told(1, &event(6, &[1]));
    assert_eq!(taken(&reader), Some((6, vec![], true)));
    state.told(1, &gone);
    assert!(reader.waiting.lock().ended);
    assert!(state.accounts.is_empty());
}
