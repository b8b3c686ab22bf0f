//! Does a JuiceFS volume work, outlive what keeps it, and tell clearly what is wrong with it?
//!
//! Everything is real: the unmodified client, a Redis server, a directory for objects, mounts. Needs root: it mounts.
//! `MOUNTPOD_JUICEFS_KILLS` says how often a client is killed under its load, 3 times by default.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, and prints its figures"
)]

#[path = "support/executable.rs"]
mod executable;
mod juicefs_support;
mod session_support;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use juicefs_support::load::Load;
use juicefs_support::work::{only_what_is_documented, run_if_asked};
use juicefs_support::{PASSWORD, Redis, juicefs, request, without_storage};
use kube::core::params::Preconditions;
use mountpod::agent::connect::connect;
use mountpod::agent::frames::{ClientLaunch, ClientState, Offer, ToAgent};
use mountpod::agent::messages::Word;
use mountpod::mountpod::facts::PodName;
use mountpod::mountpod::pod::ServedVolume;
use mountpod::mountpod::service::{Condition, MountService};
use mountpod::mounts::syscalls::{Unmount, unmount};
use mountpod::runtime::MountPods;
use mountpod::session::open::open_session;
use mountpod::session::state_dir::StateDir;
use mountpod::volume::{ClientKind, Resources, SessionId, ShareKey, TargetPath, Writability};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use session_support::node::{Driver, Node, eventually, in_time, read, write};
use session_support::volume;
use tokio::process::{Child, Command};

/// Nothing may hang longer while a client is replaced.
const LONGEST_STALL_MS: u64 = 5000;
/// Deaths besides [`kills`]: of the mount pod, of the client without a driver, and of the client after its return.
const OTHER_DEATHS: usize = 3;
/// What is wrong with a volume is said within this time.
const ERROR_LIMIT: Duration = Duration::from_secs(20);
/// A wrong object storage: its client tries it three times within 5 s, and is not waited for after that.
const STORAGE_LIMIT: Duration = Duration::from_secs(10);

/// A client that sees too few requests begins to look for lost ones after 10 s.
const SEARCH_BEGINS: Duration = Duration::from_secs(12);
/// Some heartbeats of an idle client.
const LOOK_AT_PROCESSOR: Duration = Duration::from_secs(3);
/// `sysconf(_SC_CLK_TCK)` is 100 on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// How often the client is killed while a driver runs.
fn kills() -> usize {
    let asked = std::env::var("MOUNTPOD_JUICEFS_KILLS").ok();
    asked.map_or(3, |number| number.parse().expect("MOUNTPOD_JUICEFS_KILLS is a number"))
}

/// What a process has used, of proc_pid_stat(5): utime and stime.
fn processor_time(pid: Pid) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<u32>().unwrap();
    TICK * (ticks(11) + ticks(12))
}

/// A node, with a JuiceFS filesystem that is yet to be formatted.
struct Scene {
    node: Node,
    redis: Redis,
    secret: BTreeMap<String, String>,
}

impl Scene {
    async fn new() -> Self {
        let mut node = Node::new();
        let client = juicefs().display().to_string();
        let agent = [session_support::PROGRAM, "mount-agent", "--juicefs-program", &client];
        node.agent = Some(agent.map(str::to_owned).to_vec());
        let redis = Redis::start(node.directory.path()).await;
        std::fs::create_dir_all(node.path("objects")).unwrap();
        let secret = redis.secret(&node.path("objects"));
        Self { node, redis, secret }
    }

    async fn publish(&self, driver: &Driver, name: &str, target: &TargetPath) {
        in_time("publish", driver.service.publish(request(name, target, &self.secret))).await.unwrap();
    }

    /// The clients of this node.
    fn clients(&self) -> Vec<Pid> {
        self.node.processes(" /mountpod/")
    }

    async fn until_nothing_is_left(&self) {
        self.node.until_nothing_is_left().await;
        assert_eq!(self.clients(), [], "clients are left");
    }
}

/// Only of use in a process that [`Load::start`] has started.
#[test]
fn juicefs_load_process() {
    run_if_asked();
}

fn load(scene: &Scene, target: &TargetPath) -> Load {
    Load::start(&scene.node, target.as_path(), "juicefs_load_process")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filesystem_is_formatted_once_and_its_data_outlives_every_mount() {
    let scene = Scene::new().await;
    let driver = scene.node.driver().await;
    let (a, b, c) = (scene.node.target("a"), scene.node.target("b"), scene.node.target("c"));
    // Two at once, on a filesystem that is not formatted yet.
    tokio::join!(scene.publish(&driver, "v", &a), scene.publish(&driver, "w", &c));
    let read_only = mountpod::mountpod::service::PublishRequest {
        access: mountpod::volume::Access {
            writability: Writability::ReadOnly,
            ..request("v", &b, &scene.secret).access
        },
        ..request("v", &b, &scene.secret)
    };
    in_time("publish", driver.service.publish(read_only)).await.unwrap();
    assert_eq!(driver.refs(&volume("v")), [2]);
    write(&a.as_path().join("file"), "hello").await.unwrap();
    assert_eq!(read(&b.as_path().join("file")).await.unwrap(), "hello");
    assert!(read(&c.as_path().join("file")).await.is_err(), "another volume shows it");
    let refused = write(&b.as_path().join("other"), "x").await.unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(nix::libc::EROFS));
    let stats = in_time("stats", driver.service.stats(&volume("v"), &a)).await.unwrap();
    assert_eq!(stats.condition, Condition::Serving);
    assert_eq!(scene.clients().len(), 2);
    for client in scene.clients() {
        let line = std::fs::read(format!("/proc/{client}/cmdline")).unwrap();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        assert!(line.contains("redis://127.0.0.1") && !line.contains(PASSWORD), "{line}");
        assert!(line.contains("--no-usage-report") && line.contains("--subdir=vols/"), "{line}");
    }
    for name in ["v", "w"] {
        for target in [&a, &b, &c] {
            in_time("unpublish", driver.service.unpublish(&volume(name), target)).await.unwrap();
        }
    }
    scene.until_nothing_is_left().await;

    scene.publish(&driver, "v", &a).await;
    assert_eq!(read(&a.as_path().join("file")).await.unwrap(), "hello");
    assert_eq!(std::fs::metadata(a.as_path()).unwrap().ino(), 1);
    driver.unpublish("v", &a).await.unwrap();
    scene.until_nothing_is_left().await;
    driver.service.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_client_or_mount_pod_costs_write_handles_and_nothing_else() {
    let scene = Scene::new().await;
    let mut driver = scene.node.driver().await;
    let a = scene.node.target("a");
    scene.publish(&driver, "v", &a).await;
    let mut load = load(&scene, &a);
    load.goes_on(20, "the start").await;
    for round in 0..kills() {
        scene.node.kill(" /mountpod/").await;
        let took = load.goes_on(10, &format!("the death of the client, round {round}")).await;
        println!("client killed, round {round}: ten rounds after {took:?}");
    }
    scene.node.kill("mount-agent").await;
    let took = load.goes_on(10, "the death of the mount pod").await;
    println!("mount pod killed: ten rounds after {took:?}");
    driver.stop().await;
    scene.node.kill(" /mountpod/").await;
    load.goes_on(10, "the death of the client without a driver").await;
    driver = scene.node.driver().await;
    load.goes_on(10, "the driver's return").await;
    scene.node.kill(" /mountpod/").await;
    load.goes_on(1, "the last death of the client").await;
    let report = load.finish().await;
    println!("killed: {report:?}");
    // Requests that were given out again must not leave it looking for lost ones for ever, on a volume that is quiet now.
    tokio::time::sleep(SEARCH_BEGINS).await;
    let before = processor_time(scene.clients()[0]);
    tokio::time::sleep(LOOK_AT_PROCESSOR).await;
    let used = processor_time(scene.clients()[0]).saturating_sub(before);
    println!("processor time of a quiet client in {LOOK_AT_PROCESSOR:?}: {used:?}");
    assert!(used < LOOK_AT_PROCESSOR / 5, "{used:?}");
    only_what_is_documented(&report, kills() + OTHER_DEATHS);
    assert!(report.longest_ms < LONGEST_STALL_MS, "{report:?}");
    driver.unpublish("v", &a).await.unwrap();
    scene.until_nothing_is_left().await;
    driver.service.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_client_and_one_in_another_mount_pod_lose_nothing() {
    let scene = Scene::new().await;
    let driver = scene.node.driver().await;
    let a = scene.node.target("a");
    scene.publish(&driver, "v", &a).await;
    let mut load = load(&scene, &a);
    load.goes_on(20, "the start").await;
    for round in 0..3 {
        let (agents, clients) = (scene.node.processes("mountpod mount-agent"), scene.clients());
        kill(agents[0], Signal::SIGHUP).unwrap();
        eventually("another client serves", || {
            let now = scene.clients();
            if now != clients && !now.is_empty() { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
        let took = load.goes_on(10, &format!("renewal {round}")).await;
        println!("renewal {round}: ten rounds after {took:?}");
    }
    for round in 0..2 {
        let pods = driver.runtime.list();
        assert_eq!(pods.len(), 1);
        let name = PodName(pods[0].record.metadata.name.clone().unwrap());
        driver.runtime.delete(&name, &Preconditions::default()).await.unwrap();
        eventually("the other mount pod is alone", || {
            let names: Vec<_> =
                driver.runtime.list().iter().filter_map(|pod| pod.record.metadata.name.clone()).collect();
            if names.len() == 1 && names[0] != name.0 { Ok(()) } else { Err(format!("{names:?}")) }
        })
        .await;
        let took = load.goes_on(10, &format!("hand-over {round}")).await;
        println!("hand-over {round}: ten rounds after {took:?}");
    }
    let report = load.finish().await;
    println!("renewed: {report:?}");
    assert!(report.errors.is_empty() && report.mismatches == 0, "{report:?}");
    assert!(report.longest_ms < LONGEST_STALL_MS, "{report:?}");
    driver.unpublish("v", &a).await.unwrap();
    scene.until_nothing_is_left().await;
    driver.service.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_volume_is_renewed_at_once() {
    let scene = Scene::new().await;
    let driver = scene.node.driver().await;
    let a = scene.node.target("a");
    scene.publish(&driver, "v", &a).await;
    write(&a.as_path().join("file"), "quiet").await.unwrap();
    let (agents, clients) = (scene.node.processes("mountpod mount-agent"), scene.clients());
    let start = Instant::now();
    kill(agents[0], Signal::SIGHUP).unwrap();
    eventually("another client serves", || {
        let now = scene.clients();
        if now != clients && !now.is_empty() { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    assert_eq!(read(&a.as_path().join("file")).await.unwrap(), "quiet");
    let took = start.elapsed();
    println!("a quiet volume was renewed in {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}: nobody sent it requests");
    driver.unpublish("v", &a).await.unwrap();
    scene.until_nothing_is_left().await;
    driver.service.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_in_time_and_without_secrets() {
    let scene = Scene::new().await;
    let driver = scene.node.driver().await;
    let with = |key: &str, value: &str| {
        let mut secret = scene.secret.clone();
        secret.insert(key.to_owned(), value.to_owned());
        secret
    };
    let mut unformatted = scene.secret.clone();
    unformatted.retain(|key, _| key == "metaurl");
    let closed = "redis://:meta-pass-hunter2@127.0.0.1:1/1";
    let cases = [
        ("wrong", with("metaurl", &scene.redis.url("wrong-pass-hunter2")), None, "refused the credentials"),
        ("bare", unformatted, None, "no JuiceFS filesystem"),
        ("bucket", without_storage(&scene.secret), None, "object storage can't be used"),
        ("directory", with("bucket", "/proc/none/"), None, "no right to write to \"/proc\""),
        ("token", with("token", "hunter2"), None, "\"token\""),
        ("flag", scene.secret.clone(), Some(("no-such-option", "1")), "\"no-such-option\" is unknown"),
        ("danger", scene.secret.clone(), Some(("update-fstab", "")), "\"update-fstab\" can't be given"),
        ("away", with("metaurl", closed), None, "metadata engine can't be reached"),
    ];
    for (name, secret, option, expected) in cases {
        let mut asked = request(name, &scene.node.target(name), &secret);
        asked.spec.options.extend(option.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let start = Instant::now();
        let refused = in_time(name, driver.service.publish(asked)).await.unwrap_err();
        let took = start.elapsed();
        let said = with_sources(&refused);
        println!("{name} after {took:?}: {}", said.chars().take(160).collect::<String>());
        assert!(said.contains(expected), "{name}: {said}");
        assert!(!said.contains("hunter2"), "{name}: {said}");
        let limit = if name == "bucket" { STORAGE_LIMIT } else { ERROR_LIMIT + Duration::from_secs(2) };
        assert!(took < limit, "{name}: {took:?}");
    }
    scene.until_nothing_is_left().await;
    driver.service.shut_down().await;
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_goes_on_after_its_metadata_engine_was_away() {
    let mut scene = Scene::new().await;
    let driver = scene.node.driver().await;
    let a = scene.node.target("a");
    scene.publish(&driver, "v", &a).await;
    write(&a.as_path().join("before"), "1").await.unwrap();
    scene.redis.stop().await;
    // Its client dies meanwhile, too, and can't be started.
    scene.node.kill(" /mountpod/").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.redis.start_again().await;
    eventually("the volume is read again", || {
        std::fs::read_to_string(a.as_path().join("before")).map(drop).map_err(|error| error.to_string())
    })
    .await;
    write(&a.as_path().join("after"), "2").await.unwrap();
    driver.unpublish("v", &a).await.unwrap();
    scene.until_nothing_is_left().await;
    driver.service.shut_down().await;
}

/// The user of mount pods in a cluster.
const NOBODY: u32 = 65532;

/// An agent as in a container: another user, no capability, no way to one.
fn unprivileged_agent(scene: &Scene) -> (Child, PathBuf) {
    let top = scene.node.directory.path();
    std::fs::set_permissions(top, std::fs::Permissions::from_mode(0o711)).unwrap();
    let directory = scene.node.path("agent");
    std::fs::create_dir_all(&directory).unwrap();
    for owned in [&directory, &scene.node.path("objects")] {
        std::os::unix::fs::chown(owned, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let (agent, client) = (scene.node.path("mount-agent"), scene.node.path("juicefs"));
    executable::copy(Path::new(session_support::PROGRAM), &agent);
    executable::copy(&juicefs(), &client);
    let user = NOBODY.to_string();
    let log = std::fs::File::create(scene.node.path("agent-log")).unwrap();
    let process = Command::new("setpriv")
        .args([
            "--reuid",
            &user,
            "--regid",
            &user,
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
        ])
        .args(["--no-new-privs", "--"])
        .arg(agent)
        .arg("mount-agent")
        .arg("--socket")
        .arg(directory.join("agent.sock"))
        .arg("--juicefs-program")
        .arg(client)
        .env_clear()
        .stdin(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    (process, directory.join("agent.sock"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_any_privilege_serves_and_ends_with_its_session() {
    let scene = Scene::new().await;
    let (mut agent, socket) = unprivileged_agent(&scene);
    let asked = request("v", &scene.node.target("a"), &scene.secret);
    let state_dir = StateDir::create(&scene.node.path("engine")).unwrap();
    let session = SessionId::new(&ShareKey::Volume(asked.volume.clone()), &asked.spec.hash().unwrap());
    let served = ServedVolume::new(asked.volume, asked.spec, Resources::default());
    let opened = open_session(&state_dir, &session, &served).unwrap();
    eventually("the agent listens", || if socket.exists() { Ok(()) } else { Err("not yet".to_owned()) })
        .await;
    let mut driver = connect(&socket, ERROR_LIMIT).await.unwrap();
    let client = ClientLaunch {
        kind: ClientKind::Juicefs,
        subdirectory: served.spec.subdirectory,
        options: BTreeMap::new(),
    };
    let credentials = scene.secret.clone();
    let negotiated = opened.record.negotiated;
    let offer = ToAgent::Offer(Box::new(Offer { session: session.clone(), client, negotiated, credentials }));
    driver.1.send(&offer, &[opened.fuse.as_fd(), opened.state.as_fd()]).await.unwrap();
    let pid = loop {
        match in_time("a word", driver.0.next()).await.unwrap().unwrap() {
            Word::Status { client: ClientState::Serving { pid, .. }, .. } => break pid,
            Word::Status { client: ClientState::Starting { .. }, .. } => {}
            other => panic!("{other:?}"),
        }
    };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert!(field("Uid:").starts_with("65532"), "{status}");
    assert_eq!(
        (field("CapEff:"), field("CapBnd:"), field("NoNewPrivs:")),
        ("0000000000000000", "0000000000000000", "1")
    );
    let file = state_dir.mount_point(&session).join("file");
    write(&file, "unprivileged").await.unwrap();
    assert_eq!(read(&file).await.unwrap(), "unprivileged");
    // The unmount waits until the client has flushed; this process holds nothing of the mount.
    let mount_point = state_dir.mount_point(&session);
    let unmounted = tokio::task::spawn_blocking(move || unmount(&mount_point, Unmount::IfUnused));
    in_time("the unmount", unmounted).await.unwrap().unwrap();
    let ended = in_time("the agent's end", agent.wait()).await.unwrap();
    assert!(ended.success(), "{ended}");
    let log = std::fs::read_to_string(scene.node.path("agent-log")).unwrap();
    assert!(!log.contains(PASSWORD), "{log}");
    std::fs::remove_file(scene.node.path("mount-agent")).unwrap();
}
