//! How are a mount pod's limits given to the kernel, and taken away again?
//!
//! cgroup v1 has one hierarchy per controller, v2 one for all; both can be mounted at once, each with some controllers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::retry::Waits;
use crate::volume::{CpuMillis, MemoryBytes, Resources};

/// All groups of all runtimes lie under this one.
const PARENT: &str = "mountpod";
/// The period of the CPU bandwidth controller, in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;
/// An emptied group can be busy for a moment.
const REMOVE_TRIES: u32 = 12;
const REMOVE_WAIT_FIRST: Duration = Duration::from_millis(2);
const REMOVE_WAIT_LONGEST: Duration = Duration::from_millis(200);
/// Another runtime can remove the empty parent just before we make our group in it.
const CREATE_TRIES: u32 = 10;

/// A resource that the kernel can limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Controller {
    Cpu,
    Memory,
}

const CONTROLLERS: [(Controller, &str); 2] = [(Controller::Cpu, "cpu"), (Controller::Memory, "memory")];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// Where this machine has which controller.
#[derive(Debug, Default)]
pub(super) struct Hierarchies(BTreeMap<Controller, (Version, PathBuf)>);

/// The group of one pod, or of one runtime, in every hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupName(PathBuf);

impl GroupName {
    /// The parent of a runtime's pods.
    pub(super) fn of_runtime(instance: &str) -> Self {
        Self(Path::new(PARENT).join(instance))
    }

    /// The group of a pod of this runtime.
    pub(super) fn pod(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }
}

impl Hierarchies {
    /// Those of this machine; none when it has none, or hides them.
    pub(super) fn of_this_machine() -> Self {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self::read(&mountinfo, |root| fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default())
    }

    fn read(mountinfo: &str, v2_controllers: impl Fn(&Path) -> String) -> Self {
        let mut found = BTreeMap::new();
        for line in mountinfo.lines() {
            let Some((mount, kind)) = line.split_once(" - ") else { continue };
            let Some(place) = mount.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut kind = kind.split(' ');
            let (version, names) = match (kind.next(), kind.nth(1)) {
                (Some("cgroup"), Some(options)) => (Version::V1, options.replace(',', " ")),
                (Some("cgroup2"), _) => (Version::V2, v2_controllers(&place)),
                _ => continue,
            };
            let names: BTreeSet<_> = names.split_ascii_whitespace().collect();
            for (controller, name) in CONTROLLERS {
                if names.contains(name) {
                    found.insert(controller, (version, place.clone()));
                }
            }
        }
        Self(found)
    }

    /// Puts this process into a new group with these limits. What the machine does not allow is told in sentences.
    ///
    /// A limit that was not asked for makes no group: entering one waits for all processors to pass a quiet moment
    /// (an RCU grace period, `cgroup_attach_lock` in the kernel), in the middle of a cold publish.
    pub(super) fn join(&self, group: &GroupName, limits: Resources) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut entered = BTreeSet::new();
        let asked = CONTROLLERS
            .iter()
            .filter_map(|(controller, name)| Some((*controller, name, limit(*controller, limits)?)));
        for (controller, name, limit) in asked {
            let Some((version, root)) = self.0.get(&controller) else {
                warnings.push(format!(
                    "the {name} limit is not applied: this machine has no such cgroup controller"
                ));
                continue;
            };
            let place = root.join(&group.0);
            let made = create(root, &place, *version)
                .and_then(|()| set(controller, *version, limit, &place))
                .and_then(|()| if entered.insert(place.clone()) { enter(&place) } else { Ok(()) });
            if let Err(error) = made {
                let place = place.display();
                warnings.push(format!("the {name} limit is not applied: {place} can't be used: {error}"));
            }
        }
        warnings
    }

    /// How often the kernel killed a process of the group because its memory limit was reached.
    pub(super) fn out_of_memory_kills(&self, group: &GroupName) -> u64 {
        let Some((version, root)) = self.0.get(&Controller::Memory) else { return 0 };
        let file = match version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let text = fs::read_to_string(root.join(&group.0).join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// Removes an empty group from every hierarchy. One that is gone is no error.
    ///
    /// # Errors
    /// When a group stays busy.
    pub(super) async fn remove(&self, group: &GroupName) -> io::Result<()> {
        for root in self.roots() {
            remove_group(&root.join(&group.0)).await?;
        }
        Ok(())
    }

    /// Removes the group of a runtime that has no pods any more; one that has some stays.
    pub(super) fn remove_if_unused(&self, runtime: &GroupName) {
        for root in self.roots() {
            for place in [root.join(&runtime.0), root.join(PARENT)] {
                if let Err(error) = fs::remove_dir(&place) {
                    tracing::debug!("{} stays: {error}", place.display());
                }
            }
        }
    }

    /// The names of the groups in a runtime's group, with the processes that are in them.
    pub(super) fn pods(&self, runtime: &GroupName) -> BTreeMap<String, BTreeSet<i32>> {
        let mut pods: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
        for root in self.roots() {
            let Ok(entries) = fs::read_dir(root.join(&runtime.0)) else { continue };
            for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
                let procs = fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
                let name = entry.file_name().to_string_lossy().into_owned();
                pods.entry(name).or_default().extend(pids_of(&procs));
            }
        }
        pods
    }

    /// The directories of a runtime's group and of its pods' groups, innermost first.
    pub(super) fn places(&self, runtime: &GroupName) -> io::Result<Vec<PathBuf>> {
        let mut places = Vec::new();
        for group in self.roots().into_iter().map(|root| root.join(&runtime.0)).filter(|group| group.exists())
        {
            for entry in fs::read_dir(&group)? {
                places.extend(Some(entry?.path()).filter(|path| path.is_dir()));
            }
            places.push(group);
        }
        Ok(places)
    }

    fn roots(&self) -> BTreeSet<&PathBuf> {
        self.0.values().map(|(_, root)| root).collect()
    }
}

/// The processes that `cgroup.procs` names. Version 2 shows those of other PID namespaces as 0, which kill(2) takes for
/// the caller's own process group.
fn pids_of(procs: &str) -> impl Iterator<Item = i32> + '_ {
    procs.lines().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid > 0)
}

async fn remove_group(place: &Path) -> io::Result<()> {
    let mut waits = Waits::new(REMOVE_WAIT_FIRST, REMOVE_WAIT_LONGEST);
    for _ in 1..REMOVE_TRIES {
        match fs::remove_dir(place) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) => tokio::time::sleep(waits.next_wait()).await,
        }
    }
    fs::remove_dir(place)
}

fn limit(controller: Controller, limits: Resources) -> Option<u64> {
    match controller {
        Controller::Cpu => limits.cpu_limit.map(|CpuMillis(millis)| millis),
        Controller::Memory => limits.memory_limit.map(|MemoryBytes(bytes)| bytes),
    }
}

fn create(root: &Path, place: &Path, version: Version) -> io::Result<()> {
    let mut last = Ok(());
    for _ in 0..CREATE_TRIES {
        last = fs::create_dir_all(place);
        if last.is_ok() {
            break;
        }
    }
    last?;
    if version == Version::V2 {
        // A controller reaches a group only if every group above passes it on.
        let above: Vec<_> = place.ancestors().skip(1).take_while(|above| above.starts_with(root)).collect();
        for group in above.into_iter().rev() {
            fs::write(group.join("cgroup.subtree_control"), "+cpu +memory")?;
        }
    }
    Ok(())
}

fn set(controller: Controller, version: Version, limit: u64, place: &Path) -> io::Result<()> {
    let quota = limit.saturating_mul(CPU_PERIOD_US) / 1000;
    let settings = match (controller, version) {
        (Controller::Cpu, Version::V1) => {
            vec![("cpu.cfs_period_us", CPU_PERIOD_US.to_string()), ("cpu.cfs_quota_us", quota.to_string())]
        }
        (Controller::Cpu, Version::V2) => vec![("cpu.max", format!("{quota} {CPU_PERIOD_US}"))],
        (Controller::Memory, Version::V1) => vec![("memory.limit_in_bytes", limit.to_string())],
        (Controller::Memory, Version::V2) => vec![("memory.max", limit.to_string())],
    };
    settings.into_iter().try_for_each(|(file, value)| fs::write(place.join(file), value))
}

fn enter(place: &Path) -> io::Result<()> {
    // 0 is the writer itself.
    fs::write(place.join("cgroup.procs"), "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn each_controller_is_found_where_it_is() {
        let mixed = Hierarchies::read(MIXED, |_| "cpuset io\n".to_owned());
        let place = |controller| mixed.0.get(&controller).map(|(v, path)| (*v, path.display().to_string()));
        assert_eq!(place(Controller::Cpu), Some((Version::V1, "/sys/fs/cgroup/cpu".to_owned())));
        assert_eq!(place(Controller::Memory), Some((Version::V1, "/sys/fs/cgroup/memory".to_owned())));
        assert!(Hierarchies::read("", |_| String::new()).0.is_empty());
    }

    #[test]
    fn a_process_that_can_not_be_seen_is_never_named() {
        assert_eq!(pids_of("0\n17\n-1\n\nx\n").collect::<Vec<_>>(), [17]);
    }

    #[test]
    fn a_machine_without_controllers_says_which_limits_are_not_applied() {
        let limits = Resources { cpu_limit: None, memory_limit: Some(MemoryBytes(1 << 20)) };
        let warnings = Hierarchies::default().join(&GroupName::of_runtime("x").pod("y"), limits);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("memory limit is not applied"), "{warnings:?}");
    }
}
