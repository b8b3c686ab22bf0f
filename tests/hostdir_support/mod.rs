//! How do tests get a volume that `mount-hostdir` serves? Plays the driver and the mount-agent: mounts, answers
//! FUSE_INIT, and starts the keeper with its four descriptors and no more capabilities than it gets in a mount pod.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "shared by several test programs, which fail on a failed assumption and start processes of their own"
)]

pub mod sys;
pub mod table;

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use mountpod::hostdir::{STATE_LEN, WANTED_INIT, fds};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};
use nix::unistd::Pid;
use tempfile::TempDir;

/// How long a server may take to come up on a busy machine.
pub const SERVING_WITHIN: Duration = Duration::from_secs(20);

/// How the keeper is started.
#[derive(Clone, Default)]
pub struct Start {
    pub read_only: bool,
    pub chaos: Option<u64>,
    pub open_files: Option<u64>,
    pub max_write: Option<u32>,
}

/// A mounted volume; dropping it unmounts and ends everything.
pub struct Volume {
    scratch: TempDir,
    fuse: OwnedFd,
    state: OwnedFd,
    init_flags: u64,
    keeper: Option<Keeper>,
}

struct Keeper {
    process: Child,
    agent: OwnedFd,
    server: Option<Pid>,
}

impl Volume {
    /// Mounts a fresh directory and waits until it is served.
    pub fn start(start: &Start) -> Self {
        Self::start_in(&std::env::temp_dir(), start)
    }

    pub fn start_in(base: &Path, start: &Start) -> Self {
        let scratch = tempfile::Builder::new().prefix("hostdir-").tempdir_in(base).unwrap();
        fs::create_dir(scratch.path().join("mnt")).unwrap();
        fs::create_dir(scratch.path().join("dir")).unwrap();
        fs::create_dir(scratch.path().join("native")).unwrap();
        let fuse = open_fuse();
        mount_fuse(&fuse, &scratch.path().join("mnt"));
        let state = memfd_create(c"hostdir-state", MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&state, STATE_LEN.try_into().unwrap()).unwrap();
        let mut volume = Self { scratch, fuse, state, init_flags: 0, keeper: None };
        volume.init_flags = answer_init(&volume.fuse);
        volume.start_keeper(start);
        volume.wait_until_served();
        volume
    }

    /// Starts a keeper for the session, with a fresh clone of the directory.
    pub fn start_keeper(&mut self, start: &Start) {
        let root = sys::clone_tree(&self.backing()).unwrap();
        self.start_keeper_on(start, &root);
    }

    pub fn start_keeper_on(&mut self, start: &Start, root: &OwnedFd) {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mount-hostdir"));
        let max_write = start.max_write.unwrap_or(WANTED_INIT.max_write);
        command.arg("serve").args(["--max-write", &max_write.to_string()]);
        command.args(["--init-flags", &format!("{:#x}", self.init_flags)]);
        command.args(start.read_only.then_some("--read-only"));
        if let Some(one_in) = start.chaos {
            command.args(["--chaos", &one_in.to_string()]);
        }
        let handed: [(RawFd, RawFd); 4] = [
            (self.fuse.as_raw_fd(), fds::FUSE),
            (self.state.as_raw_fd(), fds::STATE),
            (root.as_raw_fd(), fds::ROOT),
            (theirs.as_raw_fd(), fds::AGENT),
        ];
        sys::confine(&mut command, handed, start.open_files);
        let process = command.spawn().unwrap();
        self.keeper = Some(Keeper { process, agent: ours, server: None });
    }

    /// Waits until a server that is up has said so.
    pub fn wait_until_served(&mut self) -> Pid {
        let give_up = Instant::now() + SERVING_WITHIN;
        while Instant::now() < give_up {
            if let Some(pid) = self.server() {
                return pid;
            }
            pause(Duration::from_millis(1));
        }
        panic!("nothing served within {SERVING_WITHIN:?}");
    }

    /// The serving process, as far as the keeper has told.
    pub fn server(&mut self) -> Option<Pid> {
        let keeper = self.keeper.as_mut()?;
        for event in keeper.events() {
            keeper.server = match event["event"].as_str() {
                Some("serving") => event["pid"].as_i64().map(|pid| Pid::from_raw(pid.try_into().unwrap())),
                _ => None,
            };
        }
        keeper.server
    }

    /// All events that the keeper has sent since the last look.
    pub fn events(&self) -> Vec<serde_json::Value> {
        self.keeper.as_ref().map(Keeper::events).unwrap_or_default()
    }

    /// SIGKILLs the serving process, if one is up, and waits for the next one.
    pub fn kill_server(&mut self) -> Pid {
        let server = self.wait_until_served();
        match kill(server, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("killing {server}: {error}"),
        }
        self.keeper.as_mut().unwrap().server = None;
        self.wait_until_served()
    }

    /// SIGKILLs the keeper; its server dies with it. Returns when both are gone.
    pub fn kill_keeper(&mut self) {
        let server = self.server();
        let Some(mut keeper) = self.keeper.take() else { return };
        keeper.process.kill().unwrap();
        keeper.process.wait().unwrap();
        let give_up = Instant::now() + SERVING_WITHIN;
        while server.is_some_and(is_running) && Instant::now() < give_up {
            pause(Duration::from_millis(1));
        }
        // A server that came up in between has not told us; the kernel kills it too, and shortly.
        pause(Duration::from_millis(20));
    }

    /// Closes the agent's end of the socket, as when the agent dies.
    pub fn drop_agent(&mut self) -> ExitStatus {
        let Keeper { mut process, agent, .. } = self.keeper.take().unwrap();
        drop(agent);
        wait_for(&mut process)
    }

    /// Unmounts and answers how the keeper ended.
    pub fn unmount(&mut self) -> ExitStatus {
        umount2(&self.mnt(), MntFlags::empty()).unwrap();
        self.wait_for_keeper()
    }

    pub fn wait_for_keeper(&mut self) -> ExitStatus {
        wait_for(&mut self.keeper.take().unwrap().process)
    }

    pub fn keeper_pid(&self) -> u32 {
        self.keeper.as_ref().unwrap().process.id()
    }

    /// Where the volume is mounted.
    pub fn mnt(&self) -> PathBuf {
        self.scratch.path().join("mnt")
    }

    /// The served directory.
    pub fn backing(&self) -> PathBuf {
        self.scratch.path().join("dir")
    }

    /// An ordinary directory of the same file system, to compare with.
    pub fn native(&self) -> PathBuf {
        self.scratch.path().join("native")
    }

    pub fn state(&self) -> &OwnedFd {
        &self.state
    }
}

impl Keeper {
    fn events(&self) -> Vec<serde_json::Value> {
        let mut datagram = [0; 512];
        let next = || match recv(self.agent.as_raw_fd(), &mut datagram, MsgFlags::MSG_DONTWAIT) {
            Ok(0) | Err(_) => None,
            Ok(length) => Some(serde_json::from_slice(&datagram[..length]).unwrap()),
        };
        std::iter::from_fn(next).collect()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Both may fail because the test has already done it.
        let _unmounted = umount2(&self.mnt(), MntFlags::MNT_DETACH);
        if let Some(keeper) = self.keeper.as_mut() {
            let _killed = keeper.process.kill();
            let _reaped = keeper.process.wait();
        }
    }
}

/// Whether a process still has threads; one that nobody has reaped yet has none.
fn is_running(process: Pid) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn wait_for(process: &mut Child) -> ExitStatus {
    let give_up = Instant::now() + SERVING_WITHIN;
    while Instant::now() < give_up {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        pause(Duration::from_millis(2));
    }
    process.kill().unwrap();
    panic!("the keeper did not end within {SERVING_WITHIN:?}");
}

fn open_fuse() -> OwnedFd {
    fs::File::options().read(true).write(true).open("/dev/fuse").unwrap().into()
}

fn mount_fuse(fuse: &OwnedFd, target: &Path) {
    let data = format!(
        "fd={},rootmode=40755,user_id=0,group_id=0,allow_other,default_permissions,max_read=1048576",
        fuse.as_raw_fd()
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("hostdir-test"), target, Some("fuse.hostdir"), flags, Some(data.as_str())).unwrap();
}

/// Answers FUSE_INIT with what the client wants of what the kernel offers; returns the flags.
fn answer_init(fuse: &OwnedFd) -> u64 {
    let mut request = [0_u8; 8192];
    let length = nix::unistd::read(fuse, &mut request).unwrap();
    let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
    assert_eq!((word(4), length >= 60), (26, true), "the first request is FUSE_INIT");
    let offered = u64::from(word(52)) | u64::from(word(56)) << 32;
    let offer = WANTED_INIT;
    let flags = offer.flags & offered;
    let (low, high) = (u32::try_from(flags & 0xffff_ffff).unwrap(), u32::try_from(flags >> 32).unwrap());
    let mut answer = Vec::new();
    [80_u32, 0].iter().for_each(|value| answer.extend(value.to_ne_bytes()));
    answer.extend_from_slice(&request[8..16]);
    [7, offer.minor, offer.max_readahead, low].iter().for_each(|value| answer.extend(value.to_ne_bytes()));
    [offer.max_background, offer.congestion_threshold]
        .iter()
        .for_each(|value| answer.extend(value.to_ne_bytes()));
    [offer.max_write, offer.time_gran].iter().for_each(|value| answer.extend(value.to_ne_bytes()));
    [offer.max_pages, 0].iter().for_each(|value| answer.extend(value.to_ne_bytes()));
    answer.extend(high.to_ne_bytes());
    answer.resize(80, 0);
    assert_eq!(nix::unistd::write(fuse.as_fd(), &answer), Ok(80));
    flags
}

/// Runs a closure as an ordinary user.
pub fn as_user<T: Send>(uid: u32, gid: u32, run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                sys::become_user(uid, gid).unwrap();
                run()
            })
            .join()
            .unwrap()
    })
}

/// Waits a moment; every caller has a limit of its own.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
