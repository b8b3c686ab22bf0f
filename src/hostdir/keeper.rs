//! Who starts the serving process again when it dies?
//!
//! The keeper: one thread that touches no file of the volume. It forks the server with a shared descriptor table and
//! memory of its own, so that every file that the server has open survives the server.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, RawFd};
use std::process::ExitCode;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, getppid};

use super::chaos::Chaos;
use super::ops::{Access, FileSystem};
use super::options::ServeOptions;
use super::server::{End, Server, Workers};
use super::session::{self, Negotiated, Refusal, Start};
use super::state::Layout;
use super::state::handles::Handles;
use super::state::nodes::Nodes;
use super::sys::{self, Forked};
use super::{agent, fds, protocol};

/// So many servers that died without answering anything, within this time, end the session.
const USELESS_MAX: usize = 20;

/// See [`USELESS_MAX`].
const USELESS_WITHIN: Duration = Duration::from_secs(1);

/// Descriptors kept free for what an operation opens for a moment.
const DESCRIPTOR_RESERVE: u64 = 64;

/// Exit codes of `mount-hostdir serve`.
mod exit {
    /// A serving process ended because the file system was unmounted or its connection aborted.
    pub(super) const ENDED: u8 = 0;
    /// The session was refused.
    pub(super) const REFUSED: u8 = 65;
    /// Servers die without answering anything.
    pub(super) const CRASH_LOOP: u8 = 70;
    /// A system call that everything depends on failed.
    pub(super) const SYSTEM: u8 = 71;
    /// SIGTERM or SIGINT.
    pub(super) const TERMINATED: u8 = 143;
}

/// Why the keeper gave up.
#[derive(Debug, thiserror::Error)]
enum KeeperError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(
        "{USELESS_MAX} serving processes died within {USELESS_WITHIN:?} without answering a request; last: {last}"
    )]
    CrashLoop { last: String },
    #[error("{what} failed")]
    System { what: &'static str, source: Errno },
}

impl KeeperError {
    fn code(&self) -> u8 {
        match self {
            Self::Refused(_) => exit::REFUSED,
            Self::CrashLoop { .. } => exit::CRASH_LOOP,
            Self::System { .. } => exit::SYSTEM,
        }
    }
}

fn system(what: &'static str) -> impl FnOnce(Errno) -> KeeperError {
    move |source| KeeperError::System { what, source }
}

/// What the keeper waits for.
enum Event {
    ServerEnded(WaitStatus),
    AgentGone,
    Terminate,
}

/// What the keeper does after a server ended.
enum Next {
    StartAnother { died_of: String },
    Exit(u8),
}

struct Keeper<'a> {
    options: &'a ServeOptions,
    layout: &'static Layout,
    signals: SignalFd,
    /// The keeper's random number, which is in the state while this keeper is the session's only one.
    id: u64,
    /// When servers ended that had answered nothing.
    useless: VecDeque<Instant>,
}

/// Serves the session at the inherited descriptors until it ends.
pub(crate) fn keep(options: &ServeOptions) -> ExitCode {
    match run(options) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let cause =
                std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            tracing::error!("{error}{cause}");
            ExitCode::from(error.code())
        }
    }
}

fn run(options: &ServeOptions) -> Result<u8, KeeperError> {
    raise_descriptor_limit();
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|_| Errno::EIO).map_err(system("getting a random number"))?;
    let id = u64::from_ne_bytes(random);
    let negotiated = Negotiated { max_write: options.max_write, init_flags: options.init_flags };
    let (layout, start) = session::open(negotiated, id)?;
    let signals = watch_signals().map_err(system("watching signals"))?;
    let mut keeper = Keeper { options, layout, signals, id, useless: VecDeque::new() };
    keeper.keep_serving(start)
}

fn watch_signals() -> Result<SignalFd, Errno> {
    let mut mask = SigSet::empty();
    [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT].into_iter().for_each(|signal| mask.add(signal));
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// How many descriptors nodes may keep: half, the other half is for open files.
fn node_descriptors_max() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(limit.saturating_sub(DESCRIPTOR_RESERVE) / 2).unwrap_or(usize::MAX).max(16)
}

impl Keeper<'_> {
    fn keep_serving(&mut self, mut start: Start) -> Result<u8, KeeperError> {
        loop {
            if self.layout.header.keeper.load(Acquire) != self.id {
                tracing::error!("another keeper has taken this session over");
                return Ok(exit::SYSTEM);
            }
            if start == Start::Takeover {
                ask_to_resend()?;
            }
            let served_before = self.layout.header.served.load(Acquire);
            let server = self.start_server(start)?;
            match self.watch(server)? {
                Next::Exit(code) => return Ok(code),
                Next::StartAnother { died_of } => self.check_rate(served_before, died_of)?,
            }
            self.close_leaked();
            start = Start::Takeover;
        }
    }

    fn start_server(&self, start: Start) -> Result<Pid, KeeperError> {
        let generation = self.layout.header.generation.fetch_add(1, AcqRel) + 1;
        let keeper = getpid();
        // SAFETY: the keeper never starts a thread.
        let forked =
            unsafe { sys::fork_sharing_descriptors() }.map_err(system("starting a serving process"))?;
        match forked {
            Forked::Parent { child } => Ok(child),
            Forked::Child => self.serve(keeper, generation, start),
        }
    }

    /// The serving process. It never returns and runs no destructor: those would close descriptors of the keeper.
    fn serve(&self, keeper: Pid, generation: u64, start: Start) -> ! {
        let prepared = die_with(keeper).and_then(|()| SigSet::all().thread_unblock());
        abort_on_panic();
        sys::clear_umask();
        let server = self.server();
        let workers = Workers { count: self.options.threads, max_write: self.options.max_write };
        let ready = || agent::tell(&agent::Event::Serving { generation, pid: getpid().as_raw() });
        let end = prepared.and_then(|()| server.run(workers, ready));
        let code = match end {
            Ok(End::Unmounted) => {
                server.flush();
                exit::ENDED
            }
            Ok(End::Aborted) => {
                tracing::warn!("the FUSE connection was aborted");
                exit::ENDED
            }
            Ok(End::Failed(error)) | Err(error) => {
                tracing::error!(%error, generation, ?start, "serving failed");
                exit::SYSTEM
            }
        };
        sys::exit_now(i32::from(code))
    }

    fn server(&self) -> Server {
        let fs = FileSystem {
            nodes: Nodes::load(self.layout, node_descriptors_max()),
            handles: Handles::load(self.layout),
            access: if self.options.read_only { Access::ReadOnly } else { Access::ReadWrite },
        };
        Server::new(self.layout, fs, Chaos::new(self.options.chaos, self.layout))
    }

    fn watch(&self, server: Pid) -> Result<Next, KeeperError> {
        match self.wait_for_event(server)? {
            Event::AgentGone => {
                tracing::warn!("the mount-agent is gone; the session ends here and can be taken over");
                stop(server)?;
                Ok(Next::Exit(exit::ENDED))
            }
            Event::Terminate => {
                tracing::warn!("asked to terminate; the session ends here and can be taken over");
                stop(server)?;
                Ok(Next::Exit(exit::TERMINATED))
            }
            Event::ServerEnded(WaitStatus::Exited(_, code)) if code == i32::from(exit::ENDED) => {
                Ok(Next::Exit(exit::ENDED))
            }
            Event::ServerEnded(status) => Ok(Next::StartAnother { died_of: report_death(status) }),
        }
    }

    fn wait_for_event(&self, server: Pid) -> Result<Event, KeeperError> {
        loop {
            let agent_is_gone = sys::wait_or_hangup(self.signals.as_raw_fd(), fds::AGENT)
                .map_err(system("waiting for events"))?;
            if agent_is_gone {
                return Ok(Event::AgentGone);
            }
            while let Some(signal) = self.signals.read_signal().map_err(system("reading a signal"))? {
                if i32::try_from(signal.ssi_signo) != Ok(Signal::SIGCHLD as i32) {
                    return Ok(Event::Terminate);
                }
            }
            match waitpid(server, Some(WaitPidFlag::WNOHANG)).map_err(system("waiting for the server"))? {
                WaitStatus::StillAlive => {}
                status => return Ok(Event::ServerEnded(status)),
            }
        }
    }

    fn check_rate(&mut self, served_before: u64, died_of: String) -> Result<(), KeeperError> {
        if self.layout.header.served.load(Relaxed) != served_before {
            self.useless.clear();
            return Ok(());
        }
        let now = Instant::now();
        self.useless.push_back(now);
        if self.useless.len() < USELESS_MAX {
            return Ok(());
        }
        match self.useless.pop_front() {
            Some(first) if now.duration_since(first) < USELESS_WITHIN => {
                Err(KeeperError::CrashLoop { last: died_of })
            }
            _ => Ok(()),
        }
    }

    /// Closes what a dead server had opened and not yet put into a table.
    fn close_leaked(&self) {
        let mut known = session::known_descriptors(self.layout);
        known.push(self.signals.as_raw_fd());
        known.sort_unstable();
        known.dedup();
        let mut next = fds::FIRST_OWN;
        for fd in known {
            if fd > next {
                close_range(next, fd - 1);
            }
            next = next.max(fd + 1);
        }
        close_range(next, RawFd::MAX);
    }
}

fn close_range(first: RawFd, last: RawFd) {
    let result = sys::close_range(first.cast_unsigned(), last.cast_unsigned());
    if let Err(error) = result {
        tracing::warn!(%error, first, last, "descriptors that a dead server left stay open");
    }
}

/// Asks the kernel to send again what the dead server has read and not answered.
fn ask_to_resend() -> Result<(), KeeperError> {
    let notification = protocol::reply::resend_notification().map_err(system("encoding a notification"))?;
    match sys::write(fds::FUSE, &notification) {
        Ok(_) => Ok(()),
        Err(Errno::EINVAL) => {
            tracing::error!(
                "this kernel cannot resend requests (Linux 6.9 can): callers of the dead server wait for ever"
            );
            Ok(())
        }
        // The connection has ended; the server will see it.
        Err(Errno::EPERM | Errno::ENODEV | Errno::ENOTCONN | Errno::ECONNABORTED) => Ok(()),
        Err(error) => Err(system("asking for unanswered requests")(error)),
    }
}

fn stop(server: Pid) -> Result<(), KeeperError> {
    match kill(server, Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => return Err(system("stopping the server")(error)),
    }
    waitpid(server, None).map(drop).map_err(system("waiting for the server"))
}

fn report_death(status: WaitStatus) -> String {
    let (event, text) = match status {
        WaitStatus::Signaled(_, signal, _) => {
            (agent::Event::ServerDied { signal: Some(signal as i32), exit: None }, format!("signal {signal}"))
        }
        WaitStatus::Exited(_, code) => {
            (agent::Event::ServerDied { signal: None, exit: Some(code) }, format!("exit code {code}"))
        }
        other => (agent::Event::ServerDied { signal: None, exit: None }, format!("{other:?}")),
    };
    agent::tell(&event);
    text
}

/// The kernel kills the server together with the keeper.
fn die_with(keeper: Pid) -> Result<(), Errno> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() == keeper { Ok(()) } else { Err(Errno::ESRCH) }
}

/// A worker's panic must end the whole server: the keeper starts another.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("{panic}");
        std::process::abort();
    }));
}
