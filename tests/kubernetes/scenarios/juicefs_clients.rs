//! JuiceFS clients are renewed, handed over and killed under a load that keeps files open.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Figures;
use crate::juicefs::Filesystem;
use crate::juicefs_work::{DIRECTORY, REPORTS, Report, only_what_is_documented, report_in};
use crate::node::{self, Process};
use crate::objects::{self, IDLE};
use crate::observe::{self, MountPod};
use crate::wait::{POD, eventually, so};
use crate::world::{Space, World};

const DATABASE: u8 = 9;
/// How often the client is renewed and killed, and how often its mount pod is handed over.
const TIMES: usize = 3;
/// The client's, and then the mount pod's.
const DEATHS: usize = TIMES + 1;
const HAND_OVERS: usize = 2;
/// Issue: no hang over 5 s.
const HANG_MAX_MS: u64 = 5_000;
/// Rounds of the load that show that it goes on.
const ROUNDS: u64 = 10;

/// SIGHUP to the agent renews the client; deleting the mount pod hands the session over: the load meets no error.
/// SIGKILL costs what docs/juicefs.md says, and no more.
pub fn renewed_and_killed(world: &World) -> Figures {
    let space = world.space("jfs-clients");
    let filesystem = Filesystem::new(&space, "clients", DATABASE);
    ["gentle", "hard"].iter().for_each(|claim| filesystem.claim(claim, "256Mi"));
    let volumes = ["gentle", "hard"].map(|claim| space.bound(claim));
    for claim in ["gentle", "hard"] {
        space.start(&objects::pod(claim, claim, IDLE));
    }
    ["gentle", "hard"].iter().for_each(|pod| space.ready(pod));
    let loads = [("gentle", &volumes[0]), ("hard", &volumes[1])]
        .map(|(pod, volume)| Load::start(&space, pod, filesystem.mounted(pod, volume)));
    let [gentle, hard] = loads;
    let (gentle, hard) = std::thread::scope(|scope| {
        let gentle = scope.spawn(move || renewals(gentle));
        let hard = scope.spawn(move || deaths(hard));
        (gentle.join().expect("renewals"), hard.join().expect("deaths"))
    });
    assert!(gentle.errors.is_empty() && gentle.mismatches == 0, "{gentle:?}");
    only_what_is_documented(&hard, DEATHS);
    for (what, report) in [("renewed and handed over", &gentle), ("killed", &hard)] {
        assert!(report.longest_ms < HANG_MAX_MS, "{what}: {report:?}");
    }
    filesystem.finish(&["gentle", "hard"], &[("gentle", &volumes[0]), ("hard", &volumes[1])]);
    vec![
        format!("{TIMES} renewals, {HAND_OVERS} hand-overs: {gentle:?}"),
        format!("{TIMES} clients and a mount pod killed: {hard:?}"),
    ]
}

fn renewals(mut load: Load<'_>) -> Report {
    load.goes_on(ROUNDS);
    for _ in 0..TIMES {
        let before = load.process("juicefs mount");
        signal(&load.process("/usr/bin/mount-agent"), Signal::SIGHUP);
        load.other_client(&before);
        load.goes_on(ROUNDS);
    }
    for _ in 0..HAND_OVERS {
        let before = load.mount_pod();
        load.space.world.api.delete(&before.path());
        load.other_mount_pod(&before);
        load.goes_on(ROUNDS);
    }
    load.finish()
}

fn deaths(mut load: Load<'_>) -> Report {
    load.goes_on(ROUNDS);
    for _ in 0..TIMES {
        let client = load.process("juicefs mount");
        signal(&client, Signal::SIGKILL);
        load.other_client(&client);
        load.goes_on(ROUNDS);
    }
    let before = load.mount_pod();
    signal(&load.process("/usr/bin/mount-agent"), Signal::SIGKILL);
    load.other_mount_pod(&before);
    load.goes_on(ROUNDS);
    load.finish()
}

fn signal(process: &Process, signal: Signal) {
    kill(Pid::from_raw(process.pid), signal).unwrap_or_else(|why| panic!("{signal} to {process}: {why}"));
}

/// A load on the volume of a pod, in a process of its own.
struct Load<'a> {
    space: &'a Space<'a>,
    pod: &'static str,
    reports: tempfile::TempDir,
    process: Child,
}

impl<'a> Load<'a> {
    /// `directory` is the volume as the node sees it.
    fn start(space: &'a Space<'a>, pod: &'static str, directory: PathBuf) -> Self {
        let reports = tempfile::tempdir().expect("a scratch directory");
        let process = Command::new(std::env::current_exe().expect("this program"))
            .env(DIRECTORY, directory)
            .env(REPORTS, reports.path())
            .spawn()
            .expect("a process");
        Self { space, pod, reports, process }
    }

    fn goes_on(&mut self, rounds: u64) {
        let before = report_in(self.reports.path()).rounds;
        eventually(POD, &format!("the load on {} to go on", self.pod), || {
            let ended = self.process.try_wait().expect("a child");
            assert!(ended.is_none(), "the load on {} broke off: {ended:?}", self.pod);
            let now = report_in(self.reports.path()).rounds;
            so(now > before + rounds, || format!("round {now} after {before}"))
        });
    }

    fn mount_pod(&self) -> MountPod {
        observe::mount_pod_of(self.space.world, &self.space.pod(self.pod).expect("a pod"))
    }

    /// The process of the mount pod whose command line begins so.
    fn process(&self, command: &str) -> Process {
        let uid = self.mount_pod().uid().to_owned();
        eventually(POD, &format!("{command} of {}", self.pod), || {
            let running = node::processes_of_pod(&uid);
            let found = running.iter().find(|process| process.command.starts_with(command));
            found.cloned().ok_or_else(|| format!("{running:?}"))
        })
    }

    fn other_client(&self, before: &Process) {
        eventually(POD, "another client", || {
            let now = self.process("juicefs mount");
            so(now.pid != before.pid, || now.to_string())
        });
    }

    fn other_mount_pod(&self, before: &MountPod) {
        let workload = self.space.pod(self.pod).expect("a pod");
        observe::next_generation(self.space.world, &workload, before);
    }

    fn finish(mut self) -> Report {
        let began = Instant::now();
        std::fs::write(self.reports.path().join("stop"), "").expect("a file");
        eventually(Duration::from_millis(HANG_MAX_MS), "the end of the load", || {
            let ended = self.process.try_wait().expect("a child");
            so(ended.is_some_and(|status| status.success()), || {
                format!("{ended:?} after {:?}", began.elapsed())
            })
        });
        report_in(self.reports.path())
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
