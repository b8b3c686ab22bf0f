//! Does a volume served by `mount-hostdir` behave as the directory itself?

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed assumption fails the test; the figures are for whoever runs it"
)]

mod hostdir_support;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hostdir_support::sys::{self, Xattr};
use hostdir_support::table::{self, Random};
use hostdir_support::{Start, Volume, as_user};
use nix::errno::Errno;

fn served() -> Volume {
    Volume::start(&Start::default())
}

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> Errno {
    Errno::from_raw(result.unwrap_err().raw_os_error().unwrap())
}

fn owner(path: &Path) -> (u32, u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid(), found.mode() & 0o7777)
}

/// Random operations on few names, so that most meet a file that an earlier one has left: 8,000 on each side.
#[test]
fn random_operations_give_the_same_results_as_on_a_directory() {
    const NAMES: [&str; 12] =
        ["a", "b", "c", "e", "f", "d", "d/a", "d/b", "d/c", "d/e", "d/e/a", "missing/a"];
    let volume = served();
    let (mnt, native) = (volume.mnt(), volume.native());
    let mut random = Random(20_261_121);
    let mut succeeded = BTreeSet::new();
    for step in 0..8000 {
        let (name, operation) = table::ALL[usize::try_from(random.below(table::ALL.len() as u64)).unwrap()];
        let mut pick = || NAMES[usize::try_from(random.below(NAMES.len() as u64)).unwrap()];
        let (a, b) = (pick(), pick());
        let number = random.below(12);
        // Opening a FIFO would wait for its other end; the mount's kernel side serves FIFOs, not this client.
        let is_fifo = |path: &str| describe_fifo(&native.join(path));
        if (is_fifo(a) || is_fifo(b)) && !matches!(name, "unlink" | "rename" | "stat" | "link" | "exchange") {
            continue;
        }
        let run = |top: &Path| match operation(&top.join(a), &top.join(b), number) {
            Ok(found) => Ok(found),
            Err(error) => {
                Err(error.raw_os_error().map_or(error.to_string(), |raw| Errno::from_raw(raw).to_string()))
            }
        };
        let (ours, theirs) = (run(&mnt), run(&native));
        assert_eq!(ours, theirs, "step {step}: {name} {a} {b} {number}");
        if ours.is_ok() {
            succeeded.insert(name);
        }
    }
    assert_eq!(table::tree(&mnt), table::tree(&native));
    assert_eq!(table::tree(&volume.backing()), table::tree(&native));
    let never: Vec<_> =
        table::ALL.iter().map(|(name, _)| name).filter(|name| !succeeded.contains(*name)).collect();
    assert!(never.is_empty(), "never succeeded, so not compared: {never:?}");
}

fn describe_fifo(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

#[test]
fn new_files_belong_to_the_caller_and_follow_setgid_directories() {
    let volume = served();
    let mnt = volume.mnt();
    fs::set_permissions(&mnt, Permissions::from_mode(0o1777)).unwrap();
    fs::create_dir(mnt.join("shared")).unwrap();
    std::os::unix::fs::chown(mnt.join("shared"), None, Some(3000)).unwrap();
    fs::set_permissions(mnt.join("shared"), Permissions::from_mode(0o2777)).unwrap();
    as_user(1000, 2000, || {
        fs::write(mnt.join("file"), "mine").unwrap();
        fs::create_dir(mnt.join("dir")).unwrap();
        symlink("file", mnt.join("link")).unwrap();
        nix::unistd::mkfifo(&mnt.join("fifo"), nix::sys::stat::Mode::from_bits_truncate(0o622)).unwrap();
        fs::write(mnt.join("shared/file"), "ours").unwrap();
        fs::create_dir(mnt.join("shared/dir")).unwrap();
    });
    for top in [volume.mnt(), volume.backing()] {
        assert_eq!(owner(&top.join("file")), (1000, 2000, 0o644));
        assert_eq!(owner(&top.join("dir")), (1000, 2000, 0o755));
        assert_eq!(owner(&top.join("link")), (1000, 2000, 0o777));
        assert_eq!(owner(&top.join("fifo")), (1000, 2000, 0o600));
        assert_eq!(owner(&top.join("shared/file")), (1000, 3000, 0o644));
        assert_eq!(owner(&top.join("shared/dir")), (1000, 3000, 0o2755));
    }
}

#[test]
fn another_user_is_refused_what_the_modes_refuse() {
    let volume = served();
    let mnt = volume.mnt();
    fs::write(mnt.join("secret"), "x").unwrap();
    fs::set_permissions(mnt.join("secret"), Permissions::from_mode(0o600)).unwrap();
    as_user(1000, 1000, || {
        assert_eq!(errno(fs::read(mnt.join("secret"))), Errno::EACCES);
        assert_eq!(errno(fs::write(mnt.join("new"), "")), Errno::EACCES);
        assert_eq!(errno(fs::remove_file(mnt.join("secret"))), Errno::EACCES);
    });
}

#[test]
fn writing_as_another_user_drops_set_uid() {
    let volume = served();
    let path = volume.mnt().join("program");
    fs::write(&path, "x").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o6777)).unwrap();
    as_user(1000, 1000, || OpenOptions::new().write(true).open(&path).unwrap().write_all(b"evil").unwrap());
    assert_eq!(owner(&path).2, 0o777);
    assert_eq!(owner(&volume.backing().join("program")).2, 0o777);
}

#[test]
fn five_thousand_entries_are_listed_once_each() {
    let volume = served();
    for number in 0..5000 {
        File::create(volume.backing().join(format!("file-{number:04}"))).unwrap();
    }
    for pass in 0..2 {
        let names: Vec<_> =
            fs::read_dir(volume.mnt()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let different: BTreeSet<_> = names.iter().collect();
        assert_eq!((names.len(), different.len()), (5000, 5000), "pass {pass}");
    }
    let sizes: u64 =
        fs::read_dir(volume.mnt()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(sizes, 0);
}

#[test]
fn a_shared_mapping_reads_and_writes_the_file_also_across_a_kill() {
    let mut volume = served();
    let path = volume.mnt().join("mapped");
    fs::write(&path, vec![1_u8; 1 << 16]).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    sys::with_shared_mapping(file.as_raw_fd(), 1 << 16, |memory| {
        assert!(memory.iter().all(|byte| *byte == 1));
        memory.fill(2);
        volume.kill_server();
        memory[..4096].fill(3);
    })
    .unwrap();
    let found = fs::read(volume.backing().join("mapped")).unwrap();
    assert!(found[..4096].iter().all(|byte| *byte == 3) && found[4096..].iter().all(|byte| *byte == 2));
}

#[test]
fn an_unlinked_open_file_survives_kills() {
    let mut volume = served();
    let path = volume.mnt().join("gone");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    for round in 0..5_u8 {
        file.write_all_at(&[round; 100], 0).unwrap();
        volume.kill_server();
        let mut found = [9; 100];
        file.read_exact_at(&mut found, 0).unwrap();
        assert_eq!(found, [round; 100]);
        assert_eq!(file.metadata().unwrap().nlink(), 0);
    }
}

#[test]
fn read_only_refuses_every_change() {
    let volume = Volume::start(&Start { read_only: true, ..Start::default() });
    let mnt = volume.mnt();
    fs::write(volume.backing().join("a"), "content").unwrap();
    assert_eq!(fs::read(mnt.join("a")).unwrap(), b"content");
    let a = mnt.join("a");
    let refused = [
        errno(fs::write(mnt.join("new"), "")),
        errno(OpenOptions::new().append(true).open(&a)),
        errno(OpenOptions::new().write(true).open(&a)),
        errno(fs::create_dir(mnt.join("dir"))),
        errno(fs::remove_file(&a)),
        errno(fs::rename(&a, mnt.join("b"))),
        errno(fs::hard_link(&a, mnt.join("b"))),
        errno(symlink("a", mnt.join("b"))),
        errno(fs::set_permissions(&a, Permissions::from_mode(0o600))),
        errno(std::os::unix::fs::chown(&a, Some(1), None)),
        errno(sys::xattr(&a, "user.test", &Xattr::Set { value: b"x", flags: 0 })),
    ];
    assert!(refused.iter().all(|errno| *errno == Errno::EROFS), "{refused:?}");
    assert_eq!(fs::read_dir(volume.backing()).unwrap().count(), 1);
}

#[test]
fn nothing_outside_the_directory_is_reached() {
    let volume = served();
    let (mnt, backing) = (volume.mnt(), volume.backing());
    fs::write(volume.native().join("outside"), "outside").unwrap();
    // A link is resolved by the caller's kernel, in the caller's tree, never by the client.
    symlink("../native/outside", backing.join("up")).unwrap();
    symlink("/etc", backing.join("etc")).unwrap();
    assert_eq!(fs::read_link(mnt.join("etc")).unwrap(), Path::new("/etc"));
    assert!(fs::symlink_metadata(mnt.join("etc")).unwrap().is_symlink());
    assert_eq!(
        fs::metadata(mnt.join("..")).unwrap().ino(),
        fs::metadata(mnt.parent().unwrap()).unwrap().ino()
    );
    // A directory that is replaced by a link while the kernel still knows it: the client must not follow.
    fs::create_dir(backing.join("swap")).unwrap();
    fs::write(backing.join("swap/file"), "inside").unwrap();
    let held = File::open(mnt.join("swap")).unwrap();
    fs::rename(backing.join("swap"), backing.join("moved")).unwrap();
    symlink("/etc", backing.join("swap")).unwrap();
    let through_held = format!("/proc/self/fd/{}/file", held.as_raw_fd());
    assert_eq!(fs::read(through_held).unwrap(), b"inside");
    let no_device = nix::sys::stat::mknod(
        &mnt.join("null"),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::from_bits_truncate(0o666),
        nix::sys::stat::makedev(1, 3),
    );
    assert_eq!(no_device, Err(Errno::EPERM));
    for name in ["security.capability", "trusted.test"] {
        let set = sys::xattr(&mnt.join("moved"), name, &Xattr::Set { value: &[1; 20], flags: 0 });
        assert!(set.is_err(), "{name}");
    }
    assert_eq!(errno(fs::write(mnt.join("n".repeat(256)), "")), Errno::ENAMETOOLONG);
}

#[test]
fn a_tree_larger_than_the_limit_of_open_files_works() {
    let mut volume = Volume::start(&Start { open_files: Some(128), ..Start::default() });
    let mnt = volume.mnt();
    for dir in 0..10 {
        fs::create_dir(mnt.join(format!("d{dir}"))).unwrap();
        for file in 0..100 {
            fs::write(mnt.join(format!("d{dir}/f{file}")), format!("{dir}.{file}")).unwrap();
        }
    }
    let open: Vec<File> = (0..20).map(|file| File::open(mnt.join(format!("d9/f{file}"))).unwrap()).collect();
    volume.kill_server();
    for dir in 0..10 {
        for file in (0..100).rev() {
            let path = mnt.join(format!("d{dir}/f{file}"));
            assert_eq!(fs::read(path).unwrap(), format!("{dir}.{file}").as_bytes());
        }
    }
    let mut found = [0; 3];
    open.iter().for_each(|file| file.read_exact_at(&mut found, 0).unwrap());
    let server = volume.wait_until_served();
    let descriptors = fs::read_dir(format!("/proc/{server}/fd")).unwrap().count();
    assert!(descriptors <= 128, "{descriptors}");
    (0..10).for_each(|dir| fs::remove_dir_all(mnt.join(format!("d{dir}"))).unwrap());
    assert_eq!(fs::read_dir(volume.backing()).unwrap().count(), 0);
}

#[test]
fn descriptors_that_dead_servers_left_are_closed() {
    let mut volume = Volume::start(&Start { chaos: Some(40), ..Start::default() });
    let mnt = volume.mnt();
    for round in 0..300 {
        let path = mnt.join(format!("f{round}"));
        fs::write(&path, "x").unwrap();
        fs::remove_file(&path).unwrap();
        volume.server(); // an agent that does not read would lose events
    }
    volume.kill_server();
    let keeper = volume.keeper_pid();
    let descriptors = fs::read_dir(format!("/proc/{keeper}/fd")).unwrap().count();
    println!("{descriptors} descriptors after 300 rounds");
    assert!(descriptors < 80, "{descriptors} descriptors");
    assert_eq!(volume.unmount().code(), Some(0));
}

#[test]
fn the_client_has_no_more_than_its_four_capabilities() {
    let mut volume = served();
    let server = volume.wait_until_served();
    let status = fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!((line("CapEff:"), line("CapBnd:")), ("000000000000001b".into(), "000000000000001b".into()));
    assert_eq!(line("NoNewPrivs:"), "1");
}

#[test]
fn the_agent_is_told_and_its_end_ends_the_keeper() {
    let mut volume = served();
    let first = volume.wait_until_served();
    nix::sys::signal::kill(first, nix::sys::signal::Signal::SIGKILL).unwrap();
    let mut events = Vec::new();
    while events.len() < 2 {
        events.extend(volume.events());
    }
    assert_eq!(events[0], serde_json::json!({"event": "server_died", "signal": 9}));
    assert_eq!((&events[1]["event"], &events[1]["generation"]), (&"serving".into(), &2.into()));
    assert_eq!(volume.drop_agent().code(), Some(0));
}

#[test]
fn a_takeover_with_another_directory_or_negotiation_is_refused() {
    let mut volume = served();
    volume.kill_keeper();
    let other = sys::clone_tree(&volume.native()).unwrap();
    volume.start_keeper_on(&Start::default(), &other);
    assert_eq!(volume.wait_for_keeper().code(), Some(65));
    volume.start_keeper(&Start { max_write: Some(65536), ..Start::default() });
    assert_eq!(volume.wait_for_keeper().code(), Some(65));
    volume.start_keeper(&Start::default());
    volume.wait_until_served();
    assert_eq!(fs::read(volume.mnt().join("missing")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn servers_that_die_without_answering_end_the_keeper() {
    let mut volume = Volume::start(&Start { chaos: Some(1), ..Start::default() });
    let path = volume.mnt().join("a");
    let caller = std::thread::spawn(move || fs::metadata(path));
    assert_eq!(volume.wait_for_keeper().code(), Some(70));
    nix::mount::umount2(&volume.mnt(), nix::mount::MntFlags::MNT_FORCE).unwrap_or(()); // aborts; the mount may be busy
    assert_eq!(errno(caller.join().unwrap()), Errno::ECONNABORTED);
}

/// Between the kernel's look at a name and its CREATE, another machine can make the file. The other one begins at
/// another moment in each try.
#[test]
fn creating_never_opens_a_file_that_its_caller_may_not_open() {
    const TRIES: usize = 2000;
    const MOMENTS: u32 = 100;
    let volume = served();
    let (mnt, backing) = (volume.mnt(), volume.backing());
    fs::set_permissions(&mnt, Permissions::from_mode(0o777)).unwrap();
    let asked = AtomicUsize::new(0);
    let mut outcomes = [0; 3];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for name in 1..=TRIES {
                while asked.load(Ordering::Acquire) < name {
                    std::hint::spin_loop();
                }
                let begun = Instant::now();
                let wait = Duration::from_micros(3) * (u32::try_from(name).unwrap() % MOMENTS);
                while begun.elapsed() < wait {
                    std::hint::spin_loop();
                }
                let secret = backing.join(name.to_string());
                drop(OpenOptions::new().write(true).create_new(true).mode(0o600).open(secret));
            }
        });
        outcomes = as_user(1000, 1000, || {
            let mut outcomes = [0; 3];
            for name in 1..=TRIES {
                asked.store(name, Ordering::Release);
                let mut options = OpenOptions::new();
                options.read(true).write(true).create(true).truncate(false);
                let outcome = match options.open(mnt.join(name.to_string())) {
                    Ok(file) if file.metadata().unwrap().uid() == 1000 => 0,
                    Ok(_) => 1,
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(Errno::EACCES as i32), "{error}");
                        2
                    }
                };
                outcomes[outcome] += 1;
            }
            outcomes
        });
    });
    let [own, foreign, refused] = outcomes;
    println!("{own} made, {refused} refused");
    assert_eq!(foreign, 0, "files of another user were opened");
    assert!(own > 0 && refused > 0, "the two never met: {own} made, {refused} refused");
}
