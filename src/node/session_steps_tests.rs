#![allow(clippy::unwrap_used, reason = "a test may panic")]

use tokio_util::sync::CancellationToken;

use super::super::effects::OPENERS_MAX;
use super::super::reconcile::tests::Treacherous;
use super::*;
use crate::mountpod::pod::ServedVolume;
use crate::node::config::NodeConfig;
use crate::volume::{MountSpec, Resources, Secrets};

fn launch(filesystem: &str) -> Launch {
    let spec = MountSpec {
        client: ClientKind::Hostdir,
        filesystem: filesystem.parse().unwrap(),
        subdirectory: String::new(),
        options: BTreeMap::new(),
        credentials: None,
    };
    let volume = format!("{filesystem}#v").parse().unwrap();
    Launch { served: ServedVolume::new(volume, spec, Resources::default()), secrets: Secrets::default() }
}

#[tokio::test(start_paused = true)]
async fn a_filesystem_that_hangs_takes_no_thread_from_another() {
    let directory = tempfile::tempdir().unwrap();
    let roots = ["hangs", "works"].map(|name| (name.parse().unwrap(), directory.path().to_owned()));
    let config = NodeConfig::new(directory.path().join("engine"), "test", roots.into());
    let pods = Arc::new(Treacherous::default());
    let effects = NodeEffects::start(pods, config, &CancellationToken::new()).unwrap();
    // As many threads wait for its server as may.
    let waiting = effects.openers(&"hangs".parse().unwrap());
    let _waiting = waiting.acquire_many(u32::try_from(OPENERS_MAX).unwrap()).await.unwrap();
    let late = effects.tree_of(&launch("hangs")).await.unwrap_err();
    assert!(matches!(late, EffectError::TimedOut { .. }), "{late:?}");
    assert!(effects.tree_of(&launch("works")).await.unwrap().is_some());
}
