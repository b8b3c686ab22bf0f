//! Which options may the client be given, and in which form do people write them?
//!
//! An option is checked twice: by name against the tables here, each refusal with its reason, and, if it passes, against
//! what the client itself prints for `juicefs mount --help`, so that an option of another version is neither refused for
//! being unknown here nor given to a client that has it not.

use std::collections::{BTreeMap, BTreeSet};

/// Options of which the driver or the agent decides, and why a person may not.
const REFUSED: &[(&str, &str)] = &[
    ("access-key", "a credential belongs into the Secret: arguments can be read by others"),
    ("secret-key", "a credential belongs into the Secret: arguments can be read by others"),
    ("session-token", "a credential belongs into the Secret: arguments can be read by others"),
    ("access-log", "the root directory of a mount pod is read-only"),
    ("all-squash", "it needs a mount without the kernel's permission check, which the driver's mounts have"),
    ("background", "the agent must see the client's end"),
    ("check-storage", "the client looks only when nobody hands it a mount"),
    ("d", "the agent must see the client's end"),
    ("f", "the client always runs in the foreground"),
    ("force", "the driver mounts, not the client"),
    ("foreground", "the client always runs in the foreground"),
    ("log", "the client's words go to the log of the mount pod"),
    ("no-agent", "it is given anyway"),
    ("no-color", "it is given anyway"),
    ("no-syslog", "it is given anyway"),
    ("no-usage-report", "it is given anyway"),
    ("non-default-permission", "the driver's mounts have the kernel's permission check"),
    ("pyroscope", "it sends profiles of the client to another server"),
    ("q", "the agent reads the client's log"),
    ("quiet", "the agent reads the client's log"),
    ("subdir", "it is the volume's own directory"),
    ("update-fstab", "the driver mounts, not the client"),
    (
        "writeback",
        "what it has acknowledged would lie in the cache alone, which ends with the mount pod, and the client does not wait \
         for its upload",
    ),
];

/// FUSE options (`-o`) that change nothing, because every session has them.
const FUSE_GIVEN: &[&str] = &["allow_other", "default_permissions", "nonempty", "rw", "_netdev"];
/// FUSE options that the client acts on.
const FUSE_PASSED: &[&str] = &["async_dio", "debug", "writeback_cache"];

/// Options of the session that the client has no flag for.
const OF_THE_SESSION: &[&str] = &["enable-acl", NO_EXECUTION];
/// No program of the volume may be run: an option of the mount.
pub const NO_EXECUTION: &str = "noexec";
/// The client itself changes nothing, and needs no right to.
pub const READ_ONLY: &str = "read-only";
/// `cache-dir`: in the volume that its mount pod has for it. Where that is, the agent knows.
pub const CACHE_IN_POD: &str = "/cache";
/// Options that every client has had since 1.0: it need not be asked.
const LONG_KNOWN: &[&str] = &["cache-dir", "cache-size", "max-fuse-io", READ_ONLY];

/// An option that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the mount option {name:?} {why}")]
pub struct InvalidOption {
    /// Its name.
    pub name: String,
    /// Why, as the rest of the sentence.
    pub why: String,
}

impl InvalidOption {
    fn new(name: &str, why: impl Into<String>) -> Self {
        Self { name: name.to_owned(), why: why.into() }
    }
}

/// Reads mount options as they stand in a PersistentVolume or a StorageClass: one per entry, each a bare flag, a
/// `name=value` (the value may hold `=` and `,`), or FUSE options after `-o`. Leading dashes are not needed. Several options
/// in one text are told apart by `config::juicefs::MountOptions`.
///
/// # Errors
/// The first option that is refused, by name.
pub fn from_list<'a>(
    entries: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<String, String>, InvalidOption> {
    let mut options = BTreeMap::new();
    for entry in entries.into_iter().map(str::trim).filter(|entry| !entry.is_empty()) {
        add(&mut options, entry)?;
    }
    Ok(options)
}

/// As [`from_list`], of options that were read apart already; the value of a bare flag is empty.
///
/// # Errors
/// The first option that is refused, by name.
pub fn from_pairs(pairs: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, InvalidOption> {
    let entry = |(name, value): (&String, &String)| match value.as_str() {
        "" => name.clone(),
        value => format!("{name}={value}"),
    };
    let entries: Vec<_> = pairs.iter().map(entry).collect();
    from_list(entries.iter().map(String::as_str))
}

fn add(options: &mut BTreeMap<String, String>, entry: &str) -> Result<(), InvalidOption> {
    let fuse =
        entry.strip_prefix("-o ").or_else(|| entry.strip_prefix("-o=")).or_else(|| entry.strip_prefix("o="));
    if let Some(words) = fuse {
        return words.split(',').try_for_each(|word| add_fuse(options, word.trim()));
    }
    let entry = entry.trim_start_matches('-');
    let (name, value) = entry.split_once(['=', ' ']).unwrap_or((entry, ""));
    let (name, value) = (name.trim(), value.trim());
    if value.is_empty() && !name.contains('-') && (name.contains('_') || fuse_word(name).is_ok()) {
        return add_fuse(options, name);
    }
    check(name, value)?;
    if value != "false" || name != READ_ONLY {
        options.insert(name.to_owned(), value.to_owned());
    }
    Ok(())
}

fn add_fuse(options: &mut BTreeMap<String, String>, word: &str) -> Result<(), InvalidOption> {
    match fuse_word(word)? {
        FuseWord::Given => {}
        FuseWord::ReadOnly => {
            options.insert(READ_ONLY.to_owned(), String::new());
        }
        FuseWord::Passed => {
            let words = options.entry("o".to_owned()).or_default();
            if !words.split(',').any(|known| known == word) {
                words.push_str(if words.is_empty() { "" } else { "," });
                words.push_str(word);
            }
        }
    }
    Ok(())
}

/// What becomes of a FUSE option.
enum FuseWord {
    Given,
    ReadOnly,
    Passed,
}

fn fuse_word(word: &str) -> Result<FuseWord, InvalidOption> {
    match word {
        "ro" => Ok(FuseWord::ReadOnly),
        _ if FUSE_GIVEN.contains(&word) => Ok(FuseWord::Given),
        _ if FUSE_PASSED.contains(&word) => Ok(FuseWord::Passed),
        _ => {
            let name = word.split('=').next().unwrap_or_default();
            Err(InvalidOption::new(
                name,
                "is no FUSE option that a volume can have: the driver mounts, not the client",
            ))
        }
    }
}

/// The FUSE options among checked options.
pub fn fuse_words(options: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    options.get("o").into_iter().flat_map(|words| words.split(',')).filter(|word| !word.is_empty())
}

/// Checks one option by name, apart from what the client knows.
///
/// # Errors
/// When it is refused, has no proper name, or holds control characters.
pub fn check(name: &str, value: &str) -> Result<(), InvalidOption> {
    let proper = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || !name.bytes().all(proper) || name.starts_with('-') {
        return Err(InvalidOption::new(name, "is no name of an option: lower-case letters, digits and '-'"));
    }
    if value.chars().any(char::is_control) {
        return Err(InvalidOption::new(name, "has a value with a control character"));
    }
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return Err(InvalidOption::new(name, format!("can't be given: {why}")));
    }
    match name {
        "o" => {
            value.split(',').filter(|word| !word.is_empty()).try_for_each(|word| fuse_word(word).map(drop))
        }
        "max-fuse-io" => FuseIo::parse(value).map(drop),
        "cache-dir" => cache_dir(value),
        _ => Ok(()),
    }
}

fn cache_dir(value: &str) -> Result<(), InvalidOption> {
    let fits = value == "memory" || value.split(':').all(|dir| dir.starts_with('/') && !dir.contains("/../"));
    let why = "must be \"memory\" or absolute paths of directories, separated by ':'";
    if fits { Ok(()) } else { Err(InvalidOption::new("cache-dir", why)) }
}

/// Checks all options of a spec by name.
///
/// # Errors
/// The first that is refused.
pub fn check_all(options: &BTreeMap<String, String>) -> Result<(), InvalidOption> {
    options.iter().try_for_each(|(name, value)| check(name, value))
}

/// The options that the client must know for itself: all but those of the session.
pub fn of_the_client(options: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    let options = options.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    options.filter(|(name, _)| !OF_THE_SESSION.contains(name))
}

/// Must the client be asked whether it knows these options?
#[must_use]
pub fn are_to_be_asked_for(options: &BTreeMap<String, String>) -> bool {
    of_the_client(options).any(|(name, _)| !LONG_KNOWN.contains(&name))
}

/// The flags in what `juicefs mount --help` prints: words that begin with a dash at the beginning of a line, and their
/// short forms after commas.
#[must_use]
pub fn flags_in_help(help: &str) -> BTreeSet<String> {
    let mut flags = BTreeSet::new();
    for line in help.lines().map(str::trim_start).filter(|line| line.starts_with('-')) {
        for form in line.split(", ") {
            let Some(name) = form.strip_prefix('-') else { break };
            let name = name.trim_start_matches('-').split([' ', '\t', '=']).next().unwrap_or_default();
            flags.insert(name.to_owned());
        }
    }
    flags
}

/// Refuses options that the client does not know.
///
/// # Errors
/// The first such option, by name.
pub fn check_known(
    options: &BTreeMap<String, String>,
    known: &BTreeSet<String>,
) -> Result<(), InvalidOption> {
    match of_the_client(options).find(|(name, _)| !known.contains(*name)) {
        Some((name, _)) => {
            Err(InvalidOption::new(name, "is unknown to the JuiceFS client in this mount pod"))
        }
        None => Ok(()),
    }
}

/// The largest FUSE request: negotiated with the kernel once per session, and every later client must take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FuseIo(u32);

/// Bytes; what the client has by default.
const FUSE_IO_DEFAULT: u32 = 128 << 10;
/// The kernel's limit is 256 pages (`FUSE_MAX_MAX_PAGES` of older kernels).
const FUSE_IO_MAX: u32 = 1 << 20;

impl FuseIo {
    /// The size in these options.
    ///
    /// # Errors
    /// When it is no size that kernel and client can agree on.
    pub fn of(options: &BTreeMap<String, String>) -> Result<Self, InvalidOption> {
        options.get("max-fuse-io").map_or(Ok(Self(FUSE_IO_DEFAULT)), |value| Self::parse(value))
    }

    fn parse(value: &str) -> Result<Self, InvalidOption> {
        let refused = || InvalidOption::new("max-fuse-io", "must be 128K, 256K, 512K or 1M");
        [("128K", FUSE_IO_DEFAULT), ("256K", 256 << 10), ("512K", 512 << 10), ("1M", FUSE_IO_MAX)]
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(value))
            .map(|(_, bytes)| Self(bytes))
            .ok_or_else(refused)
    }

    /// Its length.
    #[must_use]
    pub fn bytes(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
