//! How do directories of the node become the mount pods' own?

use std::fs::{Permissions, read_dir, set_permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use clap::Args;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::THIS_PROGRAM;
use crate::config::host_directories::{HostDirectories, InvalidList};
use crate::config::kubernetes::MountPodOptions;
use crate::volume::{HostDirectory, UNPRIVILEGED_USER};

/// The hidden subcommand that gives one of them.
pub(super) const GIVE_COMMAND: &str = "give-directory";
/// What clients cache and keep is nobody else's to read.
const PRIVATE: u32 = 0o700;
/// A disk answers at once; the driver does not start before.
const GIVE_LIMIT: Duration = Duration::from_secs(5);
/// What a process says that gave one.
const GIVEN: &[u8] = b"given";

/// What one process gives.
#[derive(Debug, Clone, Args)]
pub(super) struct ToGive {
    directory: PathBuf,
}

/// Takes the administrator's list, and gives directories that are new to the clients' user. One that can't be looked at is
/// only told: nobody may want it, and who does is told by the mount pod.
///
/// # Errors
/// When the list can't be used.
pub(super) async fn allowed(options: &MountPodOptions) -> Result<HostDirectories, InvalidList> {
    let directories = HostDirectories::listed(&options.host_directories, &options.kubelet_dir)?;
    let mut looks: JoinSet<_> = options.host_directories.iter().cloned().map(give).collect();
    while let Some(Ok((directory, given))) = looks.join_next().await {
        match given {
            Ok(true) => tracing::info!(%directory, "the new directory is given to mount pods"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%directory, %error, "the directory can't be given to mount pods"),
        }
    }
    Ok(directories)
}

/// In a process of its own: a directory whose server is away would hold whoever looks at it.
async fn give(directory: HostDirectory) -> (HostDirectory, io::Result<bool>) {
    let mut command = Command::new(THIS_PROGRAM);
    command.arg(GIVE_COMMAND).arg(directory.as_path());
    (directory, answer_of(command, GIVE_LIMIT).await)
}

/// A process that is late is killed, and not waited for: it may sleep until its file system comes back.
async fn answer_of(mut command: Command, limit: Duration) -> io::Result<bool> {
    let output = command.env_clear().stdin(Stdio::null()).kill_on_drop(true).output();
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("it does not answer within {limit:?}"));
    let output = timeout(limit, output).await.map_err(late)??;
    if output.status.success() {
        Ok(output.stdout == GIVEN)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// The program of that process.
pub(super) fn give_directory(ToGive { directory }: &ToGive) -> ExitCode {
    let told = match give_if_new(directory) {
        Ok(true) => io::stdout().write_all(GIVEN),
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The exit code tells, when nobody listens.
            writeln!(io::stderr(), "{error}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

/// A directory that the kubelet has just made is root's and empty. Any other one is its owner's to arrange.
fn give_if_new(directory: &Path) -> io::Result<bool> {
    let found = directory.symlink_metadata()?;
    if !found.is_dir() || found.uid() != 0 || read_dir(directory)?.next().is_some() {
        return Ok(false);
    }
    set_permissions(directory, Permissions::from_mode(PRIVATE))?;
    chown(directory, Some(UNPRIVILEGED_USER), Some(UNPRIVILEGED_USER))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_new_directory_is_given_and_any_other_is_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let owner_and_mode = |path: &Path| {
            let found = path.metadata().unwrap();
            (found.uid(), found.gid(), found.mode() & 0o7777)
        };
        let make = |name: &str| {
            let path = scratch.path().join(name);
            std::fs::create_dir(&path).unwrap();
            set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
            path
        };
        let (new, used, another) = (make("new"), make("used"), make("another"));
        std::fs::write(used.join("file"), "").unwrap();
        chown(&another, Some(7), Some(7)).unwrap();
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink(&used, &link).unwrap();
        assert!(give_if_new(&new).unwrap());
        assert_eq!(owner_and_mode(&new), (UNPRIVILEGED_USER, UNPRIVILEGED_USER, 0o700));
        for (left, owner) in [(&used, 0), (&another, 7), (&new, UNPRIVILEGED_USER)] {
            let before = owner_and_mode(left);
            assert!(!give_if_new(left).unwrap(), "{left:?}");
            assert_eq!((owner_and_mode(left), before.0), (before, owner));
        }
        assert!(!give_if_new(&link).unwrap());
        assert!(give_if_new(&scratch.path().join("missing")).is_err());
    }

    #[tokio::test]
    async fn a_process_tells_what_it_did_or_is_killed() {
        let scratch = tempfile::tempdir().unwrap();
        let program = scratch.path().join("give");
        let says = async |script: &str, limit: u64| {
            crate::executable::script(&program, script);
            answer_of(Command::new(&program), Duration::from_secs(limit)).await
        };
        assert!(says("printf given", 20).await.unwrap());
        assert!(!says("exit 0", 20).await.unwrap());
        assert_eq!(
            says("echo no such directory >&2; exit 1", 20).await.unwrap_err().to_string(),
            "no such directory"
        );
        let late = says(r#"echo $$ >"${0%/*}/pid"; exec sleep 60"#, 1).await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        let process =
            Path::new("/proc").join(std::fs::read_to_string(scratch.path().join("pid")).unwrap().trim());
        let ends = async {
            while process.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), ends).await.unwrap();
    }
}
