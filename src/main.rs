//! `mountpod`: everything is in [`mountpod::programs`].

use std::process::ExitCode;

fn main() -> ExitCode {
    mountpod::programs::cli::run()
}
