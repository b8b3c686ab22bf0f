//! What is an agent told when it is started? Everything about a session comes later, over its socket.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

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
    /// Run this program as the hostdir client instead of the installed one
    #[arg(long, value_name = "PATH", hide = true)]
    pub hostdir_program: Option<PathBuf>,
    /// Run this program as the JuiceFS client instead of the installed one
    #[arg(long, value_name = "PATH", hide = true)]
    pub juicefs_program: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}
