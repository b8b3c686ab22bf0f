//! How long does a test wait for something to become so?

use std::time::{Duration, Instant};

/// Between two looks: short enough for a figure in tenths of a second, long enough to leave the processors to the node.
const PAUSE: Duration = Duration::from_millis(100);

/// A volume is made, or removed, by sidecars that look again after some seconds when they failed once.
pub const VOLUME: Duration = Duration::from_secs(60);
/// A pod starts on two busy processors.
pub const POD: Duration = Duration::from_secs(90);
/// The kubelet asks a pod's containers to end, and takes its volumes down.
pub const GONE: Duration = Duration::from_secs(90);
/// A failure that is told is told within this time (issue: not waited out).
pub const TOLD: Duration = Duration::from_secs(30);

/// Looks again and again until it is so.
///
/// # Panics
/// After `limit`, with what was seen last.
pub fn eventually<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if begun.elapsed() > limit => {
                panic!("waited {} s in vain for {what}; seen last: {seen}", limit.as_secs())
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Waits although nothing is awaited, to see what happens meanwhile.
pub fn let_pass(time: Duration) {
    std::thread::sleep(time);
}

/// `Ok` when it is so, otherwise what was seen.
pub fn so(is_so: bool, seen: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(seen()) }
}

/// A time for a person.
pub fn seconds(since: Instant) -> String {
    format!("{:.2} s", since.elapsed().as_secs_f64())
}

/// What a person needs of a long message.
pub fn short(text: &str) -> String {
    const LETTERS: usize = 240;
    text.lines().next().unwrap_or_default().chars().take(LETTERS).collect()
}
