//! Where are the Go programs that the tests use? Builds them when they are not up to date.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;

/// A first build compiles gRPC and csi-sanity, which takes under 2 minutes of processor time; the rest is for a busy
/// machine and for the download of the modules.
const BUILD_LIMIT: Duration = Duration::from_secs(600);

/// The path of a program that tests/go/build.sh makes.
///
/// # Panics
/// When the programs cannot be built: a test that needs them must fail, not be skipped.
pub(crate) async fn go_tool(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = root.join("target/go");
    let build = Command::new(root.join("tests/go/build.sh"))
        .arg(&out)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("tests/go/build.sh starts");
    let group = Pid::from_raw(build.id().and_then(|id| i32::try_from(id).ok()).expect("it was just started"));
    let Ok(finished) = tokio::time::timeout(BUILD_LIMIT, build.wait_with_output()).await else {
        killpg(group, Signal::SIGKILL).expect("the build's processes can be ended");
        panic!("tests/go/build.sh did not end within {BUILD_LIMIT:?}");
    };
    let built = finished.expect("the build's end is known");
    assert!(built.status.success(), "tests/go/build.sh failed:\n{}", String::from_utf8_lossy(&built.stderr));
    out.join(name)
}
