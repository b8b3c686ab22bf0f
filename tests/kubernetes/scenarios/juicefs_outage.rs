//! The metadata server of a JuiceFS filesystem is away for a minute.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::Figures;
use crate::juicefs::{Filesystem, Servers};
use crate::objects::{self, IDLE};
use crate::observe;
use crate::wait::{GONE, eventually, let_pass, seconds, short, so};
use crate::world::{Space, World};
use crate::writer::Writer;

const DATABASE: u8 = 5;
/// How long it is away (issue): at first it takes connections and does not answer, then there is no such process.
const SILENT: Duration = Duration::from_secs(20);
const ENDED: Duration = Duration::from_secs(40);
/// A publish or a new volume that needs it fails within this time, in words.
const TOLD: Duration = Duration::from_secs(30);
/// What does not need it goes on as ever: the longest round of a writer to hostdir, on two busy processors.
const UNTOUCHED: Duration = Duration::from_secs(3);
/// A workload that ends meanwhile is gone at the latest so long after the server is back (docs/juicefs.md: its client is
/// given 90 s to write what it has).
const ENDS: Duration = Duration::from_secs(90);
/// A deletion that failed is tried again after at most so long (csi-provisioner's back-off in such a minute, and its call).
const DELETED: Duration = Duration::from_secs(120);
/// Rounds of a writer that show that it goes on.
const ROUNDS: u64 = 20;

/// A running workload goes on afterwards; a publish and a new volume fail clearly meanwhile and succeed afterwards; a
/// workload that ends and a volume that is deleted meanwhile are gone soon after; volumes of hostdir are made and used as
/// ever.
pub fn a_minute(world: &World) -> Figures {
    let space = world.space("jfs-outage");
    let filesystem = Filesystem::new(&space, "outage", DATABASE);
    filesystem.claim("claim", "64Mi");
    ["ending", "unused"].iter().for_each(|claim| filesystem.claim(claim, "64Mi"));
    space.claim("hostdir");
    let [ends, unused] = ["ending", "unused"].map(|claim| space.bound(claim));
    space.start(&objects::pod("ending", "ending", IDLE));
    space.ready("ending");
    space.sh("ending", "echo written >/data/file");
    let (volume, local) = (space.bound("claim"), space.bound("hostdir"));
    let (steady, untouched) =
        (Writer::start(&space, "steady", "claim"), Writer::start(&space, "untouched", "hostdir"));
    let serving = observe::mount_pod_of(world, &space.pod("steady").expect("a pod"));
    filesystem.static_volume("cold", &filesystem.name, &json!({"path": "cold"}), &[]);
    space.bound("cold");

    let mut server = Redis::of(&filesystem.servers);
    let begun = Instant::now();
    server.stop();
    space.start(&objects::pod("meanwhile", "cold", IDLE));
    filesystem.claim("new", "64Mi");
    world.api.delete(&space.path("pods", "ending"));
    world.api.delete(&space.path("persistentvolumeclaims", "unused"));
    let mut figures = vec![
        told(&space, "meanwhile", ("FailedMount", "metadata engine"), begun),
        told(&space, "new", ("ProvisioningFailed", "does not answer"), begun),
    ];
    figures.push(hostdir_works(&space));
    let_pass(SILENT.saturating_sub(begun.elapsed()));
    server.end();
    let_pass((SILENT + ENDED).saturating_sub(begun.elapsed()));
    let during = steady.progress();
    let away = seconds(begun);
    server.start();

    let back = Instant::now();
    let after = steady.rounds_after(during.rounds + 1, ROUNDS);
    figures.push(format!("away for {away}; the running workload went on after {}", seconds(back)));
    space.ready("meanwhile");
    let new = space.bound("new");
    figures.push(gone(world, "the pod that ended meanwhile", &space.path("pods", "ending"), (back, ENDS)));
    let unused = format!("/api/v1/persistentvolumes/{unused}");
    figures.push(gone(world, "the volume that was deleted meanwhile", &unused, (back, DELETED)));
    figures.push(format!("the waiting pod and claim were ready after {}", seconds(back)));
    let last = steady.rounds_after(after.rounds, ROUNDS);
    assert_eq!(last.errors, after.errors, "errors of the running workload after the server was back");
    figures.push(format!("running workload, all in all: {last}"));
    let now = observe::mount_pod_of(world, &space.pod("steady").expect("a pod"));
    assert_eq!(now.uid(), serving.uid(), "the running workload has its mount pod still");
    let hostdir = untouched.must_be_well();
    assert!(hostdir.longest < UNTOUCHED, "a workload on hostdir: {hostdir}");
    figures.push(format!("workload on hostdir meanwhile: {hostdir}"));

    filesystem.finish(
        &["steady", "untouched", "meanwhile"],
        &[("claim", &volume), ("ending", &ends), ("hostdir", &local), ("new", &new)],
    );
    filesystem.give_up("cold");
    observe::no_volume_left(world);
    figures
}

/// Waits until an object is gone, at the latest so long after the server is back.
fn gone(world: &World, what: &str, path: &str, (back, limit): (Instant, Duration)) -> String {
    eventually(limit.saturating_sub(back.elapsed()), &format!("{what} to be gone"), || {
        world.api.get(path).map_or(Ok(()), |object| Err(object["status"].to_string()))
    });
    format!("{what} was gone {} after the server was back", seconds(back))
}

/// Waits for the event with this reason that names what is away.
fn told(space: &Space<'_>, object: &str, (reason, names): (&str, &str), begun: Instant) -> String {
    let said = eventually(TOLD, &format!("a {reason} event of {object} with {names}"), || {
        let events = space.events(object);
        let told = events.iter().find(|event| event.starts_with(reason) && event.contains(names));
        told.cloned().ok_or_else(|| format!("{events:?}"))
    });
    format!("{object} was told after {}: {}", seconds(begun), short(&said))
}

/// From a claim to a pod that is gone again.
fn hostdir_works(space: &Space<'_>) -> String {
    let begun = Instant::now();
    space.claim("other");
    let volume = space.bound("other");
    space.start(&objects::pod("other", "other", IDLE));
    space.ready("other");
    space.sh("other", "echo as ever >/data/file");
    space.end("other");
    space.unclaim("other", &volume);
    format!("a new volume of hostdir made, used and deleted meanwhile: {}", seconds(begun))
}

/// The metadata server.
struct Redis {
    pid: Pid,
    /// Set when it is a child of this process; it lives on when this process ends.
    child: Option<Child>,
    program: PathBuf,
    directory: PathBuf,
}

impl Redis {
    fn of(servers: &Servers) -> Self {
        let file =
            std::fs::read_to_string(servers.directory.join("redis.pid")).expect("the server's process id");
        let pid: i32 = file.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).expect("a server that runs");
        Self { pid: Pid::from_raw(pid), child: None, program, directory: servers.directory.clone() }
    }

    fn stop(&self) {
        kill(self.pid, Signal::SIGSTOP).expect("it can be stopped");
    }

    fn end(&self) {
        kill(self.pid, Signal::SIGKILL).expect("it can be killed");
        let stat = format!("/proc/{}/stat", self.pid);
        eventually(GONE, "the end of the server", || {
            let stat = std::fs::read_to_string(&stat).unwrap_or_default();
            so(stat.is_empty() || stat.contains(") Z "), || stat.clone())
        });
    }

    /// As tests/servers/up did, with the same files.
    fn start(&mut self) {
        let child = Command::new(&self.program)
            .arg0("redis-server")
            .arg(self.directory.join("redis.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("the server starts");
        self.pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
        self.child = Some(child);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("its facts");
        let started = stat.split(' ').nth(21).unwrap_or_default();
        std::fs::write(self.directory.join("redis.pid"), format!("{} {started}\n", self.pid))
            .expect("its file");
    }
}

impl Drop for Redis {
    /// Whatever came of the scenario, the next one needs the server.
    fn drop(&mut self) {
        if std::fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .is_ok_and(|stat| !stat.contains(") Z "))
        {
            let _ = kill(self.pid, Signal::SIGCONT);
        } else {
            self.start();
        }
    }
}
