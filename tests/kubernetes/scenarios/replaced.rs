//! A mount pod goes while it is used.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Figures;
use crate::node;
use crate::objects::{self, IDLE};
use crate::observe::{self, MountPod};
use crate::wait::{GONE, eventually, so};
use crate::world::{Space, World};
use crate::writer::Writer;

/// Rounds of the writer before and after.
const ROUNDS: u64 = 50;

/// Deleted as `kubectl delete pod` and `kubectl drain` do.
pub fn deleted(world: &World) -> Figures {
    replaced(world, "deleted", |pod| world.api.delete(&pod.path()))
}

/// Deleted as `kubectl delete --force` does: the object is gone while its container lives on.
pub fn deleted_by_force(world: &World) -> Figures {
    replaced(world, "forced", |pod| world.api.delete_by_force(&pod.path()))
}

fn replaced(world: &World, name: &str, take_away: impl Fn(&MountPod)) -> Figures {
    let space = world.space(name);
    let (volume, writer) = served(&space);
    space.start(&objects::pod("idle", "claim", IDLE));
    space.ready("idle");
    let workload = space.pod("writer").unwrap();
    let before = observe::mount_pod_of(world, &workload);
    assert_eq!(before.refs().len(), 2, "refs before: {:?}", before.refs());
    writer.rounds_after(0, ROUNDS);

    take_away(&before);
    let after = observe::next_generation(world, &workload, &before);
    let progress = writer.rounds_after(writer.progress().rounds, ROUNDS);
    assert_eq!(after.refs(), before.refs(), "refs of the new generation {}", after.name());
    eventually(GONE, "the old mount pod and its processes to be gone", || {
        let left = node::processes_of_pod(before.uid());
        so(world.api.get(&before.path()).is_none_or(|pod| pod["metadata"]["uid"] != before.uid()), || {
            "it is still in the API".to_owned()
        })?;
        so(left.is_empty(), || format!("{left:?}"))
    });
    let progress = writer.rounds_after(progress.rounds, ROUNDS);
    writer.must_be_well();

    let figures = vec![format!("{} -> {}: {progress}", before.name(), after.name())];
    space.finish(&["writer", "idle"], &[("claim", &volume)]);
    figures
}

/// The client alone dies; its agent starts another one behind the same mount, in the same pod.
pub fn client_killed(world: &World) -> Figures {
    let space = world.space("killed");
    let (volume, writer) = served(&space);
    let workload = space.pod("writer").unwrap();
    let pod = observe::mount_pod_of(world, &workload);
    for _ in 0..3 {
        let running = node::processes_of_pod(pod.uid());
        let client = running.iter().rfind(|one| one.command.contains("mount-hostdir serve"));
        let client = client.unwrap_or_else(|| panic!("no client among {running:?}"));
        kill(Pid::from_raw(client.pid), Signal::SIGKILL).expect("a client can be killed");
        writer.rounds_after(writer.progress().rounds, ROUNDS);
    }
    let progress = writer.must_be_well();
    assert_eq!(observe::mount_pod_of(world, &workload).uid(), pod.uid(), "the mount pod is still the same");
    space.finish(&["writer"], &[("claim", &volume)]);
    vec![format!("3 kills: {progress}")]
}

fn served<'a>(space: &'a Space<'a>) -> (String, Writer<'a>) {
    space.claim("claim");
    let volume = space.bound("claim");
    (volume, Writer::start(space, "writer", "claim"))
}
