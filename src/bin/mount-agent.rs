//! What does `mount-agent` do? Everything is in [`mountpod::agent`]; this file only gives it a program name.

use std::process::ExitCode;

fn main() -> ExitCode {
    mountpod::agent::main()
}
