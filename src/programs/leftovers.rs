//! What has a driver left behind on this machine?
//!
//! The demo and the tests ask this at their end: a mount, a process, a control group or a file that nobody counts on
//! any more is a failure.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::runtime::process::control_groups_of;

/// Things that name a directory of ours, found on the machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Mount points under the directory.
    pub mounts: Vec<PathBuf>,
    /// Processes whose command line names the directory, as `pid command`.
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
    /// When /proc or a control group can't be read.
    pub fn of(directory: &Path, state: &Path) -> std::io::Result<Self> {
        let engine = state.join("engine");
        let cgroups = if engine.exists() { control_groups_of(&engine)? } else { Vec::new() };
        Ok(Self {
            mounts: mounts_under(directory)?,
            processes: processes_naming(directory)?,
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

fn mounts_under(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    Ok(points.filter(|point| point.starts_with(directory)).collect())
}

fn processes_naming(directory: &Path) -> std::io::Result<Vec<String>> {
    let wanted = directory.to_string_lossy().into_owned();
    let own = std::process::id().to_string();
    let pids = fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let found = pids.filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()) && *pid != own).filter_map(|pid| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        command.contains(&wanted).then(|| format!("{pid} {command}"))
    });
    Ok(found.collect())
}

fn entries(place: &Path) -> Vec<PathBuf> {
    fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
