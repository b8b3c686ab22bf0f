//! What must the node's part be told?

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::mountpod::plan::Limits;
use crate::volume::FilesystemName;

/// What the node's part is told.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The engine's directory: `<state-dir>/engine`.
    pub directory: PathBuf,
    /// Which engine this is (`standalone`, `node`, `controller`): the owner label of its mount pods.
    pub owner: String,
    /// Directories that hostdir may serve, by the name of the filesystem.
    pub roots: BTreeMap<FilesystemName, PathBuf>,
    /// The kubelet's directory as the mount table names it, with no link on the way: it tells which workloads are gone.
    /// `None` without Kubernetes, where each caller unpublishes what it has published.
    pub kubelet_dir: Option<PathBuf>,
    /// A program that understands `mount-helper`: this one, unless a test says otherwise.
    pub helper_program: PathBuf,
    /// How long steps of the engine may take.
    pub engine: Limits,
    /// How long the rest may take.
    pub limits: NodeLimits,
}

/// How long the node's part waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeLimits {
    /// A whole publish.
    pub publish: Duration,
    /// A whole unpublish.
    pub unpublish: Duration,
    /// One look at one session, with all that follows from it.
    pub reconcile: Duration,
    /// An agent's answer to one request.
    pub answer: Duration,
    /// The first word of an agent that may hold a session, after a restart of the driver.
    pub settle: Duration,
    /// statfs(2) of a volume.
    pub stats: Duration,
    /// The unmount of a bind that is the last mount of its session.
    pub unbind: Duration,
    /// Between two looks for workloads that are gone; only with a kubelet's directory.
    pub workloads: Duration,
    /// Calls in flight at a shutdown.
    pub shutdown: Duration,
}

/// The kubelet gives a call 2 minutes; an answer that comes before says more than its own timeout.
const PUBLISH_LIMIT: Duration = Duration::from_secs(110);
/// As for a publish; the last unpublish waits for the client to flush.
const UNPUBLISH_LIMIT: Duration = Duration::from_secs(110);
/// A replacement may have to be started and a client to be waited for; other sessions do not wait meanwhile.
const RECONCILE_LIMIT: Duration = Duration::from_secs(300);
/// An agent answers from memory, but stopping a client takes a moment.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// A living agent greets within milliseconds of the driver's start; a starved one within seconds.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);
/// The kubelet asks for statistics again and again, and gives a call a minute or two.
const STATS_LIMIT: Duration = Duration::from_secs(10);
/// Nothing is left to be flushed by then but what a lost session had.
const UNBIND_LIMIT: Duration = Duration::from_secs(30);
/// The kubelet removes the directory of a swept pod some moments after its mounts, and nothing tells of that. What is not
/// seen costs a mount pod that runs on for that long.
const WORKLOADS_LOOK: Duration = Duration::from_secs(30);
/// Comes after the 15.5 s that the CSI server has: together less than the 45 s after which Kubernetes kills the node plugin.
/// What is cut off goes on after the restart.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            publish: PUBLISH_LIMIT,
            unpublish: UNPUBLISH_LIMIT,
            reconcile: RECONCILE_LIMIT,
            answer: ANSWER_LIMIT,
            settle: SETTLE_LIMIT,
            stats: STATS_LIMIT,
            unbind: UNBIND_LIMIT,
            workloads: WORKLOADS_LOOK,
            shutdown: SHUTDOWN_LIMIT,
        }
    }
}

impl NodeConfig {
    /// With the limits that hold in production, and this very program as helper.
    #[must_use]
    pub fn new(directory: PathBuf, owner: &str, roots: BTreeMap<FilesystemName, PathBuf>) -> Self {
        Self {
            directory,
            owner: owner.to_owned(),
            roots,
            kubelet_dir: None,
            helper_program: PathBuf::from("/proc/self/exe"),
            engine: Limits::default(),
            limits: NodeLimits::default(),
        }
    }
}
