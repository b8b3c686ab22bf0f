//! Which targets belong to workloads that are gone?
//!
//! The kubelet (pkg/volume/csi) publishes at `<kubelet-dir>/pods/<uid>/volumes/kubernetes.io~csi/<volume>/mount`. It
//! makes the directory `<volume>` before it calls NodePublishVolume, and removes it only after NodeUnpublishVolume has
//! succeeded, or when it sweeps a pod away: without that directory nobody will call unpublish.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use crate::volume::TargetPath;

/// The directory of all pods, in the kubelet's.
const PODS_DIR: &str = "pods";
/// The directory of a pod's volumes of CSI drivers, in the pod's.
const CSI_VOLUMES_DIR: [&str; 2] = ["volumes", "kubernetes.io~csi"];
/// The target, in the volume's directory.
const TARGET_NAME: &str = "mount";
/// Where the kubelet binds what a container's `subPath` names, in the pod's directory
/// (pkg/volume/util/subpath): `volume-subpaths/<volume>/<container>/<number>`.
const SUBPATHS_DIR: &str = "volume-subpaths";

/// Those of the targets whose workload is gone. Looks at directories of the kubelet's own, never at a volume.
pub(super) fn gone(kubelet_dir: &Path, targets: &BTreeSet<TargetPath>) -> BTreeSet<TargetPath> {
    // Another directory than the kubelet's, or one that is not mounted here, tells nothing of its pods.
    if !kubelet_dir.join(PODS_DIR).is_dir() {
        return BTreeSet::new();
    }
    targets.iter().filter(|target| is_gone(kubelet_dir, target)).cloned().collect()
}

fn is_gone(kubelet_dir: &Path, target: &TargetPath) -> bool {
    volume_dir(kubelet_dir, target.as_path()).is_some_and(|directory| {
        directory.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound)
    })
}

/// The kubelet's directory of the volume that it publishes at this target; `None` for other targets.
fn volume_dir(kubelet_dir: &Path, target: &Path) -> Option<PathBuf> {
    let (_uid, below) = in_pod(kubelet_dir, target)?;
    match *below.as_slice() {
        [volumes, csi, _volume, name] => {
            let is_target = [volumes, csi] == CSI_VOLUMES_DIR.map(OsStr::new) && name == TARGET_NAME;
            is_target.then(|| target.parent().map(Path::to_owned))?
        }
        _ => None,
    }
}

/// Did the kubelet bind that for a container's `subPath`? It takes it away by itself, before it calls unpublish.
pub(super) fn is_subpath(kubelet_dir: &Path, mount_point: &Path) -> bool {
    in_pod(kubelet_dir, mount_point)
        .is_some_and(|(_uid, below)| below.first().is_some_and(|first| *first == SUBPATHS_DIR))
}

/// A path in a pod's directory: the pod's uid, and the rest.
fn in_pod<'a>(kubelet_dir: &Path, path: &'a Path) -> Option<(&'a OsStr, Vec<&'a OsStr>)> {
    let mut names = path.strip_prefix(kubelet_dir).ok()?.components().map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    names.next().flatten().filter(|first| *first == PODS_DIR)?;
    let uid = names.next().flatten()?;
    Some((uid, names.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    const KUBELET: &str = "/var/lib/kubelet";

    fn found(target: &str) -> Option<PathBuf> {
        volume_dir(Path::new(KUBELET), Path::new(target))
    }

    #[test]
    fn only_a_target_of_the_kubelet_has_a_volume_directory() {
        let pod = format!("{KUBELET}/pods/6f2a");
        assert_eq!(
            found(&format!("{pod}/volumes/kubernetes.io~csi/pvc-1/mount")),
            Some(PathBuf::from(format!("{pod}/volumes/kubernetes.io~csi/pvc-1")))
        );
        for other in [
            format!("{pod}/volumes/kubernetes.io~csi/pvc-1"),
            format!("{pod}/volumes/kubernetes.io~csi/pvc-1/mount/mount"),
            format!("{pod}/volumes/kubernetes.io~csi/pvc-1/other"),
            format!("{pod}/volumes/kubernetes.io~nfs/pvc-1/mount"),
            format!("{pod}/volume-subpaths/pvc-1/c/0"),
            format!("{KUBELET}/plugins/6f2a/volumes/kubernetes.io~csi/pvc-1/mount"),
            format!("{KUBELET}2/pods/6f2a/volumes/kubernetes.io~csi/pvc-1/mount"),
            "/mnt/data".to_owned(),
        ] {
            assert_eq!(found(&other), None, "{other}");
        }
    }

    #[test]
    fn a_subpath_is_told_from_a_target() {
        let is_subpath = |path: &str| is_subpath(Path::new(KUBELET), Path::new(path));
        assert!(is_subpath("/var/lib/kubelet/pods/6f2a/volume-subpaths/pvc-1/main/0"));
        assert!(!is_subpath("/var/lib/kubelet/pods/6f2a/volumes/kubernetes.io~csi/pvc-1/mount"));
        assert!(!is_subpath("/srv/pods/6f2a/volume-subpaths/pvc-1/main/0"));
    }

    #[test]
    fn a_workload_is_gone_with_the_directory_of_its_volume() {
        let kubelet = tempfile::tempdir().unwrap();
        let directory =
            |uid: &str| kubelet.path().join(format!("pods/{uid}/volumes/kubernetes.io~csi/pvc-1"));
        let target =
            |uid: &str| directory(uid).join("mount").to_str().unwrap().parse::<TargetPath>().unwrap();
        let targets: BTreeSet<_> = [target("alive"), target("swept"), "/mnt/other".parse().unwrap()].into();
        assert!(gone(kubelet.path(), &targets).is_empty(), "without any pods the directory tells nothing");
        std::fs::create_dir_all(directory("alive")).unwrap();
        assert_eq!(gone(kubelet.path(), &targets), [target("swept")].into());
    }
}
