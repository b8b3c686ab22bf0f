//! How is csi-sanity called?

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::go_tools::go_tool;
use crate::report::Report;

/// A run against a driver of this kind takes 2 to 4 seconds; a driver that stops answering must not hold the tests.
const RUN_LIMIT: Duration = Duration::from_secs(300);

/// Given with every RPC that takes secrets; must appear in no log and no file of the driver.
pub(crate) const SECRET: &str = "sanity-s3cret-value";

const VOLUME_SIZE: u64 = 1 << 30;
const EXPANDED_SIZE: u64 = 2 << 30;

/// The secrets that csi-sanity knows, by its own names.
const SECRET_KEYS: &[&str] = &[
    "CreateVolumeSecret",
    "DeleteVolumeSecret",
    "ControllerPublishVolumeSecret",
    "ControllerUnpublishVolumeSecret",
    "ControllerValidateVolumeCapabilitiesSecret",
    "NodeStageVolumeSecret",
    "NodePublishVolumeSecret",
    "CreateSnapshotSecret",
    "DeleteSnapshotSecret",
    "ControllerExpandVolumeSecret",
    "ControllerModifyVolumeSecret",
    "ListSnapshotsSecret",
    "GetSnapshotSecret",
];

/// One call of csi-sanity, with its files in one directory.
pub(crate) struct Sanity {
    dir: PathBuf,
    seed: u32,
    options: Vec<String>,
}

impl Sanity {
    /// All specs, in the order that the seed gives, against the driver behind `socket`.
    pub(crate) fn new(dir: &Path, socket: &Path, seed: u32) -> Self {
        let dir = dir.join("sanity");
        fs::create_dir(&dir).expect("csi-sanity's directory can be made");
        write_secrets(&dir, &BTreeMap::from([("token".to_owned(), SECRET.to_owned())]));
        write(&dir, "parameters.yaml", "client: hostdir\nroot: main\n");
        write(&dir, "mutable-parameters.yaml", "memoryLimit: 256Mi\n");
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lib");
        let below = |name: &str| dir.join(name).display().to_string();
        let script = |name: &str| scripts.join(name).display().to_string();
        let options = vec![
            format!("--csi.endpoint=unix://{}", socket.display()),
            format!("--csi.mountdir={}", below("mount")),
            format!("--csi.stagingdir={}", below("staging")),
            format!("--csi.createmountpathcmd={}", script("make-dir.sh")),
            format!("--csi.createstagingpathcmd={}", script("make-dir.sh")),
            // rmdir, not rm: whatever is still mounted there stays, and is found at the end.
            "--csi.removemountpathcmd=rmdir".to_owned(),
            "--csi.removestagingpathcmd=rmdir".to_owned(),
            format!("--csi.checkpathcmd={}", script("check-path.sh")),
            format!("--csi.secrets={}", below("secrets.yaml")),
            format!("--csi.testvolumeparameters={}", below("parameters.yaml")),
            format!("--csi.testvolumemutableparameters={}", below("mutable-parameters.yaml")),
            format!("--csi.testvolumesize={VOLUME_SIZE}"),
            format!("--csi.testvolumeexpandsize={EXPANDED_SIZE}"),
            format!("--ginkgo.seed={seed}"),
            "--ginkgo.no-color".to_owned(),
            format!("--ginkgo.json-report={}", below("report.json")),
        ];
        Self { dir, seed, options }
    }

    /// The same with volumes of the JuiceFS filesystem that a Secret describes.
    pub(crate) fn of_juicefs(self, secret: &BTreeMap<String, String>) -> Self {
        write_secrets(&self.dir, secret);
        write(&self.dir, "parameters.yaml", "client: juicefs\n");
        self
    }

    /// Names the specs without running them.
    pub(crate) fn dry_run(mut self) -> Self {
        self.options.push("--ginkgo.dry-run".to_owned());
        self
    }

    /// Runs csi-sanity to its end; specs that fail are told by the report, not by a panic.
    pub(crate) async fn run(&self) -> Report {
        let program = go_tool("csi-sanity").await;
        let run = Command::new(program).args(&self.options).stdin(Stdio::null()).kill_on_drop(true).output();
        let Ok(ended) = tokio::time::timeout(RUN_LIMIT, run).await else {
            panic!("csi-sanity with seed {} did not end within {RUN_LIMIT:?}", self.seed);
        };
        let output = ended.expect("csi-sanity starts");
        let printed = String::from_utf8_lossy(&output.stdout);
        let json = fs::read_to_string(self.dir.join("report.json"))
            .unwrap_or_else(|error| panic!("csi-sanity wrote no report ({error}); it printed:\n{printed}"));
        let report = Report::parse(&json).expect("csi-sanity's report is readable");
        assert_eq!(
            output.status.success(),
            report.failed.is_empty(),
            "csi-sanity's exit code ({}) and its report differ; it printed:\n{printed}",
            output.status
        );
        report
    }
}

/// The same for every RPC that csi-sanity has secrets for.
fn write_secrets(dir: &Path, secret: &BTreeMap<String, String>) {
    let entries: String = secret.iter().map(|(key, value)| format!("  {key}: {value:?}\n")).collect();
    let secrets: String = SECRET_KEYS.iter().map(|key| format!("{key}:\n{entries}")).collect();
    write(dir, "secrets.yaml", &secrets);
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).expect("csi-sanity's files can be written");
}
