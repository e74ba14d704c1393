//! A door over a pipe: octets in, answers out, in time that stands still.

use std::io;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use posthouse_gateway::listen::{Listener, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

/// Longer than any time limit of a door: one that has not hung up by then hangs.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
}

/// Runs a future. Nothing waits really: when all is idle, the clock moves on.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let result = tokio::time::timeout(PATIENCE, future).await;
            result.expect("the other side hangs")
        })
    })
}

/// A listener with one connection.
struct One(Mutex<Option<DuplexStream>>);

impl Listener for One {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn Stream>, String)>> {
        Box::pin(async move {
            let stream = self.0.lock().take();
            match stream {
                Some(stream) => Ok((Box::new(stream) as Box<dyn Stream>, "127.0.0.1:40".into())),
                None => std::future::pending().await,
            }
        })
    }
}

/// A client that sends these pieces, closes its sending side, and reads what is answered.
pub async fn client(ours: DuplexStream, pieces: &[&[u8]]) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(ours);
    let send = async {
        for piece in pieces {
            // The other side may have hung up: its last words are what counts then.
            if write.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = write.shutdown().await;
    };
    let mut answers = Vec::new();
    let (_, read) = tokio::join!(send, read.read_to_end(&mut answers));
    read.expect("a pipe has no errors");
    answers
}

/// Octets that a pipe holds: many when all comes at once.
pub fn room(pieces: &[&[u8]]) -> usize {
    if pieces.len() > 1 { 64 } else { 1 << 20 }
}

/// Sends pieces to a door, which `serve` opens on the listener that it is given; all that it
/// answers until it hangs up.
pub fn with_door<F>(
    pieces: &[&[u8]],
    serve: impl FnOnce(Box<dyn Listener>, CancellationToken) -> F,
) -> Vec<u8>
where
    F: Future<Output = ()>,
{
    let (ours, theirs) = tokio::io::duplex(room(pieces));
    let stop = CancellationToken::new();
    let serving = serve(Box::new(One(Mutex::new(Some(theirs)))), stop.clone());
    run(async {
        let talk = async {
            let answers = client(ours, pieces).await;
            stop.cancel();
            answers
        };
        tokio::join!(talk, serving).0
    })
}
