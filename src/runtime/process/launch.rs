//! How do the processes of a mount pod begin? The program `mount-pod-launch`: one thread, no secret, soon over.
//!
//! It enters the pod's cgroups, forks the first process of a new PID namespace, writes down who that is, and only then
//! lets it go on: there is never an agent that nobody has written down. The mount namespace stays the node's: a copy
//! of session mounts in another one would keep their FUSE connections alive.

use std::ffi::{CString, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use nix::fcntl::{Flock, FlockArg};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, execve, setgroups, setsid};
use serde::{Deserialize, Serialize};

use super::cgroups::{GroupName, Hierarchies};
use super::leader::Leader;
use super::sys::{Capabilities, close_on_exec_from, drop_other_capabilities, fork_single_threaded};
use crate::volume::{CpuMillis, MemoryBytes, Resources};

/// In the pod's directory: who its first process is.
const LEADER_FILE: &str = "leader.json";
/// In the pod's directory: held by a launcher at work.
const LOCK_FILE: &str = "launch.lock";
/// In the pod's directory: what its processes print.
pub(super) const LOG_FILE: &str = "log";
/// The first descriptor after stdin, stdout and stderr.
const FIRST_OTHER_FD: u32 = 3;

/// What a launcher is told.
#[derive(Debug, Args)]
pub struct LaunchOptions {
    /// The directory of the pod
    #[arg(long, value_name = "DIR")]
    pub pod_dir: PathBuf,
    /// The runtime's name among the cgroups
    #[arg(long, value_name = "NAME")]
    pub instance: String,
    /// Thousandths of a processor
    #[arg(long, value_name = "N")]
    pub cpu_millis: Option<u64>,
    /// Bytes of memory
    #[arg(long, value_name = "N")]
    pub memory_bytes: Option<u64>,
    /// Leave the processes no capability: their client is none that gives files to their owners
    #[arg(long)]
    pub no_capabilities: bool,
    /// The agent's program and its arguments, its name first
    #[arg(last = true, required = true, num_args = 2.., value_name = "PROGRAM")]
    pub agent: Vec<OsString>,
}

/// What a launcher writes down and prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Launched {
    #[serde(flatten)]
    pub(super) leader: Leader,
    /// Limits that are not applied, in sentences.
    pub(super) warnings: Vec<String>,
}

/// Why a pod's processes were not started.
#[derive(Debug, thiserror::Error)]
#[error("can't {what}")]
struct LaunchError {
    what: &'static str,
    #[source]
    source: io::Error,
}

fn cant<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> LaunchError {
    move |source| LaunchError { what, source: source.into() }
}

/// The program: prints what was launched as JSON on stdout, or why not on stderr.
#[must_use]
pub fn main(options: &LaunchOptions) -> ExitCode {
    let printed = launch(options).and_then(|launched| {
        let json = serde_json::to_string(&launched).map_err(cant("describe the launched process"))?;
        writeln!(io::stdout(), "{json}").map_err(cant("tell what was launched"))
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let told = writeln!(io::stderr(), "{error}: {}", error.source);
            if told.is_ok() { ExitCode::FAILURE } else { ExitCode::from(2) }
        }
    }
}

/// Who was launched for the pod of this directory, if anybody was. Waits for a launcher that is at work.
///
/// # Errors
/// When the directory can't be read.
pub(super) fn launched(pod_dir: &Path) -> io::Result<Option<Launched>> {
    let _lock = lock(pod_dir)?;
    read_launched(pod_dir)
}

fn read_launched(pod_dir: &Path) -> io::Result<Option<Launched>> {
    match fs::read(pod_dir.join(LEADER_FILE)) {
        Ok(json) => serde_json::from_slice(&json).map(Some).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn lock(pod_dir: &Path) -> io::Result<Flock<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(pod_dir.join(LOCK_FILE))?;
    // A launcher holds it for milliseconds, and the kernel takes it from one that dies.
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into())
}

fn launch(options: &LaunchOptions) -> Result<Launched, LaunchError> {
    let _lock = lock(&options.pod_dir).map_err(cant("lock the pod's directory"))?;
    if let Some(before) = read_launched(&options.pod_dir).map_err(cant("read who was launched before"))? {
        return Ok(before);
    }
    let log = open_log(&options.pod_dir).map_err(cant("open the pod's log"))?;
    let agent = AgentCommand::new(&options.agent)?;
    let capabilities = if options.no_capabilities { Capabilities::None } else { Capabilities::OfHostdir };
    let limits = Resources {
        cpu_limit: options.cpu_millis.map(CpuMillis),
        memory_limit: options.memory_bytes.map(MemoryBytes),
    };
    let name = options.pod_dir.file_name().unwrap_or_default().to_string_lossy();
    let group = GroupName::of_runtime(&options.instance).pod(&name);
    let warnings = Hierarchies::of_this_machine().join(&group, limits);
    unshare(CloneFlags::CLONE_NEWPID)
        .map_err(cant("make a PID namespace: is this root with CAP_SYS_ADMIN?"))?;
    let (go_read, go_write) = io::pipe().map_err(cant("make a pipe"))?;
    // SAFETY: this program never starts a thread.
    match unsafe { fork_single_threaded() }.map_err(cant("start the first process"))? {
        ForkResult::Parent { child } => {
            let leader = Leader::of(child).map_err(cant("identify the first process"))?;
            let launched = Launched { leader, warnings };
            write_launched(&options.pod_dir, &launched).map_err(cant("write down the first process"))?;
            (&go_write).write_all(b"g").map_err(cant("let the first process go on"))?;
            Ok(launched)
        }
        ForkResult::Child => {
            drop(go_write);
            let Err(error) = become_agent(go_read, &log, &agent, capabilities);
            let told = writeln!(&log, "{error}: {}", error.source);
            std::process::exit(if told.is_ok() { 1 } else { 2 })
        }
    }
}

fn write_launched(pod_dir: &Path, launched: &Launched) -> io::Result<()> {
    let (new, place) = (pod_dir.join("leader.json.new"), pod_dir.join(LEADER_FILE));
    fs::write(&new, serde_json::to_vec(launched)?)?;
    fs::rename(new, place)
}

fn open_log(pod_dir: &Path) -> io::Result<File> {
    // Appended to: the agent empties it when a client has talked too much.
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(pod_dir.join(LOG_FILE))?;
    log.set_len(0)?;
    Ok(log)
}

/// The agent's program as `execve(2)` wants it.
struct AgentCommand {
    program: CString,
    arguments: Vec<CString>,
}

impl AgentCommand {
    fn new(words: &[OsString]) -> Result<Self, LaunchError> {
        let mut words = words
            .iter()
            .map(|word| CString::new(word.clone().into_vec()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(cant("pass on an argument with a NUL byte"))?
            .into_iter();
        let program =
            words.next().ok_or_else(|| cant("find the agent's program")(io::ErrorKind::InvalidInput))?;
        Ok(Self { program, arguments: words.collect() })
    }
}

/// The first process of the namespace turns into the agent, with nothing that it was not given.
fn become_agent(
    mut go: impl Read,
    log: &File,
    agent: &AgentCommand,
    capabilities: Capabilities,
) -> Result<std::convert::Infallible, LaunchError> {
    // The launcher that dies before it has written us down closes the pipe, and this process ends.
    go.read_exact(&mut [0]).map_err(cant("go on without the launcher"))?;
    setsid().map_err(cant("make a session of processes"))?;
    let nothing = File::open("/dev/null").map_err(cant("open /dev/null"))?;
    dup2_stdin(&nothing).map_err(cant("replace stdin"))?;
    dup2_stdout(log).map_err(cant("replace stdout"))?;
    dup2_stderr(log).map_err(cant("replace stderr"))?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(cant("read the limit of open files"))?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(cant("raise the limit of open files"))?;
    setgroups(&[]).map_err(cant("leave all groups"))?;
    prctl::set_no_new_privs().map_err(cant("set no_new_privs"))?;
    drop_other_capabilities(capabilities).map_err(cant("drop capabilities"))?;
    close_on_exec_from(FIRST_OTHER_FD).map_err(cant("close inherited descriptors"))?;
    let no_environment: [CString; 0] = [];
    execve(&agent.program, &agent.arguments, &no_environment).map_err(cant("execute the agent's program"))
}
