//! Which pods live on without a record at the API server?
//!
//! After `kubectl delete --force` the containers run for their whole grace period, and their clients serve. The kubelet
//! removes a pod's volumes after its processes are gone: while the directory of the agent's socket is there, so may
//! they be. Files of the driver's own name these directories, so that a driver that was away finds ghosts as well.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use super::manifest::{AGENT_SOCKET, AGENT_VOLUME};
use crate::mountpod::facts::PodUid;

/// The extension of a pod's file.
const RECORD: &str = "json";
/// That of a file that is being written.
const DRAFT: &str = "draft";

/// Where the kubelet keeps pods, and where this driver keeps what it must know of them.
#[derive(Debug, Clone)]
pub(super) struct Places {
    kubelet_dir: PathBuf,
    records: PathBuf,
}

impl Places {
    /// Makes the directory of the records.
    pub(super) fn create(kubelet_dir: PathBuf, state_dir: &Path) -> io::Result<Self> {
        let records = state_dir.join("pods");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&records)?;
        Ok(Self { kubelet_dir, records })
    }

    /// The kubelet's directory of the volume with the agent's socket.
    pub(super) fn agent_dir(&self, uid: &PodUid) -> PathBuf {
        let pod = self.kubelet_dir.join("pods").join(&uid.0);
        pod.join("volumes/kubernetes.io~empty-dir").join(AGENT_VOLUME)
    }

    pub(super) fn agent_socket(&self, uid: &PodUid) -> PathBuf {
        self.agent_dir(uid).join(AGENT_SOCKET)
    }

    /// May processes of the pod live? Only a directory that is surely gone says that they don't.
    pub(super) fn may_live(&self, uid: &PodUid) -> bool {
        !matches!(self.agent_dir(uid).symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
    }

    /// Writes down that there is such a pod.
    pub(super) fn write(&self, uid: &PodUid, pod: &Pod) -> io::Result<()> {
        let path = self.record(uid);
        let draft = path.with_extension(DRAFT);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec(pod)?)?;
        file.sync_all()?;
        fs::rename(draft, path)
    }

    /// Forgets a pod.
    pub(super) fn forget(&self, uid: &PodUid) -> io::Result<()> {
        match fs::remove_file(self.record(uid)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// All pods that an earlier driver has written down. What it was writing when it was killed goes; a record that can't
    /// be read is left out.
    pub(super) fn written(&self) -> io::Result<Vec<Pod>> {
        let mut pods = Vec::new();
        for entry in fs::read_dir(&self.records)? {
            let path = entry?.path();
            match path.extension().and_then(OsStr::to_str) {
                Some(RECORD) => {}
                Some(DRAFT) => {
                    fs::remove_file(&path)?;
                    continue;
                }
                _ => continue,
            }
            match fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)) {
                Ok(pod) => pods.push(pod),
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "the record of a mount pod is left out");
                }
            }
        }
        Ok(pods)
    }

    fn record(&self, uid: &PodUid) -> PathBuf {
        self.records.join(format!("{}.{RECORD}", uid.0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_pod_is_written_down_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::create(dir.path().join("kubelet"), dir.path()).unwrap();
        let uid = PodUid("u-1".to_owned());
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid.0.clone());
        places.write(&uid, &pod).unwrap();
        fs::write(dir.path().join("pods/u-2.json"), "{\"metada").unwrap();
        fs::write(dir.path().join("pods/u-3.draft"), "{\"meta").unwrap();
        assert_eq!(places.written().unwrap(), [pod]);
        assert!(!dir.path().join("pods/u-3.draft").exists(), "nobody will finish it");
        places.forget(&uid).unwrap();
        places.forget(&uid).unwrap();
        assert!(places.written().unwrap().is_empty());
    }

    #[test]
    fn a_pod_may_live_while_its_directory_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::create(dir.path().to_owned(), dir.path()).unwrap();
        let uid = PodUid("u-1".to_owned());
        assert!(!places.may_live(&uid));
        fs::create_dir_all(dir.path().join("pods/u-1/volumes/kubernetes.io~empty-dir/agent")).unwrap();
        assert!(places.may_live(&uid));
        assert!(places.agent_socket(&uid).ends_with("kubernetes.io~empty-dir/agent/agent.sock"));
    }
}
