//! The process's allocator: counts what a thread allocates, and gives memory back.
//!
//! jemalloc stands behind Rust's and `LibTorch`'s allocations alike (its symbols replace `malloc`).
//! It is here for three things that glibc's allocator lacks: exact counts per thread, so that the
//! size of a model is measured while other threads work; a return of freed pages within a second
//! (settings in `.cargo/config.toml`); and a purge that returns them at once.
//!
//! This is the worker's only file with `unsafe`: jemalloc is asked through its C interface.

#![expect(unsafe_code, reason = "jemalloc's control interface is C")]

use std::{ffi::CStr, mem::size_of, ptr};
use tikv_jemalloc_sys::mallctl;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What a piece of work did to memory, as counted on its own thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Bytes allocated and not freed again: what the work left behind.
    pub retained_bytes: u64,
    /// The most that was held at once (to within 64 KiB or so: jemalloc samples it).
    pub peak_bytes: u64,
}

/// Runs `work` and measures its allocations on this thread.
///
/// What other threads allocate for it is not counted: give each compute slot one thread.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, Measured) {
    command(c"thread.peak.reset");
    let before = balance();
    let value = work();
    let retained_bytes = balance().wrapping_sub(before).cast_signed().max(0).cast_unsigned();
    let peak_bytes = read(c"thread.peak.read").max(retained_bytes);
    (value, Measured { retained_bytes, peak_bytes })
}

/// Returns freed pages of every arena to the system now. Takes milliseconds: not for a hot path.
pub fn purge() {
    // 4096 means every arena (MALLCTL_ARENAS_ALL in jemalloc's manual).
    command(c"arena.4096.purge");
}

/// Bytes that this thread ever allocated less those that it ever freed. Wraps when it freed more.
fn balance() -> u64 {
    read(c"thread.allocated").wrapping_sub(read(c"thread.deallocated"))
}

fn read(name: &CStr) -> u64 {
    let mut value = 0_u64;
    let mut size = size_of::<u64>();
    // SAFETY: `name` ends with NUL and names a `uint64_t`; the old value fits into `value`.
    let error = unsafe {
        mallctl(name.as_ptr(), ptr::from_mut(&mut value).cast(), &raw mut size, ptr::null_mut(), 0)
    };
    debug_assert_eq!(error, 0, "{name:?}");
    value
}

fn command(name: &CStr) {
    // SAFETY: `name` ends with NUL and names a command that reads and writes nothing.
    let error =
        unsafe { mallctl(name.as_ptr(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 0) };
    debug_assert_eq!(error, 0, "{name:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_is_kept_and_what_was_needed_on_the_way_are_told_apart() {
        let (kept, measured) = measure(|| {
            let scratch = std::hint::black_box(vec![1_u8; 8 << 20]);
            let kept = std::hint::black_box(vec![1_u8; 2 << 20]);
            drop(scratch);
            kept
        });
        assert!((2 * MIB..3 * MIB).contains(&measured.retained_bytes), "{measured:?}");
        assert!((10 * MIB..11 * MIB).contains(&measured.peak_bytes), "{measured:?}");
        drop(kept);
    }

    #[test]
    fn freeing_more_than_was_allocated_retains_nothing() {
        let old = std::hint::black_box(vec![1_u8; 4 << 20]);
        let ((), measured) = measure(move || drop(old));
        assert_eq!(measured.retained_bytes, 0);
    }

    #[test]
    fn purging_is_always_possible() {
        purge();
    }
}
