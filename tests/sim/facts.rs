//! What does the driver see of the simulated world?

use std::collections::BTreeSet;

use mountpod::mountpod::facts::{
    AgentFact, BoundFact, ConnectionFact, Deletion, DeviceNumber, Facts, PodFact, PodPhase, ResourceVersion,
};
use mountpod::volume::{SessionId, TargetPath};

use crate::world::{Broken, Client, Pod, Processes, Session, World};

/// The facts of a session, as an honest driver reads them.
pub(crate) fn of(world: &World, id: &SessionId) -> Facts {
    let session = &world.sessions[id];
    let forced_are_seen = !world.is(Broken::ForcedPodUnseen);
    let waits_for_flush = !world.is(Broken::DeleteBeforeFlush);
    let seen = session.pods.iter().filter(|pod| pod.has_record || forced_are_seen);
    let mut pods: Vec<_> = seen.map(pod_fact).collect();
    pods.sort_by_key(|pod| pod.generation);
    Facts {
        session: id.clone(),
        now: world.now(),
        pods,
        connection: connection(session, waits_for_flush),
        bound: bound(session),
        wanted: [].into(),
        gone: gone(session),
        delete_delay: None,
    }
}

fn pod_fact(pod: &Pod) -> PodFact {
    let asked = pod.deletion_asked || !pod.has_record;
    PodFact {
        id: pod.id.clone(),
        resource_version: ResourceVersion(pod.version.to_string()),
        generation: pod.generation,
        phase: match pod.processes {
            Processes::Starting => PodPhase::Starting { waits_for: None },
            Processes::Running => PodPhase::Running,
            Processes::Ended => PodPhase::Ended { why: "exit 1".to_owned() },
        },
        deletion: if asked { Deletion::Asked } else { Deletion::NotAsked },
        refs: if pod.has_record { pod.refs.clone() } else { [].into_iter().collect() },
        delete_after: pod.delete_after,
        agent: match (pod.agent && !pod.hidden, pod.client) {
            (false, _) => AgentFact::Silent,
            (true, Client::None) => AgentFact::Idle,
            (true, Client::Starting) => AgentFact::Starting,
            (true, Client::Serving) => AgentFact::Serving,
            (true, Client::Failed) => AgentFact::Failed { why: "no such bucket".to_owned() },
        },
    }
}

fn device(minor: u32) -> DeviceNumber {
    DeviceNumber { major: 0, minor }
}

fn connection(session: &Session, waits_for_flush: bool) -> ConnectionFact {
    let Some(minor) = session.mount else {
        let flushing = waits_for_flush && session.pods.iter().any(|pod| pod.holds.is_some());
        return if flushing { ConnectionFact::Closing } else { ConnectionFact::None };
    };
    let device = device(minor);
    let holder = session.pods.iter().find(|pod| pod.holds == Some(minor));
    match holder {
        _ if session.connections[&minor].dead || session.connections[&minor].aborted => {
            ConnectionFact::Lost { device }
        }
        _ if session.driver_holds == Some(minor) => {
            ConnectionFact::Held { device, offered_to: session.offered_to.clone() }
        }
        // A driver that keeps no copy of what it has handed over believes that this is enough.
        Some(holder) if session.offered_to.as_ref() == Some(&holder.id) => {
            ConnectionFact::Held { device, offered_to: session.offered_to.clone() }
        }
        Some(holder) => ConnectionFact::HeldByAgent { device, holder: holder.id.clone() },
        None => ConnectionFact::Lost { device },
    }
}

fn bound(session: &Session) -> Vec<BoundFact> {
    let mounts =
        session.binds.iter().flat_map(|(target, stack)| stack.iter().map(move |bound| (target, bound)));
    mounts
        .map(|(target, bound)| BoundFact {
            target: target.clone(),
            device: device(bound.connection),
            writability: bound.writability,
        })
        .collect()
}

fn gone(session: &Session) -> BTreeSet<TargetPath> {
    let forgotten = session.targets.iter().filter(|(_, target)| target.forgotten);
    forgotten.map(|(path, _)| path.clone()).collect()
}
