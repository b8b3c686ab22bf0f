//! Which other Secrets does the key `configs` of a JuiceFS Secret show the client, and where?
//!
//! As in the JuiceFS CSI driver it is an object of names and paths. The Secrets are those of the mount pods' namespace; who
//! may write a filesystem's Secret may have them mounted, so the names of the driver's own are refused.

use std::collections::BTreeMap;
use std::path::Path;

use super::options::CACHE_IN_POD;
use super::secret::InvalidSecret;
use crate::volume::{PathInPod, SecretFiles};

/// The key.
pub(crate) const KEY: &str = "configs";
/// Each is a volume of the mount pod.
const SECRETS_MAX: usize = 16;
/// What a mount pod has without them: nothing is mounted at, above or below these.
const TAKEN: &[(&str, &str)] = &[
    ("/proc", "is the kernel's"),
    ("/sys", "is the kernel's"),
    ("/dev", "is the kernel's"),
    ("/run/mountpod", "is the agent's"),
    ("/run/secrets", "is the kubelet's"),
    ("/var/run", "is the kubelet's"),
    ("/tmp", "is where the client keeps its open files"),
    (CACHE_IN_POD, "is the client's cache"),
    ("/mountpod", "must not exist: the client takes it for its mount point"),
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

fn invalid(why: impl Into<String>) -> InvalidSecret {
    InvalidSecret { key: KEY.to_owned(), why: why.into() }
}

/// Reads the value of the key.
///
/// # Errors
/// The first Secret or path that can't be used. Names and paths are no secrets, and are told.
pub(super) fn read(json: &str) -> Result<Vec<SecretFiles>, InvalidSecret> {
    let said: BTreeMap<String, String> = serde_json::from_str(json).map_err(|_| {
        invalid("must be a JSON object of names of Secrets and paths, like {\"gcs-key\": \"/etc/gcs\"}")
    })?;
    if said.len() > SECRETS_MAX {
        return Err(invalid(format!("names {} Secrets; at most {SECRETS_MAX} are mounted", said.len())));
    }
    let mut all: Vec<SecretFiles> = Vec::new();
    for (name, path) in said {
        let secret = name.parse().map_err(|why| invalid(format!("names {name:?}, which {why}")))?;
        let path = free_path(&name, &path)?;
        if let Some(other) = all.iter().find(|other| other.path.meets(Path::new(path.as_str()))) {
            let (other, its) = (&other.secret, &other.path);
            return Err(invalid(format!("puts {name} at {path}, where {other} at {its} is in the way")));
        }
        all.push(SecretFiles { secret, path });
    }
    Ok(all)
}

fn free_path(name: &str, path: &str) -> Result<PathInPod, InvalidSecret> {
    let said = path;
    let path: PathInPod =
        path.parse().map_err(|why| invalid(format!("has the path {said:?} for {name}, which {why}")))?;
    match TAKEN.iter().find(|(taken, _)| path.meets(Path::new(taken))) {
        None => Ok(path),
        Some((taken, why)) => Err(invalid(format!("puts {name} at {path}, but {taken} {why}"))),
    }
}

/// Is that path of a mount pod one at which nothing else is mounted?
#[cfg(test)]
pub(crate) fn is_taken(path: &str) -> bool {
    TAKEN.iter().any(|(taken, _)| Path::new(path).starts_with(taken))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// What the image holds.
    const IMAGE: &str = include_str!("../../mount-image/files");

    fn why(json: &str) -> String {
        let refused = read(json).unwrap_err();
        assert_eq!(refused.key, KEY);
        refused.why
    }

    #[test]
    fn secrets_are_read_with_their_paths() {
        let read = read(r#"{"gcs-key": "/root/.config/gcloud", "ceph": "/etc/ceph", "a.b": "/etc/cephx"}"#);
        let read: Vec<_> =
            read.unwrap().iter().map(|one| (one.secret.to_string(), one.path.to_string())).collect();
        let pair = |name: &str, path: &str| (name.to_owned(), path.to_owned());
        let wanted =
            [pair("a.b", "/etc/cephx"), pair("ceph", "/etc/ceph"), pair("gcs-key", "/root/.config/gcloud")];
        assert_eq!(read, wanted);
        assert_eq!(super::read("{}").unwrap(), []);
    }

    #[test]
    fn what_is_no_object_of_names_and_paths_is_refused_without_being_told() {
        for json in ["hunter2", "{gcs-key: /hunter2}", r#"["hunter2"]"#, r#"{"a": 1}"#, r#"{"a": null}"#] {
            let why = why(json);
            assert!(why.starts_with("must be a JSON object") && !why.contains("hunter2"), "{why}");
        }
    }

    #[test]
    fn no_name_reads_the_credentials_of_a_volume() {
        assert!(why(r#"{"mount-abc-1": "/a"}"#).contains("the driver's own"));
        assert!(why(r#"{"other/secret": "/a"}"#).contains("no name of a Secret"));
        assert!(why(r#"{"": "/a"}"#).contains("no name of a Secret"));
    }

    #[test]
    fn no_path_covers_what_the_pod_has() {
        for path in [
            "/", "/etc", "/run", "/var", "/proc", "/proc/1", "/dev/shm", "/tmp", "/tmp/a", "/cache",
            "/usr/bin",
        ] {
            let why = why(&format!(r#"{{"a": {path:?}}}"#));
            assert!(why.starts_with(&format!("puts a at {path}, but /")), "{why}");
        }
        assert!(why(r#"{"a": "/etc/ssl/certs"}"#).contains("SSL_CERT_FILE"));
        for path in ["", "etc", "/a/../proc", "/a/", "/a:b"] {
            let why = why(&format!(r#"{{"a": {path:?}}}"#));
            assert!(why.contains("must be an absolute path"), "{why}");
        }
        let lines = IMAGE.lines().filter(|line| !line.starts_with('#'));
        let files =
            lines.filter(|line| !line.contains(" - ")).filter_map(|line| line.split_whitespace().last());
        let free: Vec<_> = files.filter(|file| !is_taken(file)).collect();
        assert!(free.is_empty() && IMAGE.contains("/usr/bin/juicefs"), "files of the image: {free:?}");
    }

    #[test]
    fn no_two_paths_cover_each_other() {
        for json in
            [r#"{"a": "/x", "b": "/x"}"#, r#"{"a": "/x/y", "b": "/x"}"#, r#"{"a": "/x", "b": "/x/y/z"}"#]
        {
            assert!(why(json).contains("where a at /x"), "{json}");
        }
        let many: BTreeMap<_, _> =
            (0..=SECRETS_MAX).map(|number| (format!("s{number}"), format!("/s{number}"))).collect();
        assert!(why(&serde_json::to_string(&many).unwrap()).contains("names 17 Secrets"));
    }
}
