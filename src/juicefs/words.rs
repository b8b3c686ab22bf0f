//! What do the complaints of a JuiceFS client mean?
//!
//! The client tells its failures in sentences of its own and of its libraries, and some with exit code 0. The table holds
//! pieces of those sentences, in the order in which they are looked for: the first that is found counts.

use std::fmt;

use crate::volume::{ClientFault, UNPRIVILEGED_USER};

/// The agent's own words for a place that is not the client's, before its path.
pub const NO_RIGHT_TO_WRITE: &str = "the client has no right to write to";

/// What is wrong with a client that does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The client does not know an option, or not its value.
    Option,
    /// The metadata engine refuses the password or the user.
    Credentials,
    /// The client was built without the metadata engine.
    Engine,
    /// There is no filesystem at the metadata URL.
    NotFormatted,
    /// The object storage is not what the Secret says.
    Storage,
    /// A server's certificate is not trusted, or the client's own is missing.
    Certificate,
    /// A file or directory of the client's own node can't be used.
    Directory,
    /// The metadata engine can't be reached, or did not answer in time.
    Unreachable,
    /// Something else.
    Unknown,
}

/// Pieces of sentences, in lower case.
const SENTENCES: &[(Trouble, &[&str])] = &[
    (
        Trouble::Option,
        &[
            "unknown option:",
            "flag provided but not defined",
            "flag needs an argument",
            "incorrect usage",
            "invalid value \"",
        ],
    ),
    (
        Trouble::Credentials,
        &[
            "noauth",
            "wrongpass",
            "invalid username-password",
            "noperm",
            "err auth",
            "access denied for user",
            "password authentication failed",
        ],
    ),
    (Trouble::Engine, &["invalid meta driver"]),
    (
        Trouble::Directory,
        &[NO_RIGHT_TO_WRITE, "unable to open database file", "attempt to write a readonly database"],
    ),
    (Trouble::NotFormatted, &["database is not formatted"]),
    (
        Trouble::Certificate,
        &[
            "get certificate error",
            "read ca cert file error",
            "failed to verify certificate",
            "tls: certificate required",
            "tls: bad certificate",
        ],
    ),
    (
        Trouble::Storage,
        &[
            "is not configured correctly",
            "test storage ",
            "is not empty; please clean it up",
            "object storage:",
            "invalid storage:",
            "failed to create bucket",
            "nosuchbucket",
            "invalidaccesskeyid",
            "signaturedoesnotmatch",
        ],
    ),
    (
        Trouble::Unreachable,
        &[
            "connection refused",
            "i/o timeout",
            "no such host",
            "no route to host",
            "network is unreachable",
            "connection reset",
            "deadline exceeded",
            "is loading the dataset",
            "is not available",
            "can't parse map reply",
        ],
    ),
];

/// `juicefs format` tries an object storage three times, and sleeps for 7 s after the last one before it ends (juicefs v1.4.1,
/// `test` of `cmd/format.go`).
pub const LAST_TRY: &str = "tries: #3 [test@format.go";

/// What a client that serves says of something wrong (its log, juicefs v1.4.1 `pkg/utils/logger.go`): what failed for good,
/// and what it tries again (`pkg/vfs/reader.go`).
const COMPLAINTS: &[&str] = &["<ERROR>", "<FATAL>", "<WARNING>: fail"];
/// What a write of a workload may meet in a volume with which nothing is wrong, and the line that tells it (`pkg/vfs/writer.go`).
const FAILED_WRITE: &str = "<ERROR>: write inode:";
const OF_THE_WORKLOAD: &[&str] =
    &["disk quota exceeded", "no space left on device", "no such file or directory"];

/// Does a line of a client that serves tell of something wrong with the volume?
#[must_use]
pub fn is_complaint(line: &str) -> bool {
    let has = |pieces: &[&str]| pieces.iter().any(|piece| line.contains(piece));
    has(COMPLAINTS) && !(line.contains(FAILED_WRITE) && has(OF_THE_WORKLOAD))
}

/// A client's line of its log, and the one that it prints before it asks the metadata engine for the first time (juicefs
/// v1.4.1, `NewClient`), in lower case.
const LOG_LINE: &str = "juicefs[";
const ASKS: &str = "meta address:";

/// A server that takes connections and does not answer is told by silence: nothing came after the question.
fn is_unanswered(words: &str) -> bool {
    words.lines().rfind(|line| line.contains(LOG_LINE)).is_some_and(|line| line.contains(ASKS))
}

impl Trouble {
    /// What these last words of a client tell.
    #[must_use]
    pub fn of(words: &str) -> Self {
        let words = words.to_ascii_lowercase();
        let found = SENTENCES.iter().find(|(_, pieces)| pieces.iter().any(|piece| words.contains(piece)));
        let otherwise = if is_unanswered(&words) { Self::Unreachable } else { Self::Unknown };
        found.map_or(otherwise, |(trouble, _)| *trouble)
    }

    /// What it is called for any client.
    #[must_use]
    pub fn fault(self) -> ClientFault {
        match self {
            Self::Option => ClientFault::Option,
            Self::Credentials => ClientFault::Credentials,
            Self::Engine | Self::NotFormatted | Self::Storage | Self::Certificate | Self::Directory => {
                ClientFault::Filesystem
            }
            Self::Unreachable => ClientFault::Unreachable,
            Self::Unknown => ClientFault::Unknown,
        }
    }

    /// Must somebody change something before another try can do better?
    #[must_use]
    pub fn needs_a_person(self) -> bool {
        match self {
            Self::Option
            | Self::Credentials
            | Self::Engine
            | Self::NotFormatted
            | Self::Storage
            | Self::Certificate
            | Self::Directory => true,
            Self::Unreachable | Self::Unknown => false,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Option => "the JuiceFS client refused an option: correct mountOptions or format-options",
            Self::Credentials => {
                "the metadata engine refused the credentials: correct the password in the Secret's metaurl"
            }
            Self::Engine => {
                "the mount image's JuiceFS client does not have the metadata engine of the Secret's metaurl: choose \
                 another one, or build an image with a client that has it (mount-image/README.md)"
            }
            Self::NotFormatted => {
                "there is no JuiceFS filesystem at the Secret's metaurl: correct it, or add name, storage and bucket to \
                 the Secret so that it is formatted"
            }
            Self::Storage => {
                "the object storage can't be used: correct storage, bucket, access-key and secret-key in the Secret"
            }
            Self::Certificate => {
                "a certificate is missing or not trusted: correct the paths in the Secret's metaurl, the files that its \
                 configs names (for the controller's commands: the chart's juicefs.files), or SSL_CERT_FILE in its envs"
            }
            Self::Directory => {
                return write!(
                    f,
                    "the client can't use a file or directory of its node: give it to the client's user, with what is in it \
                     (a mount pod's: install -d -o {UNPRIVILEGED_USER} -g {UNPRIVILEGED_USER} -m 0700 PATH)"
                );
            }
            Self::Unreachable => "the metadata engine can't be reached: look at its server and at the network",
            Self::Unknown => "the JuiceFS client does not serve",
        })
    }
}

/// The line in which a client tells its session with the metadata engine has this in it.
pub const SESSION_LINE: &str = " OK with version: ";

/// The number of the session in that line: `Create session 5 OK with version: ...`, or `Update` for one that was taken
/// over; 0 for a read-only one, which has none (juicefs v1.4.1, `pkg/meta/base.go`).
#[must_use]
pub fn session_in(line: &str) -> Option<u64> {
    let (before, _) = line.split_once(SESSION_LINE)?;
    if before.ends_with("Create read-only session") {
        return Some(0);
    }
    let (before, number) = before.rsplit_once(" session ")?;
    let says = before.ends_with("Create") || before.ends_with("Update");
    number.parse().ok().filter(|_| says)
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
