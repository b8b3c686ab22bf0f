//! Is a promise held, and how is that shown?

use std::time::Duration;

use super::rounds::Measured;

/// A figure beside what it is measured against.
pub struct Promise {
    line: String,
    held: bool,
}

impl Promise {
    /// At most a share of the baseline, both at their medians.
    pub fn share(
        what: &'static str,
        ours: &[Duration],
        baseline: &str,
        theirs: &[Duration],
        share_max: f64,
    ) -> Self {
        let (mine, other) = (millis(p50(ours)), millis(p50(theirs)));
        let share = mine / other;
        let line = format!(
            "{what:<24} {mine:>9.1} ms  {baseline:<14} {other:>9.1} ms  {share:>6.2} x   at most {share_max:.2} x"
        );
        Self { line, held: share <= share_max }
    }

    /// At most so much more than the baseline, both at their medians.
    pub fn beyond(
        what: &'static str,
        ours: &[Duration],
        baseline: &str,
        theirs: &[Duration],
        more_max: Duration,
    ) -> Self {
        let (mine, other, more_max) = (millis(p50(ours)), millis(p50(theirs)), millis(more_max));
        let more = mine - other;
        let line = format!(
            "{what:<24} {mine:>9.1} ms  {baseline:<14} {other:>9.1} ms  {more:>+6.1} ms  at most {more_max:+.1} ms"
        );
        Self { line, held: more <= more_max }
    }

    /// At most so many KiB, whenever it was looked at.
    pub fn size(what: &'static str, kib: &[u64], kib_max: u64) -> Self {
        let most = kib.iter().copied().max().unwrap_or(u64::MAX);
        let line =
            format!("{what:<24} {most:>8} KiB  {:<38}   at most {kib_max} KiB", "resident, the most seen");
        Self { line, held: most <= kib_max }
    }

    pub fn is_held(&self) -> bool {
        self.held
    }
}

/// The table, and what else was measured.
pub fn told(promises: &[Promise], measured: &Measured) -> Vec<String> {
    let mut lines = vec![format!(
        "p50 of {} rounds (at once: {}), each beside its baseline in the same round",
        measured.cold.len(),
        measured.cold_at_once.len()
    )];
    let verdict = |promise: &Promise| if promise.held { "held" } else { "NOT HELD" };
    lines.extend(promises.iter().map(|promise| format!("{}  {}", promise.line, verdict(promise))));
    lines.push(format!("{:<24} {:>9.1} ms", "last unpublish", millis(p50(&measured.last_unpublish))));
    let rows = [
        ("cold publish", &measured.cold),
        ("pause pod", &measured.pause),
        ("warm publish", &measured.warm_publish),
        ("warm unpublish", &measured.warm_unpublish),
        ("one PATCH", &measured.patch),
        ("last unpublish", &measured.last_unpublish),
        ("20 cold publishes", &measured.cold_at_once),
        ("20 pause pods", &measured.pauses_at_once),
    ];
    lines.extend(rows.iter().map(|(what, times)| spread(what, times)));
    lines.push(format!("KiB resident after each 20 publishes: {:?}", measured.resident_kib));
    lines
}

fn spread(what: &str, times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = |index: usize| sorted.get(index).copied().map_or(f64::NAN, millis);
    let last = sorted.len().saturating_sub(1);
    format!("{what:<24} least {:.1} ms, p90 {:.1} ms, most {:.1} ms", at(0), at(last * 9 / 10), at(last))
}

/// The median; of an even number, the mean of the two in the middle.
fn p50(times: &[Duration]) -> Duration {
    assert!(!times.is_empty(), "nothing was measured");
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2 } else { sorted[middle] }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
