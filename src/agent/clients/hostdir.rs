//! How is hostdir run?
//!
//! Its keeper restarts the serving process by itself, tells so on its event socket, and keeps the state of the session in
//! the memfd: the agent has nothing to prepare and nothing to save.

use std::path::PathBuf;

use super::{
    Client, ClientPrograms, Environment, Launch, LaunchError, Places, Program, Serving, THIS_PROGRAM, Voice,
    beside_this, duplicate,
};
use crate::agent::frames::{ClientLaunch, Negotiated};
use crate::volume::ClientKind;

/// The client's program, and its name in the multi-call program.
const HOSTDIR: &str = "mount-hostdir";

/// How the hostdir client is run.
#[derive(Debug)]
pub(super) struct Hostdir {
    programs: ClientPrograms,
    program: Option<PathBuf>,
}

impl Hostdir {
    pub(super) fn new(serving: &Serving, places: &Places) -> Result<Self, LaunchError> {
        let client = Self { programs: places.programs, program: places.hostdir_program.clone() };
        client.program(&serving.client, &serving.negotiated)?;
        tree_of(serving)?;
        Ok(client)
    }

    /// It gets no credentials: its environment is empty.
    fn program(&self, client: &ClientLaunch, negotiated: &Negotiated) -> Result<Program, LaunchError> {
        let (path, mut arguments) = match (&self.program, self.programs) {
            (Some(path), _) => (path.clone(), vec![HOSTDIR.to_owned()]),
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
        Program::new(path, arguments, Environment::default())
    }
}

impl Client for Hostdir {
    fn serve(&mut self, serving: &Serving) -> Result<Launch, LaunchError> {
        let program = self.program(&serving.client, &serving.negotiated)?;
        let fds = [&serving.fds.fuse, &serving.fds.state, tree_of(serving)?];
        let fds = fds.into_iter().map(duplicate).collect::<Result<_, _>>()?;
        Ok(Launch { program, fds, voice: Voice::Events })
    }
}

fn tree_of(serving: &Serving) -> Result<&std::os::fd::OwnedFd, LaunchError> {
    serving.tree.as_ref().ok_or(LaunchError::NoTree(ClientKind::Hostdir.as_str()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the failure of the test")]

    use std::collections::BTreeMap;

    use super::*;

    fn launch(options: &[(&str, &str)], programs: ClientPrograms) -> Result<Program, LaunchError> {
        let options: BTreeMap<_, _> =
            options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let client = ClientLaunch { kind: ClientKind::Hostdir, subdirectory: String::new(), options };
        let negotiated = Negotiated {
            minor: 45,
            flags: 0x10_0000_00ff,
            max_readahead: 1,
            max_write: 131_072,
            max_pages: 32,
        };
        Hostdir { programs, program: None }.program(&client, &negotiated)
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
