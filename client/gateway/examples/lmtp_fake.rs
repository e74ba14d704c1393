//! The LMTP door over a store in memory: to see what a mail server makes of it without a
//! cluster. Accounts are the arguments; each message is written to `DIR/NNN.eml`, and its
//! account to `DIR/NNN.to`.
//!
//! `cargo run --release -p posthouse-gateway --example lmtp_fake -- DIR 127.0.0.1:0 ann@example.org`

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use common::FakeStore;
use posthouse_client::ids::RequestId;
use posthouse_gateway::listen::TcpDoor;
use posthouse_gateway::lmtp::Lmtp;
use posthouse_gateway::lmtp::settings::Settings;
use posthouse_gateway::spool::TempSpool;
use tokio_util::sync::CancellationToken;

#[allow(clippy::disallowed_methods)] // A tool of tests writes files as it likes.
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().context("DIR is missing")?;
    let listen = arguments.next().context("ADDR is missing")?;
    let accounts: Vec<String> = arguments.collect();
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();

    let store = FakeStore::with(&accounts);
    let ids = Arc::new(|| RequestId([0; 16]));
    let lmtp = Lmtp::new(
        Settings::default(),
        store.clone(),
        Arc::new(TempSpool::default()),
        ids,
    )
    .map_err(anyhow::Error::msg)?;
    let door = TcpDoor::bind(&listen).await?;
    println!("ready lmtp={}", door.local_addr()?);
    tokio::spawn(async move {
        let mut written = 0;
        loop {
            for mail in store.mail().into_iter().skip(written) {
                written += 1;
                let path = |kind| format!("{dir}/{written:03}.{kind}");
                tokio::fs::write(path("to"), &mail.account).await?;
                // By another name first: whoever looks sees the whole message or none.
                tokio::fs::write(path("part"), &mail.octets).await?;
                tokio::fs::rename(path("part"), path("eml")).await?;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        #[allow(unreachable_code)]
        anyhow::Ok(())
    });
    lmtp.serve(&door, CancellationToken::new()).await;
    Ok(())
}
