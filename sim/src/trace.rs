//! The event log of a run, and the hash over it.
//!
//! Everything that happens goes into the hash; what people may want to read is also kept as text
//! when a run is traced.

use std::fmt::Write;
use std::sync::Arc;

use parking_lot::Mutex;

/// The log of one run. Clones share it.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    hash: blake3::Hasher,
    pending: Vec<u8>,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A fresh log; `keep`: also keep the lines.
    pub fn new(keep: bool) -> Trace {
        Trace(Arc::new(Mutex::new(Inner {
            hash: blake3::Hasher::new(),
            pending: Vec::with_capacity(1 << 12),
            lines: keep.then(Vec::new),
        })))
    }

    /// Notes that something happened that nobody wants to read: numbers alone.
    pub fn note(&self, numbers: &[u64]) {
        let inner = &mut *self.0.lock();
        for n in numbers {
            inner.pending.extend_from_slice(&n.to_le_bytes());
        }
        inner.drain();
    }

    /// Notes an event for people.
    pub fn event(&self, at_us: u64, what: std::fmt::Arguments<'_>) {
        let inner = &mut *self.0.lock();
        let mut line = format!("{:>10.3} ", at_us as f64 / 1000.0);
        let _ = line.write_fmt(what);
        inner.pending.extend_from_slice(line.as_bytes());
        inner.drain();
        if let Some(lines) = &mut inner.lines {
            lines.push(line);
        }
    }

    /// Keeps a line for people that is not part of the run: it does not change the hash.
    pub fn aside(&self, at_us: u64, what: std::fmt::Arguments<'_>) {
        let inner = &mut *self.0.lock();
        if let Some(lines) = &mut inner.lines {
            lines.push(format!("{:>10.3} {what}", at_us as f64 / 1000.0));
        }
    }

    /// Whether lines are kept.
    pub fn keeps_lines(&self) -> bool {
        self.0.lock().lines.is_some()
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().lines.clone().unwrap_or_default()
    }

    /// The hash over everything so far, hexadecimal.
    pub fn hash(&self) -> String {
        let inner = &mut *self.0.lock();
        let pending = std::mem::take(&mut inner.pending);
        inner.hash.update(&pending);
        inner.hash.finalize().to_hex().to_string()
    }
}

impl Inner {
    fn drain(&mut self) {
        if self.pending.len() >= 1 << 12 {
            self.hash.update(&self.pending);
            self.pending.clear();
        }
    }
}
