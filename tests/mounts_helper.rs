//! Does a helper process end, or is it given up, when it must?
//!
//! Needs root: it mounts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

mod session_support;

use std::time::Duration;

use mountpod::mounts::helper::{HelperAnswer, HelperError, HelperJob, Helpers};
use mountpod::mounts::syscalls::{Unmount, unmount};
use mountpod::volume::SessionId;
use nix::errno::Errno;
use session_support::{NO_WAIT, PROGRAM, Unserved};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Short, since it is waited for.
const LIMIT: Duration = Duration::from_millis(200);

fn helpers() -> Helpers {
    Helpers::new(PROGRAM.into(), CancellationToken::new())
}

fn session(digit: char) -> SessionId {
    digit.to_string().repeat(32).parse().unwrap()
}

#[tokio::test]
async fn usage_of_a_file_system_is_told() {
    let job = HelperJob::Statfs { path: "/".into() };
    let answer = helpers().run(&session('a'), &job, NO_WAIT).await.unwrap();
    let HelperAnswer::Usage(usage) = answer else { panic!("{answer:?}") };
    assert!(
        usage.bytes_total > 0
            && usage.bytes_available <= usage.bytes_free
            && usage.bytes_free <= usage.bytes_total
    );
}

#[tokio::test]
async fn the_errno_of_a_failure_is_told() {
    let statfs = HelperJob::Statfs { path: "/no/such/path".into() };
    let unmount = HelperJob::Unmount { path: "/proc/self".into() };
    for (job, expected) in [(statfs, Errno::ENOENT), (unmount, Errno::EINVAL)] {
        match helpers().run(&session('a'), &job, NO_WAIT).await {
            Err(HelperError::Refused { errno, .. }) => assert_eq!(errno, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_program_that_is_no_helper_is_an_error() {
    let helpers = Helpers::new("/bin/false".into(), CancellationToken::new());
    let job = HelperJob::Statfs { path: "/".into() };
    for _ in 0..2 {
        let broken = helpers.run(&session('a'), &job, NO_WAIT).await;
        assert!(matches!(broken, Err(HelperError::Broken { .. })), "{broken:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_hangs_is_abandoned_and_stays_the_only_one_of_its_session() {
    let unserved = Unserved::open();
    let helpers = helpers();
    let job = HelperJob::Statfs { path: unserved.mount_point() };
    let begun = Instant::now();
    let asking = {
        let (helpers, job, session) = (helpers.clone(), job.clone(), unserved.session.clone());
        tokio::spawn(async move { helpers.run(&session, &job, LIMIT).await })
    };
    read_one_request(&unserved);
    let first = asking.await.unwrap();
    assert!(matches!(first, Err(HelperError::TimedOut { .. })), "{first:?}");
    assert!(begun.elapsed() < NO_WAIT, "{:?}", begun.elapsed());
    // Its request was read by a client that will never answer: SIGKILL does not end it.
    let second = helpers.run(&unserved.session, &job, LIMIT).await;
    assert!(matches!(second, Err(HelperError::StillWaiting { job: "statfs", .. })), "{second:?}");
    let other = HelperJob::Statfs { path: "/".into() };
    helpers.run(&session('b'), &other, NO_WAIT).await.unwrap();
    // It aborts, even though the helper keeps the mount busy.
    drop(unmount(&unserved.mount_point(), Unmount::Abort));
    let freed = async {
        while matches!(
            helpers.run(&unserved.session, &other, NO_WAIT).await,
            Err(HelperError::StillWaiting { .. })
        ) {
            tokio::task::yield_now().await;
        }
    };
    timeout(NO_WAIT, freed).await.expect("the abandoned helper has ended and frees its session");
}

/// Plays a client that reads a request and never answers.
fn read_one_request(unserved: &Unserved) {
    let mut request = vec![0; 1 << 21];
    let length = nix::unistd::read(&unserved.opened.fuse, &mut request).unwrap();
    assert!(length > 0);
}
