//! The measuring client of LMTP (RFC 2033): one transaction after the other on a connection, its
//! commands sent together (RFC 2920), as mail servers do.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::corpus::Corpus;
use crate::work::ended;

/// No answer takes this long, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Makes messages differ, over all connections and runs: equal ones would be taken for repetitions.
static STAMP: AtomicU64 = AtomicU64::new(0);

/// Delivers messages of the corpus over `accounts.len()` connections, one for each account, for
/// `time`, and gives messages acknowledged in a second. `addrs` take turns.
pub fn deliver(
    addrs: &[String],
    accounts: &[String],
    corpus: &Corpus,
    time: Duration,
) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let counts: Vec<anyhow::Result<u64>> = std::thread::scope(|scope| {
        let connections: Vec<_> = accounts
            .iter()
            .enumerate()
            .map(|(i, account)| {
                let addr = &addrs[i % addrs.len()];
                scope.spawn(move || one(addr, account, corpus, begin + time))
            })
            .collect();
        connections.into_iter().map(|c| ended(c.join())).collect()
    });
    let mut sum = 0;
    for count in counts {
        sum += count?;
    }
    Ok(sum as f64 / begin.elapsed().as_secs_f64())
}

fn one(addr: &str, account: &str, corpus: &Corpus, until: Instant) -> anyhow::Result<u64> {
    let stream = TcpStream::connect(addr).with_context(|| format!("connecting to {addr}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    expect(&mut reader, '2')?;
    writer.write_all(b"LHLO bench.example.org\r\n")?;
    expect(&mut reader, '2')?;
    let envelope = format!("MAIL FROM:<sender@example.org>\r\nRCPT TO:<{account}>\r\nDATA\r\n");
    let (mut count, mut octets) = (0, Vec::new());
    while Instant::now() < until {
        let n = STAMP.fetch_add(1, Ordering::Relaxed);
        writer.write_all(envelope.as_bytes())?;
        octets.clear();
        stuff(&corpus.message(n as usize, n), &mut octets);
        for class in ['2', '2', '3'] {
            expect(&mut reader, class)?;
        }
        writer.write_all(&octets)?;
        expect(&mut reader, '2')?;
        count += 1;
    }
    writer.write_all(b"QUIT\r\n")?;
    expect(&mut reader, '2')?;
    Ok(count)
}

/// Takes a reply, which may have several lines.
fn expect(reader: &mut BufReader<TcpStream>, class: char) -> anyhow::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        ensure!(
            line.starts_with(class),
            "{class}xx was expected, not {line:?}"
        );
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}

/// A message as it travels: with dots doubled and its end (RFC 5321, section 4.5.2).
fn stuff(message: &[u8], out: &mut Vec<u8>) {
    for line in message.split_inclusive(|&b| b == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b".\r\n");
}
