//! What do the keys of a JuiceFS Secret mean?
//!
//! The keys are those of the JuiceFS CSI driver, so that a Secret that was made for it works here. A key that is unknown,
//! or means something that this driver does not do, is refused by name: a Secret that is half understood would serve a
//! volume in another way than its owner thinks.

use std::collections::BTreeMap;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::configs;
use super::meta_url::{InvalidMetaUrl, MetaUrl};
use crate::volume::{FilesystemName, SecretFiles, Secrets};

/// The key of a filesystem's metadata engine: a Secret with it describes a JuiceFS filesystem.
pub const METAURL: &str = "metaurl";

/// The key of its object storage's bucket.
const BUCKET: &str = "bucket";
/// The kind of object storage whose bucket is a directory; the client takes it in any case (juicefs v1.4.1, cmd/format.go).
const STORAGE_IN_FILES: &str = "file";
/// The key of a filesystem's name.
const NAME: &str = "name";

/// Keys of the JuiceFS CSI driver that mean something else here than nothing, and why they can't be used.
const REFUSED: &[(&str, &str)] = &[
    (
        "token",
        "belongs to JuiceFS Enterprise, which needs another client; the Community client wants metaurl",
    ),
    ("access-key2", "belongs to JuiceFS Enterprise, which needs another client"),
    ("secret-key2", "belongs to JuiceFS Enterprise, which needs another client"),
    ("bucket2", "belongs to JuiceFS Enterprise, which needs another client"),
    ("initconfig", "belongs to JuiceFS Enterprise, which needs another client"),
];
/// Environment variables that steer how the client is started and handed a mount, or the program loader.
const ENVS_REFUSED: &[&str] = &[
    "JFS_SUPERVISOR",
    "JFS_SUPER_COMM",
    "JFS_FOREGROUND",
    "JFS_NO_UMOUNT",
    "JFS_MOUNT_TIMEOUT",
    "META_PASSWORD",
    "META_PASSWORD_FILE",
    "ACCESS_KEY",
    "SECRET_KEY",
    "SESSION_TOKEN",
    "PATH",
    "HOME",
    "CALL_VIA_MOUNT",
];
const ENV_PREFIXES_REFUSED: &[&str] = &["_FUSE_", "_JFS_", "__DAEMON", "LD_"];
/// Options of `juicefs format` that a Secret may not have, and why.
const FORMAT_REFUSED: &[(&str, &str)] = &[
    ("force", "would overwrite a filesystem that is there"),
    ("no-update", "is given anyway"),
    ("access-key", "has a key of its own in the Secret: arguments can be read by others"),
    ("secret-key", "has a key of its own in the Secret: arguments can be read by others"),
    ("session-token", "has a key of its own in the Secret: arguments can be read by others"),
    ("encrypt-rsa-key", "has a key of its own in the Secret, encrypt_rsa_key"),
    ("storage", "has a key of its own in the Secret"),
    ("bucket", "has a key of its own in the Secret"),
    ("trash-days", "has a key of its own in the Secret"),
];

/// A shorter value in `envs` is a setting, no secret: hiding every "1" would make logs unreadable.
const HIDDEN_ENV_BYTES_MIN: usize = 6;
/// However short, this is a secret.
const RSA_PASSPHRASE: &str = "JFS_RSA_PASSPHRASE";

/// What a Secret says of a filesystem.
#[derive(Debug, Clone)]
pub struct JuicefsSecret {
    /// Where the metadata engine is.
    pub meta_url: MetaUrl,
    /// The environment of every run of the client, from `envs`, and the passphrase of the RSA key.
    pub envs: BTreeMap<String, SecretString>,
    /// What the filesystem is formatted with, if the Secret says so.
    pub format: Option<Format>,
    /// Other Secrets that the client finds as files, from `configs`: for who makes its mount pod.
    pub files: Vec<SecretFiles>,
}

/// What a filesystem is formatted with.
#[derive(Debug, Clone)]
pub struct Format {
    /// Its name: the prefix of its objects.
    pub name: String,
    /// The kind of object storage.
    pub storage: String,
    /// Its bucket, as a URL or a directory.
    pub bucket: String,
    /// `access-key`.
    pub access_key: Option<SecretString>,
    /// `secret-key`.
    pub secret_key: Option<SecretString>,
    /// `session-token`.
    pub session_token: Option<SecretString>,
    /// `trash-days`.
    pub trash_days: Option<u32>,
    /// The RSA key that encrypts data, PEM.
    pub rsa_key: Option<SecretString>,
    /// `format-options`, checked by name.
    pub options: BTreeMap<String, String>,
}

/// A key of the Secret that can't be used. It never repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key {key:?} of the JuiceFS Secret {why}")]
pub struct InvalidSecret {
    /// Which.
    pub key: String,
    /// Why, as the rest of the sentence.
    pub why: String,
}

fn invalid(key: &str, why: impl Into<String>) -> InvalidSecret {
    InvalidSecret { key: key.to_owned(), why: why.into() }
}

/// The name that a Secret gives to its filesystem.
#[must_use]
pub fn filesystem_name(secrets: &Secrets) -> Option<FilesystemName> {
    let (_, name) = secrets.expose().find(|(key, value)| *key == NAME && !value.trim().is_empty())?;
    Some(FilesystemName::for_name(name.trim()))
}

/// The entries that were not yet looked at.
struct Entries<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Entries<'a> {
    fn take(&mut self, key: &str) -> Option<&'a str> {
        self.0.remove(key).map(str::trim).filter(|value| !value.is_empty())
    }

    fn secret(&mut self, key: &str) -> Option<SecretString> {
        self.take(key).map(SecretString::from)
    }

    /// A value that becomes an argument of the client.
    fn argument(&mut self, key: &str) -> Result<Option<String>, InvalidSecret> {
        let value = self.take(key);
        let unfit = |value: &&str| value.starts_with('-') || value.chars().any(char::is_control);
        if value.as_ref().is_some_and(unfit) {
            return Err(invalid(key, "begins with '-' or holds a control character"));
        }
        Ok(value.map(str::to_owned))
    }
}

impl JuicefsSecret {
    /// Reads the entries of a Secret.
    ///
    /// # Errors
    /// The first key that is missing, unknown, refused or has a value that can't be used.
    pub fn read(secrets: &Secrets) -> Result<Self, InvalidSecret> {
        let mut entries = Entries(secrets.expose().collect());
        if let Some((key, why)) = REFUSED.iter().find(|(key, _)| entries.0.contains_key(key)) {
            return Err(invalid(key, *why));
        }
        let url = entries.take(METAURL).ok_or_else(|| invalid(METAURL, "is missing"))?;
        let meta_url =
            MetaUrl::parse(url).map_err(|why: InvalidMetaUrl| invalid(METAURL, why.to_string()))?;
        let envs = envs(&mut entries)?;
        let format = format(&mut entries)?;
        let files = entries.take(configs::KEY).map(configs::read).transpose()?.unwrap_or_default();
        match entries.0.keys().next() {
            None => Ok(Self { meta_url, envs, format, files }),
            Some(unknown) => Err(invalid(
                unknown,
                "is unknown; known keys are name, metaurl, storage, bucket, access-key, secret-key, session-token, \
                 trash-days, format-options, encrypt_rsa_key, passphrase, envs and configs",
            )),
        }
    }

    /// The files and directories of its own machine that the filesystem is in, each with the key that names it.
    pub fn places(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let bucket =
            self.format.as_ref().filter(|format| format.storage.eq_ignore_ascii_case(STORAGE_IN_FILES));
        let bucket = bucket.map(|format| (BUCKET, Path::new(&format.bucket)));
        self.meta_url.file().map(|file| (METAURL, file)).into_iter().chain(bucket)
    }

    /// The environment that every run of the client gets.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        let envs = self.envs.iter().map(|(name, value)| (name.as_str(), value.expose_secret()));
        self.meta_url.password().map(|password| ("META_PASSWORD", password)).into_iter().chain(envs)
    }

    /// The values that no log and no error may show.
    #[must_use]
    pub fn hidden(&self) -> Secrets {
        let password = self.meta_url.password().map(|password| ("META_PASSWORD", password)).into_iter();
        let keys = self.format.iter().flat_map(Format::environment);
        let rsa_key = self.format.iter().filter_map(|format| format.rsa_key.as_ref());
        let rsa_key = rsa_key.map(|key| ("encrypt_rsa_key", key.expose_secret()));
        let is_secret =
            |(name, line): &(&str, &str)| *name == RSA_PASSPHRASE || line.len() >= HIDDEN_ENV_BYTES_MIN;
        let envs = self.environment().flat_map(lines).filter(is_secret);
        let hidden = password.chain(keys).chain(rsa_key).flat_map(lines).chain(envs);
        hidden
            .enumerate()
            .map(|(number, (name, line))| (format!("{name} {number}"), line.to_owned()))
            .collect()
    }
}

/// The lines of a value: what a client prints is looked through line by line.
fn lines<'a>((name, value): (&'a str, &'a str)) -> impl Iterator<Item = (&'a str, &'a str)> {
    value.lines().map(move |line| (name, line.trim()))
}

impl Format {
    /// The credentials of the object storage, as environment variables of `juicefs format`.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        [
            ("ACCESS_KEY", &self.access_key),
            ("SECRET_KEY", &self.secret_key),
            ("SESSION_TOKEN", &self.session_token),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| (name, value.expose_secret())))
    }
}

fn envs(entries: &mut Entries<'_>) -> Result<BTreeMap<String, SecretString>, InvalidSecret> {
    const KEY: &str = "envs";
    let mut envs = BTreeMap::new();
    if let Some(json) = entries.take(KEY) {
        let read: BTreeMap<String, String> = serde_json::from_str(json).map_err(|_| {
            invalid(KEY, "must be a JSON object of strings, like {\"JFS_RSA_PASSPHRASE\": \"...\"}")
        })?;
        for (name, value) in read {
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if name.is_empty() || !name.bytes().all(letter) || value.contains('\0') {
                return Err(invalid(KEY, format!("holds {name:?}, which can't be an environment variable")));
            }
            let prefixed = ENV_PREFIXES_REFUSED.iter().any(|prefix| name.starts_with(prefix));
            if prefixed || ENVS_REFUSED.contains(&name.as_str()) {
                return Err(invalid(
                    KEY,
                    format!(
                        "sets {name}, which is the driver's own: passwords belong into metaurl, access-key, secret-key"
                    ),
                ));
            }
            envs.insert(name, SecretString::from(value));
        }
    }
    if let Some(passphrase) = entries.secret("passphrase") {
        envs.insert(RSA_PASSPHRASE.to_owned(), passphrase);
    }
    Ok(envs)
}

fn format(entries: &mut Entries<'_>) -> Result<Option<Format>, InvalidSecret> {
    let name = entries.argument(NAME)?;
    let storage = entries.argument("storage")?;
    let bucket = entries.argument("bucket")?;
    let (access_key, secret_key) = (entries.secret("access-key"), entries.secret("secret-key"));
    let session_token = entries.secret("session-token");
    let rsa_key = entries.secret("encrypt_rsa_key");
    let trash_days = entries
        .take("trash-days")
        .map(|days| days.parse().map_err(|_| invalid("trash-days", "must be a number of days")));
    let trash_days = trash_days.transpose()?;
    let options = entries.take("format-options").map(format_options).transpose()?.unwrap_or_default();
    let (storage, bucket) = match (storage, bucket) {
        // Nothing to format with: the filesystem is there already.
        (None, None) => return Ok(None),
        (Some(storage), Some(bucket)) => (storage, bucket),
        (Some(_), None) => return Err(invalid("bucket", "is missing, but storage is there")),
        (None, Some(_)) => return Err(invalid("storage", "is missing, but bucket is there")),
    };
    let name = name.ok_or_else(|| invalid("name", "is missing: the filesystem is formatted with it"))?;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    // `validName` of juicefs v1.4.1, cmd/format.go.
    if !(3..=63).contains(&name.len())
        || !name.bytes().all(fits)
        || name.starts_with('-')
        || name.ends_with('-')
    {
        return Err(invalid(
            "name",
            "must have 3 to 63 lower-case letters, digits and '-', and no '-' at its ends",
        ));
    }
    Ok(Some(Format {
        name,
        storage,
        bucket,
        access_key,
        secret_key,
        session_token,
        trash_days,
        rsa_key,
        options,
    }))
}

fn format_options(line: &str) -> Result<BTreeMap<String, String>, InvalidSecret> {
    const KEY: &str = "format-options";
    let mut options = BTreeMap::new();
    for piece in line.split(',').map(str::trim).filter(|piece| !piece.is_empty()) {
        let piece = piece.trim_start_matches('-');
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let proper = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || !name.bytes().all(proper) || value.chars().any(char::is_control) {
            return Err(invalid(KEY, format!("holds {name:?}, which is no option of juicefs format")));
        }
        if let Some((_, why)) = FORMAT_REFUSED.iter().find(|(refused, _)| *refused == name) {
            return Err(invalid(KEY, format!("holds {name:?}, which {why}")));
        }
        options.insert(name.to_owned(), value.to_owned());
    }
    Ok(options)
}

#[cfg(test)]
#[path = "secret_tests.rs"]
mod tests;
