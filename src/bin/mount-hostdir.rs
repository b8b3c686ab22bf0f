//! What does `mount-hostdir` do? Everything is in [`mountpod::hostdir`]; this file only gives it a program name.

use std::process::ExitCode;

fn main() -> ExitCode {
    mountpod::hostdir::main()
}
