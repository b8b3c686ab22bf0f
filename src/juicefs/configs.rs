//! Which other Secrets does the key `configs` of a JuiceFS Secret show the client, and where?
//!
//! As in the JuiceFS CSI driver it is an object of names and paths. The Secrets are those of the mount pods' namespace; who
//! may write a filesystem's Secret may have them mounted, so the names of the driver's own are refused.

use std::collections::BTreeMap;
use std::path::Path;

use super::secret::InvalidSecret;
use super::taken::in_the_way;
use crate::volume::{PathInPod, SecretFiles};

/// The key.
pub(crate) const KEY: &str = "configs";
/// Each is a volume of the mount pod.
const SECRETS_MAX: usize = 16;

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
    match in_the_way(path.as_path()) {
        None => Ok(path),
        Some((taken, why)) => Err(invalid(format!("puts {name} at {path}, but {taken} {why}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

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
    fn no_path_covers_what_the_pod_or_the_controller_has() {
        for path in [
            "/",
            "/etc",
            "/run",
            "/var",
            "/proc",
            "/proc/1",
            "/dev/shm",
            "/tmp",
            "/tmp/a",
            "/cache",
            "/usr/bin",
            "/state",
            "/clients/a",
            "/csi",
            "/var/lib",
        ] {
            let why = why(&format!(r#"{{"a": {path:?}}}"#));
            assert!(why.starts_with(&format!("puts a at {path}, but /")), "{why}");
        }
        assert!(why(r#"{"a": "/etc/ssl/certs"}"#).contains("SSL_CERT_FILE"));
        assert!(why(r#"{"a": "/state/tls"}"#).ends_with("/state is where the controller keeps its records"));
        for path in ["/var/tls", "/run/tls", "/etc/tls", "/var/lib/tls", "/csi-tls"] {
            assert!(read(&format!(r#"{{"a": {path:?}}}"#)).is_ok(), "{path}");
        }
        for path in ["", "etc", "/a/../proc", "/a/", "/a:b"] {
            let why = why(&format!(r#"{{"a": {path:?}}}"#));
            assert!(why.contains("must be an absolute path"), "{why}");
        }
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
