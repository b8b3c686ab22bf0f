//! Does a program that writes all the time notice anything?

use std::time::Duration;

use crate::objects;
use crate::wait::{POD, eventually, so};
use crate::world::Space;

/// Appends through one open file, writes anew, fsyncs, reads back and compares, without a pause; says how often
/// something failed and how long the longest round took (in hundredths of a second, from /proc/uptime).
const SCRIPT: &str = r#"
ops=0 errors=0 longest=0
fail() { errors=$((errors + 1)); echo "error in round $ops: $*"; }
now() { read -r up rest </proc/uptime; t=${up%.*}${up#*.}; }
me=/data/$HOSTNAME
trap 'echo "ops=$ops errors=$errors longest=$longest"; exit 0' TERM
exec 3>>$me.log
while :; do
  ops=$((ops + 1)); now; begun=$t
  echo $ops >&3 || fail append
  echo $ops >$me.value || fail write
  said=$(dd if=$me.value of=$me.copy conv=fsync 2>&1) || fail "fsync $said"
  back=; read -r back <$me.copy || fail read
  [ "$back" = $ops ] || fail "read back '$back'"
  now; took=$((t - begun)); [ $took -le $longest ] || longest=$took
  [ $((ops % 10)) -ne 0 ] || echo "ops=$ops errors=$errors longest=$longest"
done
"#;

/// A pod that writes.
pub struct Writer<'a> {
    space: &'a Space<'a>,
    name: String,
}

/// What it did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub rounds: u64,
    pub errors: u64,
    pub longest: Duration,
}

impl<'a> Writer<'a> {
    /// Starts it and waits until it writes.
    pub fn start(space: &'a Space<'a>, name: &str, claim: &str) -> Self {
        space.start(&objects::pod(name, claim, SCRIPT));
        space.ready(name);
        let writer = Self { space, name: name.to_owned() };
        writer.rounds_after(0, 1);
        writer
    }

    pub fn progress(&self) -> Progress {
        self.try_progress().unwrap_or_else(|why| panic!("writer {}: {why}", self.name))
    }

    fn try_progress(&self) -> Result<Progress, String> {
        let log = self.log()?;
        let line = log
            .lines()
            .rev()
            .find(|line| line.starts_with("ops="))
            .ok_or_else(|| format!("its log is: {log}"))?;
        let number = |key: &str| {
            let word = line.split(' ').find_map(|word| word.strip_prefix(key));
            word.and_then(|word| word.trim().parse::<u64>().ok())
                .ok_or_else(|| format!("its log says: {line}"))
        };
        let longest = Duration::from_millis(number("longest=")? * 10);
        Ok(Progress { rounds: number("ops=")?, errors: number("errors=")?, longest })
    }

    fn log(&self) -> Result<String, String> {
        self.space.world.api.text(&format!("{}/log?tailLines=200", self.space.path("pods", &self.name)))
    }

    /// Waits until it has made `more` rounds beyond `rounds`.
    pub fn rounds_after(&self, rounds: u64, more: u64) -> Progress {
        eventually(POD, &format!("{more} more rounds of writer {}", self.name), || {
            let progress = self.try_progress()?;
            so(progress.rounds >= rounds + more, || format!("{progress:?}"))?;
            Ok(progress)
        })
    }

    /// It still writes, and nothing ever failed.
    pub fn must_be_well(&self) -> Progress {
        let before = self.progress();
        let now = self.rounds_after(before.rounds, 20);
        let errors = || {
            self.log()
                .unwrap_or_default()
                .lines()
                .filter(|line| line.starts_with("error"))
                .collect::<Vec<_>>()
                .join("; ")
        };
        assert_eq!(
            now.errors,
            0,
            "I/O errors of writer {} in {} rounds: {}",
            self.name,
            now.rounds,
            errors()
        );
        now
    }
}

impl std::fmt::Display for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let longest = self.longest.as_secs_f64();
        write!(
            f,
            "{} rounds written, fsynced and read back, {} errors, longest round {longest:.2} s",
            self.rounds, self.errors
        )
    }
}
