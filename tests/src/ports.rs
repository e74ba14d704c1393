//! Free ports of loopback for processes that a test starts.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range from which the system draws ports for outgoing connections, so that no
/// connection can take a port between now and its use, or while its node is down.
const FIRST: u16 = 15_000;
const COUNT: u16 = 16_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port that nobody listens on. Each call gives another one.
pub fn free() -> u16 {
    // Test processes that run at the same time start at different places.
    let start = (std::process::id() % 160) as u16 * 100;
    for _ in 0..COUNT {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(n) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of {COUNT} is free");
}

/// `127.0.0.1` with a free port.
pub fn free_addr() -> String {
    format!("127.0.0.1:{}", free())
}
