//! How is a program run that may wait for a filesystem for ever?
//!
//! A process whose request was read by a FUSE client can't be ended before it is answered. So at its deadline a process is
//! killed and abandoned: a task waits for its end, nobody else does, and until then the filesystem gets no other one.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A list of many thousand snapshots is the longest answer; the rest of a longer one is an error of its reader.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Of what a program complains of, its last words are read.
const WORDS_BYTES_MAX: usize = 8 << 10;
/// Between two reads of a complaint.
const CHUNK_BYTES: usize = 4 << 10;

/// A program and what it is given.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) program: &'a Path,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(&'a str, &'a str)>,
    pub(super) input: Vec<u8>,
    pub(super) limit: Duration,
}

/// How it ended.
#[derive(Debug)]
pub(super) enum End {
    /// By itself.
    Itself { status: ExitStatus, answer: Vec<u8>, words: String },
    /// Not in time; it was killed, and may live until the filesystem answers.
    Abandoned { words: String },
}

/// The processes that were abandoned and have not ended, of one filesystem.
#[derive(Debug, Clone, Default)]
pub(super) struct Abandoned(Arc<AtomicUsize>);

impl Abandoned {
    pub(super) fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// Starts processes, and waits for those that were abandoned.
#[derive(Debug, Clone)]
pub(super) struct Processes {
    waiting: TaskTracker,
    stop: CancellationToken,
}

impl Processes {
    /// The tasks that wait for abandoned processes end with `stop`.
    pub(super) fn new(waiting: TaskTracker, stop: CancellationToken) -> Self {
        Self { waiting, stop }
    }

    /// Runs a program to its end, or to the limit.
    pub(super) async fn run(&self, run: Run<'_>, abandoned: &Abandoned) -> io::Result<End> {
        let mut child = start(&run)?;
        let mut words = Words::default();
        match tokio::time::timeout(run.limit, heard(&mut child, &run.input, &mut words)).await {
            Ok(Ok((status, answer))) => Ok(End::Itself { status, answer, words: words.into_text() }),
            Ok(Err(error)) => {
                self.abandon(child, abandoned);
                Err(error)
            }
            Err(_) => {
                self.abandon(child, abandoned);
                Ok(End::Abandoned { words: words.into_text() })
            }
        }
    }

    /// Kills a process and leaves it to a task: while it sleeps in the kernel it can't die.
    fn abandon(&self, mut child: Child, abandoned: &Abandoned) {
        let (count, stop) = (Arc::clone(&abandoned.0), self.stop.clone());
        count.fetch_add(1, Ordering::Relaxed);
        self.waiting.spawn(async move {
            if let Err(error) = child.start_kill() {
                tracing::debug!(%error, "an abandoned process had ended");
            }
            tokio::select! {
                ended = child.wait() => tracing::debug!(?ended, "an abandoned process ended"),
                () = stop.cancelled() => {}
            }
            count.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn start(run: &Run<'_>) -> io::Result<Child> {
    Command::new(run.program)
        .args(&run.arguments)
        .env_clear()
        .envs(run.environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C in a terminal is meant for the driver, which must see its children's end.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

async fn heard(child: &mut Child, input: &[u8], words: &mut Words) -> io::Result<(ExitStatus, Vec<u8>)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let tell = async {
        if let Some(mut stdin) = stdin {
            // A program that ends before it has read its input says why by itself.
            stdin.write_all(input).await.ok();
        }
        Ok::<_, io::Error>(())
    };
    let answer = async {
        let mut answer = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        }
        Ok::<_, io::Error>(answer)
    };
    let complaint = async {
        if let Some(stderr) = stderr {
            words.hear(stderr).await?;
        }
        Ok::<_, io::Error>(())
    };
    let (answer, (), ()) = tokio::try_join!(answer, complaint, tell)?;
    Ok((child.wait().await?, answer))
}

/// The last words of a program.
#[derive(Debug, Default)]
struct Words {
    last: Vec<u8>,
    cut: bool,
}

impl Words {
    async fn hear(&mut self, mut voice: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            let read = voice.read(&mut chunk).await?;
            if read == 0 {
                return Ok(());
            }
            self.last.extend_from_slice(&chunk[..read]);
            let surplus = self.last.len().saturating_sub(WORDS_BYTES_MAX);
            self.last.drain(..surplus);
            self.cut |= surplus > 0;
        }
    }

    /// From the first whole line on: half a credential would not be recognised as one.
    fn into_text(self) -> String {
        let text = String::from_utf8_lossy(&self.last);
        let whole = if self.cut { text.split_once('\n').map_or("", |(_, whole)| whole) } else { &text };
        whole.to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    fn processes() -> Processes {
        Processes::new(TaskTracker::new(), CancellationToken::new())
    }

    fn shell(line: &str, limit: Duration) -> Run<'_> {
        Run {
            program: Path::new("/bin/sh"),
            arguments: vec!["-c".to_owned(), line.to_owned()],
            environment: vec![("PATH", "/usr/bin:/bin"), ("SAID", "in the environment")],
            input: b"input".to_vec(),
            limit,
        }
    }

    #[tokio::test]
    async fn a_program_is_given_its_input_and_heard() {
        let run = shell("cat; echo $SAID; echo words >&2; exit 3", Duration::from_secs(20));
        let end = processes().run(run, &Abandoned::default()).await.unwrap();
        let End::Itself { status, answer, words } = end else { panic!("{end:?}") };
        assert_eq!((status.code(), words.as_str()), (Some(3), "words\n"));
        assert_eq!(answer, b"inputin the environment\n");
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_killed_and_counted_until_it_is_dead() {
        let abandoned = Abandoned::default();
        let end = processes().run(shell("echo words >&2; exec sleep 60", SOON), &abandoned).await.unwrap();
        assert!(matches!(end, End::Abandoned { words } if words == "words\n"));
        while abandoned.is_any() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn only_the_last_words_are_kept() {
        let line = "for i in $(seq 3000); do echo line $i >&2; done";
        let end = processes().run(shell(line, Duration::from_secs(20)), &Abandoned::default()).await.unwrap();
        let End::Itself { words, .. } = end else { panic!("{end:?}") };
        assert!(words.ends_with("line 3000\n") && words.len() <= WORDS_BYTES_MAX, "{} bytes", words.len());
        assert!(words.starts_with("line "), "it begins with a whole line: {words}");
    }
}
