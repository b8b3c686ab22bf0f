//! How is each kind of client run: which program, with which arguments and environment?

use std::ffi::{CString, NulError};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::frames::{ClientLaunch, Negotiated};
use super::messages::SessionFds;
use crate::volume::{ClientKind, Secrets};

/// This process's own program, whatever happened to its file.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// The hostdir client's program, and its name in the multi-call program.
const HOSTDIR: &str = "mount-hostdir";

/// Where the clients' programs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientPrograms {
    /// In the directory of this process's program, as in the mount image.
    BesideThis,
    /// In this process's program: its first argument names the client.
    WithinThis,
}

/// Why a client could not be run.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaunchError {
    /// The client has no such option.
    #[error("the client {client} has no option {option:?} with the value {value:?}")]
    Option {
        /// Which client.
        client: &'static str,
        /// The option's name.
        option: String,
        /// Its value.
        value: String,
    },
    /// An argument can't be passed to a program.
    #[error("an argument of the client has a NUL byte")]
    Nul(#[from] NulError),
    /// The offer lacks what this client needs.
    #[error("the offer for the client {0} has no directory tree")]
    NoTree(&'static str),
    /// Where this program lies is unknown.
    #[error("can't find the directory of this program")]
    Unplaced(#[source] io::Error),
    /// The system did not let us.
    #[error("can't start the client {program:?}")]
    Start {
        /// Which program.
        program: CString,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A program to be run.
#[derive(Debug)]
pub(super) struct Program {
    /// Its file.
    pub(super) path: CString,
    /// Its arguments; the first is its name.
    pub(super) arguments: Vec<CString>,
    /// Its whole environment: `NAME=value`, credentials in it.
    pub(super) environment: Environment,
}

/// An environment, which may hold credentials and is therefore never shown.
#[derive(Default)]
pub(super) struct Environment(pub(super) Vec<CString>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Environment({} variables, <redacted>)", self.0.len())
    }
}

/// What a client of a session is started from, the first time and every other time.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) client: ClientLaunch,
    pub(super) negotiated: Negotiated,
    pub(super) fds: SessionFds,
    pub(super) tree: Option<OwnedFd>,
    pub(super) credentials: Secrets,
}

impl Serving {
    /// The program for it.
    ///
    /// # Errors
    /// When its options are not the client's, or the program can't be found.
    pub(super) fn program(
        &self,
        programs: ClientPrograms,
        hostdir_program: Option<&Path>,
    ) -> Result<Program, LaunchError> {
        match self.client.kind {
            ClientKind::Hostdir => hostdir(&self.client, &self.negotiated, programs, hostdir_program),
        }
    }

    /// The descriptors that the client finds at 3, 4 ...; its event socket comes after them.
    ///
    /// # Errors
    /// When the offer had too few.
    pub(super) fn client_fds(&self) -> Result<Vec<BorrowedFd<'_>>, LaunchError> {
        use std::os::fd::AsFd;
        match self.client.kind {
            ClientKind::Hostdir => {
                let tree = self.tree.as_ref().ok_or(LaunchError::NoTree(ClientKind::Hostdir.as_str()))?;
                Ok(vec![self.fds.fuse.as_fd(), self.fds.state.as_fd(), tree.as_fd()])
            }
        }
    }
}

/// hostdir gets no credentials: its environment is empty.
fn hostdir(
    client: &ClientLaunch,
    negotiated: &Negotiated,
    programs: ClientPrograms,
    program: Option<&Path>,
) -> Result<Program, LaunchError> {
    let (path, mut arguments) = match (program, programs) {
        (Some(path), _) => (path.to_owned(), vec![HOSTDIR.to_owned()]),
        (None, ClientPrograms::BesideThis) => (beside_this(HOSTDIR)?, vec![HOSTDIR.to_owned()]),
        (None, ClientPrograms::WithinThis) => {
            (PathBuf::from(THIS_PROGRAM), vec!["mountpod".to_owned(), HOSTDIR.to_owned()])
        }
    };
    arguments.extend([
        "serve".to_owned(),
        "--max-write".to_owned(),
        negotiated.max_write.to_string(),
        "--init-flags".to_owned(),
        format!("{:x}", negotiated.flags),
    ]);
    for (option, value) in &client.options {
        match (option.as_str(), value.as_str()) {
            ("read-only", "true") => arguments.push("--read-only".to_owned()),
            ("read-only", "false") => (),
            _ => {
                let (option, value) = (option.clone(), value.clone());
                return Err(LaunchError::Option { client: ClientKind::Hostdir.as_str(), option, value });
            }
        }
    }
    let arguments = arguments.into_iter().map(CString::new).collect::<Result<_, _>>()?;
    let path = CString::new(path.into_os_string().into_vec())?;
    Ok(Program { path, arguments, environment: Environment::default() })
}

fn beside_this(name: &str) -> Result<PathBuf, LaunchError> {
    let this = std::fs::read_link(THIS_PROGRAM).map_err(LaunchError::Unplaced)?;
    Ok(this.with_file_name(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the failure of the test")]

    use std::collections::BTreeMap;

    use super::*;

    fn launch(options: &[(&str, &str)], programs: ClientPrograms) -> Result<Program, LaunchError> {
        let options: BTreeMap<_, _> =
            options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let client = ClientLaunch { kind: ClientKind::Hostdir, options };
        let negotiated = Negotiated {
            minor: 45,
            flags: 0x10_0000_00ff,
            max_readahead: 1,
            max_write: 131_072,
            max_pages: 32,
        };
        hostdir(&client, &negotiated, programs, None)
    }

    fn words(program: &Program) -> Vec<&str> {
        program.arguments.iter().map(|argument| argument.to_str().unwrap()).collect()
    }

    #[test]
    fn hostdir_is_told_what_was_negotiated_and_nothing_secret() {
        let program = launch(&[("read-only", "true")], ClientPrograms::WithinThis).unwrap();
        let expected = "mountpod mount-hostdir serve --max-write 131072 --init-flags 10000000ff --read-only";
        assert_eq!(words(&program).join(" "), expected);
        assert_eq!(program.path.to_str().unwrap(), THIS_PROGRAM);
        assert!(program.environment.0.is_empty());
        let program = launch(&[("read-only", "false")], ClientPrograms::BesideThis).unwrap();
        assert!(!words(&program).contains(&"--read-only"));
        assert!(program.path.to_str().unwrap().ends_with("/mount-hostdir"), "{:?}", program.path);
    }

    #[test]
    fn an_option_that_hostdir_does_not_know_is_refused_by_name() {
        let error = launch(&[("cache-size", "9")], ClientPrograms::WithinThis).unwrap_err();
        assert!(error.to_string().contains("cache-size"), "{error}");
        assert!(launch(&[("read-only", "yes")], ClientPrograms::WithinThis).is_err());
    }
}
