//! A program that a test puts in a place, to be started at once.
//!
//! Another process writes it: a descriptor for writing that this one had would be inherited by whatever another thread's
//! test starts at that moment, and the program could not be started (`ETXTBSY`) until that one has called exec.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test may panic and start processes"
)]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const MODE: &str = "--mode=755";

/// A script for `/bin/sh` at `path`.
pub fn script(path: &Path, text: &str) {
    let mut install =
        Command::new("install").arg(MODE).arg("/dev/stdin").arg(path).stdin(Stdio::piped()).spawn().unwrap();
    write!(install.stdin.take().unwrap(), "#!/bin/sh\n{text}\n").unwrap();
    assert!(install.wait().unwrap().success(), "{}", path.display());
}

/// A copy of a program at `to`.
pub fn copy(program: &Path, to: &Path) {
    let installed = Command::new("install").arg(MODE).arg(program).arg(to).status().unwrap();
    assert!(installed.success(), "{}", to.display());
}
