//! Does a JuiceFS volume work through the CSI socket, made or static, and is what is wrong with it said well?
//!
//! Everything is real: the driver as a process, the unmodified client, a Redis server, a directory for objects.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, and prints its figures"
)]

mod juicefs_support;
mod session_support;
mod support;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use juicefs_support::{PASSWORD, Redis, juicefs, without_storage};
use mountpod::config::juicefs::ClassParameters;
use mountpod::csi::api::v1::volume_capability::access_mode::Mode;
use mountpod::csi::api::v1::volume_capability::{AccessType, MountVolume};
use mountpod::csi::api::v1::{
    CapacityRange, NodeExpandVolumeRequest, NodeGetVolumeHealthRequest, NodePublishVolumeRequest,
};
use mountpod::programs::caller::{Caller, capability};
use nix::libc;
use session_support::node::eventually;
use support::Driver;
use tonic::{Code, Status};

/// What is wrong with a volume is said within this time.
const ERROR_LIMIT: Duration = Duration::from_secs(20);

/// A driver with a JuiceFS client, and a filesystem in servers of its own, which no look for leftovers finds.
struct Scene {
    driver: Driver,
    caller: Caller,
    redis: Redis,
    secret: BTreeMap<String, String>,
    servers: tempfile::TempDir,
}

/// One publish.
struct Asked<'a> {
    handle: &'a str,
    attributes: &'a [(&'a str, &'a str)],
    flags: &'a [&'a str],
    mode: Mode,
    secret: BTreeMap<String, String>,
}

impl Scene {
    async fn new() -> Self {
        let servers = tempfile::tempdir().unwrap();
        let redis = Redis::start(servers.path()).await;
        let objects = servers.path().join("objects");
        fs::create_dir(&objects).unwrap();
        let secret = redis.secret(&objects);
        let driver = Driver::start_with_juicefs(&juicefs());
        let caller = driver.caller().await;
        Self { driver, caller, redis, secret, servers }
    }

    fn asked<'a>(&self, handle: &'a str, attributes: &'a [(&'a str, &'a str)]) -> Asked<'a> {
        let (flags, mode) = (&[][..], Mode::MultiNodeMultiWriter);
        Asked { handle, attributes, flags, mode, secret: self.secret.clone() }
    }

    async fn publish(&mut self, asked: &Asked<'_>, target: &Path) {
        let published = self.caller.node.node_publish_volume(request(asked, target)).await;
        published.unwrap_or_else(|status| panic!("{status}\n{}", self.driver.log()));
    }

    async fn unpublish(&mut self, handle: &str, target: &Path) {
        self.caller.unpublish(handle, target).await.unwrap();
        assert!(!target.exists(), "the target is removed");
    }

    /// Nothing is left, and no secret was logged.
    async fn end(self) {
        let log = self.driver.log();
        assert!(!log.contains(PASSWORD) && !log.contains("hunter2"), "{log}");
        self.driver.stop_and_leave_nothing().await;
    }
}

fn request(asked: &Asked<'_>, target: &Path) -> NodePublishVolumeRequest {
    let mount = MountVolume {
        mount_flags: asked.flags.iter().map(|flag| (*flag).to_owned()).collect(),
        fs_type: "juicefs".to_owned(),
        ..MountVolume::default()
    };
    let mut capability = capability(asked.mode);
    capability.access_type = Some(AccessType::Mount(mount));
    NodePublishVolumeRequest {
        volume_id: asked.handle.to_owned(),
        target_path: target.display().to_string(),
        volume_capability: Some(capability),
        volume_context: map(asked.attributes),
        secrets: asked.secret.clone().into_iter().collect(),
        ..NodePublishVolumeRequest::default()
    }
}

fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The options of the mount at a place (proc_pid_mountinfo(5), field 6).
fn mount_options(target: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let place = target.to_str().unwrap();
    let line = table.lines().find(|line| line.split(' ').nth(4) == Some(place)).expect("it is mounted");
    line.split(' ').nth(5).unwrap().split(',').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_volume_is_the_whole_filesystem_or_a_directory_of_it() {
    let mut scene = Scene::new().await;
    let [whole, part, again, other] =
        ["whole", "part", "again", "other"].map(|name| scene.driver.target(name));
    let (all, below) = (scene.asked("media", &[]), [("subPath", "inner"), ("juicefs/clean-cache", "true")]);
    let directory = Asked { flags: &["subdir=/shop", "cache-size=100"], ..scene.asked("shop pv", &below) };
    let same = scene.asked("main#shop", &[("client", "juicefs"), ("path", "shop/inner")]);
    scene.publish(&all, &whole).await;
    assert_eq!(fs::metadata(&whole).unwrap().ino(), 1);
    scene.publish(&directory, &part).await;
    scene.publish(&directory, &again).await;
    fs::write(part.join("file"), "data").unwrap();
    assert_eq!(fs::read_to_string(again.join("file")).unwrap(), "data");
    scene.publish(&same, &other).await;
    assert_eq!(fs::read_to_string(other.join("file")).unwrap(), "data");
    eventually("the whole filesystem shows it", || {
        let read = fs::read_to_string(whole.join("shop/inner/file"));
        read.map(|text| assert_eq!(text, "data")).map_err(|error| error.to_string())
    })
    .await;
    assert_eq!(scene.driver.pods().len(), 3, "two targets of one volume share a mount pod");
    let log = scene.driver.log();
    assert!(log.contains("juicefs/clean-cache") && log.contains("changes nothing"), "{log}");

    for (handle, target) in [("media", &whole), ("shop pv", &part), ("main#shop", &other)] {
        scene.unpublish(handle, target).await;
        scene.unpublish(handle, target).await;
    }
    assert_eq!(fs::read_to_string(again.join("file")).unwrap(), "data");
    scene.unpublish("shop pv", &again).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_read_only_when_pod_claim_or_options_say_so() {
    let mut scene = Scene::new().await;
    let writer = scene.driver.target("writer");
    let path = [("subPath", "v")];
    scene.publish(&scene.asked("v", &path), &writer).await;
    fs::write(writer.join("file"), "data").unwrap();
    let plain = scene.asked("v", &path);
    let of_claim = Asked { mode: Mode::MultiNodeReaderOnly, ..scene.asked("v", &path) };
    let of_options = Asked { flags: &["ro", "noexec"], ..scene.asked("v-ro", &path) };
    for (asked, name) in [(&plain, "pod"), (&of_claim, "claim"), (&of_options, "options")] {
        let target = scene.driver.target(name);
        let readonly = name == "pod";
        let request = NodePublishVolumeRequest { readonly, ..request(asked, &target) };
        scene.caller.node.node_publish_volume(request).await.unwrap();
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "data", "{name}");
        let refused = fs::write(target.join("other"), "x").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS), "{name}");
        let is_noexec = mount_options(&target).contains(&"noexec".to_owned());
        assert_eq!(is_noexec, name == "options", "{name}");
    }
    for (handle, name) in [("v", "writer"), ("v", "pod"), ("v", "claim"), ("v-ro", "options")] {
        let target = scene.driver.target(name);
        scene.unpublish(handle, &target).await;
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_this_driver_is_served_as_its_context_says() {
    let mut scene = Scene::new().await;
    let target = scene.driver.target("t");
    let class =
        [("memoryLimit", "1Gi"), ("cacheSize", "1Gi"), ("deleteDelay", "2s"), ("mountOptions", "prefetch=0")];
    let class = ClassParameters::of_map("parameters", &map(&class)).unwrap();
    let context = class.context("test-fs".parse().unwrap(), "team/pvc-1".parse().unwrap()).to_map();
    let context: Vec<_> = context.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let handle = "test-fs#pvc-1";
    scene.publish(&scene.asked(handle, &context), &target).await;
    fs::write(target.join("file"), vec![7; 1 << 20]).unwrap();
    assert_eq!(fs::read(target.join("file")).unwrap().len(), 1 << 20);
    let caches = caches(&scene.driver);
    assert_eq!(caches.len(), 1, "the mount pod has a cache of its own: {caches:?}");
    let clients = scene.driver.pods().into_iter().flat_map(|pod| pod.client);
    let command =
        clients.map(|client| arguments(client.pid)).find(|command| command.contains("juicefs mount"));
    let command = command.expect("a client runs");
    for argument in [&format!("--cache-dir={}", caches[0].display()), "--subdir=team/pvc-1"] {
        assert!(command.contains(argument), "{argument}: {command}");
    }

    let stats = scene.caller.stats(handle, &target).await.unwrap();
    assert!(stats.usage.iter().all(|usage| usage.total > 0), "{stats:?}");
    assert!(!stats.volume_condition.unwrap().abnormal);
    let health = NodeGetVolumeHealthRequest { volume_id: handle.to_owned(), ..Default::default() };
    assert!(scene.caller.node.node_get_volume_health(health).await.is_ok());
    let expand = NodeExpandVolumeRequest {
        volume_id: handle.to_owned(),
        volume_path: target.display().to_string(),
        capacity_range: Some(CapacityRange { required_bytes: 5 << 30, limit_bytes: 0 }),
        ..Default::default()
    };
    let expanded = scene.caller.node.node_expand_volume(expand).await.unwrap().into_inner();
    assert_eq!(expanded.capacity_bytes, 5 << 30);

    scene.unpublish(handle, &target).await;
    assert_eq!(scene.driver.pods().len(), 1, "it is kept for its delay");
    let deadline = Instant::now() + ERROR_LIMIT;
    while !scene.driver.pods().is_empty() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    scene.end().await;
}

/// Blocks that are gone from the object storage: the client serves, and only its log tells what is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_serving_client_complains_of_is_told_as_the_volumes_condition() {
    let mut scene = Scene::new().await;
    let target = scene.driver.target("t");
    let asked = Asked { flags: &["io-retries=2"], ..scene.asked("v", &[]) };
    scene.publish(&asked, &target).await;
    fs::write(target.join("file"), vec![7; 1 << 20]).unwrap();
    let condition = scene.caller.stats("v", &target).await.unwrap().volume_condition.unwrap();
    assert!(!condition.abnormal, "{condition:?}");
    // No cache of the client or of the kernel outlives the session.
    scene.unpublish("v", &target).await;
    fs::remove_dir_all(scene.servers.path().join("objects")).unwrap();
    scene.publish(&asked, &target).await;
    let file = target.join("file");
    let read = tokio::task::spawn_blocking(move || fs::read(file)).await.unwrap();
    assert_eq!(read.unwrap_err().raw_os_error(), Some(libc::EIO));

    let stats = scene.caller.stats("v", &target).await.unwrap();
    let condition = stats.volume_condition.unwrap();
    assert!(condition.abnormal && condition.message.contains("its client complains"), "{condition:?}");
    assert!(
        condition.message.contains("chunks/") || condition.message.contains("input/output"),
        "{condition:?}"
    );
    assert!(stats.usage.iter().all(|usage| usage.total > 0), "it serves all the same: {:?}", stats.usage);
    scene.unpublish("v", &target).await;
    scene.end().await;
}

/// Volumes that share a mount pod: each target shows its own directory, each volume has its own access mode.
#[tokio::test(flavor = "multi_thread")]
async fn volumes_of_one_filesystem_may_share_a_mount_pod() {
    let mut scene = Scene::new().await;
    let [all, a, b, again] = ["all", "a", "b", "again"].map(|name| scene.driver.target(name));
    scene.publish(&scene.asked("all", &[]), &all).await;
    for name in ["a", "deep/b"] {
        fs::create_dir_all(all.join(name)).unwrap();
        fs::write(all.join(name).join("whose"), name).unwrap();
    }
    std::os::unix::fs::symlink("a", all.join("link")).unwrap();
    scene.unpublish("all", &all).await;
    let of_a = [("sharing", "filesystem"), ("subPath", "a")];
    let of_b = [("sharing", "filesystem"), ("subPath", "deep/b")];
    let alone = Asked { mode: Mode::SingleNodeSingleWriter, ..scene.asked("a", &of_a) };
    let beside = scene.asked("b", &of_b);
    scene.publish(&alone, &a).await;
    scene.publish(&beside, &b).await;
    scene.publish(&beside, &b).await;
    assert_eq!(scene.driver.pods().len(), 1);
    assert_eq!(fs::read_to_string(a.join("whose")).unwrap(), "a");
    assert_eq!(fs::read_to_string(b.join("whose")).unwrap(), "deep/b");
    assert!(!a.join("deep").exists() && !a.join("a").exists(), "a target shows its own volume");
    let refused = scene.caller.node.node_publish_volume(request(&alone, &again)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let of_link = [("sharing", "filesystem"), ("subPath", "link")];
    let linked = request(&scene.asked("link", &of_link), &again);
    let refused = scene.caller.node.node_publish_volume(linked).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused}");
    assert!(refused.message().contains("symbolic link") && !again.exists(), "{refused}");
    assert!(scene.caller.stats("a", &a).await.is_ok());
    assert_eq!(scene.caller.stats("a", &b).await.unwrap_err().code(), Code::NotFound);
    // Another volume's target is neither told as this one's nor taken away with it.
    let elsewhere = Asked { mode: Mode::MultiNodeMultiWriter, ..scene.asked("c", &of_a) };
    let refused = scene.caller.node.node_publish_volume(request(&elsewhere, &b)).await.unwrap_err();
    assert!(refused.message().contains("is mounted there"), "{refused}");
    scene.caller.unpublish("a", &b).await.unwrap();
    assert_eq!(fs::read_to_string(b.join("whose")).unwrap(), "deep/b");

    scene.driver.kill();
    scene.driver.start_again();
    scene.caller = scene.driver.caller().await;
    let read_only = Asked { flags: &[], mode: Mode::MultiNodeReaderOnly, ..scene.asked("b", &of_b) };
    scene.publish(&read_only, &again).await;
    assert_eq!(scene.driver.pods().len(), 1);
    assert!(fs::write(again.join("x"), "").is_err());
    fs::write(b.join("x"), "written").unwrap();
    assert_eq!(fs::read_to_string(again.join("x")).unwrap(), "written");
    for (handle, target) in [("a", &a), ("b", &b)] {
        scene.unpublish(handle, target).await;
    }
    assert_eq!(fs::read_to_string(again.join("whose")).unwrap(), "deep/b");
    scene.unpublish("b", &again).await;
    scene.end().await;
}

/// Many volumes come at once, and their mount pod dies under them.
#[tokio::test(flavor = "multi_thread")]
async fn a_shared_mount_pod_may_die_under_all_of_its_volumes() {
    const VOLUMES: usize = 8;
    let mut scene = Scene::new().await;
    let all = scene.driver.target("all");
    scene.publish(&scene.asked("all", &[]), &all).await;
    for number in 0..VOLUMES {
        fs::create_dir(all.join(format!("v{number}"))).unwrap();
        fs::write(all.join(format!("v{number}/number")), number.to_string()).unwrap();
    }
    scene.unpublish("all", &all).await;
    let mut publishes = tokio::task::JoinSet::new();
    for number in 0..VOLUMES {
        let path = format!("v{number}");
        let attributes = [("sharing", "filesystem"), ("subPath", path.as_str())];
        let request = request(&scene.asked(&path, &attributes), &scene.driver.target(&path));
        let mut caller = scene.caller.clone();
        publishes.spawn(async move { caller.node.node_publish_volume(request).await.map(drop) });
    }
    while let Some(published) = publishes.join_next().await {
        published.unwrap().unwrap_or_else(|status| panic!("{status}\n{}", scene.driver.log()));
    }
    let pods = scene.driver.pods();
    assert_eq!(pods.len(), 1);
    support::kill_process(pods[0].agent.pid);
    for number in 0..VOLUMES {
        let file = scene.driver.target(&format!("v{number}")).join("number");
        let read = tokio::task::spawn_blocking(move || fs::read_to_string(file)).await.unwrap();
        assert_eq!(read.unwrap(), number.to_string());
    }
    // With the driver dies the last who held the session. The next publish brings the credentials for another one, which
    // every target shows from then on, each its own volume.
    let pods = scene.driver.pods();
    scene.driver.kill();
    support::kill_process(pods[0].agent.pid);
    scene.driver.start_again();
    scene.caller = scene.driver.caller().await;
    let attributes = [("sharing", "filesystem"), ("subPath", "v0")];
    let target = scene.driver.target("v0");
    scene.publish(&scene.asked("v0", &attributes), &target).await;
    for number in 0..VOLUMES {
        let file = scene.driver.target(&format!("v{number}")).join("number");
        eventually("each target shows its volume again", || match fs::read_to_string(&file) {
            Ok(text) if text == number.to_string() => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    for number in 0..VOLUMES {
        let name = format!("v{number}");
        let target = scene.driver.target(&name);
        scene.unpublish(&name, &target).await;
    }
    scene.end().await;
}

/// The client shortens them itself when it hides what may be a password.
fn arguments(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

/// The directories of the caches that clients have made for themselves.
fn caches(driver: &Driver) -> Vec<PathBuf> {
    let pods = driver.state().join("engine/pods");
    let below = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    };
    let caches = below(&pods).into_iter().map(|pod| pod.join("cache"));
    caches.filter(|cache| !below(cache).is_empty()).collect()
}

/// A publish that must fail: what, with which codes, and words that must be in the answer.
struct Wrong<'a> {
    asked: Asked<'a>,
    codes: &'a [Code],
    words: &'a [&'a str],
}

impl Scene {
    fn with(&self, key: &str, value: &str) -> Asked<'static> {
        let mut secret = self.secret.clone();
        secret.insert(key.to_owned(), value.to_owned());
        Asked { secret, ..self.asked("wrong", &[]) }
    }

    /// In time, with the right code, without a secret, and nothing is left of it although nobody calls unpublish.
    async fn is_refused(&mut self, Wrong { asked, codes, words }: Wrong<'_>) {
        let (start, target) = (Instant::now(), self.driver.target("wrong"));
        let status = self.caller.node.node_publish_volume(request(&asked, &target)).await.unwrap_err();
        let took = start.elapsed();
        println!("{words:?} after {took:?}: {:?}, {}", status.code(), shortened(&status));
        assert!(codes.contains(&status.code()), "{words:?}: {status}");
        for word in words {
            assert!(status.message().contains(word), "{word}: {status}");
        }
        assert!(!status.message().contains("hunter2"), "{status}");
        assert!(took < ERROR_LIMIT, "{words:?}: {took:?}");
        self.driver.assert_nothing_published_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_complains_of_is_said_in_time_with_its_code_and_without_secrets() {
    let mut scene = Scene::new().await;
    let asked = |attributes, flags| Asked { flags, ..scene.asked("wrong", attributes) };
    let wrong = |asked, codes, words| Wrong { asked, codes, words };
    let cases = [
        wrong(
            scene.with("metaurl", &scene.redis.url("wrong-hunter2")),
            &[Code::Unauthenticated],
            &["refused the credentials"],
        ),
        wrong(
            scene.with("metaurl", "redis://:meta-pass-hunter2@127.0.0.1:1/1"),
            &[Code::Unavailable, Code::DeadlineExceeded],
            &["can't be reached"],
        ),
        wrong(
            Asked { secret: without_storage(&scene.secret), ..scene.asked("wrong", &[]) },
            &[Code::FailedPrecondition],
            &["object storage can't be used"],
        ),
        wrong(asked(&[], &["no-such-option=hunter2"]), &[Code::InvalidArgument], &["no-such-option"]),
        wrong(
            asked(&[("sharing", "filesystem"), ("subPath", "not/there")], &[]),
            &[Code::NotFound],
            &["the directory \"not/there\" of volume", "does not exist"],
        ),
        wrong(
            asked(&[("mountOptions", "cache-size=much")], &[]),
            &[Code::InvalidArgument],
            &["refused an option"],
        ),
    ];
    for case in cases {
        scene.is_refused(case).await;
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_served_is_refused_by_its_field() {
    let mut scene = Scene::new().await;
    let asked = |attributes, flags| Asked { flags, ..scene.asked("wrong", attributes) };
    let of_nobody = Asked { secret: BTreeMap::new(), ..asked(&[("client", "juicefs")], &[]) };
    let cases = [
        (of_nobody, Code::FailedPrecondition, ["node-publish-secret-name", "nodePublishSecretRef"]),
        (scene.with("token", "hunter2"), Code::InvalidArgument, ["secrets[\"token\"]", "Enterprise"]),
        (
            asked(&[], &["update-fstab"]),
            Code::InvalidArgument,
            ["volume_capability.mount.mount_flags", "update-fstab"],
        ),
        (
            asked(&[("mountOptions", "writeback")], &[]),
            Code::InvalidArgument,
            ["volume_context[\"mountOptions\"]", "writeback"],
        ),
        (
            asked(&[("subpath", "a")], &[]),
            Code::InvalidArgument,
            ["volume_context[\"subpath\"]", "\"subPath\""],
        ),
    ];
    for (asked, code, words) in cases {
        scene.is_refused(Wrong { asked, codes: &[code], words: &words }).await;
    }
    scene.end().await;
}

fn shortened(status: &Status) -> String {
    status.message().chars().take(160).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_client_a_volume_is_refused_with_what_to_give() {
    let driver = Driver::start();
    let mut caller = driver.caller().await;
    let secret =
        BTreeMap::from([("metaurl".to_owned(), "redis://:meta-pass-hunter2@127.0.0.1:1/1".to_owned())]);
    let asked = Asked { handle: "v", attributes: &[], flags: &[], mode: Mode::SingleNodeWriter, secret };
    let status = caller.node.node_publish_volume(request(&asked, &driver.target("t"))).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("--juicefs-program"), "{status}");
    driver.stop_and_leave_nothing().await;
}
