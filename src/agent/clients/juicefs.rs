//! How is the JuiceFS client run?
//!
//! Unmodified, and as itself (`JFS_SUPERVISOR`), without the supervisor of its own that it has elsewhere: it fetches the
//! mounted and initialised FUSE device from the agent's desk. Its first start and every later one are the same.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secrecy::ExposeSecret;

use super::juicefs_places::written_to;
use super::juicefs_state::StateFiles;
use super::{
    Client, Complaint, EndMeans, Environment, Hope, Launch, LaunchError, Metrics, Parting, Places, Program,
    Serving, THIS_PROGRAM, Voice, beside_this, cant, desk::Desk, duplicate, place_in,
};
use crate::agent::LOOK_COMMAND;
use crate::agent::processes::ExitKind;
use crate::agent::tail::{Ear, Meaning, Tail};
use crate::juicefs::HOME;
use crate::juicefs::options::{
    CACHE_IN_POD, are_to_be_asked_for, check_all, check_known, flags_in_help, of_the_client,
};
use crate::juicefs::passing::setting;
use crate::juicefs::secret::{Format, JuicefsSecret};
use crate::juicefs::words::{LAST_TRY, SESSION_LINE, Trouble, is_complaint, session_in};
use crate::session::device::has_ended;
use crate::volume::Secrets;

/// The client's program.
const JUICEFS: &str = "juicefs";
/// The name of the desk's socket.
const DESK: &str = "fuse.sock";
/// The mount point that the client believes in. There must be nothing: a client that finds a directory there takes its
/// mount for lost and exits.
const NOWHERE: &str = "/mountpod/";
/// What every mount has, so that the client talks to nobody but its servers, and only where it is asked to.
const ALWAYS: &[&str] = &["--no-usage-report", "--no-syslog", "--no-agent", "--no-color"];
/// What a mount has unless its options say something else: no daily copy of all metadata in the memory of each mount pod;
/// a cache in memory, small, because it counts to the mount pod's memory.
const DEFAULTS: &[(&str, &str)] = &[("backup-meta", "0"), ("cache-dir", "memory")];
/// Metrics on a port that nobody knows: the client can't do without one.
const METRICS_FOR_NOBODY: &str = "127.0.0.1:0";
/// The option for labels of the metrics: `name:value`, separated by ';'.
const LABELS: &str = "custom-labels";
/// MiB of a cache in memory; the client's own default is 100 GiB.
const MEMORY_CACHE_MIB: &str = "128";
/// Where the first descriptor of a program lies.
const FIRST_FD: &str = "/proc/self/fd/3";
/// A client serves within a second, and formatting takes 5 s to fail. A client whose metadata engine is away
/// tries for minutes before it says so; its log tells it before.
const START_LIMIT: Duration = Duration::from_secs(18);
/// `RESEND` as the kernel reads it: `struct fuse_out_header` with 16 bytes, `FUSE_NOTIFY_RESEND`, no request.
const NOTIFY_RESEND: i32 = 7;
const OUT_HEADER_BYTES: u32 = 16;

/// What is done before the client serves.
#[derive(Debug, PartialEq, Eq)]
enum Preparation {
    /// Look whether the client may write to these places.
    Look(Vec<PathBuf>),
    /// Ask the client which options it has.
    Ask,
    /// Format the filesystem, unless it is.
    Format,
}

/// How the JuiceFS client is run.
#[derive(Debug)]
pub(super) struct Juicefs {
    program: PathBuf,
    directory: PathBuf,
    cache: PathBuf,
    metrics: Metrics,
    secret: JuicefsSecret,
    preparations: VecDeque<Preparation>,
    formatted: bool,
    /// Of the client's answer to the question for its options.
    answer: Option<OwnedFd>,
    state: StateFiles,
}

impl Juicefs {
    pub(super) fn new(serving: &Serving, places: &Places) -> Result<Self, LaunchError> {
        check_all(&serving.client.options)?;
        let program = match &places.juicefs_program {
            Some(program) => program.clone(),
            None => beside_this(JUICEFS)?,
        };
        let secret = JuicefsSecret::read(&serving.credentials)?;
        let places_written = written_to(&serving.client.options, &secret);
        let look = (!places_written.is_empty()).then_some(Preparation::Look(places_written));
        let ask = are_to_be_asked_for(&serving.client.options).then_some(Preparation::Ask);
        let client = Self {
            program,
            directory: places.directory.clone(),
            cache: places.cache.clone(),
            metrics: places.metrics.clone(),
            secret,
            preparations: look.into_iter().chain(ask).collect(),
            formatted: false,
            answer: None,
            state: StateFiles::new(&places.directory),
        };
        client.mount_arguments(serving)?;
        Ok(client)
    }

    fn program(&self, arguments: Vec<String>, more: &[(&str, &str)]) -> Result<Program, LaunchError> {
        let variables = [HOME].into_iter().chain(more.iter().copied()).chain(self.secret.environment());
        Program::new(self.program.clone(), arguments, Environment::of(variables)?)
    }

    fn mount_arguments(&self, serving: &Serving) -> Result<Vec<String>, LaunchError> {
        let options = &serving.client.options;
        let mut arguments = vec![JUICEFS.to_owned(), "mount".to_owned()];
        arguments.extend(ALWAYS.iter().map(|&word| word.to_owned()));
        // The connection was negotiated with it; a smaller one would end the client at the first larger request.
        arguments.push(format!("--max-fuse-io={}K", serving.negotiated.max_write >> 10));
        for (name, value) in DEFAULTS.iter().filter(|(name, _)| !options.contains_key(*name)) {
            arguments.push(format!("--{name}={value}"));
        }
        arguments.extend(self.metrics_arguments(options));
        let in_memory = options.get("cache-dir").is_none_or(|dir| dir == "memory");
        if in_memory && !options.contains_key("cache-size") {
            arguments.push(format!("--cache-size={MEMORY_CACHE_MIB}"));
        }
        if !serving.client.subdirectory.is_empty() {
            arguments.push(format!("--subdir={}", serving.client.subdirectory));
        }
        let said_above = |name: &str| matches!(name, "max-fuse-io" | LABELS);
        for (name, value) in of_the_client(options).filter(|(name, _)| !said_above(name)) {
            match (name, value) {
                ("cache-dir", CACHE_IN_POD) => {
                    arguments.push(format!("--cache-dir={}", self.cache.display()));
                }
                ("o", words) => arguments.extend(["-o".to_owned(), words.to_owned()]),
                (name, "") => arguments.push(format!("--{name}")),
                (name, value) => arguments.push(format!("--{name}={value}")),
            }
        }
        arguments.push(self.secret.meta_url.address().to_owned());
        arguments.push(format!("{NOWHERE}{}", serving.session));
        Ok(arguments)
    }

    fn metrics_arguments(&self, options: &BTreeMap<String, String>) -> Vec<String> {
        let address = self.metrics.port.map_or(METRICS_FOR_NOBODY.to_owned(), |port| format!(":{port}"));
        let address = (!options.contains_key("metrics")).then(|| format!("--metrics={address}"));
        let volume = self.metrics.volume.as_ref().map(|volume| format!("volume:{volume}"));
        let labels: Vec<_> = volume.into_iter().chain(options.get(LABELS).cloned()).collect();
        let labels = (!labels.is_empty()).then(|| format!("--{LABELS}={}", labels.join(";")));
        address.into_iter().chain(labels).collect()
    }

    fn ask(&mut self) -> Result<Launch, LaunchError> {
        let output = memory_file("juicefs-help")?;
        self.answer = Some(duplicate(&output)?);
        let arguments = [JUICEFS, "mount", "--help"].map(str::to_owned).to_vec();
        let program = self.program(arguments, &[])?;
        Ok(Launch { program, fds: Vec::new(), voice: Voice::Prepares { output: Some(output) } })
    }

    fn format(&self, format: &Format) -> Result<Launch, LaunchError> {
        let mut arguments = [JUICEFS, "format", "--no-color", "--no-update"].map(str::to_owned).to_vec();
        arguments.push(format!("--storage={}", format.storage));
        arguments.push(format!("--bucket={}", format.bucket));
        arguments.extend(format.trash_days.map(|days| format!("--trash-days={days}")));
        for (name, value) in &format.options {
            arguments.push(if value.is_empty() { format!("--{name}") } else { format!("--{name}={value}") });
        }
        let mut fds = Vec::new();
        if let Some(key) = &format.rsa_key {
            fds.push(memory_file_with("juicefs-key", key.expose_secret())?);
            arguments.push(format!("--encrypt-rsa-key={FIRST_FD}"));
        }
        arguments.extend([self.secret.meta_url.address().to_owned(), format.name.clone()]);
        let program = self.program(arguments, &format.environment().collect::<Vec<_>>())?;
        Ok(Launch { program, fds, voice: Voice::Prepares { output: None } })
    }
}

impl Client for Juicefs {
    fn hidden(&self, _serving: &Serving) -> Secrets {
        self.secret.hidden()
    }

    fn ear(&self) -> Ear {
        meaning
    }

    fn preparation(&mut self, _serving: &Serving) -> Result<Option<Launch>, LaunchError> {
        match (self.preparations.front(), &self.secret.format) {
            (None, _) | (Some(Preparation::Format), None) => Ok(None),
            (Some(Preparation::Look(places)), _) => look_at(places).map(Some),
            (Some(Preparation::Ask), _) => self.ask().map(Some),
            (Some(Preparation::Format), Some(format)) => self.format(format).map(Some),
        }
    }

    fn prepared(&mut self, serving: &Serving) -> Result<(), LaunchError> {
        match self.preparations.pop_front() {
            Some(Preparation::Ask) => {
                let mut help = String::new();
                if let Some(answer) = self.answer.take() {
                    let mut answer = File::from(answer);
                    answer
                        .rewind()
                        .and_then(|()| answer.read_to_string(&mut help))
                        .map_err(cant("read its answer"))?;
                }
                Ok(check_known(&serving.client.options, &flags_in_help(&help))?)
            }
            Some(Preparation::Format) => {
                self.formatted = true;
                Ok(())
            }
            Some(Preparation::Look(_)) | None => Ok(()),
        }
    }

    fn serve(&mut self, serving: &Serving) -> Result<Launch, LaunchError> {
        // A client that was killed because it did not part in time must not keep others from parting.
        self.state.leave();
        let arguments = self.mount_arguments(serving)?;
        let saved =
            self.state.lay_ready(&serving.fds.state).map_err(cant("lay the client's handles ready"))?;
        let desk_path = place_in(&self.directory, DESK);
        let device = duplicate(&serving.fds.fuse)?;
        let desk = Desk::open(&desk_path, setting(&serving.negotiated), device)
            .map_err(cant("open the client's desk"))?;
        let (desk_path, handles) = (text(&desk_path), text(self.state.handles()));
        let mut variables =
            vec![("JFS_SUPERVISOR", "1"), ("_FUSE_FD_COMM", &desk_path), ("_FUSE_STATE_PATH", &handles)];
        // A dead client's session would keep the locks of its handles; one that handed them on must be gone on with.
        let session = saved.filter(|session| *session != 0).map(|session| session.to_string());
        variables.extend(session.as_deref().map(|session| ("_JFS_META_SID", session)));
        let program = self.program(arguments, &variables)?;
        resend(serving.fds.fuse.as_fd());
        Ok(Launch { program, fds: Vec::new(), voice: Voice::Desk(desk) })
    }

    fn start_limit(&self) -> Option<Duration> {
        Some(START_LIMIT)
    }

    fn serves(&mut self, serving: &Serving) {
        if let Err(error) = self.state.forget(&serving.fds.state) {
            tracing::warn!("the handles that the client has taken can't be forgotten: {error}");
        }
    }

    /// The exit code tells nothing: several failures have 0, and a client that could not flush has another.
    fn end_means(&self, _kind: ExitKind, fuse: BorrowedFd<'_>) -> EndMeans {
        match has_ended(fuse) {
            Ok(true) => EndMeans::SessionEnded,
            Ok(false) | Err(_) => EndMeans::Died,
        }
    }

    fn part(&mut self, pid: Pid, tail: &Tail) -> Parting {
        if tail.remembered().and_then(session_in).is_none() {
            tracing::warn!("the client's session number was not seen; its open files can't be handed on");
            return Parting::Impossible;
        }
        match self.state.reserve() {
            Ok(false) => Parting::Later,
            Ok(true) if kill(pid, Signal::SIGHUP).is_ok() => Parting::Told,
            Ok(true) => Parting::Impossible,
            Err(error) => {
                tracing::warn!("the client's open files can't be handed on: {error}");
                Parting::Impossible
            }
        }
    }

    fn parted(&mut self, serving: &Serving, tail: &Tail) {
        let Some(session) = tail.remembered().and_then(session_in) else { return };
        match self.state.save(&serving.fds.state, session) {
            Ok(true) => {
                tracing::info!("the client left its open files and session {session} to its successor");
            }
            Ok(false) => tracing::warn!("the client left nothing to its successor"),
            Err(error) => tracing::warn!("what the client left can't be handed on: {error}"),
        }
    }

    fn remedy(&mut self, words: &str) -> bool {
        let missing =
            Trouble::of(words) == Trouble::NotFormatted && !self.formatted && self.secret.format.is_some();
        if missing && self.preparations.is_empty() {
            self.preparations.push_back(Preparation::Format);
            return true;
        }
        false
    }

    fn complaint(&self, words: &str) -> Complaint {
        let trouble = Trouble::of(words);
        // Another mount pod that formats the same filesystem at this moment looks like somebody else's objects.
        let hopeless = trouble.needs_a_person() && !words.contains("is not empty");
        let explanation = if trouble == Trouble::Unknown { String::new() } else { trouble.to_string() };
        let hope = if hopeless { Hope::None } else { Hope::Some };
        Complaint { explanation, hope, fault: trouble.fault() }
    }
}

fn look_at(places: &[PathBuf]) -> Result<Launch, LaunchError> {
    let arguments = ["mount-agent", LOOK_COMMAND, "--"].map(str::to_owned).into_iter();
    let arguments = arguments.chain(places.iter().map(|place| text(place)));
    let program = Program::new(PathBuf::from(THIS_PROGRAM), arguments, Environment::default())?;
    Ok(Launch { program, fds: Vec::new(), voice: Voice::Prepares { output: None } })
}

fn meaning(line: &str) -> Meaning {
    if line.contains(SESSION_LINE) {
        Meaning::Memorable
    } else if line.contains(LAST_TRY) {
        Meaning::LastTry
    } else if is_complaint(line) {
        Meaning::Complaint
    } else {
        Meaning::Nothing
    }
}

fn text(path: &std::path::Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Asks the kernel to give out again what a dead client had read and not answered. On a new connection there is nothing.
fn resend(fuse: BorrowedFd<'_>) {
    let mut message = Vec::with_capacity(OUT_HEADER_BYTES as usize);
    message.extend(OUT_HEADER_BYTES.to_ne_bytes());
    message.extend(NOTIFY_RESEND.to_ne_bytes());
    message.extend(0_u64.to_ne_bytes());
    if let Err(errno) = nix::unistd::write(fuse, &message) {
        tracing::warn!(
            "requests of an earlier client can't be given out again (Linux 6.9 or later can): {errno}"
        );
    }
}

fn memory_file(name: &str) -> Result<OwnedFd, LaunchError> {
    memfd_create(name, MFdFlags::MFD_CLOEXEC).map_err(cant("make a file in memory"))
}

fn memory_file_with(name: &str, content: &str) -> Result<OwnedFd, LaunchError> {
    let mut file = File::from(memory_file(name)?);
    file.write_all(content.as_bytes())
        .and_then(|()| file.rewind())
        .map_err(cant("write a file in memory"))?;
    Ok(file.into())
}

#[cfg(test)]
#[path = "juicefs_tests.rs"]
mod tests;
