//! Does a volume served by `mount-hostdir` behave as the directory itself?

#![allow(
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed assumption fails the test"
)]

mod hostdir_support;

use std::fs;
use std::io::Write;

use hostdir_support::{Start, Volume};

#[test]
fn a_file_is_written_and_read() {
    let mut volume = Volume::start(&Start::default());
    fs::write(volume.mnt().join("a"), b"hello").unwrap();
    assert_eq!(fs::read(volume.backing().join("a")).unwrap(), b"hello");
    assert_eq!(fs::read(volume.mnt().join("a")).unwrap(), b"hello");
    let mut file = fs::File::create(volume.mnt().join("b")).unwrap();
    volume.kill_server();
    file.write_all(b"after a kill").unwrap();
    drop(file);
    assert_eq!(fs::read(volume.mnt().join("b")).unwrap(), b"after a kill");
    assert_eq!(volume.unmount().code(), Some(0));
}
