//! What is an agent told when it is started? Everything about a session comes later, over its socket.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::juicefs::options::CACHE_IN_POD;

/// A pod that is asked to end while a workload uses it stays for 30 days at most; no workload
/// takes longer to end in practice.
const GRACE_DEFAULT_S: &str = "2592000";
/// A mount pod that nobody gives a session to is a leftover of a driver that died between two steps.
const IDLE_LIMIT_DEFAULT_S: &str = "600";

/// How an agent is run.
#[derive(Debug, Clone, Args)]
pub struct AgentOptions {
    /// Where to listen for the driver. The socket appears when the agent is ready; its directory must exist
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// After SIGTERM, go on serving a session for at most this long. Without a session the agent ends at once
    #[arg(long, value_name = "SECONDS", default_value = GRACE_DEFAULT_S, value_parser = seconds)]
    pub grace: Duration,
    /// End when no session was offered for this long
    #[arg(long, value_name = "SECONDS", default_value = IDLE_LIMIT_DEFAULT_S, value_parser = seconds)]
    pub idle_limit: Duration,
    /// Let the client tell its metrics on this port; without it nobody can ask for them
    #[arg(long, value_name = "PORT")]
    pub metrics_port: Option<u16>,
    /// The volume that the metrics are labelled with
    #[arg(long, value_name = "ID", requires = "metrics_port")]
    pub metrics_volume: Option<String>,
    /// Run this program as the hostdir client instead of the installed one
    #[arg(long, value_name = "PATH", hide = true)]
    pub hostdir_program: Option<PathBuf>,
    /// Run this program as the JuiceFS client instead of the installed one
    #[arg(long, value_name = "PATH", hide = true)]
    pub juicefs_program: Option<PathBuf>,
    /// Where a client finds the directory of its cache, when it has one
    #[arg(long, value_name = "DIR", default_value = CACHE_IN_POD, hide = true)]
    pub cache_dir: PathBuf,
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}
