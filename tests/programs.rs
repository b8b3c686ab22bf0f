//! Do the programs behave as a stranger at a terminal expects: help, wrong flags, no root, Ctrl-C, a full disk?
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test may panic and start processes")]

#[path = "support/executable.rs"]
mod executable;
mod support;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mountpod::programs::leftovers::Leftovers;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Nobody's uid on Debian and most others.
const NOBODY: u32 = 65534;
/// An interrupted demo gives back its two targets within a second; a busy machine needs more.
const CLEARED_MAX: Duration = Duration::from_secs(30);

fn mountpod(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mountpod")).args(words).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn help_names_the_programs_and_hides_what_only_the_driver_starts() {
    let help = mountpod(&["--help"]);
    assert!(help.status.success());
    let text = said(&help);
    for word in ["standalone", "demo", "--log-level"] {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }
    for word in
        ["mount-agent", "mount-pod-launch", "mount-helper", "give-directory", "look-at-places", "demo-writer"]
    {
        assert!(!text.contains(word), "{word} is for the driver alone, yet stands in:\n{text}");
    }
    let text = said(&mountpod(&["standalone", "--help"]));
    for word in ["--endpoint", "--state-dir", "--hostdir-root", "NAME=DIR"] {
        assert!(text.contains(word), "{word} is missing in:\n{text}");
    }
}

#[test]
fn every_program_tells_its_version() {
    for program in [
        env!("CARGO_BIN_EXE_mountpod"),
        env!("CARGO_BIN_EXE_mount-agent"),
        env!("CARGO_BIN_EXE_mount-hostdir"),
    ] {
        let output = Command::new(program).arg("--version").output().unwrap();
        assert!(output.status.success(), "{program}");
        assert!(said(&output).contains(env!("CARGO_PKG_VERSION")), "{program} said {}", said(&output));
    }
}

/// Each row: what a person typed, and what the answer must name.
#[test]
fn wrong_flags_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let endpoint = format!("unix://{path}/csi.sock");
    let good = ["standalone", "--endpoint", &endpoint, "--state-dir", path];
    let with = |more: &[&str]| mountpod(&[&good[..], more].concat());
    let rows: Vec<(Output, &str)> = vec![
        (mountpod(&[]), "Usage"),
        (mountpod(&["standalon"]), "standalone"),
        (mountpod(&["standalone"]), "--endpoint"),
        (mountpod(&["standalone", "--endpoint", "tcp://127.0.0.1:1", "--state-dir", path]), "--endpoint"),
        (mountpod(&["standalone", "--endpoint", "unix://relative", "--state-dir", path]), "--endpoint"),
        (mountpod(&["standalone", "--endpoint", &endpoint, "--state-dir", "relative"]), "--state-dir"),
        (with(&["--hostdir-root", "/srv"]), "--hostdir-root"),
        (with(&["--hostdir-root", "a=relative"]), "--hostdir-root"),
        (with(&["--hostdir-root", "a b=/srv"]), "--hostdir-root"),
        (with(&["--hostdir-root", "a=/no/such/directory"]), "/no/such/directory"),
        (with(&["--log-level", "loud"]), "--log-level"),
        (with(&["--max-volumes-per-node=-1"]), "--max-volumes-per-node"),
    ];
    for (output, name) in rows {
        assert!(!output.status.success(), "was taken: {}", said(&output));
        assert!(said(&output).contains(name), "{name} is not named in:\n{}", said(&output));
        assert!(!said(&output).contains("panicked"), "{}", said(&output));
    }
    assert!(Leftovers::of(directory.path(), directory.path()).unwrap().is_none());
}

#[test]
fn without_root_the_programs_say_so() {
    // The test's own target directory may be closed to others, so nobody gets a copy of the program.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("mountpod");
    let all = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    fs::set_permissions(directory.path(), all).unwrap();
    executable::copy(Path::new(env!("CARGO_BIN_EXE_mountpod")), &program);
    for words in [&["demo"][..], &["standalone", "--endpoint", "unix:///tmp/x.sock", "--state-dir", "/tmp/x"]]
    {
        let output = Command::new(&program).args(words).uid(NOBODY).gid(NOBODY).output().unwrap();
        assert!(!output.status.success());
        assert!(said(&output).contains("root"), "{}", said(&output));
    }
}

#[test]
fn the_demo_holds_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let output = mountpod(&["demo", "--directory", directory.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    for claim in ["0 errors, 0 mismatches", "one mount pod, two refs", "nothing is left"] {
        assert!(text.contains(claim), "{claim:?} is missing in:\n{text}");
    }
    assert_nothing_left(directory.path());
}

/// `demo | head -1`: the reader goes away, the demo goes on and cleans up.
#[test]
fn a_demo_without_a_reader_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_mountpod"))
        .args(["demo", "--directory"])
        .arg(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    assert_nothing_left(directory.path());
}

/// Ctrl-C at different moments of the demo: it ends with an error, in time, and nothing is left.
#[test]
fn an_interrupted_demo_cleans_up() {
    for millis in [50, 700, 2200, 2350, 2500] {
        let directory = tempfile::tempdir().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_mountpod"))
            .args(["demo", "--directory"])
            .arg(directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(millis) {
            std::thread::yield_now();
        }
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
        let asked = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(asked.elapsed() < CLEARED_MAX, "cleared after {:?}:\n{}", asked.elapsed(), said(&output));
        assert!(!output.status.success(), "interrupted after {millis} ms, it said:\n{}", said(&output));
        assert_nothing_left(directory.path());
    }
}

fn assert_nothing_left(directory: &Path) {
    let left = Leftovers::of(directory, directory).unwrap();
    assert!(left.is_none(), "left: {left}");
    assert_eq!(fs::read_dir(directory).unwrap().count(), 0, "files are left");
}

/// A state directory on a full disk: publish fails with a clear error and leaves nothing; with room again it works.
#[tokio::test]
async fn a_full_disk_is_told_and_got_over() {
    use mountpod::csi::api::v1::volume_capability::access_mode::Mode;
    let driver = support::Driver::start_on_small_disk();
    let mut caller = driver.caller().await;
    let volume = support::volume(&mut caller, "v").await;
    let filler = driver.path().join("state").join("filler");
    fill(&filler);
    let target = driver.target("t");
    let refused = caller.publish(&volume, &target, Mode::MultiNodeMultiWriter).await.unwrap_err();
    assert!(refused.message().contains("No space left"), "{refused}");
    assert!(!target.exists(), "a failed publish leaves its target");
    fs::remove_file(&filler).unwrap();
    support::publish(&mut caller, &volume, &target).await;
    fs::write(target.join("x"), "y").unwrap();
    caller.unpublish(&volume.volume_id, &target).await.unwrap();
    driver.stop_and_leave_nothing().await;
}

fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for size in [1 << 20, 4096, 512, 1] {
        let piece = vec![0; size];
        while std::io::Write::write_all(&mut file, &piece).is_ok() {}
    }
}
