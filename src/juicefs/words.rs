//! What do the complaints of a JuiceFS client mean?
//!
//! The client tells its failures in sentences of its own and of its libraries, and some with exit code 0. The table holds
//! pieces of those sentences, in the order in which they are looked for: the first that is found counts.

use std::fmt;

/// What is wrong with a client that does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The client does not know an option, or not its value.
    Option,
    /// The metadata engine refuses the password or the user.
    Credentials,
    /// There is no filesystem at the metadata URL.
    NotFormatted,
    /// The object storage is not what the Secret says.
    Storage,
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
    (Trouble::NotFormatted, &["database is not formatted"]),
    (
        Trouble::Storage,
        &[
            "is not configured correctly",
            "is not empty; please clean it up",
            "object storage:",
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

impl Trouble {
    /// What these last words of a client tell.
    #[must_use]
    pub fn of(words: &str) -> Self {
        let words = words.to_ascii_lowercase();
        let found = SENTENCES.iter().find(|(_, pieces)| pieces.iter().any(|piece| words.contains(piece)));
        found.map_or(Self::Unknown, |(trouble, _)| *trouble)
    }

    /// Must somebody change something before another try can do better?
    #[must_use]
    pub fn needs_a_person(self) -> bool {
        match self {
            Self::Option | Self::Credentials | Self::NotFormatted | Self::Storage => true,
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
            Self::NotFormatted => {
                "there is no JuiceFS filesystem at the Secret's metaurl: correct it, or add name, storage and bucket to \
                 the Secret so that it is formatted"
            }
            Self::Storage => {
                "the object storage can't be used: correct storage, bucket, access-key and secret-key in the Secret"
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
