//! How is the C library's allocator told to give memory back?

use nix::libc::{self, c_int};

/// One heap for all threads. By default glibc makes up to eight for each processor, and each keeps its own peak; the
/// driver's threads wait for other processes, not for the allocator.
const HEAPS_MAX: c_int = 1;
/// Free memory at the heap's end goes back beyond so many bytes, and larger blocks have a mapping of their own. Both are
/// glibc's first values, named because it raises them by itself after the first large block unless they are set.
const KEPT_BYTES: c_int = 128 * 1024;

/// Gives back what is free in the middle of the heap, too: after a burst of publishes that is most of it.
pub(super) fn give_memory_back() {
    // SAFETY: malloc_trim takes a number; it works on free memory only, under the allocator's own lock.
    let gave_back = unsafe { libc::malloc_trim(0) };
    tracing::trace!(gave_back, "free memory is given back");
}

/// Keeps the process small between bursts of work. To be called before the first thread is started.
pub(super) fn keep_memory_small() {
    for (setting, value) in [
        (libc::M_ARENA_MAX, HEAPS_MAX),
        (libc::M_TRIM_THRESHOLD, KEPT_BYTES),
        (libc::M_MMAP_THRESHOLD, KEPT_BYTES),
    ] {
        // SAFETY: mallopt takes two numbers; it changes settings under the allocator's own lock.
        let taken = unsafe { libc::mallopt(setting, value) };
        if taken == 0 {
            tracing::debug!(setting, value, "the allocator does not take this setting");
        }
    }
}
