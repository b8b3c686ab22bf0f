//! Can the client's user write to these places?
//!
//! Asked by a process of its own, which is killed at the limit of a preparation: a look at a directory of the node may never
//! come back. A directory that was missing was made by the kubelet, as root's; without this look the client would go on
//! without a cache, or say that it can't open a database.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};

use crate::juicefs::words::NO_RIGHT_TO_WRITE;

/// The hidden subcommand of every program that is an agent.
pub const LOOK_COMMAND: &str = "look-at-places";

/// Files and directories, some of which may not be there yet.
#[derive(Debug, Clone, Args)]
pub struct ToLookAt {
    places: Vec<PathBuf>,
}

/// Fails, and says which, when one can't be written to.
#[must_use]
pub fn look_at(ToLookAt { places }: &ToLookAt) -> ExitCode {
    match unwritable(places) {
        None => ExitCode::SUCCESS,
        Some(place) => {
            // Nobody is there to be told that the agent does not listen.
            writeln!(io::stderr(), "{NO_RIGHT_TO_WRITE} {place:?}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

/// The first place that can't be written to. What is not there yet is made in the nearest directory that is.
fn unwritable(places: &[PathBuf]) -> Option<&Path> {
    let mut there = places.iter().filter_map(|place| place.ancestors().find(|above| above.exists()));
    there.find(|place| !is_writable(place))
}

fn is_writable(place: &Path) -> bool {
    let wanted = AccessFlags::W_OK | if place.is_dir() { AccessFlags::X_OK } else { AccessFlags::R_OK };
    faccessat(AT_FDCWD, place, wanted, AtFlags::AT_EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_place_is_written_to_in_the_nearest_directory_that_is_there() {
        let scratch = tempfile::tempdir().unwrap();
        let found = |places: &[&Path]| {
            let places: Vec<_> = places.iter().map(|place| place.to_path_buf()).collect();
            unwritable(&places).map(Path::to_owned)
        };
        let (there, missing) = (scratch.path(), scratch.path().join("not/yet"));
        assert_eq!(found(&[there, &missing]), None);
        // To /proc even root can't write.
        assert_eq!(found(&[&missing, Path::new("/proc/sys/x")]), Some("/proc/sys".into()));
    }
}
