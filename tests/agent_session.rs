//! Does an agent keep a session: start and restart its client, tell of it, give it back, and end with it?
//!
//! The client here is a stand-in: a shell script that sees the descriptors and events of a real one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is the failure of the test"
)]

#[path = "support/executable.rs"]
mod executable;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use mountpod::agent::connect::{AgentConnection, connect};
use mountpod::agent::frames::{ClientLaunch, ClientState, Negotiated, Offer, ToAgent};
use mountpod::agent::messages::Word;
use mountpod::session::link::{AgentView, Link, Surroundings};
use mountpod::volume::ClientKind;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::fstat;
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Far more than any of these waits needs on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
const SESSION: &str = "0123456789abcdef0123456789abcdef";
/// A client that serves, tells what it was given, and waits.
const SERVES: &str = r#"
echo "args $*"; echo "fds" $(ls /proc/$$/fd); echo "environment $(tr '\0' ' ' </proc/$$/environ)"
echo $$ >"$DIR/client"
perl -e 'open my $s, ">&=", 6 or die; syswrite $s, q({"event":"serving","generation":1,"pid":).$ARGV[0]."}"' $$
while [ ! -e "$DIR/end" ]; do sleep 0.02; done
"#;

struct Agent {
    process: Child,
    dir: TempDir,
}

impl Agent {
    fn start(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let client = dir.path().join("client.sh");
        executable::script(&client, &format!("DIR={}\n{script}", dir.path().display()));
        let log = File::create(dir.path().join("log")).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_mountpod"))
            .arg("mount-agent")
            .arg("--socket")
            .arg(dir.path().join("agent.sock"))
            .arg("--hostdir-program")
            .arg(client)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { process, dir }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    async fn connect(&self) -> AgentConnection {
        let connected = timeout(LIMIT, async {
            loop {
                match connect(&self.socket(), LIMIT).await {
                    Ok(connection) => return connection,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        });
        connected.await.expect("the agent listens")
    }

    async fn exit_code(mut self) -> Option<i32> {
        timeout(LIMIT, self.process.wait()).await.expect("the agent ends").unwrap().code()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id().unwrap()).unwrap()), signal).unwrap();
    }
}

async fn offer(to: &mut AgentConnection, session: &str) {
    let offer = ToAgent::Offer(Box::new(Offer {
        session: session.parse().unwrap(),
        client: ClientLaunch {
            kind: ClientKind::Hostdir,
            subdirectory: String::new(),
            options: BTreeMap::new(),
        },
        negotiated: Negotiated { minor: 45, flags: 0xff, max_readahead: 4096, max_write: 8192, max_pages: 2 },
        credentials: BTreeMap::from([("password".to_owned(), "hunter2".to_owned())]),
    }));
    // Three devices that can be told apart stand for the session.
    let [null, zero, full] = ["null", "zero", "full"].map(|name| File::open(format!("/dev/{name}")).unwrap());
    to.1.send(&offer, &[null.as_fd(), zero.as_fd(), full.as_fd()]).await.unwrap();
}

async fn word(from: &mut AgentConnection) -> Word {
    timeout(LIMIT, from.0.next()).await.expect("a word in time").unwrap().expect("not the end")
}

/// The next state that satisfies.
async fn until(from: &mut AgentConnection, is: impl Fn(&ClientState) -> bool) -> ClientState {
    loop {
        if let Word::Status { client, pidfd, .. } = word(from).await
            && is(&client)
        {
            assert_eq!(pidfd.is_some(), matches!(client, ClientState::Serving { .. }));
            return client;
        }
    }
}

async fn serving(from: &mut AgentConnection) -> (u32, u32) {
    match until(from, |state| matches!(state, ClientState::Serving { .. })).await {
        ClientState::Serving { starts, pid, .. } => (starts, pid),
        other => panic!("{other:?}"),
    }
}

fn device(fd: impl AsFd) -> u64 {
    fstat(fd).unwrap().st_rdev
}

fn is_device(fd: impl AsFd, name: &str) -> bool {
    device(fd) == device(File::open(format!("/dev/{name}")).unwrap())
}

#[tokio::test]
async fn a_session_is_served_adopted_and_released() {
    let agent = Agent::start(SERVES);
    let mut old = agent.connect().await;
    assert_eq!(fs::metadata(agent.socket()).unwrap().permissions().mode() & 0o777, 0o600);
    old.1.send(&ToAgent::Adopt, &[]).await.unwrap();
    assert!(matches!(word(&mut old).await, Word::Idle));
    offer(&mut old, SESSION).await;
    let (starts, pid) = serving(&mut old).await;
    assert_eq!(starts, 1);
    // A new driver takes over: the old connection ends, the session does not.
    let mut driver = agent.connect().await;
    assert!(timeout(LIMIT, old.0.next()).await.unwrap().unwrap().is_none());
    driver.1.send(&ToAgent::Adopt, &[]).await.unwrap();
    let Word::Holding { session, fds, pidfd, negotiated, .. } = word(&mut driver).await else {
        panic!("holding")
    };
    assert_eq!((session.as_str(), negotiated.max_write), (SESSION, 8192));
    assert!(is_device(&fds.fuse, "null") && is_device(&fds.state, "zero") && pidfd.is_some());
    offer(&mut driver, "fedcba9876543210fedcba9876543210").await;
    assert!(matches!(word(&mut driver).await, Word::Refused { .. }), "one session only");
    agent.signal(Signal::SIGTERM);
    driver.1.send(&ToAgent::Release, &[]).await.unwrap();
    let released = loop {
        if let Word::Released { fds, .. } = word(&mut driver).await {
            break fds;
        }
    };
    assert!(is_device(&released.fuse, "null") && is_device(&released.state, "zero"));
    assert!(!PathBuf::from(format!("/proc/{pid}")).exists(), "the client is gone before the answer");
    let log = fs::read_to_string(agent.dir.path().join("log")).unwrap();
    assert!(log.contains("serve --max-write 8192 --init-flags ff"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
    assert_eq!(agent.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_killed_client_is_started_again_and_its_good_end_is_the_agents() {
    let agent = Agent::start(SERVES);
    let mut driver = agent.connect().await;
    offer(&mut driver, SESSION).await;
    let (_, mut pid) = serving(&mut driver).await;
    for expected in 2..6 {
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
        let (starts, next) = serving(&mut driver).await;
        assert_eq!(starts, expected);
        assert_ne!(next, pid);
        pid = next;
    }
    fs::write(agent.dir.path().join("end"), "").unwrap();
    until(&mut driver, |state| *state == ClientState::Ended).await;
    assert_eq!(agent.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_client_that_never_serves_is_given_up_with_its_last_words() {
    let agent = Agent::start("echo 'no such directory, and hunter2 is secret' >&2; exit 3");
    let mut driver = agent.connect().await;
    offer(&mut driver, SESSION).await;
    let state = until(&mut driver, |state| matches!(state, ClientState::Failed { .. })).await;
    let ClientState::Failed { why, .. } = state else { panic!("{state:?}") };
    assert!(why.contains("no such directory") && why.contains("exited with code 3"), "{why}");
    assert!(!why.contains("hunter2") && why.contains("<redacted>"), "{why}");
    driver.1.send(&ToAgent::Adopt, &[]).await.unwrap();
    assert!(matches!(word(&mut driver).await, Word::Holding { pidfd: None, .. }), "the session is kept");
    driver.1.send(&ToAgent::Stop, &[]).await.unwrap();
    assert_eq!(agent.exit_code().await, Some(0));
}

#[tokio::test]
async fn an_agent_without_a_session_ends_when_told() {
    let agent = Agent::start(SERVES);
    drop(agent.connect().await);
    let socket = agent.socket();
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.exit_code().await, Some(0));
    assert!(!socket.exists());
}

/// A connection that ends says nothing of the client; the end of the process does, although nobody has reaped it.
#[tokio::test]
async fn the_death_of_an_agent_is_told_by_its_process() {
    let mut agent = Agent::start(SERVES);
    drop(agent.connect().await);
    let (_mounts_change, mounts) = watch::channel(0);
    let surroundings =
        Surroundings { mounts, changes: watch::Sender::new(0), shutdown: CancellationToken::new() };
    let link = Link::start(agent.socket(), &surroundings);
    let mut view = link.view();
    let idle = timeout(LIMIT, view.wait_for(|view| *view == AgentView::Idle)).await;
    idle.expect("the agent speaks in time").unwrap();
    agent.process.start_kill().unwrap();
    let dead = timeout(LIMIT, view.wait_for(|view| *view == AgentView::Dead)).await;
    dead.expect("its death is told in time").unwrap();
}
