//! Which commands of the client are run, and what do their ends mean?
//!
//! Those for quotas speak with the metadata engine; `clone` and `rmr` make the client that serves the mounted filesystem do
//! the work. Credentials are in the environment alone. Exit codes say little: some failures have 0.

use std::path::Path;
use std::time::Duration;

use super::super::{FilesystemError, StoreError};
use super::process::{End, Processes, Run};
use super::turns::{Turns, Work};
use crate::config::juicefs::VolumePath;
use crate::juicefs::HOME;
use crate::juicefs::secret::JuicefsSecret;
use crate::juicefs::words::Trouble;
use crate::volume::Secrets;

/// The metadata engine answers within milliseconds; a client whose engine is away tries for minutes before it says so.
const MOMENTS_LIMIT: Duration = Duration::from_secs(15);
/// A tree may have millions of files. Its caller asks again long before. The client that serves the filesystem goes on with a
/// clone or a removal; a count ends with its command.
const TREE_LIMIT: Duration = Duration::from_secs(3600);
/// A complaint is told with so many of its last lines, the reason among them.
const LINES_TOLD: usize = 3;

/// What a directory is to hold at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quota {
    pub(super) bytes: u64,
    pub(super) inodes: Option<u64>,
}

/// Runs commands for one filesystem.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commands<'a> {
    pub(super) program: &'a Path,
    pub(super) processes: &'a Processes,
    pub(super) turns: &'a Turns,
    pub(super) secret: &'a JuicefsSecret,
}

impl Commands<'_> {
    /// Sets the quota of a directory. The first time the client counts what is in it; a count that is cut short would never
    /// be made up for. `work` says whether there can be much to count.
    pub(super) async fn set_quota(
        &self,
        path: &VolumePath,
        quota: Quota,
        work: Work,
    ) -> Result<(), FilesystemError> {
        // Statistics of directories, which it would add up else, lag behind: a fresh clone counted nothing.
        let mut arguments = words(&["quota", "set", "--strict"]);
        arguments.push(format!("--path=/{path}"));
        // Without a unit it is GiB. `B` is exact.
        arguments.push(format!("--capacity={}B", quota.bytes));
        arguments.extend(quota.inodes.map(|inodes| format!("--inodes={inodes}")));
        arguments.push(self.secret.meta_url.address().to_owned());
        self.run("setting the volume's quota", arguments, work).await
    }

    /// Removes the quota of a directory, whose path begins at the filesystem's root; fine when it has none.
    pub(super) async fn delete_quota(&self, path: &str) -> Result<(), FilesystemError> {
        let mut arguments = words(&["quota", "delete"]);
        arguments.push(format!("--path={path}"));
        arguments.push(self.secret.meta_url.address().to_owned());
        self.run("removing the volume's quota", arguments, Work::Moments).await
    }

    /// Clones a tree within the mounted filesystem: metadata only, and there as a whole or not at all.
    pub(super) async fn clone_tree(
        &self,
        doing: &str,
        from: &Path,
        to: &Path,
    ) -> Result<(), FilesystemError> {
        let mut arguments = words(&["clone", "--preserve"]);
        arguments.extend([from, to].map(|path| path.display().to_string()));
        self.run(doing, arguments, Work::Tree).await
    }

    /// Removes a tree of the mounted filesystem. The client does it in its metadata: it follows no link and no mount.
    pub(super) async fn remove_tree(&self, path: &Path) -> Result<(), FilesystemError> {
        let mut arguments = words(&["rmr"]);
        arguments.push(path.display().to_string());
        self.run("removing files", arguments, Work::Tree).await
    }

    async fn run(&self, doing: &str, arguments: Vec<String>, work: Work) -> Result<(), FilesystemError> {
        let limit = match work {
            Work::Moments => MOMENTS_LIMIT,
            Work::Tree => TREE_LIMIT,
        };
        let _turn = self.turns.take(work).await?;
        let environment = [HOME].into_iter().chain(self.secret.environment()).collect();
        let run = Run { program: self.program, arguments, environment, input: Vec::new(), limit };
        let end = self.processes.run(run, self.turns.abandoned()).await;
        let end = end.map_err(|error| StoreError::new(format!("running {:?}", self.program), error))?;
        let doing = doing.to_owned();
        let hidden = self.secret.hidden();
        match end {
            End::Itself { status, .. } if status.success() => Ok(()),
            End::Itself { words, .. } => Err(complaint(doing, words, &hidden)),
            End::Abandoned { words } if Trouble::of(&words) == Trouble::Unreachable => {
                Err(complaint(doing, words, &hidden))
            }
            End::Abandoned { .. } => Err(FilesystemError::Silent { doing, limit }),
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn complaint(doing: String, words: String, hidden: &Secrets) -> FilesystemError {
    let trouble = Trouble::of(&words);
    let words = hidden.hidden_in(words);
    let lines: Vec<_> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let told = lines[lines.len().saturating_sub(LINES_TOLD)..].join(" | ");
    FilesystemError::Client { doing, trouble, words: told }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::telemetry::chain;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    fn secret() -> JuicefsSecret {
        let entries = [("metaurl", "redis://:hunter2@h:6379/1"), ("envs", r#"{"TOKEN":"opensesame"}"#)];
        let entries: Secrets =
            entries.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        JuicefsSecret::read(&entries).unwrap()
    }

    /// A client that says what it is given, and fails.
    fn fake_client(directory: &Path, script: &str) -> std::path::PathBuf {
        let program = directory.join("juicefs");
        crate::executable::script(&program, script);
        program
    }

    async fn refused(script: &str) -> FilesystemError {
        let directory = tempfile::tempdir().unwrap();
        let program = fake_client(directory.path(), script);
        let processes = Processes::new(TaskTracker::new(), CancellationToken::new());
        let (turns, secret) = (Turns::new("a".parse().unwrap()), secret());
        let commands = Commands { program: &program, processes: &processes, turns: &turns, secret: &secret };
        let quota = Quota { bytes: 3 << 20, inodes: Some(7) };
        commands.set_quota(&"a b".parse().unwrap(), quota, Work::Moments).await.unwrap_err()
    }

    #[tokio::test]
    async fn credentials_are_in_the_environment_alone_and_in_no_error() {
        let error = refused(r#"echo "<$*> $META_PASSWORD $TOKEN" >&2; exit 1"#).await;
        let told = chain(&error);
        let arguments = "<quota set --strict --path=/a b --capacity=3145728B --inodes=7 redis://h:6379/1>";
        assert!(told.contains(arguments) && told.contains("<redacted> <redacted>"), "{told}");
        assert!(!told.contains("hunter2") && !told.contains("opensesame"), "{told}");
    }

    #[tokio::test]
    async fn a_complaint_is_understood() {
        let error = refused("echo 'x: NOAUTH Authentication required.' >&2; exit 1").await;
        assert!(matches!(error, FilesystemError::Client { trouble: Trouble::Credentials, .. }), "{error}");
        let silent = refused("exit 1").await.to_string();
        assert_eq!(silent, "setting the volume's quota failed: the client failed; it said nothing");
    }
}
