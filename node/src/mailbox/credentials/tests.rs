//! Logging in, over a machine without Raft.

use std::sync::Arc;
use std::time::Duration;

use super::super::deliver::{DeliverHead, Recipient};
use super::super::fake::{id, node_with, pieces};
use super::super::limits::PasswordCost;
use super::super::{Caller, Limits};
use super::*;

const ANN: &str = "ann@example.org";
const PEER: &str = "192.0.2.1";

struct Node {
    ops: Arc<Operations>,
    requests: u8,
}

impl Node {
    /// A node with Ann's account.
    async fn new() -> Node {
        let (_, ops) = node_with(Limits {
            password_cost: PasswordCost {
                memory_kib: 8,
                passes: 1,
                lanes: 1,
            },
            ..Limits::default()
        });
        ops.create_account(&id(255), ANN).await.unwrap();
        Node { ops, requests: 0 }
    }

    fn id(&mut self) -> Vec<u8> {
        self.requests += 1;
        id(self.requests)
    }

    async fn set(&mut self, password: &str) -> Result<()> {
        let id = self.id();
        let set = self.ops.set_password(&id, ANN, password.to_owned());
        let modseq = set.await?;
        let account = self.ops.get_account(ANN).await?;
        assert_eq!(modseq, account.highest_modseq);
        Ok(())
    }

    async fn app(&mut self, name: &str) -> Result<String> {
        let id = self.id();
        let drawn = self.ops.add_app_password(&id, ANN, name).await?;
        assert_eq!(drawn.kept.name, name);
        Ok(drawn.password)
    }

    async fn state(&mut self, state: AccountState) {
        let id = self.id();
        let info = self.ops.set_account_state(&id, ANN, state).await.unwrap();
        assert_eq!(info.state, state);
        assert_eq!(self.ops.get_account(ANN).await.unwrap(), info);
    }

    async fn login(&self, password: &str) -> Result<Option<String>> {
        let password = password.to_owned();
        let who = self.ops.authenticate(ANN, password, PEER).await?;
        assert_eq!(who.account.name.as_str(), ANN);
        Ok(who.app_password)
    }

    async fn deliver(&mut self) -> Result<()> {
        let head = DeliverHead {
            request_id: self.id(),
            recipients: vec![Recipient {
                account: ANN.to_owned(),
                ..Recipient::default()
            }],
            ..DeliverHead::default()
        };
        let outcome = self
            .ops
            .deliver(&Caller::default(), head, pieces(b"Subject: x\r\n\r\n", 9))
            .await?;
        outcome.results[0].outcome.clone().map(drop)
    }
}

#[tokio::test]
async fn passwords_let_in_until_they_are_changed() {
    let mut node = Node::new().await;
    assert_eq!(node.login("correct horse").await, Err(REFUSED));
    node.set("correct horse").await.unwrap();
    for _ in 0..2 {
        assert_eq!(node.login("correct horse").await, Ok(None));
        assert_eq!(node.login("Correct horse").await, Err(REFUSED));
        assert_eq!(node.login("").await, Err(REFUSED));
    }
    let who = node
        .ops
        .authenticate("ANN@example.ORG", "correct horse".into(), PEER)
        .await;
    assert_eq!(who.unwrap().account.name.as_str(), ANN);
    node.set("battery staple").await.unwrap();
    assert_eq!(node.login("correct horse").await, Err(REFUSED));
    assert_eq!(node.login("battery staple").await, Ok(None));
    // The same again after another is looked at anew.
    node.set("correct horse").await.unwrap();
    assert_eq!(node.login("battery staple").await, Err(REFUSED));
    node.set("").await.unwrap();
    assert_eq!(node.login("correct horse").await, Err(REFUSED));
}

#[tokio::test]
async fn programs_have_passwords_of_their_own() {
    let mut node = Node::new().await;
    let phone = node.app("phone").await.unwrap();
    let mutt = node.app("mutt").await.unwrap();
    assert_eq!(node.login(&phone).await, Ok(Some("phone".into())));
    assert_eq!(node.login(&mutt).await, Ok(Some("mutt".into())));
    let exists = Err(MailboxError::AlreadyExists(What::AppPassword));
    assert_eq!(node.app("phone").await, exists);
    let known = node.ops.list_app_passwords(ANN).await.unwrap();
    let names: Vec<&str> = known.of_programs.iter().map(|k| k.name.as_str()).collect();
    assert_eq!((known.has_password, names), (false, vec!["mutt", "phone"]));
    node.set("correct horse").await.unwrap();
    assert!(node.ops.list_app_passwords(ANN).await.unwrap().has_password);
    let id = node.id();
    let removed = node.ops.remove_app_password(&id, ANN, "phone").await;
    assert!(removed.is_ok());
    assert_eq!(node.login(&phone).await, Err(REFUSED));
    assert_eq!(node.login(&mutt).await, Ok(Some("mutt".into())));
    let again = node.ops.remove_app_password(&id, ANN, "phone").await;
    assert_eq!(again, removed, "a retry");
    let id = node.id();
    let gone = node.ops.remove_app_password(&id, ANN, "phone").await;
    assert_eq!(gone, Err(MailboxError::NotFound(What::AppPassword)));
}

#[tokio::test]
async fn a_drawn_password_is_shown_once() {
    let node = Node::new().await;
    let drawn = node
        .ops
        .add_app_password(&id(1), ANN, "phone")
        .await
        .unwrap();
    let again = node.ops.add_app_password(&id(1), ANN, "phone").await;
    assert!(matches!(again, Err(MailboxError::Refused(_))), "{again:?}");
    assert_eq!(node.login(&drawn.password).await, Ok(Some("phone".into())));
}

#[tokio::test]
async fn every_reason_has_the_same_answer() {
    let mut node = Node::new().await;
    node.set("correct horse").await.unwrap();
    let app = node.app("phone").await.unwrap();
    let ops = Arc::clone(&node.ops);
    let login = |account: &str, password: &str| {
        let (ops, account) = (Arc::clone(&ops), account.to_owned());
        let password = password.to_owned();
        async move { ops.authenticate(&account, password, PEER).await }
    };
    let long = "x".repeat(2000);
    for (account, password) in [
        (ANN, "wrong password"),
        (ANN, ""),
        (ANN, long.as_str()),
        ("nobody@example.org", "correct horse"),
        ("no\nname", "correct horse"),
        ("", "correct horse"),
    ] {
        assert_eq!(login(account, password).await, Err(REFUSED), "{account:?}");
    }
    for state in [AccountState::Frozen, AccountState::Closed] {
        node.state(state).await;
        for password in ["correct horse", &app, "wrong password"] {
            assert_eq!(login(ANN, password).await, Err(REFUSED), "{state:?}");
        }
    }
    node.state(AccountState::Active).await;
    assert_eq!(node.login("correct horse").await, Ok(None));
    // And unknown accounts are waited for as others are.
    let mut waits = Vec::new();
    for account in [ANN, "nobody@example.org"] {
        let mut looked_at = 0;
        let wait = loop {
            match ops
                .authenticate(account, "wrong".into(), "198.51.100.7")
                .await
            {
                Err(MailboxError::BadCredentials { retry_after_ms: 0 }) => looked_at += 1,
                Err(MailboxError::BadCredentials { retry_after_ms }) => break retry_after_ms,
                other => panic!("{other:?}"),
            }
        };
        waits.push((looked_at, wait / 1000));
    }
    assert_eq!(waits[0], waits[1]);
}

#[tokio::test(start_paused = true)]
async fn after_too_many_wrong_ones_even_the_right_one_waits() {
    let mut node = Node::new().await;
    node.set("correct horse").await.unwrap();
    assert_eq!(node.login("correct horse").await, Ok(None));
    let wait = loop {
        match node.login("wrong password").await {
            Err(MailboxError::BadCredentials { retry_after_ms: 0 }) => {}
            Err(MailboxError::BadCredentials { retry_after_ms }) => break retry_after_ms,
            other => panic!("{other:?}"),
        }
    };
    let locked = node.login("correct horse").await;
    assert!(
        matches!(locked, Err(MailboxError::BadCredentials { retry_after_ms }) if retry_after_ms > 0)
    );
    // Elsewhere it is let in.
    let elsewhere = node
        .ops
        .authenticate(ANN, "correct horse".into(), "192.0.2.2");
    assert!(elsewhere.await.is_ok());
    tokio::time::advance(Duration::from_millis(wait)).await;
    assert_eq!(node.login("correct horse").await, Ok(None));
}

#[tokio::test]
async fn frozen_accounts_take_mail_and_closed_ones_do_not() {
    let mut node = Node::new().await;
    node.deliver().await.unwrap();
    node.state(AccountState::Frozen).await;
    node.deliver().await.unwrap();
    node.state(AccountState::Closed).await;
    let refused = node.deliver().await;
    assert_eq!(
        refused,
        Err(MailboxError::Refused("the account is closed".into()))
    );
    let listed = node.ops.list_accounts(1, b"", 0).await.unwrap().0;
    let other = node.ops.list_accounts(2, b"", 0).await.unwrap().0;
    let states: Vec<_> = listed.iter().chain(&other).map(|a| a.state).collect();
    assert_eq!(states, [AccountState::Closed]);
    node.state(AccountState::Active).await;
    node.deliver().await.unwrap();
    assert_eq!(node.ops.usage(ANN).await.unwrap().messages, 3);
}

#[tokio::test]
async fn what_cannot_be_a_password_is_refused_without_saying_it() {
    let mut node = Node::new().await;
    for bad in ["short", "with\nline end", &"x".repeat(1025)] {
        let refused = node.set(bad).await.unwrap_err();
        assert!(matches!(&refused, MailboxError::BadRequest { field, .. } if field == "password"));
        assert!(!refused.to_string().contains(bad));
    }
    for bad in ["", "two\nlines", &"x".repeat(101)] {
        let refused = node.app(bad).await.unwrap_err();
        assert!(matches!(&refused, MailboxError::BadRequest { field, .. } if field == "name"));
    }
    let nowhere = node.ops.authenticate(ANN, "x".into(), "").await;
    assert!(matches!(nowhere, Err(MailboxError::BadRequest { field, .. }) if field == "peer"));
    let row = Secret::Password("$argon2id$secret".into());
    assert!(!format!("{row:?} {:?}", Secret::App([77; 32])).contains("secret"));
}
