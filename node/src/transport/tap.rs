//! A stream that can be shut off from outside, at once.
//!
//! The body of a request lives as long as the connection that sends it: one whose answer is no
//! longer waited for is let go of when the other side says so, or when the connection breaks, and
//! a node that stands still says nothing. openraft's streams of append requests share one state,
//! behind a lock that a waiting stream holds. A forgotten one takes every other request away from
//! its successor, so that a follower gets them in another order, and may keep the lock for good.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::{Stream, StreamExt};
use parking_lot::Mutex;

struct State<S> {
    stream: Option<S>,
    waiting: Option<Waker>,
}

/// What is behind the tap.
pub struct Tapped<S>(Arc<Mutex<State<S>>>);

/// Shuts the stream off when it is dropped: what is behind it is dropped then, and no item comes
/// any more.
pub struct Tap(Option<Box<dyn FnOnce() + Send>>);

/// A stream and its tap.
pub fn tapped<S: Send + 'static>(stream: S) -> (Tapped<S>, Tap) {
    let state = Arc::new(Mutex::new(State {
        stream: Some(stream),
        waiting: None,
    }));
    let shared = Arc::clone(&state);
    let off = Box::new(move || {
        let (stream, waiting) = {
            let state = &mut *shared.lock();
            (state.stream.take(), state.waiting.take())
        };
        drop(stream);
        if let Some(waker) = waiting {
            waker.wake();
        }
    });
    (Tapped(state), Tap(Some(off)))
}

impl Drop for Tap {
    fn drop(&mut self) {
        if let Some(off) = self.0.take() {
            off();
        }
    }
}

impl<S: Stream + Unpin> Stream for Tapped<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let state = &mut *self.0.lock();
        let Some(stream) = &mut state.stream else {
            return Poll::Ready(None);
        };
        let polled = stream.poll_next_unpin(cx);
        if polled.is_pending() {
            state.waiting = Some(cx.waker().clone());
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::channel::mpsc;

    use super::*;

    #[test]
    fn what_is_behind_a_tap_goes_with_it() {
        let (input, output) = mpsc::unbounded();
        let (mut tapped, tap) = tapped(output);
        input.unbounded_send(1).unwrap();
        assert_eq!(tapped.next().now_or_never(), Some(Some(1)));
        assert_eq!(tapped.next().now_or_never(), None);
        input.unbounded_send(2).unwrap();
        drop(tap);
        // Although nobody has asked the stream since.
        assert!(input.is_closed());
        assert_eq!(tapped.next().now_or_never(), Some(None));
    }

    #[tokio::test]
    async fn who_waits_behind_it_is_woken() {
        let (_input, output) = mpsc::unbounded::<u32>();
        let (mut tapped, tap) = tapped(output);
        let waiting = tokio::spawn(async move { tapped.next().await });
        tokio::task::yield_now().await;
        drop(tap);
        assert_eq!(waiting.await.unwrap(), None);
    }
}
