//! Several sessions on one mailbox doing anything: what each is told, taken literally, always
//! makes sense, and in the end all know the same.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::client::Client;
use super::fake::Fake;

/// A mailbox as a client knows it that believes what it is told.
#[derive(Default)]
struct Belief {
    /// Uid (0 while not known) and flags by number - 1.
    messages: Vec<(u32, Option<String>)>,
}

impl Belief {
    /// Takes an answer; `held`: no EXPUNGE may be in it.
    fn hear(&mut self, lines: &[String], held: bool, command: &str) {
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let number = words.get(1).and_then(|n| n.parse::<usize>().ok());
            match (number, words.get(2)) {
                (Some(n), Some(&"EXPUNGE")) => {
                    assert!(!held, "{command}: {line}");
                    assert!((1..=self.messages.len()).contains(&n), "{command}: {line}");
                    self.messages.remove(n - 1);
                }
                (Some(n), Some(&"EXISTS")) => {
                    assert!(n >= self.messages.len(), "{command}: {line}");
                    self.messages.resize(n, (0, None));
                }
                (Some(n), Some(&"FETCH")) => {
                    let uid: u32 = words[4].trim_end_matches(')').parse().unwrap();
                    assert_eq!(words[3], "(UID", "{line}");
                    let message = self
                        .messages
                        .get_mut(n - 1)
                        .unwrap_or_else(|| panic!("{command}: {line}"));
                    assert!(
                        message.0 == 0 || message.0 == uid,
                        "{command}: {line} is {}",
                        message.0
                    );
                    message.0 = uid;
                    if let Some((_, flags)) = line.split_once("FLAGS (") {
                        message.1 = flags.split_once(')').map(|(flags, _)| flags.to_owned());
                    }
                    let known: Vec<u32> = self
                        .messages
                        .iter()
                        .map(|m| m.0)
                        .filter(|&u| u != 0)
                        .collect();
                    assert!(known.is_sorted(), "{command}: {line} {known:?}");
                }
                _ => {}
            }
        }
    }
}

async fn run(sessions: usize, steps: Vec<(usize, u8, u8)>) {
    let fake = Fake::new();
    for _ in 0..3 {
        fake.deliver("Subject: x\r\n\r\n");
    }
    let mut clients = Vec::new();
    for _ in 0..sessions {
        let mut client = Client::inbox(&fake).await;
        let mut belief = Belief::default();
        belief.messages.resize(3, (0, None));
        belief.hear(&client.ok("UID FETCH 1:* FLAGS").await, false, "first");
        clients.push((client, belief));
    }
    for (who, what, n) in steps {
        let (client, belief) = &mut clients[who % sessions];
        let count = belief.messages.len();
        let some = (count > 0).then(|| usize::from(n) % count.max(1) + 1);
        let flag = ["\\Seen", "\\Flagged", "\\Deleted", "x", "y"][usize::from(n) % 5];
        let command = match (what, some) {
            (0, _) => {
                fake.deliver("Subject: y\r\n\r\n");
                continue;
            }
            (1, _) => "APPEND INBOX {3+}\r\nabc".to_owned(),
            (2, Some(m)) => format!("STORE {m} +FLAGS ({flag})"),
            (3, Some(m)) => format!("STORE {m}:* -FLAGS.SILENT ({flag})"),
            (4, Some(m)) => format!("FETCH {m} (UID FLAGS)"),
            (5, _) => "SEARCH ALL".to_owned(),
            (6, Some(m)) => format!("UID STORE {m} FLAGS (\\Deleted)"),
            (7, _) => "EXPUNGE".to_owned(),
            (8, Some(m)) => format!("MOVE {m} INBOX"),
            (9, Some(m)) => format!("COPY {m} INBOX"),
            (10, Some(m)) => format!("FETCH {m} (UID BODY[TEXT])"),
            _ => "NOOP".to_owned(),
        };
        let held = matches!(what, 2..=5 | 10) && !command.starts_with("NOOP");
        let mut lines = client.say(&command).await;
        let end = lines.pop().unwrap();
        // A silent change is the client's own knowledge.
        let silent = command.contains("SILENT");
        assert!(!end.starts_with("BAD"), "{command}: {end}");
        belief.hear(&lines, held, &command);
        if silent && end.starts_with("OK") {
            let first = command
                .split([' ', ':'])
                .nth(1)
                .unwrap()
                .parse::<usize>()
                .unwrap();
            for message in belief.messages.iter_mut().skip(first - 1) {
                message.1 = None;
            }
        }
    }
    let state: BTreeMap<u32, u32> = {
        let state = fake.state.lock().unwrap();
        state.boxes[&1]
            .messages
            .iter()
            .map(|(uid, m)| (*uid, m.flags))
            .collect()
    };
    for (client, belief) in &mut clients {
        belief.hear(&client.ok("NOOP").await, false, "NOOP");
        let before: Vec<_> = belief.messages.clone();
        belief.hear(&client.ok("UID FETCH 1:* FLAGS").await, false, "last");
        assert_eq!(
            belief.messages.iter().map(|m| m.0).collect::<Vec<_>>(),
            state.keys().copied().collect::<Vec<_>>()
        );
        // Whatever flags the client knew were right.
        for (before, after) in before.iter().zip(&belief.messages) {
            if let (true, Some(flags)) = (before.0 != 0, &before.1) {
                assert_eq!(Some(flags), after.1.as_ref(), "uid {}", after.0);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_sessions_are_told_converges(
        steps in proptest::collection::vec((0usize..3, 0u8..13, any::<u8>()), 0..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(run(3, steps));
    }
}
