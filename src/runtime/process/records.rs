//! How are the records of pods kept in files, and what may be done to them?
//!
//! Everything in memory is a copy of the files. A change is in its file before anybody is told of it, so a driver that
//! crashes loses nothing that it acknowledged. Nothing is flushed to the disk: a power failure ends the processes too,
//! and records without processes say nothing that the workloads still need.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::core::params::Preconditions;

use super::leader::Leader;
use crate::mountpod::facts::{PodName, PodPhase, PodUid};
use crate::runtime::{AnnotationPatch, patch_annotations};

/// Annotation: the pod's first process, as JSON; the runtime's own.
pub(super) const LEADER: &str = "process.mountpod.dev/leader";
/// Annotation: limits that are not applied, in sentences; the runtime's own.
pub const WARNING: &str = "process.mountpod.dev/warning";
/// Annotations with this prefix belong to the runtime.
const OWN_PREFIX: &str = "process.mountpod.dev/";
/// A record's file is `<pod name>.json`.
const RECORD_SUFFIX: &str = ".json";
/// A file that was not finished.
const UNFINISHED_SUFFIX: &str = ".new";
/// A record that says nothing: kept for people, never read again.
const BROKEN_SUFFIX: &str = ".broken";
/// Versions are set aside in blocks, so that most changes write one file.
const VERSION_BLOCK: u64 = 1000;
/// A pod's name is a DNS label or longer, and a file's name with something added.
const NAME_BYTES_MAX: usize = 200;

/// The `phase` of a Kubernetes pod's status.
mod phase {
    pub(super) const PENDING: &str = "Pending";
    pub(super) const RUNNING: &str = "Running";
    pub(super) const SUCCEEDED: &str = "Succeeded";
    pub(super) const FAILED: &str = "Failed";
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is a pod of that name.
    #[error("the name is taken")]
    Taken,
    /// There is no pod of that name and uid.
    #[error("there is no such pod")]
    Gone,
    /// The record is not at that version.
    #[error("the record is at another version")]
    Conflict,
    /// The name is no name of a pod.
    #[error("{0:?} is no name of a pod: it must have lower-case letters, digits and '-' only")]
    Name(String),
    /// The annotation is the runtime's own.
    #[error("the annotation {0} belongs to the runtime")]
    OwnAnnotation(String),
    /// A limit is in another form than ours.
    #[error("the {resource} limit {value:?} can't be read")]
    Limit {
        /// `cpu` or `memory`.
        resource: &'static str,
        /// What was found.
        value: String,
    },
    /// A file can't be read or written.
    #[error("can't access {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    move |source| RecordError::File { path: path.to_owned(), source }
}

/// How a pod ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) why: String,
    pub(super) success: bool,
}

/// The records of one runtime. Every method may wait for the disk.
#[derive(Debug)]
pub(super) struct Records {
    dir: PathBuf,
    /// Beside the pods, so that their directory is empty when there are none.
    version_file: PathBuf,
    pods: BTreeMap<String, Pod>,
    version: u64,
    version_reserved: u64,
}

impl Records {
    /// Reads back what is there. A file that is no record (a power failure can leave an empty one) is set aside: one
    /// pod that is lost must not keep the driver from all others.
    ///
    /// # Errors
    /// When a file can't be read.
    pub(super) fn open(dir: &Path, version_file: PathBuf) -> Result<Self, RecordError> {
        fs::create_dir_all(dir).map_err(file_error(dir))?;
        let mut pods = BTreeMap::new();
        for entry in fs::read_dir(dir).map_err(file_error(dir))? {
            let path = entry.map_err(file_error(dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(UNFINISHED_SUFFIX) {
                // It was never acknowledged.
                fs::remove_file(&path).map_err(file_error(&path))?;
            } else if let Some(name) = name.strip_suffix(RECORD_SUFFIX) {
                match read_record(&path, name)? {
                    Some(pod) => drop(pods.insert(name.to_owned(), pod)),
                    None => set_aside(&path)?,
                }
            }
        }
        let version = match read_version(&version_file)? {
            Some(version) => version,
            // Versions are given out in blocks: the next block was touched by nobody.
            None => pods.values().filter_map(version_of).max().unwrap_or(0) + VERSION_BLOCK,
        };
        Ok(Self { dir: dir.to_owned(), version_file, pods, version, version_reserved: version })
    }

    pub(super) fn pods(&self) -> impl Iterator<Item = (&String, &Pod)> {
        self.pods.iter()
    }

    /// Adds a pod that is to be started.
    ///
    /// # Errors
    /// [`RecordError::Taken`], or when it can't be written.
    pub(super) fn create(&mut self, mut pod: Pod) -> Result<Pod, RecordError> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        check_name(&name)?;
        if self.pods.contains_key(&name) {
            return Err(RecordError::Taken);
        }
        let mut uid = [0; 16];
        getrandom::fill(&mut uid)
            .map_err(|error| file_error(Path::new("/dev/urandom"))(io::Error::other(error)))?;
        pod.metadata.uid = Some(HEXLOWER.encode(&uid));
        pod.metadata.creation_timestamp = Some(Time(Timestamp::now()));
        pod.metadata.deletion_timestamp = None;
        pod.status = Some(status(phase::PENDING, None));
        self.store(pod)
    }

    /// Changes annotations of the pod with that uid.
    ///
    /// # Errors
    /// [`RecordError::Gone`], or when it can't be written.
    pub(super) fn patch(
        &mut self,
        name: &PodName,
        uid: &PodUid,
        patch: &AnnotationPatch,
    ) -> Result<Pod, RecordError> {
        if let Some(own) = patch.keys().find(|key| key.starts_with(OWN_PREFIX)) {
            return Err(RecordError::OwnAnnotation(own.clone()));
        }
        let mut pod = self.same(name, uid)?;
        patch_annotations(&mut pod, patch);
        self.store(pod)
    }

    /// Marks a pod as going; again is no harm.
    ///
    /// # Errors
    /// [`RecordError::Gone`] or [`RecordError::Conflict`] when a precondition does not hold.
    pub(super) fn mark_deleted(
        &mut self,
        name: &PodName,
        preconditions: &Preconditions,
    ) -> Result<(), RecordError> {
        let mut pod = self.pods.get(&name.0).cloned().ok_or(RecordError::Gone)?;
        if preconditions.uid.is_some() && preconditions.uid != pod.metadata.uid {
            return Err(RecordError::Gone);
        }
        if preconditions.resource_version.is_some()
            && preconditions.resource_version != pod.metadata.resource_version
        {
            return Err(RecordError::Conflict);
        }
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        pod.metadata.deletion_timestamp = Some(Time(Timestamp::now()));
        self.store(pod).map(drop)
    }

    /// Notes that a pod's processes run.
    ///
    /// # Errors
    /// [`RecordError::Gone`], or when it can't be written.
    pub(super) fn started(
        &mut self,
        name: &PodName,
        uid: &PodUid,
        leader: &Leader,
        warnings: &[String],
    ) -> Result<Pod, RecordError> {
        let mut pod = self.same(name, uid)?;
        let json = serde_json::to_string(leader).map_err(|error| file_error(&self.dir)(error.into()))?;
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(LEADER.to_owned(), json);
        if !warnings.is_empty() {
            annotations.insert(WARNING.to_owned(), warnings.join("; "));
        }
        pod.status = Some(status(phase::RUNNING, None));
        self.store(pod)
    }

    /// Notes that a pod's processes are gone.
    ///
    /// # Errors
    /// [`RecordError::Gone`], or when it can't be written.
    pub(super) fn ended(&mut self, name: &PodName, uid: &PodUid, ending: Ending) -> Result<Pod, RecordError> {
        let mut pod = self.same(name, uid)?;
        let phase = if ending.success { phase::SUCCEEDED } else { phase::FAILED };
        pod.status = Some(status(phase, Some(ending.why)));
        self.store(pod)
    }

    /// Removes the record: the last that happens to a pod.
    ///
    /// # Errors
    /// When the file can't be removed.
    pub(super) fn remove(&mut self, name: &PodName) -> Result<(), RecordError> {
        let path = self.path(&name.0);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_error(&path)(error)),
            _ => (),
        }
        self.pods.remove(&name.0);
        Ok(())
    }

    fn same(&self, name: &PodName, uid: &PodUid) -> Result<Pod, RecordError> {
        let pod = self.pods.get(&name.0).filter(|pod| pod.metadata.uid.as_ref() == Some(&uid.0));
        pod.cloned().ok_or(RecordError::Gone)
    }

    fn store(&mut self, mut pod: Pod) -> Result<Pod, RecordError> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        pod.metadata.resource_version = Some(self.next_version()?.to_string());
        let path = self.path(&name);
        let json = serde_json::to_vec(&pod).map_err(|error| file_error(&path)(error.into()))?;
        replace(&path, &json)?;
        self.pods.insert(name, pod.clone());
        Ok(pod)
    }

    fn next_version(&mut self) -> Result<u64, RecordError> {
        if self.version == self.version_reserved {
            let reserved = self.version_reserved + VERSION_BLOCK;
            replace(&self.version_file, reserved.to_string().as_bytes())?;
            self.version_reserved = reserved;
        }
        self.version += 1;
        Ok(self.version)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{RECORD_SUFFIX}"))
    }
}

/// How far the processes of a recorded pod are.
pub(super) fn phase_of(pod: &Pod) -> PodPhase {
    let status = pod.status.as_ref();
    match status.and_then(|status| status.phase.as_deref()) {
        Some(phase::RUNNING) => PodPhase::Running,
        Some(phase::SUCCEEDED | phase::FAILED) => {
            PodPhase::Ended { why: status.and_then(|status| status.message.clone()).unwrap_or_default() }
        }
        _ => PodPhase::Starting { waits_for: None },
    }
}

/// The first process of a recorded pod, once it was started.
pub(super) fn leader_of(pod: &Pod) -> Option<Leader> {
    serde_json::from_str(pod.metadata.annotations.as_ref()?.get(LEADER)?).ok()
}

fn status(phase: &str, message: Option<String>) -> PodStatus {
    PodStatus { phase: Some(phase.to_owned()), message, ..PodStatus::default() }
}

/// A name is a path component, a part of a cgroup's path, and never anything else.
fn check_name(name: &str) -> Result<(), RecordError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    if fits && name.bytes().all(plain) { Ok(()) } else { Err(RecordError::Name(name.to_owned())) }
}

/// `None` when the file is no record of the pod of that name.
fn read_record(path: &Path, name: &str) -> Result<Option<Pod>, RecordError> {
    let json = fs::read(path).map_err(file_error(path))?;
    let pod = serde_json::from_slice::<Pod>(&json).ok();
    Ok(pod.filter(|pod| pod.metadata.name.as_deref() == Some(name) && pod.metadata.uid.is_some()))
}

fn set_aside(path: &Path) -> Result<(), RecordError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(BROKEN_SUFFIX);
    tracing::error!(
        "{} is no record of a mount pod; it is kept as {} and the pod counts as lost",
        path.display(),
        Path::new(&aside).display()
    );
    fs::rename(path, &aside).map_err(file_error(path))
}

fn version_of(pod: &Pod) -> Option<u64> {
    pod.metadata.resource_version.as_ref()?.parse().ok()
}

/// `None` when the file is there, but says no number.
fn read_version(path: &Path) -> Result<Option<u64>, RecordError> {
    match fs::read(path) {
        Ok(text) => Ok(std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(0)),
        Err(error) => Err(file_error(path)(error)),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let mut new = path.as_os_str().to_owned();
    new.push(UNFINISHED_SUFFIX);
    fs::write(&new, bytes).and_then(|()| fs::rename(&new, path)).map_err(file_error(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the failure of the test")]

    use super::*;

    fn pod(name: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(name.to_owned());
        pod
    }

    #[test]
    fn a_broken_record_or_version_loses_one_pod_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let (pods, version) = (dir.path().join("pods"), dir.path().join("resource-version"));
        let mut records = Records::open(&pods, version.clone()).unwrap();
        let good = records.create(pod("good")).unwrap();
        records.create(pod("empty")).unwrap();
        fs::write(pods.join("empty.json"), "").unwrap();
        fs::copy(pods.join("good.json"), pods.join("other.json")).unwrap();
        fs::write(&version, "").unwrap();

        let mut again = Records::open(&pods, version).unwrap();
        assert_eq!(again.pods().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["good"]);
        assert!(pods.join("empty.json.broken").exists() && pods.join("other.json.broken").exists());
        let created = again.create(pod("empty")).unwrap();
        assert!(version_of(&created) > version_of(&good).map(|version| version + 1), "{created:?}");
    }
}
