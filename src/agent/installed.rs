//! Which clients lie beside the agent, which versions are they, and how does somebody else get them?

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use tokio::process::Command;

/// The clients that an image may hold, and the argument with which each tells its version. What a client can do is asked
/// of the client, never of an image's tag.
const CLIENTS: [(&str, &str); 2] = [("mount-hostdir", "--version"), ("juicefs", "version")];
/// The authorities that clients trust, where Go's and OpenSSL's programs look for them on Debian.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// A client says its version within 0.2 s; the rest is for a node that has just pulled its image.
const VERSION_LIMIT: Duration = Duration::from_secs(10);
/// Of a client's words this much is a version; in bytes.
const VERSION_MAX: usize = 200;

/// Why a client did not tell its version.
#[derive(Debug, thiserror::Error)]
enum VersionError {
    /// Its program can't be started.
    #[error("can't start {0:?}: is it a program for this machine, and static?")]
    Start(PathBuf, #[source] io::Error),
    /// It did not end in time.
    #[error("{0:?} did not tell its version within {1:?}")]
    Slow(PathBuf, Duration),
    /// It ended in error, or said nothing.
    #[error("{0:?} did not tell its version: {1}")]
    Refused(PathBuf, String),
}

/// Why the clients were not copied.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    /// Where this program lies is unknown.
    #[error("can't find the directory of this program: is /proc there?")]
    Unplaced(#[source] io::Error),
    /// There is nothing to copy.
    #[error("there is no client in {0:?}")]
    None(PathBuf),
    /// A file can't be copied.
    #[error("can't copy {from:?} to {to:?}")]
    File {
        /// The file.
        from: PathBuf,
        /// Its copy.
        to: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Prints a line for each client beside this program: its name and what it says about its version.
///
/// Fails when an installed client does not tell it: such an image can't serve a volume.
pub(super) fn print_versions() -> ExitCode {
    let said = directory_of_this().and_then(|directory| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(versions(&directory, VERSION_LIMIT)))
    });
    let lines = match said {
        Ok(lines) => lines,
        Err(error) => vec![Err(format!("the clients are not known: {error}"))],
    };
    let mut out = io::stdout().lock();
    let written = lines.iter().try_for_each(|line| match line {
        Ok(line) | Err(line) => writeln!(out, "{line}"),
    });
    if written.is_ok() && lines.iter().all(Result::is_ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `mount-agent copy-clients`: copies the clients beside this program, and the certificates that they trust, into a
/// directory. An image from scratch has no `cp`, and the driver's image has no client: an init container does this.
pub(super) fn copy_clients(directory: &Path) -> ExitCode {
    let copied = directory_of_this()
        .map_err(CopyError::Unplaced)
        .and_then(|from| copy_from(&from, Path::new(CERTIFICATES), directory));
    match copied {
        Ok(copies) => {
            let mut out = io::stdout().lock();
            // Who does not read what was copied has it all the same.
            copies.iter().try_for_each(|copy| writeln!(out, "{}", copy.display())).unwrap_or_default();
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{}", super::with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn directory_of_this() -> io::Result<PathBuf> {
    let mut program = std::env::current_exe()?;
    program.pop();
    Ok(program)
}

/// The clients that are there, in the order of [`CLIENTS`].
fn installed(directory: &Path) -> impl Iterator<Item = (&'static str, &'static str, PathBuf)> {
    let place = |(name, argument)| (name, argument, directory.join(name));
    CLIENTS.map(place).into_iter().filter(|(_, _, program)| program.is_file())
}

/// A line for each client that is there; as an error where a client does not tell its version.
async fn versions(directory: &Path, limit: Duration) -> Vec<Result<String, String>> {
    let mut lines = Vec::new();
    for (name, argument, program) in installed(directory) {
        let version = version(program, argument, limit).await;
        lines.push(match version {
            Ok(version) => Ok(format!("{name}: {version}")),
            Err(error) => Err(format!("{name}: {}", super::with_causes(&error))),
        });
    }
    lines
}

/// The first line that a client says about its version.
async fn version(program: PathBuf, argument: &str, limit: Duration) -> Result<String, VersionError> {
    let mut command = Command::new(&program);
    command.arg(argument).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    let Ok(ended) = tokio::time::timeout(limit, command.output()).await else {
        return Err(VersionError::Slow(program, limit));
    };
    let output = match ended {
        Ok(output) => output,
        Err(error) => return Err(VersionError::Start(program, error)),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    match said.lines().next() {
        Some(line) if output.status.success() => Ok(line.chars().take(VERSION_MAX).collect()),
        _ => Err(VersionError::Refused(program, output.status.to_string())),
    }
}

fn copy_from(programs: &Path, certificates: &Path, to: &Path) -> Result<Vec<PathBuf>, CopyError> {
    let mut copies = Vec::new();
    for (name, _, program) in installed(programs) {
        copies.push(copy(&program, to.join(name), 0o555)?);
    }
    if copies.is_empty() {
        return Err(CopyError::None(programs.to_owned()));
    }
    if let Some(name) = certificates.file_name().filter(|_| certificates.is_file()) {
        copies.push(copy(certificates, to.join(name), 0o444)?);
    }
    Ok(copies)
}

/// Copies beside the place and then renames, so that an earlier copy may be a program that runs (`ETXTBSY`), and no half
/// of one is ever found.
fn copy(from: &Path, to: PathBuf, mode: u32) -> Result<PathBuf, CopyError> {
    let new = to.with_extension("new");
    let copied = fs::copy(from, &new)
        .and_then(|_| fs::set_permissions(&new, Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&new, &to));
    match copied {
        Ok(()) => Ok(to),
        Err(source) => Err(CopyError::File { from: from.to_owned(), to, source }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the failure of the test")]

    use super::*;

    fn place(directory: &Path, name: &str, script: &str) {
        crate::executable::script(&directory.join(name), script);
    }

    #[tokio::test]
    async fn each_client_that_is_there_is_asked_in_its_own_way() {
        let directory = tempfile::tempdir().unwrap();
        place(directory.path(), "mount-hostdir", "echo hostdir $1");
        assert_eq!(
            versions(directory.path(), VERSION_LIMIT).await,
            [Ok("mount-hostdir: hostdir --version".to_owned())]
        );
        place(directory.path(), "juicefs", "echo juicefs $1 1.4.1; echo more");
        let lines = versions(directory.path(), VERSION_LIMIT).await;
        assert_eq!(lines[1], Ok("juicefs: juicefs version 1.4.1".to_owned()));
        assert_eq!(lines.len(), 2);
    }

    #[tokio::test]
    async fn a_client_that_tells_no_version_is_an_error_that_names_it() {
        let scripts =
            [("exit 3", "exit status: 3"), ("exit 0", "exit status: 0"), ("exec sleep 60", "within")];
        for (script, expected) in scripts {
            let directory = tempfile::tempdir().unwrap();
            place(directory.path(), "juicefs", script);
            let lines = versions(directory.path(), Duration::from_millis(300)).await;
            let [Err(line)] = &lines[..] else { panic!("{script}: {lines:?}") };
            assert!(line.starts_with("juicefs: ") && line.contains(expected), "{script}: {line}");
        }
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("juicefs"), "not a program").unwrap();
        let lines = versions(directory.path(), VERSION_LIMIT).await;
        assert!(matches!(&lines[..], [Err(line)] if line.contains("Permission denied")), "{lines:?}");
    }

    #[test]
    fn clients_and_certificates_are_copied_over_older_copies() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let certificates = from.path().join("ca-certificates.crt");
        place(from.path(), "juicefs", "echo new");
        fs::write(&certificates, "authorities").unwrap();
        place(to.path(), "juicefs", "echo old");
        let copies = copy_from(from.path(), &certificates, to.path()).unwrap();
        let [program, trusted] = &copies[..] else { panic!("{copies:?}") };
        assert_eq!(fs::read_to_string(program).unwrap(), "#!/bin/sh\necho new\n");
        assert_eq!(fs::metadata(program).unwrap().permissions().mode() & 0o7777, 0o555);
        assert_eq!(fs::read_to_string(trusted).unwrap(), "authorities");
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 2, "nothing else is there");
    }

    #[test]
    fn without_a_client_or_a_directory_nothing_is_copied() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let none = Path::new("/no/certificates");
        assert!(matches!(copy_from(from.path(), none, to.path()), Err(CopyError::None(_))));
        place(from.path(), "juicefs", "echo");
        let error = copy_from(from.path(), none, Path::new("/no/such/directory")).unwrap_err();
        assert!(error.to_string().contains("/no/such/directory/juicefs"), "{error}");
    }
}
