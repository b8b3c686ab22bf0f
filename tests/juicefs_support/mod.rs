//! What do the tests of the JuiceFS client need: servers, secrets, requests, and a load that keeps files open?
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mountpod::mountpod::service::{PublishRequest, SessionUse};
use mountpod::volume::{
    Access, ClientKind, CredentialsDigest, Exclusivity, MountSpec, NodeKey, PodShape, Resources, Secrets,
    TargetPath, Writability,
};
use tokio::process::{Child, Command};

use crate::session_support::node::eventually;
use crate::session_support::volume;

pub mod load;
pub mod work;

/// The password of the tests' metadata engine; it must be seen nowhere.
pub const PASSWORD: &str = "meta-pass-hunter2";

/// The client's program: what `mount-image/clients` made, or another one.
pub fn juicefs() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients/juicefs");
    let program = std::env::var_os("MOUNTPOD_JUICEFS").map_or(built, PathBuf::from);
    assert!(
        program.is_file(),
        "there is no JuiceFS client at {}: run mount-image/clients, or name one in MOUNTPOD_JUICEFS",
        program.display()
    );
    program
}

/// A Redis server of a test's own.
pub struct Redis {
    process: Child,
    pub port: u16,
    pub directory: PathBuf,
}

impl Redis {
    pub async fn start(directory: &Path) -> Self {
        // Free at this moment; nobody else takes such a port in the next one.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = directory.join("redis");
        std::fs::create_dir_all(&directory).unwrap();
        let redis = Self { process: Self::launch(port, &directory), port, directory };
        redis.until_it_answers().await;
        redis
    }

    fn launch(port: u16, directory: &Path) -> Child {
        // Debian's redis-tools holds the server's program by another name.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let installed = std::env::split_paths(&path).any(|place| place.join("redis-server").exists());
        Command::new(if installed { "redis-server" } else { "redis-check-rdb" })
            .arg0("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--requirepass", PASSWORD])
            .args(["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""])
            .arg("--dir")
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a Redis server starts: is the Debian package redis-tools installed?")
    }

    async fn until_it_answers(&self) {
        let port = self.port;
        eventually("Redis answers", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// As a crash of the server, with its data kept.
    pub async fn stop(&mut self) {
        self.process.kill().await.unwrap();
    }

    pub async fn start_again(&mut self) {
        self.process = Self::launch(self.port, &self.directory);
        self.until_it_answers().await;
    }

    /// Gives a command to the server, in the database of [`Redis::url`].
    pub async fn tell(&self, command: &[&str]) {
        let told = Command::new("redis-cli")
            .args(["-e", "-p", &self.port.to_string(), "-n", "1"])
            .args(command)
            .env("REDISCLI_AUTH", PASSWORD)
            .output()
            .await
            .expect("redis-cli starts: is the Debian package redis-tools installed?");
        assert!(told.status.success(), "{command:?}: {told:?}");
    }

    pub fn url(&self, password: &str) -> String {
        format!("redis://:{password}@127.0.0.1:{}/1", self.port)
    }

    /// The Secret of a filesystem in this server, with its objects in a directory.
    pub fn secret(&self, bucket: &Path) -> BTreeMap<String, String> {
        let entries = [
            ("name", "test-fs".to_owned()),
            ("metaurl", self.url(PASSWORD)),
            ("storage", "file".to_owned()),
            ("bucket", format!("{}/", bucket.display())),
            ("trash-days", "0".to_owned()),
        ];
        entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// As a Secret, but with an object storage that is not there.
pub fn without_storage(secret: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let wrong = [
        ("storage", "s3"),
        ("bucket", "http://127.0.0.1:1/none"),
        ("access-key", "access-key-hunter2"),
        ("secret-key", "secret-key-hunter2"),
    ];
    let wrong = wrong.map(|(key, value)| (key.to_owned(), value.to_owned()));
    secret.clone().into_iter().chain(wrong).collect()
}

/// A request to publish a directory of the filesystem that a Secret describes.
pub fn request(name: &str, target: &TargetPath, secret: &BTreeMap<String, String>) -> PublishRequest {
    let secrets: Secrets = secret.clone().into_iter().collect();
    PublishRequest {
        volume: volume(name),
        target: target.clone(),
        spec: MountSpec {
            client: ClientKind::Juicefs,
            filesystem: "test".parse().unwrap(),
            subdirectory: format!("vols/{name}"),
            options: BTreeMap::new(),
            credentials: CredentialsDigest::of(&secrets, &NodeKey::new(vec![1; 32])),
        },
        access: Access { writability: Writability::ReadWrite, exclusivity: Exclusivity::Shared },
        resources: Resources::default(),
        session: SessionUse::Own,
        pod: PodShape::default(),
        secrets,
    }
}
