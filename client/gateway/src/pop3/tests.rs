//! Whole sessions over pipes, against a store in memory.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use posthouse_client::ids::{AccountName, MailboxId, Uid};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Pop3;
use super::maildrop::Contents;
use super::settings::Settings;
use super::store::{Inbox, Octets, Store, StoreError};
use crate::listen::{Listener, Stream};
use crate::tls::{Source, Tls};

const ANN: &str = "ann@example.org";
const LOGIN: &str = "USER Ann@Example.org\r\nPASS correct horse\r\n";
const NEAR: &str = "127.0.0.1:4711";
const FAR: &str = "192.0.2.1:4711";

/// INBOX of one account, and what was asked of it.
#[derive(Default)]
struct Fake {
    mail: Mutex<BTreeMap<Uid, Vec<u8>>>,
    removed: Mutex<Vec<Vec<(Uid, Uid)>>>,
    peers: Mutex<Vec<String>>,
    outage: Mutex<Option<StoreError>>,
    /// Messages break off after so many octets.
    break_at: Mutex<Option<usize>>,
}

impl Fake {
    fn with(mail: &[&[u8]]) -> Arc<Fake> {
        let fake = Fake::default();
        let uids = (1..).map(|n| n * 10);
        *fake.mail.lock().unwrap() = uids.zip(mail.iter().map(|m| m.to_vec())).collect();
        Arc::new(fake)
    }

    fn removed(&self) -> Vec<Vec<(Uid, Uid)>> {
        self.removed.lock().unwrap().clone()
    }

    fn check(&self) -> Result<(), StoreError> {
        self.outage.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

const INBOX: Inbox = Inbox {
    id: MailboxId(1),
    uidvalidity: 77,
};

impl Store for Fake {
    fn login<'a>(
        &'a self,
        account: &'a AccountName,
        password: &'a str,
        peer: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.check()?;
            self.peers.lock().unwrap().push(peer.to_owned());
            match account.as_str() == ANN && password == "correct horse" {
                true => Ok(()),
                false => Err(StoreError::BadCredentials),
            }
        })
    }

    fn open<'a>(
        &'a self,
        _: &'a AccountName,
        limit: usize,
    ) -> BoxFuture<'a, Result<Contents, StoreError>> {
        Box::pin(async move {
            let mut contents = Contents::new(INBOX);
            for (uid, octets) in self.mail.lock().unwrap().iter().take(limit) {
                contents.push(*uid, octets.len() as u64);
            }
            Ok(contents)
        })
    }

    fn fetch<'a>(
        &'a self,
        _: &'a AccountName,
        inbox: Inbox,
        uid: Uid,
    ) -> BoxFuture<'a, Result<Octets, StoreError>> {
        Box::pin(async move {
            self.check()?;
            assert_eq!(inbox, INBOX);
            let octets = self.mail.lock().unwrap().get(&uid).cloned();
            let octets = octets.ok_or_else(|| StoreError::Gone("gone".into()))?;
            let mut pieces: Vec<Result<Bytes, StoreError>> = octets
                .chunks(7)
                .map(|c| Ok(Bytes::copy_from_slice(c)))
                .collect();
            if let Some(at) = *self.break_at.lock().unwrap() {
                pieces.truncate(at / 7);
                pieces.push(Err(StoreError::Unavailable("broken".into())));
            }
            Ok(futures::stream::iter(pieces).boxed())
        })
    }

    fn remove<'a>(
        &'a self,
        _: &'a AccountName,
        inbox: Inbox,
        uids: Vec<(Uid, Uid)>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.check()?;
            assert_eq!(inbox, INBOX);
            let mut mail = self.mail.lock().unwrap();
            mail.retain(|uid, _| !uids.iter().any(|(a, b)| a <= uid && uid <= b));
            self.removed.lock().unwrap().push(uids);
            Ok(())
        })
    }
}

/// A listener whose connections are pipes.
struct Pipes {
    incoming: tokio::sync::Mutex<mpsc::Receiver<(DuplexStream, &'static str)>>,
}

impl Listener for Pipes {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        Box::pin(async move {
            match self.incoming.lock().await.recv().await {
                Some((stream, peer)) => Ok((Box::new(stream) as Box<dyn Stream>, peer.into())),
                None => std::future::pending().await,
            }
        })
    }
}

struct TestDoor {
    connect: mpsc::Sender<(DuplexStream, &'static str)>,
    shutdown: CancellationToken,
}

fn open(store: Arc<Fake>, settings: Settings, tls: Option<&Tls>, implicit: bool) -> TestDoor {
    let (connect, incoming) = mpsc::channel(16);
    let listener = Pipes {
        incoming: tokio::sync::Mutex::new(incoming),
    };
    let pop3 = Pop3::new(settings, store, tls.map(Tls::config)).unwrap();
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        match implicit {
            false => pop3.serve(&listener, stop).await,
            true => assert!(pop3.serve_tls(&listener, stop).await),
        }
    });
    TestDoor { connect, shutdown }
}

impl TestDoor {
    async fn connect(&self, peer: &'static str) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        self.connect.send((theirs, peer)).await.unwrap();
        ours
    }

    /// Sends a text in one go from this peer, and gives all that is answered until the end.
    async fn talk(&self, peer: &'static str, text: &str) -> String {
        converse(self.connect(peer).await, text).await
    }
}

async fn converse(stream: impl Stream, text: &str) -> String {
    let (mut read, mut write) = tokio::io::split(stream);
    let send = async {
        // The other side may have hung up: then its last words are what counts.
        let _ = write.write_all(text.as_bytes()).await;
        let _ = write.flush().await;
    };
    let mut answer = Vec::new();
    let receive = tokio::time::timeout(Duration::from_secs(5000), async {
        while let Ok(1..) = read.read_buf(&mut answer).await {}
    });
    let (_, received) = tokio::join!(send, receive);
    received.expect("the door hangs");
    String::from_utf8(answer).unwrap()
}

/// What a client on this machine is answered, after the greeting.
async fn answers(store: &Arc<Fake>, text: &str) -> String {
    let door = open(store.clone(), Settings::default(), None, false);
    let answer = door.talk(NEAR, text).await;
    let greeting = "+OK posthouse POP3 Posthouse\r\n";
    answer
        .strip_prefix(greeting)
        .expect("a greeting")
        .to_owned()
}

/// As [`answers`], after the login.
async fn after_login(store: &Arc<Fake>, text: &str) -> String {
    let answer = answers(store, &format!("{LOGIN}{text}QUIT\r\n")).await;
    let rest = answer
        .strip_prefix("+OK say PASS\r\n+OK ")
        .expect("a login");
    rest.split_once("\r\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn a_session_sees_sizes_ids_and_messages() {
    let store = Fake::with(&[b"A: 1\r\n\r\n.one\r\ntwo\r\n", b"B: 2\n\nbare", b""]);
    let said = after_login(
        &store,
        "STAT\r\nLIST\r\nLIST 2\r\nLIST 4\r\nUIDL\r\nUIDL 3\r\nRETR 1\r\nRETR 2\r\nRETR 3\r\n\
         RETR 0\r\nTOP 1 1\r\nNOOP\r\n",
    )
    .await;
    assert_eq!(
        said,
        "+OK 3 29\r\n\
         +OK 3 messages (29 octets)\r\n1 19\r\n2 10\r\n3 0\r\n.\r\n\
         +OK 2 10\r\n\
         -ERR no such message\r\n\
         +OK unique ids:\r\n1 77.10\r\n2 77.20\r\n3 77.30\r\n.\r\n\
         +OK 3 77.30\r\n\
         +OK 19 octets\r\nA: 1\r\n\r\n..one\r\ntwo\r\n.\r\n\
         +OK 10 octets\r\nB: 2\r\n\r\nbare\r\n.\r\n\
         +OK 0 octets\r\n.\r\n\
         -ERR no such message\r\n\
         +OK 19 octets\r\nA: 1\r\n\r\n..one\r\n.\r\n\
         +OK at your service\r\n\
         +OK bye\r\n"
    );
    assert!(store.removed().is_empty());
}

#[tokio::test]
async fn marked_messages_go_at_quit_and_in_no_other_way() {
    let store = Fake::with(&[b"1", b"2", b"3", b"4", b"5"]);
    let marks = "DELE 1\r\nDELE 2\r\nDELE 2\r\nDELE 4\r\n";
    // The connection breaks.
    let door = open(store.clone(), Settings::default(), None, false);
    let mut stream = door.connect(NEAR).await;
    stream
        .write_all(format!("{LOGIN}{marks}").as_bytes())
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said.matches("it goes at QUIT").count(), 3);
    assert!(store.removed().is_empty());
    // The marks are taken away.
    let said = after_login(&store, &format!("{marks}STAT\r\nRSET\r\nSTAT\r\n")).await;
    assert!(
        said.contains("+OK 2 2\r\n+OK 5 messages (5 octets)\r\n+OK 5 5\r\n"),
        "{said}"
    );
    assert!(store.removed().is_empty());
    // QUIT.
    let said = after_login(&store, &format!("{marks}RETR 1\r\nLIST\r\n")).await;
    assert!(
        said.contains("-ERR no such message\r\n+OK 2 messages (2 octets)\r\n3 1\r\n5 1\r\n.\r\n")
    );
    assert!(said.ends_with("+OK bye\r\n"));
    assert_eq!(store.removed(), [vec![(10, 20), (40, 40)]]);
    // A removal that is not acknowledged is not called one.
    let door = open(store.clone(), Settings::default(), None, false);
    let mut stream = door.connect(NEAR).await;
    stream
        .write_all(format!("{LOGIN}DELE 1\r\n").as_bytes())
        .await
        .unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"it goes at QUIT\r\n") {
        stream.read_buf(&mut said).await.unwrap();
    }
    *store.outage.lock().unwrap() = Some(StoreError::Unavailable("no quorum".into()));
    let said = converse(stream, "QUIT\r\n").await;
    assert_eq!(
        said,
        "-ERR [SYS/TEMP] deleted messages may not have been removed\r\n"
    );
}

#[tokio::test]
async fn logins_and_their_failures() {
    let store = Fake::with(&[b"1"]);
    let plain = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let good = plain("\0ann@example.org\0correct horse");
    for login in [
        LOGIN.to_owned(),
        format!("AUTH PLAIN {good}\r\n"),
        format!("auth plain\r\n{good}\r\n"),
    ] {
        let said = answers(&store, &format!("{login}QUIT\r\n")).await;
        assert!(
            said.ends_with("+OK 1 messages (1 octets)\r\n+OK bye\r\n"),
            "{login}: {said}"
        );
    }
    assert_eq!(*store.peers.lock().unwrap(), ["127.0.0.1"; 3]);
    let said = answers(
        &store,
        "STAT\r\nRETR 1\r\nPASS x\r\nAUTH\r\nAUTH CRAM-MD5\r\nAUTH PLAIN\r\n*\r\n\
         AUTH PLAIN x\r\nAPOP a b\r\nNOOP\r\nQUIT\r\n",
    )
    .await;
    assert_eq!(
        said,
        "-ERR log in first\r\n-ERR log in first\r\n-ERR say USER first\r\n\
         +OK the mechanisms:\r\nPLAIN\r\n.\r\n-ERR only PLAIN is offered\r\n\
         + \r\n-ERR given up, as you say\r\n-ERR this is no PLAIN response\r\n\
         -ERR no such command\r\n-ERR log in first\r\n+OK bye\r\n"
    );
    // Whoever it is, the answer is the same; the third one is the last.
    let wrong = "-ERR [AUTH] wrong name or password\r\n";
    let said = answers(
        &store,
        &format!(
            "USER ann@example.org\r\nPASS wrong\r\nUSER nobody@example.org\r\nPASS x\r\n\
             AUTH PLAIN {}\r\n{LOGIN}",
            plain("\0\u{7f}\0x")
        ),
    )
    .await;
    assert_eq!(
        said,
        format!("+OK say PASS\r\n{wrong}+OK say PASS\r\n{wrong}{wrong}")
    );
    *store.outage.lock().unwrap() = Some(StoreError::Unavailable("no leader".into()));
    let said = answers(&store, &format!("{LOGIN}QUIT\r\n")).await;
    assert!(said.contains("-ERR [SYS/TEMP] no answer from the store, try again\r\n"));
}

#[tokio::test]
async fn without_tls_no_password_is_taken_from_elsewhere() {
    let store = Fake::with(&[b"1"]);
    let door = open(store.clone(), Settings::default(), None, false);
    let said = door
        .talk(
            FAR,
            &format!("CAPA\r\nSTLS\r\n{LOGIN}AUTH PLAIN =\r\nQUIT\r\n"),
        )
        .await;
    assert!(!said.contains("USER\r\n") && !said.contains("SASL") && !said.contains("STLS\r\n"));
    assert!(said.contains("-ERR no TLS is offered here\r\n"));
    assert_eq!(
        said.matches("-ERR [AUTH] a password is taken under TLS alone")
            .count(),
        3
    );
    assert!(store.peers.lock().unwrap().is_empty());
    let said = door.talk(NEAR, "CAPA\r\nQUIT\r\n").await;
    assert!(said.contains("\r\nUSER\r\nSASL PLAIN\r\n"), "{said}");
}

#[tokio::test]
async fn tls_from_the_first_octet_and_by_stls() {
    let dir = tempfile::tempdir().unwrap();
    let source = Source::SelfSigned {
        dir: dir.path().to_owned(),
        names: vec!["localhost".into()],
    };
    let tls = Tls::open(source).unwrap();
    let connector = connector(dir.path());
    let name = || rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let store = Fake::with(&[b"1"]);
    let session = format!("CAPA\r\n{LOGIN}RETR 1\r\nQUIT\r\n");

    let door = open(store.clone(), Settings::default(), Some(&tls), true);
    let stream = door.connect(FAR).await;
    let stream = connector.connect(name(), stream).await.unwrap();
    let said = converse(stream, &session).await;
    assert!(
        said.contains("\r\nUSER\r\nSASL PLAIN\r\nIMPLEMENTATION"),
        "{said}"
    );
    assert!(
        said.ends_with("+OK 1 octets\r\n1\r\n.\r\n+OK bye\r\n"),
        "{said}"
    );

    let door = open(store.clone(), Settings::default(), Some(&tls), false);
    let mut stream = door.connect(FAR).await;
    stream
        .write_all(b"CAPA\r\nUSER ben\r\nSTLS\r\n")
        .await
        .unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"+OK begin TLS\r\n") {
        stream.read_buf(&mut said).await.unwrap();
    }
    assert!(String::from_utf8(said).unwrap().contains("\r\nSTLS\r\n"));
    let stream = connector.connect(name(), stream).await.unwrap();
    let said = converse(stream, &format!("PASS x\r\nSTLS\r\n{session}")).await;
    assert!(
        said.starts_with("-ERR say USER first\r\n-ERR this is TLS already\r\n"),
        "{said}"
    );
    assert!(!said.contains("\r\nSTLS\r\n"));
    assert!(
        said.ends_with("+OK 1 octets\r\n1\r\n.\r\n+OK bye\r\n"),
        "{said}"
    );

    // What is said in the clear together with STLS is not taken for what is said under TLS.
    let said = door.talk(FAR, &format!("STLS\r\n{LOGIN}")).await;
    assert!(said.ends_with("-ERR nothing may follow STLS but TLS\r\n-ERR too many errors\r\n"));
}

fn connector(dir: &std::path::Path) -> tokio_rustls::TlsConnector {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    let public = dir.join("certificate.pem");
    roots
        .add(CertificateDer::from_pem_file(public).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config).into()
}

#[tokio::test]
async fn a_message_that_breaks_off_is_never_ended() {
    let store = Fake::with(&[b"A: 1\r\n\r\nThis is a message of some length.\r\n"]);
    *store.break_at.lock().unwrap() = Some(20);
    let said = answers(&store, &format!("{LOGIN}DELE 9\r\nRETR 1\r\nQUIT\r\n")).await;
    assert!(
        !said.contains("\r\n.\r\n") && !said.contains("bye"),
        "{said}"
    );
    // One that is gone, or cannot be had, leaves the session as it is.
    *store.break_at.lock().unwrap() = None;
    let door = open(store.clone(), Settings::default(), None, false);
    let mut stream = door.connect(NEAR).await;
    stream.write_all(LOGIN.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b" octets)\r\n") {
        stream.read_buf(&mut said).await.unwrap();
    }
    store.mail.lock().unwrap().clear();
    let said = converse(stream, "RETR 1\r\nSTAT\r\nQUIT\r\n").await;
    assert_eq!(
        said,
        "-ERR [SYS/PERM] it is not there any more\r\n+OK 1 43\r\n+OK bye\r\n"
    );
}

#[tokio::test]
async fn limits_hold() {
    let store = Fake::with(&[b"1", b"2", b"3"]);
    let settings = || Settings {
        messages: 2,
        errors: 2,
        sessions_per_account: 1,
        connections_per_address: 2,
        line_bytes: 255,
        ..Settings::default()
    };
    let door = open(store.clone(), settings(), None, false);
    let mut first = door.connect(NEAR).await;
    first.write_all(LOGIN.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"+OK 2 messages (2 octets)\r\n") {
        first.read_buf(&mut said).await.unwrap();
    }
    let said = door.talk(NEAR, &format!("{LOGIN}QUIT\r\n")).await;
    assert!(
        said.contains("-ERR [SYS/TEMP] too many sessions of this account"),
        "{said}"
    );
    let _second = door.connect(NEAR).await;
    let said = door.talk(NEAR, "").await;
    assert_eq!(said, "-ERR [SYS/TEMP] too many connections, try again\r\n");
    // Another address has places of its own.
    let long = "x".repeat(10_000);
    let said = door
        .talk(FAR, &format!("{long}\r\nNOOP\nNOPE\r\nQUIT\r\n"))
        .await;
    assert!(
        said.ends_with(
            "-ERR the line is too long\r\n-ERR lines end with CRLF\r\n\
             -ERR no such command\r\n-ERR too many errors\r\n"
        ),
        "{said}"
    );
    drop(first);
    // The place comes back when the connection has ended.
    let again = async {
        while door
            .talk(NEAR, &format!("{LOGIN}QUIT\r\n"))
            .await
            .contains("too many")
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_session_without_a_word_and_without_removal() {
    let store = Fake::with(&[b"1"]);
    let door = open(store.clone(), Settings::default(), None, false);
    let begin = tokio::time::Instant::now();
    let said = door.talk(NEAR, "").await;
    assert_eq!(said, "+OK posthouse POP3 Posthouse\r\n");
    assert_eq!(begin.elapsed().as_secs(), 120);
    let begin = tokio::time::Instant::now();
    let said = door.talk(NEAR, &format!("{LOGIN}DELE 1\r\n")).await;
    assert!(said.ends_with("+OK it goes at QUIT\r\n"));
    assert_eq!(begin.elapsed().as_secs(), 600);
    assert!(store.removed().is_empty());
}

#[tokio::test]
async fn a_door_that_closes_says_so_and_removes_nothing() {
    let store = Fake::with(&[b"1"]);
    let door = open(store.clone(), Settings::default(), None, false);
    let mut stream = door.connect(NEAR).await;
    stream
        .write_all(format!("{LOGIN}DELE 1\r\n").as_bytes())
        .await
        .unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"QUIT\r\n") {
        stream.read_buf(&mut said).await.unwrap();
    }
    door.shutdown.cancel();
    let said = converse(stream, "").await;
    assert_eq!(said, "-ERR [SYS/TEMP] shutting down, try again\r\n");
    assert!(store.removed().is_empty());
}
