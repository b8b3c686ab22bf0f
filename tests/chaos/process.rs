//! How does the load run in a process of its own? The test program starts itself once more.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Load, Parts, Tally};

/// First argument of the second process.
const ASKED: &str = "chaos-load";

/// A load in another process. Dropping it ends the process.
pub struct LoadProcess {
    child: Child,
}

impl LoadProcess {
    /// Starts the loops in an empty directory; returns when their files are there.
    pub fn start(dir: &Path, parts: Parts) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(ASKED).arg(dir).arg(serde_json::to_string(&parts).unwrap());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        Self { child }
    }

    /// Ends the loops and answers what came of them.
    pub fn finish(mut self) -> Tally {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.child.stdout.as_mut().unwrap().read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for LoadProcess {
    fn drop(&mut self) {
        // It has ended already when `finish` was called.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Whether this process was started to be the load.
pub fn is_asked() -> bool {
    std::env::args().nth(1).as_deref() == Some(ASKED)
}

/// Runs the load until standard input ends, then prints the tally.
pub fn run() {
    let mut arguments = std::env::args_os().skip(2);
    let dir = arguments.next().unwrap();
    let parts = serde_json::from_str(arguments.next().unwrap().to_str().unwrap()).unwrap();
    let load = Load::start(Path::new(&dir), parts);
    let mut out = std::io::stdout();
    out.write_all(b"\n").unwrap();
    out.flush().unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    serde_json::to_writer(out, &load.finish()).unwrap();
}
