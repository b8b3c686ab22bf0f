#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::sync::Mutex as StdMutex;

use super::*;
use crate::mountpod::facts::{
    AgentFact, BoundFact, Deletion, DeviceNumber, Generation, PodFact, PodId, PodName, PodPhase, PodUid,
    ResourceVersion,
};
use crate::mountpod::refs::Refs;
use crate::volume::Writability;

/// How long a session is reconciled whose pods die at once.
const WHILE: Duration = Duration::from_secs(60);
/// With waits of 0.5 s, 1 s, 2 s ... in between.
const PODS_MAX: usize = 8;

/// Every pod has ended by the time that it is looked at.
#[derive(Debug, Default)]
struct Dying(StdMutex<Vec<PodFact>>);

impl Effects for Dying {
    async fn observe(&self, session: &SessionId) -> Result<Facts, EffectError> {
        let device = DeviceNumber { major: 0, minor: 7 };
        Ok(Facts {
            session: session.clone(),
            now: Timestamp(1),
            pods: self.0.lock().unwrap().clone(),
            connection: ConnectionFact::Held { device, offered_to: None },
            bound: vec![BoundFact {
                target: "/t".parse().unwrap(),
                device,
                writability: Writability::ReadWrite,
            }],
            wanted: BTreeSet::new(),
            gone: BTreeSet::new(),
            delete_delay: None,
        })
    }

    async fn carry_out(&self, _: &SessionId, step: &Step) -> Result<(), EffectError> {
        if let Step::CreatePod { generation, refs } = step {
            self.0.lock().unwrap().push(ended(*generation, refs));
        }
        Ok(())
    }

    async fn sessions(&self) -> Result<Vec<SessionId>, EffectError> {
        Ok(Vec::new())
    }
}

fn ended(generation: Generation, refs: &Refs) -> PodFact {
    PodFact {
        id: PodId { name: PodName(format!("p-{}", generation.0)), uid: PodUid(generation.0.to_string()) },
        resource_version: ResourceVersion("1".to_owned()),
        generation,
        phase: PodPhase::Ended { why: "out of memory".to_owned() },
        deletion: Deletion::NotAsked,
        refs: refs.clone(),
        delete_after: None,
        agent: AgentFact::Silent,
    }
}

#[tokio::test(start_paused = true)]
async fn pods_that_die_at_once_are_replaced_ever_more_slowly() {
    let engine = Engine::new(Dying::default(), Limits::default());
    let session = "0123456789abcdef0123456789abcdef".parse().unwrap();
    let outcome = engine.achieve(&session, Goal::Reconcile, Instant::now() + WHILE).await;
    assert!(matches!(outcome, Err(EngineError::TimedOut { .. })), "{outcome:?}");
    let created = engine.effects().0.lock().unwrap().len();
    assert!((3..=PODS_MAX).contains(&created), "{created} pods were created within {WHILE:?}");
}
