//! Does nothing in the rooms `mounts` and `session` wait for a FUSE server that does not answer?
//!
//! Needs root: it mounts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

mod session_support;

use std::os::fd::AsFd;
use std::path::Path;

use mountpod::mountpod::facts::DeviceNumber;
use mountpod::mounts::bind::{BindError, LastMount, UnbindError, bind, remove_target, unbind};
use mountpod::mounts::cache::MountCache;
use mountpod::mounts::syscalls::{Unmount, open_plain_directory, unmount};
use mountpod::mounts::table::{MountEntry, MountTable};
use mountpod::session::close::abort_and_detach;
use mountpod::session::device::{check_device, has_ended};
use mountpod::session::open::{OpenError, open_session};
use mountpod::session::record::SessionRecord;
use mountpod::volume::{TargetPath, Writability};
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use session_support::{Unserved, mounts_below, without_waiting};

fn bind_at(unserved: &Unserved, target: &TargetPath, writability: Writability) -> Result<(), BindError> {
    let (mount_point, source, target) = (unserved.mount_point(), unserved.source(), target.clone());
    let mounts = MountCache::new().unwrap();
    without_waiting("bind", move || bind(&mounts, &mount_point, &source, "", &target, writability))
}

fn unbind_at(unserved: &Unserved, target: &TargetPath, last: LastMount) -> Result<(), UnbindError> {
    let (source, target, mounts) = (unserved.source(), target.clone(), MountCache::new().unwrap());
    let ours = move |mount: &MountEntry| mount.source == source;
    without_waiting("unbind", move || unbind(&mounts, &target, ours, last))
}

fn stack(target: &TargetPath) -> Vec<(DeviceNumber, Writability)> {
    let table = MountTable::read().unwrap();
    table.stack_at(target.as_path()).iter().map(|mount| (mount.device, mount.writability)).collect()
}

#[test]
fn a_session_opens_before_anybody_serves_it() {
    let unserved = Unserved::open();
    let record = SessionRecord::read(&unserved.state_dir, &unserved.session).unwrap().unwrap();
    assert_eq!(record, unserved.opened.record);
    assert!(record.negotiated.max_write >= 128 * 1024, "{:?}", record.negotiated);
    assert_ne!(record.negotiated.flags, 0);
    check_device(unserved.opened.fuse.as_fd()).unwrap();
    let again = open_session(&unserved.state_dir, &unserved.session, &record.served);
    assert!(matches!(again, Err(OpenError::Occupied(_))), "{again:?}");
}

#[test]
fn binding_and_freeing_a_target_asks_nothing_of_the_server() {
    let unserved = Unserved::open();
    let (a, b) = (unserved.target("a"), unserved.target("b"));
    let device = unserved.opened.record.device;
    bind_at(&unserved, &a, Writability::ReadWrite).unwrap();
    bind_at(&unserved, &b, Writability::ReadOnly).unwrap();
    assert_eq!(stack(&a), [(device, Writability::ReadWrite)]);
    assert_eq!(stack(&b), [(device, Writability::ReadOnly)]);
    unbind_at(&unserved, &a, LastMount::Keep).unwrap();
    unbind_at(&unserved, &a, LastMount::Keep).unwrap();
    unbind_at(&unserved, &b, LastMount::Keep).unwrap();
    for target in [&a, &b] {
        assert_eq!(stack(target), []);
        assert!(target.as_path().exists());
        remove_target(target).unwrap();
        remove_target(target).unwrap();
        assert!(!target.as_path().exists());
    }
}

#[test]
fn a_read_only_target_is_read_only_for_root() {
    let unserved = Unserved::open();
    let target = unserved.target("ro");
    bind_at(&unserved, &target, Writability::ReadOnly).unwrap();
    // Refused by the mount itself: no request reaches the server, which would never answer it.
    let changed = without_waiting("chmod", move || {
        fchmodat(AT_FDCWD, target.as_path(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink)
    });
    assert_eq!(changed, Err(Errno::EROFS));
}

#[test]
fn opening_the_root_of_the_mount_and_detaching_it_ask_nothing_of_the_server() {
    let unserved = Unserved::open();
    let mount_point = unserved.mount_point();
    without_waiting("an O_PATH open", {
        let mount_point = mount_point.clone();
        move || open_plain_directory(&mount_point).map(drop)
    })
    .unwrap();
    without_waiting("MNT_DETACH", move || unmount(&mount_point, Unmount::Detach)).unwrap();
}

#[test]
fn every_mount_that_is_stacked_on_a_target_goes() {
    let unserved = Unserved::open();
    let target = unserved.target("t");
    for _ in 0..3 {
        bind_at(&unserved, &target, Writability::ReadWrite).unwrap();
    }
    assert_eq!(stack(&target).len(), 3);
    unbind_at(&unserved, &target, LastMount::Keep).unwrap();
    assert_eq!(stack(&target), []);
}

#[test]
fn a_target_that_is_in_use_is_detached() {
    let unserved = Unserved::open();
    let target = unserved.target("t");
    bind_at(&unserved, &target, Writability::ReadWrite).unwrap();
    let user = open_plain_directory(target.as_path()).unwrap();
    unbind_at(&unserved, &target, LastMount::Keep).unwrap();
    assert_eq!(stack(&target), []);
    drop(user);
}

#[test]
fn mounts_of_others_are_left_alone() {
    let unserved = Unserved::open();
    let target = unserved.target("t");
    bind_at(&unserved, &target, Writability::ReadWrite).unwrap();
    nix::mount::mount(
        Some("stranger"),
        target.as_path(),
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
    let refused = unbind_at(&unserved, &target, LastMount::Keep).unwrap_err();
    assert!(refused.to_string().contains("stranger (tmpfs)"), "{refused}");
    assert_eq!(stack(&target).len(), 2);
    unmount(target.as_path(), Unmount::IfUnused).unwrap();
    unbind_at(&unserved, &target, LastMount::Keep).unwrap();
}

#[test]
fn the_last_mount_of_a_living_session_is_not_taken_by_a_thread_of_the_driver() {
    let unserved = Unserved::open();
    let target = unserved.target("t");
    bind_at(&unserved, &target, Writability::ReadWrite).unwrap();
    unmount(&unserved.mount_point(), Unmount::Detach).unwrap();
    let refused = unbind_at(&unserved, &target, LastMount::Keep);
    assert!(matches!(refused, Err(UnbindError::LastOfSession { .. })), "{refused:?}");
    let busy = open_plain_directory(target.as_path()).unwrap();
    unmount(target.as_path(), Unmount::Abort).expect_err("aborted, but still mounted: it is in use");
    assert!(has_ended(unserved.opened.fuse.as_fd()).unwrap());
    unbind_at(&unserved, &target, LastMount::Take).unwrap();
    drop(busy);
    assert_eq!(stack(&target), []);
}

#[test]
fn a_session_that_is_not_mounted_is_not_bound() {
    let unserved = Unserved::open();
    let target = unserved.target("t");
    unmount(&unserved.mount_point(), Unmount::Detach).unwrap();
    let refused = bind_at(&unserved, &target, Writability::ReadWrite);
    assert!(matches!(refused, Err(BindError::NoSession { .. })), "{refused:?}");
    assert!(!target.as_path().exists(), "the target directory stays");
}

#[test]
fn targets_behind_symlinks_are_refused_and_nothing_is_created() {
    let unserved = Unserved::open();
    let here = unserved.directory.path().canonicalize().unwrap();
    std::fs::create_dir(here.join("elsewhere")).unwrap();
    std::fs::write(here.join("file"), "").unwrap();
    for (link, to) in [("link", "elsewhere"), ("dangling", "nowhere"), ("loop", "loop")] {
        std::os::unix::fs::symlink(to, here.join(link)).unwrap();
    }
    for bad in ["link/t", "link", "dangling", "dangling/t", "loop", "loop/t", "file", "file/t", "missing/t"] {
        let refused = bind_at(&unserved, &unserved.target(bad), Writability::ReadWrite);
        assert!(matches!(refused, Err(BindError::Target(_))), "{bad}: {refused:?}");
    }
    let mut left: Vec<_> =
        std::fs::read_dir(&here).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["dangling", "elsewhere", "engine", "file", "link", "loop"]);
    assert_eq!(std::fs::read_dir(here.join("elsewhere")).unwrap().count(), 0);
    for escaping in ["/tmp/../t", "/tmp//t", "/tmp/./t", "relative"] {
        assert!(escaping.parse::<TargetPath>().is_err(), "{escaping}");
    }
}

#[test]
fn a_target_with_files_in_it_is_not_removed() {
    let unserved = Unserved::open();
    let target = unserved.target("t");
    std::fs::create_dir(target.as_path()).unwrap();
    std::fs::write(target.as_path().join("precious"), "").unwrap();
    let refused = remove_target(&target).unwrap_err();
    assert!(refused.to_string().contains(target.as_str()), "{refused}");
    assert!(target.as_path().join("precious").exists());
}

#[test]
fn an_abort_ends_what_waits_and_leaves_no_mount() {
    let unserved = Unserved::open();
    let mount_point = unserved.mount_point();
    let waiting = std::thread::spawn({
        let file = mount_point.join("file");
        move || std::fs::metadata(file).map(drop)
    });
    // The request is queued when the device becomes readable.
    let mut queued = [nix::poll::PollFd::new(unserved.opened.fuse.as_fd(), nix::poll::PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut queued, 10_000_u16), Ok(1));
    without_waiting("an abort", move || abort_and_detach(&mount_point)).unwrap();
    assert!(waiting.join().unwrap().is_err());
    assert_eq!(mounts_below(Path::new(unserved.directory.path())), Vec::<String>::new());
    unserved.state_dir.remove_session(&unserved.session).unwrap();
}
