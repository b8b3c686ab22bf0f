//! What has a driver left behind on this machine?
//!
//! The demo and the tests ask this at their end: a mount, a process, a control group or a file that nobody counts on
//! any more is a failure.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::processes::{Process, tied_to};
use crate::mounts::table::MountTable;
use crate::runtime::process::control_groups_of;

/// Things that name a directory of ours, found on the machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Mount points under the directory.
    pub mounts: Vec<PathBuf>,
    /// Processes that name the directory or have something in it open, as `pid command`.
    pub processes: Vec<String>,
    /// Control groups of its mount pods.
    pub cgroups: Vec<PathBuf>,
    /// What the driver keeps of mount pods and sessions.
    pub files: Vec<PathBuf>,
}

impl Leftovers {
    /// Looks for mounts and processes of `directory`, for control groups of the driver with that state directory, and
    /// for anything that it keeps of mount pods and sessions.
    ///
    /// # Errors
    /// When the mount table or a control group can't be read.
    pub fn of(directory: &Path, state: &Path) -> std::io::Result<Self> {
        let engine = state.join("engine");
        let cgroups = if engine.exists() { control_groups_of(&engine)? } else { Vec::new() };
        Ok(Self {
            mounts: mounts_under(directory)?,
            processes: tied_to(directory).into_iter().map(described).collect(),
            cgroups,
            files: ["pods", "sessions"].into_iter().flat_map(|place| entries(&engine.join(place))).collect(),
        })
    }

    /// Is nothing left?
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mounts, processes, cgroups, files } = self;
        write!(
            f,
            "{} mounts, {} processes, {} control groups, {} files",
            mounts.len(),
            processes.len(),
            cgroups.len(),
            files.len()
        )?;
        for path in mounts.iter().chain(cgroups).chain(files) {
            write!(f, "\n  {}", path.display())?;
        }
        processes.iter().try_for_each(|process| write!(f, "\n  {process}"))
    }
}

/// Mount points at or below a directory, the deepest last.
///
/// # Errors
/// When the mount table can't be read.
pub fn mounts_under(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let table = MountTable::read()?;
    let points = table.iter().map(|mount| mount.mount_point.clone());
    let mut found: Vec<_> = points.filter(|point| point.starts_with(directory)).collect();
    found.sort();
    Ok(found)
}

fn described((process, command): (Process, String)) -> String {
    format!("{} {command}", process.pid)
}

fn entries(place: &Path) -> Vec<PathBuf> {
    fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
