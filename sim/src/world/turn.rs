//! Whose turn it is on a thread, and what the clocks of the operating system show meanwhile.
//!
//! The product takes its time from tokio and from `env::clock`. Crates below it do not: h2 forgets
//! a stream that was reset after a second of [`std::time::Instant`], hyper dates its answers. How
//! fast a machine is would then show in a run. The standard library asks `clock_gettime`, and the
//! one of this program answers with the time of the host whose turn it is; everything else gets
//! the kernel's answer. (madsim takes the clocks over in the same way.) Nothing may wait for the
//! kernel with a time limit during a turn: the limit would be long past.

use std::cell::Cell;

use libc::{SYS_clock_gettime, c_int, clockid_t, syscall, timespec};

use super::HostId;

/// What `CLOCK_REALTIME` shows when a host's time is 0: 2026-01-01, s since 1970.
const BEGIN_S: u64 = 1_767_225_600;

thread_local! {
    /// The host, and its time, µs. Without a destructor, so that it can be read at any time.
    static TURN: Cell<Option<(HostId, u64)>> = const { Cell::new(None) };
}

/// A host's turn, until it is dropped.
pub(super) struct Turn;

impl Turn {
    /// It begins when the host has been there for so long.
    pub(super) fn begin(host: HostId, time_us: u64) -> Turn {
        TURN.set(Some((host, time_us)));
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TURN.set(None);
    }
}

/// Whose turn it is on this thread.
pub fn speaker() -> Option<HostId> {
    TURN.get().map(|(host, _)| host)
}

/// Whether the answer comes from here in this program.
pub fn is_taken_over() -> bool {
    let mut time = timespec {
        tv_sec: -1,
        tv_nsec: 0,
    };
    let _turn = Turn::begin(HostId(0), 7);
    // SAFETY: `time` can be written to.
    let told = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    (told, time.tv_sec, time.tv_nsec) == (0, 0, 7000)
}

/// Stands before that of the C library (POSIX.1-2024, `clock_gettime`).
///
/// # Safety
/// `time` must be valid for a write, as everywhere.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    let begin = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => Some(BEGIN_S),
        libc::CLOCK_MONOTONIC
        | libc::CLOCK_MONOTONIC_RAW
        | libc::CLOCK_MONOTONIC_COARSE
        | libc::CLOCK_BOOTTIME => Some(0),
        // How much work was done.
        _ => None,
    };
    let (Some((_, us)), Some(begin)) = (TURN.get(), begin) else {
        // SAFETY: the caller's pointer is passed on as it is.
        return unsafe { syscall(SYS_clock_gettime, clock, time) } as c_int;
    };
    let shown = timespec {
        tv_sec: (begin + us / 1_000_000) as i64,
        tv_nsec: (us % 1_000_000 * 1000) as i64,
    };
    // SAFETY: the caller promises that it can be written to.
    unsafe { time.write(shown) };
    0
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::*;

    #[test]
    fn the_clocks_of_the_system_show_the_time_of_the_host() {
        let outside = (Instant::now(), SystemTime::now());
        let at = |us: u64| {
            let _turn = Turn::begin(HostId(3), us);
            assert_eq!(speaker(), Some(HostId(3)));
            (Instant::now(), SystemTime::now())
        };
        let (begin, later) = (at(5), at(1_500_005));
        assert_eq!(at(5), begin, "they stand still");
        assert_eq!(later.0 - begin.0, Duration::from_micros(1_500_000));
        let shown = later.1.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(shown, Duration::new(BEGIN_S + 1, 500_005_000));
        assert_eq!(speaker(), None);
        std::thread::sleep(Duration::from_millis(2));
        let passed = outside.0.elapsed();
        assert!((1..60_000).contains(&passed.as_millis()), "{passed:?}");
        assert!(SystemTime::now() > outside.1);
    }
}
