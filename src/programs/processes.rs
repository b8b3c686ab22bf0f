//! Which processes run on this machine, and which of them belong to a mount pod or to a directory?
//!
//! The demo and the tests kill those of mount pods by id, as a fault would, and ask at their end whether any is left.

use std::fs;
use std::path::{Path, PathBuf};

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its id on this machine.
    pub pid: i32,
    /// The process that is told of its end.
    pub parent: i32,
}

/// The processes of one mount pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodProcesses {
    /// PID 1 of the pod: the mount-agent.
    pub agent: Process,
    /// What the agent started and all below: the client.
    pub client: Vec<Process>,
}

/// All processes.
#[must_use]
pub fn all() -> Vec<Process> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(process).collect()
}

/// The mount pods whose agents' command lines name `directory`.
#[must_use]
pub fn pods_under(directory: &Path) -> Vec<PodProcesses> {
    let all = all();
    let agents = all.iter().filter(|process| process.is_agent_of(directory));
    agents.map(|agent| PodProcesses { agent: *agent, client: below(&all, *agent) }).collect()
}

/// The other processes that name `directory` in their arguments or environment, or have something in it open; each with
/// its command line.
#[must_use]
pub fn tied_to(directory: &Path) -> Vec<(Process, String)> {
    let others = all().into_iter().filter(|process| process.pid.unsigned_abs() != std::process::id());
    others.filter_map(|process| Some((process, process.tie_to(directory)?))).collect()
}

impl Process {
    /// Its arguments with blanks between them; empty when it has ended.
    #[must_use]
    pub fn command(&self) -> String {
        String::from_utf8_lossy(&self.file("cmdline")).trim_end_matches('\0').replace('\0', " ")
    }

    fn place(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.place(name)).unwrap_or_default()
    }

    fn names(&self, file: &str, directory: &Path) -> bool {
        let name = directory.as_os_str().as_encoded_bytes();
        self.file(file).windows(name.len()).any(|part| part == name)
    }

    fn is_agent_of(&self, directory: &Path) -> bool {
        let command = self.command();
        let named = command.contains(&*directory.to_string_lossy());
        named && command.split(' ').any(|word| word.ends_with("mount-agent"))
    }

    fn tie_to(&self, directory: &Path) -> Option<String> {
        if self.names("cmdline", directory) || self.names("environ", directory) {
            return Some(self.command());
        }
        let open = fs::read_dir(self.place("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
        let links = open.chain([self.place("cwd"), self.place("root")]);
        let mut found = links.filter_map(|link| fs::read_link(link).ok());
        let held = found.find(|place| place.starts_with(directory))?;
        Some(format!("{} (holds {})", self.command(), held.display()))
    }
}

/// All processes below one, nearest first.
fn below(all: &[Process], top: Process) -> Vec<Process> {
    let mut found = vec![top];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(all.iter().filter(|process| process.parent == parent.pid));
        next += 1;
    }
    found.remove(0);
    found
}

fn process(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold spaces and parentheses; the fields begin after the last one.
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
    Some(Process { pid, parent })
}
