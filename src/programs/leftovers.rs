//! What has a driver left behind on this machine?
//!
//! The demo and the tests ask this at their end: a mount, a process, a control group or a file that nobody counts on
//! any more is a failure.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Things that name a directory of ours, found on the machine.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Mount points under the directory.
    pub mounts: Vec<PathBuf>,
    /// Processes whose command line names the directory, as `pid command`.
    pub processes: Vec<String>,
    /// Control groups of mount pods that belong to the directory.
    pub cgroups: Vec<PathBuf>,
    /// Files and directories under the given places.
    pub files: Vec<PathBuf>,
}

impl Leftovers {
    /// Looks for mounts and processes of `directory`, and for anything within `empty_places`.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn of(directory: &Path, empty_places: &[PathBuf]) -> std::io::Result<Self> {
        Ok(Self {
            mounts: mounts_under(directory)?,
            processes: processes_naming(directory)?,
            cgroups: empty_places.iter().flat_map(|place| cgroups_of(place)).collect(),
            files: empty_places.iter().flat_map(|place| entries(place)).collect(),
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

/// Mount pods are named after their sessions; a control group whose pod's directory lies in `place` is of it.
fn cgroups_of(place: &Path) -> Vec<PathBuf> {
    let pods: Vec<_> =
        entries(place).into_iter().filter_map(|path| path.file_stem().map(ToOwned::to_owned)).collect();
    let hierarchies =
        entries(Path::new("/sys/fs/cgroup")).into_iter().chain([PathBuf::from("/sys/fs/cgroup")]);
    let groups = hierarchies.flat_map(|hierarchy| entries(&hierarchy.join("mountpod")));
    groups.filter(|group| group.file_name().is_some_and(|name| pods.iter().any(|pod| pod == name))).collect()
}

fn entries(place: &Path) -> Vec<PathBuf> {
    fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
