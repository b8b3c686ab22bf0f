//! What does the value of one key say?

use std::time::Duration;

use super::CLIENT_NAME;
use crate::config::capacity::ABSURD_BYTES;
use crate::config::field::quoted;
use crate::config::parameters::{cpu, memory, within};
use crate::config::quantity::{thousandths, whole};
use crate::volume::{CpuMillis, HostDirectory, MemoryBytes};

/// Between the items of a parameter.
pub(super) const LIST_SEPARATOR: char = ',';
/// How the JuiceFS CSI driver says that a limit or request is left out.
const LEFT_OUT: &str = "0";
/// A request is a share of a node, not what the client lives on: any part of a processor is one.
const CPU_REQUEST_MILLIS: std::ops::RangeInclusive<u128> = 1..=1_024_000;
const MEMORY_REQUEST_BYTES: std::ops::RangeInclusive<u128> = 1 << 20..=64 << 40;
/// Less holds no block of JuiceFS (4 MiB each) for a useful time.
const CACHE_BYTES_MIN: u128 = 64 << 20;
/// More files than a metadata server can hold; a larger figure is a mistake of its writer.
const INODES_MAX: u64 = 1 << 40;
/// A pod that nobody uses for longer costs more than its next start.
const DELETE_DELAY_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Units of Go's `time.ParseDuration`, which JuiceFS's users write, in nanoseconds.
const DURATION_UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Which volumes may one mount pod of a node serve?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sharing {
    /// One volume.
    #[default]
    Volume,
    /// All that were made with the same parameters.
    StorageClass,
    /// All of the filesystem, where credentials and options are the same too.
    Filesystem,
}

/// Where the client keeps its cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CacheMedium {
    /// A directory of the pod on the node's disk (`emptyDir`), which ends with it.
    #[default]
    Disk,
    /// Memory, within the pod's limit.
    Memory,
    /// A volume of its own, made for the pod (generic ephemeral volume), which ends with it.
    Claim,
    /// A directory of the node that the administrator allows; it stays.
    Node,
}

/// Bytes that a cache may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CacheSize(pub u64);

const SHARINGS: &[(&str, Sharing)] = &[
    ("volume", Sharing::Volume),
    ("storageclass", Sharing::StorageClass),
    ("filesystem", Sharing::Filesystem),
];
const MEDIA: &[(&str, CacheMedium)] = &[
    ("disk", CacheMedium::Disk),
    ("memory", CacheMedium::Memory),
    ("claim", CacheMedium::Claim),
    ("node", CacheMedium::Node),
];
/// `emptyDir.medium` of Kubernetes, before the colon of `juicefs/mount-cache-emptydir`.
const EMPTY_DIR_MEDIA: &[(&str, CacheMedium)] = &[("", CacheMedium::Disk), ("Memory", CacheMedium::Memory)];

impl Sharing {
    /// The word of the parameter.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        SHARINGS.iter().find(|(_, sharing)| *sharing == self).map_or("volume", |(word, _)| *word)
    }
}

impl CacheMedium {
    /// The word of the parameter.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        MEDIA.iter().find(|(_, medium)| medium == self).map_or("disk", |(word, _)| *word)
    }
}

pub(super) fn client(value: &str) -> Result<(), String> {
    let other = || format!("is {}, but these are the parameters of the client {CLIENT_NAME}", quoted(value));
    if value == CLIENT_NAME { Ok(()) } else { Err(other()) }
}

pub(super) fn sharing(value: &str) -> Result<Sharing, String> {
    one_of(SHARINGS, value)
}

pub(super) fn medium(value: &str) -> Result<CacheMedium, String> {
    one_of(MEDIA, value)
}

/// `<medium>:<size>`, each may be missing.
pub(super) fn empty_dir(value: &str) -> Result<(CacheMedium, Option<CacheSize>), String> {
    let (medium, size) = value.split_once(':').unwrap_or((value, ""));
    let medium = one_of(EMPTY_DIR_MEDIA, medium.trim())?;
    let size = size.trim();
    Ok((medium, if size.is_empty() { None } else { Some(cache_size(size)?) }))
}

pub(super) fn cache_size(value: &str) -> Result<CacheSize, String> {
    let bytes = whole(value).map_err(|why| format!("is {}, {why}", quoted(value)))?;
    within(value, bytes, CACHE_BYTES_MIN..=u128::from(ABSURD_BYTES), "64Mi", "1Ei").map(CacheSize)
}

/// Paths between separators, each once.
pub(super) fn host_directories(value: &str, separator: char) -> Result<Vec<HostDirectory>, String> {
    let mut directories = Vec::new();
    for path in value.split(separator).map(str::trim) {
        let directory: HostDirectory =
            path.parse().map_err(|why| format!("holds {}, but each directory {why}", quoted(path)))?;
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    Ok(directories)
}

/// Those paths as one text.
pub(super) fn host_directories_text(directories: &[HostDirectory], separator: char) -> String {
    let paths: Vec<_> = directories.iter().map(HostDirectory::as_str).collect();
    paths.join(&separator.to_string())
}

pub(super) fn cpu_limit(value: &str) -> Result<Option<CpuMillis>, String> {
    if value == LEFT_OUT { Ok(None) } else { cpu(value).map(Some) }
}

pub(super) fn memory_limit(value: &str) -> Result<Option<MemoryBytes>, String> {
    if value == LEFT_OUT { Ok(None) } else { memory(value).map(Some) }
}

pub(super) fn cpu_request(value: &str) -> Result<Option<CpuMillis>, String> {
    if value == LEFT_OUT {
        return Ok(None);
    }
    let millis = thousandths(value).map_err(|why| format!("is {}, {why}", quoted(value)))?;
    within(value, millis, CPU_REQUEST_MILLIS, "1m", "1024").map(|millis| Some(CpuMillis(millis)))
}

pub(super) fn memory_request(value: &str) -> Result<Option<MemoryBytes>, String> {
    if value == LEFT_OUT {
        return Ok(None);
    }
    let bytes = whole(value).map_err(|why| format!("is {}, {why}", quoted(value)))?;
    within(value, bytes, MEMORY_REQUEST_BYTES, "1Mi", "64Ti").map(|bytes| Some(MemoryBytes(bytes)))
}

pub(super) fn inodes(value: &str) -> Result<u64, String> {
    let inodes = value.parse().ok().filter(|inodes| (1..=INODES_MAX).contains(inodes));
    inodes.ok_or_else(|| format!("is {}, must be a whole number between 1 and {INODES_MAX}", quoted(value)))
}

/// `90s`, `1h30m`, `1.5h`: what Go's `time.ParseDuration` takes, without a sign.
pub(super) fn delay(value: &str) -> Result<Duration, String> {
    let grammar = || format!("is {}, must be a duration, for example 90s, 5m or 1h30m", quoted(value));
    if value == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = value;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(grammar)?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        sum = part(number, unit).and_then(|part| sum.checked_add(part)).ok_or_else(grammar)?;
        rest = after;
    }
    if value.is_empty() || sum > DELETE_DELAY_MAX {
        let days = DELETE_DELAY_MAX.as_secs() / 86_400;
        return Err(format!(
            "is {}, must be a duration of at most {days} days, for example 5m",
            quoted(value)
        ));
    }
    Ok(sum)
}

fn part(number: &str, unit: &str) -> Option<Duration> {
    let (_, nanoseconds) = DURATION_UNITS.iter().find(|(known, _)| *known == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let count: u128 = digits.parse().ok()?;
    let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let sum = count.checked_mul(u128::from(*nanoseconds))? / divisor;
    u64::try_from(sum).ok().map(Duration::from_nanos)
}

/// Writes a delay so that [`delay`] gives it back.
pub(super) fn delay_text(delay: Duration) -> String {
    if delay.subsec_nanos() == 0 {
        format!("{}s", delay.as_secs())
    } else {
        format!("{}ns", delay.as_nanos())
    }
}

fn one_of<T: Clone>(table: &[(&'static str, T)], value: &str) -> Result<T, String> {
    let words = || table.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(", ");
    let found = table.iter().find(|(word, _)| *word == value).map(|(_, meaning)| meaning.clone());
    found.ok_or_else(|| format!("is {}, must be one of {}", quoted(value), words()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn delays_are_those_of_go() {
        let cases = [
            ("0", 0),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("90s", 90_000),
            ("250ms", 250),
            ("1m0.5s", 60_500),
        ];
        for (text, millis) in cases {
            let got = delay(text).unwrap();
            assert_eq!(got, Duration::from_millis(millis), "{text}");
            assert_eq!(delay(&delay_text(got)).unwrap(), got, "{text}");
        }
        for bad in ["", "5", "m", "-5m", "5 m", "5d", "1..5s", ".s", "8d", "169h", "99999999999999999999h"] {
            assert!(delay(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_cache_is_said_in_two_ways() {
        let size = |bytes| Some(CacheSize(bytes));
        let cases = [
            ("", (CacheMedium::Disk, None)),
            ("Memory:1Gi", (CacheMedium::Memory, size(1 << 30))),
            (":100Gi", (CacheMedium::Disk, size(100 << 30))),
            ("Memory", (CacheMedium::Memory, None)),
            (" Memory : 64Mi ", (CacheMedium::Memory, size(64 << 20))),
        ];
        for (text, want) in cases {
            assert_eq!(empty_dir(text).unwrap(), want, "{text:?}");
        }
        for bad in ["HugePages", "memory:1Gi", ":1", "Memory:1Gi:2", ":much"] {
            assert!(empty_dir(bad).is_err(), "{bad:?}");
        }
        assert_eq!(medium("claim").unwrap().as_str(), "claim");
        assert!(medium("Memory").is_err());
    }

    #[test]
    fn zero_leaves_a_limit_out() {
        assert_eq!(cpu_limit("0").unwrap(), None);
        assert_eq!(memory_limit("0").unwrap(), None);
        assert_eq!(cpu_request("1m").unwrap(), Some(CpuMillis(1)));
        assert_eq!(memory_request("4Mi").unwrap(), Some(MemoryBytes(4 << 20)));
        for bad in ["-1", "0m", "much", "99999Ti"] {
            assert!(cpu_request(bad).is_err() && memory_request(bad).is_err(), "{bad}");
        }
        assert!(inodes("0").is_err() && inodes("1e3").is_err() && inodes("1000").is_ok());
    }
}
