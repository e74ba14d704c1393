//! The POP3 door over a directory: to see what mail programs make of the door without a cluster.
//! The files `DIR/mail/*.eml`, in the order of their names, are INBOX of the one account; what is
//! removed is removed there. The certificate is `DIR/tls/certificate.pem`.
//!
//! `cargo run --release -p posthouse-gateway --example pop3_fake -- DIR 127.0.0.1:0 127.0.0.1:0
//! ann@example.org PASSWORD`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use posthouse_client::ids::{AccountName, MailboxId, Uid};
use posthouse_gateway::listen::TcpDoor;
use posthouse_gateway::pop3::Pop3;
use posthouse_gateway::pop3::maildrop::Contents;
use posthouse_gateway::pop3::settings::Settings;
use posthouse_gateway::pop3::store::{Inbox, Octets, Store, StoreError};
use posthouse_gateway::tls::{Source, Tls};
use tokio_util::sync::CancellationToken;

/// Octets handed out at a time.
const PIECE: usize = 256 * 1024;

struct Directory {
    account: String,
    password: String,
    mail: Mutex<BTreeMap<Uid, (PathBuf, Bytes)>>,
}

impl Store for Directory {
    fn login<'a>(
        &'a self,
        account: &'a AccountName,
        password: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let good = account.as_str() == self.account && password == self.password;
        Box::pin(async move { good.then_some(()).ok_or(StoreError::BadCredentials) })
    }

    fn open<'a>(
        &'a self,
        _: &'a AccountName,
        limit: usize,
    ) -> BoxFuture<'a, Result<Contents, StoreError>> {
        Box::pin(async move {
            let mut contents = Contents::new(Inbox {
                id: MailboxId(1),
                uidvalidity: 1,
            });
            for (uid, (_, octets)) in self.mail.lock().unwrap().iter().take(limit) {
                contents.push(*uid, octets.len() as u64);
            }
            Ok(contents)
        })
    }

    fn fetch<'a>(
        &'a self,
        _: &'a AccountName,
        _: Inbox,
        uid: Uid,
    ) -> BoxFuture<'a, Result<Octets, StoreError>> {
        Box::pin(async move {
            let found = self.mail.lock().unwrap().get(&uid).cloned();
            let (_, octets) = found.ok_or_else(|| StoreError::Gone("gone".into()))?;
            let at = (0..octets.len()).step_by(PIECE);
            let piece = move |at| Ok(octets.slice(at..octets.len().min(at + PIECE)));
            Ok(futures::stream::iter(at.map(piece)).boxed())
        })
    }

    #[allow(clippy::disallowed_methods)] // A tool of tests removes files as it likes.
    fn remove<'a>(
        &'a self,
        _: &'a AccountName,
        _: Inbox,
        uids: Vec<(Uid, Uid)>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.mail.lock().unwrap().retain(|uid, (path, _)| {
                let goes = uids.iter().any(|(a, b)| a <= uid && uid <= b);
                if goes {
                    std::fs::remove_file(path).unwrap();
                }
                !goes
            });
            Ok(())
        })
    }
}

#[allow(clippy::disallowed_methods)]
fn read(dir: &std::path::Path) -> anyhow::Result<BTreeMap<Uid, (PathBuf, Bytes)>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        paths.push(entry?.path());
    }
    paths.sort();
    let read = |(uid, path): (Uid, PathBuf)| {
        let octets = std::fs::read(&path)?;
        Ok((uid, (path, octets.into())))
    };
    (1..).zip(paths).map(read).collect()
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |name: &'static str| arguments.next().with_context(|| format!("{name}?"));
    let dir = PathBuf::from(next("DIR")?);
    let (listen, listen_tls) = (next("ADDR")?, next("ADDR")?);
    let store = Directory {
        account: next("ACCOUNT")?,
        password: next("PASSWORD")?,
        mail: Mutex::new(read(&dir.join("mail"))?),
    };
    let tls = Tls::open(Source::SelfSigned {
        dir: dir.join("tls"),
        names: ["localhost", "127.0.0.1"].map(str::to_owned).to_vec(),
    })?;
    let pop3 = Pop3::new(Settings::default(), Arc::new(store), Some(tls.config()))
        .map_err(anyhow::Error::msg)?;
    let door = TcpDoor::bind(&listen).await?;
    let door_tls = TcpDoor::bind(&listen_tls).await?;
    println!(
        "ready pop3={} pop3s={}",
        door.local_addr()?,
        door_tls.local_addr()?
    );
    let stop = CancellationToken::new();
    tokio::join!(
        pop3.serve(&door, stop.clone()),
        pop3.serve_tls(&door_tls, stop)
    );
    Ok(())
}
