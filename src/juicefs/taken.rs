//! Which paths has a mount pod, or the controller's container, already?
//!
//! What is mounted into one of them is mounted into the other at the same path, so that both can read what a Secret names.
//! The chart's schema refuses the same paths; a test compares them.

use std::path::Path;

use super::options::CACHE_IN_POD;
use crate::volume::meet;

/// Each with the rest of a sentence about it: nothing else is mounted at, above or below it.
pub(crate) const TAKEN: &[(&str, &str)] = &[
    ("/proc", "is the kernel's"),
    ("/sys", "is the kernel's"),
    ("/dev", "is the kernel's"),
    ("/run/mountpod", "is the agent's"),
    ("/run/secrets", "is the kubelet's"),
    ("/var/run", "is the kubelet's"),
    ("/var/lib/kubelet", "is the kubelet's"),
    ("/tmp", "is where the client keeps its open files"),
    (CACHE_IN_POD, "is the client's cache"),
    ("/mountpod", "must not exist: the client takes it for its mount point"),
    ("/csi", "is where the controller has its socket"),
    ("/state", "is where the controller keeps its records"),
    ("/clients", "is where the controller has its client"),
    ("/usr", "holds the image's programs"),
    ("/bin", "holds the image's programs"),
    ("/sbin", "holds the image's programs"),
    ("/lib", "holds the image's programs"),
    ("/lib64", "holds the image's programs"),
    (
        "/etc/ssl",
        "holds the authorities that the client trusts; for others choose another path, and name it in envs as SSL_CERT_FILE",
    ),
    ("/etc/hosts", "is the kubelet's"),
    ("/etc/hostname", "is the kubelet's"),
    ("/etc/resolv.conf", "is the kubelet's"),
];

/// What is in the way of a mount at this path, and why.
pub(crate) fn in_the_way(path: &Path) -> Option<(&'static str, &'static str)> {
    TAKEN.iter().copied().find(|(taken, _)| meet(path, Path::new(taken)))
}

/// Is it one of them, or inside of one?
#[cfg(test)]
pub(crate) fn is_taken(path: &str) -> bool {
    TAKEN.iter().any(|(taken, _)| Path::new(path).starts_with(taken))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    const IMAGES: [&str; 2] =
        [include_str!("../../mount-image/files"), include_str!("../../deploy/images/driver/files")];
    const CONTROLLER: &str = include_str!("../../deploy/charts/mountpod/templates/controller.yaml");

    #[test]
    fn the_files_of_both_images_are_taken() {
        for image in IMAGES {
            let lines = image.lines().filter(|line| !line.starts_with('#') && !line.contains(" - "));
            let files: Vec<_> = lines.filter_map(|line| line.split_whitespace().last()).collect();
            let free: Vec<_> = files.iter().filter(|file| !is_taken(file)).collect();
            assert!(free.is_empty() && files[0].starts_with('/'), "{free:?} of {files:?}");
        }
    }

    #[test]
    fn what_the_chart_mounts_into_the_controller_is_taken() {
        let paths = CONTROLLER.lines().filter_map(|line| line.trim().strip_prefix("mountPath: "));
        let fixed: Vec<_> = paths.filter(|path| path.starts_with('/')).collect();
        let free: Vec<_> = fixed.iter().filter(|path| !is_taken(path)).collect();
        assert!(free.is_empty() && fixed.contains(&"/state"), "{free:?} of {fixed:?}");
    }
}
