//! What must both the driver and the agent know of JuiceFS, apart from any I/O?
//!
//! `secret` reads the keys of a Secret, `configs` that for files of other Secrets, `taken` has the paths that are not free
//! for them, `meta_url` takes the password out of a metadata URL, `options` checks what the client is asked for, `wanted`
//! is its answer to FUSE_INIT, `passing` the form in which it takes a session, `saved` what it leaves to its successor,
//! `words` what its complaints mean.

pub(crate) mod configs;
pub mod meta_url;
pub mod options;
pub mod passing;
pub mod saved;
pub mod secret;
pub(crate) mod taken;
pub mod wanted;
pub mod words;

/// A variable that every client gets: it warns of a user without a home, and writes nothing there.
pub(crate) const HOME: (&str, &str) = ("HOME", "/");
