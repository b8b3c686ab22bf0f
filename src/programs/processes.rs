//! Which processes belong to a mount pod? The demo and the tests kill them by id, as a fault would.

use std::fs;
use std::path::Path;

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its id on this machine.
    pub pid: i32,
    parent: i32,
}

/// The processes of one mount pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodProcesses {
    /// PID 1 of the pod: the mount-agent.
    pub agent: Process,
    /// What the agent started and all below: the client.
    pub client: Vec<Process>,
}

/// The mount pods whose agents' command lines name `directory`.
#[must_use]
pub fn pods_under(directory: &Path) -> Vec<PodProcesses> {
    let all = all();
    let named = directory.to_string_lossy().into_owned();
    let agents = all.iter().filter(|process| is_agent_of(process.pid, &named));
    agents.map(|agent| PodProcesses { agent: *agent, client: below(&all, *agent) }).collect()
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

fn is_agent_of(pid: i32, directory: &str) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command);
    command.split('\0').any(|word| word.ends_with("mount-agent")) && command.contains(directory)
}

fn all() -> Vec<Process> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(process).collect()
}

fn process(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold spaces and parentheses; the fields begin after the last one.
    let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
    Some(Process { pid, parent })
}
