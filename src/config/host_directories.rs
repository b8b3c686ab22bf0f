//! Which directories of their node may JuiceFS mount pods use?
//!
//! The administrator lists them, because they relax Pod Security. Volumes may use exact members of the list: the kubelet
//! would make a directory below as root, and follow links that somebody laid in one.

use std::collections::BTreeSet;
use std::path::Path;

use super::field::{InvalidField, entry, quoted};
use crate::juicefs::configs::KEY as CONFIGS;
use crate::juicefs::secret::JuicefsSecret;
use crate::juicefs::taken::TAKEN;
use crate::volume::{HostDirectory, PodShape, meet};

/// Where a node has what is no client's business: refused as a whole, beside what is taken in the pods.
const OF_THE_NODE: &[&str] = &["/etc", "/run"];
/// What a person has to do about a directory that is not in the list.
const REMEDY: &str = "the administrator allows directories by the chart's value mountPods.hostDirectories";

/// What mount pods may use of their machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostDirectories {
    /// They are processes of this machine, and see its directories as they are. None can be asked for.
    OfTheMachine,
    /// Pods of a cluster, into which these may be mounted, at the same path.
    Listed(Vec<HostDirectory>),
}

impl Default for HostDirectories {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// A directory of the node that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedDirectory {
    /// The field that names it, for errors.
    pub field: String,
    /// The directory.
    pub directory: HostDirectory,
}

/// Why a list can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidList {
    /// A program, or the kubelet, needs the place for itself.
    #[error(
        "--host-directory {directory} can't be given to mount pods: {place} is needed for something else"
    )]
    Taken {
        /// The directory.
        directory: HostDirectory,
        /// What it would cover, or lies in.
        place: String,
    },
    /// One is in the other: who may use one would get both.
    #[error("--host-directory {inner} is {outer}, or lies in it; name only one of them")]
    Nested {
        /// The one inside.
        inner: HostDirectory,
        /// The other.
        outer: HostDirectory,
    },
}

impl HostDirectories {
    /// Takes the administrator's list, of a cluster whose kubelets have this directory.
    ///
    /// # Errors
    /// See [`InvalidList`].
    pub fn listed(directories: &[HostDirectory], kubelet_dir: &Path) -> Result<Self, InvalidList> {
        for (index, directory) in directories.iter().enumerate() {
            let path = directory.as_path();
            if let Some(place) = taken(kubelet_dir).find(|place| meet(place, path)) {
                let (directory, place) = (directory.clone(), place.display().to_string());
                return Err(InvalidList::Taken { directory, place });
            }
            for other in &directories[..index] {
                for (inner, outer) in [(directory, other), (other, directory)] {
                    if outer.holds(inner.as_path()) {
                        return Err(InvalidList::Nested { inner: inner.clone(), outer: outer.clone() });
                    }
                }
            }
        }
        Ok(Self::Listed(directories.to_vec()))
    }

    /// May all of these be used?
    ///
    /// # Errors
    /// [`InvalidField`] of the first that may not.
    pub fn check(&self, asked: &[AskedDirectory]) -> Result<(), InvalidField> {
        let refused = |asked: &&AskedDirectory| match self {
            Self::OfTheMachine => true,
            Self::Listed(directories) => !directories.contains(&asked.directory),
        };
        asked.iter().find(refused).map_or(Ok(()), |asked| {
            let name = quoted(asked.directory.as_str());
            let why = format!("names the node's directory {name}, which {}", self.why_not());
            Err(InvalidField::new(&asked.field, why))
        })
    }

    /// What a client of this filesystem needs of its mount pod, beside `pod`: the files that its Secret names, and the
    /// directories that hold its metadata engine's and its object storage's files.
    ///
    /// # Errors
    /// [`InvalidField`] with the key of a file that is in none of them, or of files that would be mounted in one. It repeats
    /// nothing of the Secret but names and paths of `configs`.
    pub fn pod_of(&self, secret: &JuicefsSecret, mut pod: PodShape) -> Result<PodShape, InvalidField> {
        pod.host_directories.extend(self.of_filesystem(secret)?);
        pod.files.clone_from(&secret.files);
        Ok(pod)
    }

    fn of_filesystem(&self, secret: &JuicefsSecret) -> Result<BTreeSet<HostDirectory>, InvalidField> {
        let Self::Listed(directories) = self else { return Ok(BTreeSet::new()) };
        for files in &secret.files {
            let meets = |directory: &&HostDirectory| files.path.meets(directory.as_path());
            if let Some(directory) = directories.iter().find(meets) {
                // The container runtime would make the mount point in the node's own directory.
                let why = format!(
                    "puts {} at {}, but {directory} is a directory of the node",
                    files.secret, files.path
                );
                return Err(InvalidField::new(entry("secrets", CONFIGS), why));
            }
        }
        let holding = |(key, path): (&str, &Path)| {
            let found = directories.iter().find(|directory| directory.holds(path)).cloned();
            found.ok_or_else(|| {
                let why = format!("names a file of the node in a place that {}", self.why_not());
                InvalidField::new(entry("secrets", key), why)
            })
        };
        secret.places().map(holding).collect()
    }

    /// The rest of a sentence about a directory.
    fn why_not(&self) -> String {
        match self {
            Self::OfTheMachine => {
                "can't be asked for without Kubernetes; say cacheMedium \"disk\" for a cache".to_owned()
            }
            Self::Listed(directories) if directories.is_empty() => {
                format!("mount pods may not use: they may use none; {REMEDY}")
            }
            Self::Listed(directories) => {
                let names: Vec<_> = directories.iter().map(HostDirectory::as_str).collect();
                format!("mount pods may not use: they may use {}; {REMEDY}", names.join(", "))
            }
        }
    }
}

/// The places that no list can have, of a cluster whose kubelets have this directory.
pub(super) fn taken(kubelet_dir: &Path) -> impl Iterator<Item = &Path> {
    let in_pods = TAKEN.iter().map(|(path, _)| *path);
    OF_THE_NODE.iter().copied().chain(in_pods).map(|path| -> &Path { Path::new(path) }).chain([kubelet_dir])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::volume::Secrets;

    fn listed(paths: &[&str]) -> Result<HostDirectories, InvalidList> {
        let directories: Vec<_> = paths.iter().map(|path| path.parse().unwrap()).collect();
        HostDirectories::listed(&directories, Path::new("/data/kubelet"))
    }

    #[test]
    fn a_list_takes_no_place_that_is_needed_and_names_nothing_twice() {
        assert!(listed(&["/var/lib/jfs", "/var/lib/jfs-cache", "/mnt/nvme0"]).is_ok());
        for path in
            ["/proc/1", "/etc", "/run/x", "/cache", "/tmp/a", "/var", "/usr/bin", "/data", "/data/kubelet/x"]
        {
            let refused = listed(&["/srv", path]).unwrap_err();
            assert!(matches!(refused, InvalidList::Taken { .. }), "{path}");
            assert!(refused.to_string().contains(path), "{refused}");
        }
        for twice in [["/srv/a", "/srv/a"], ["/srv/a", "/srv/a/b"], ["/srv/a/b", "/srv/a"]] {
            assert!(matches!(listed(&twice).unwrap_err(), InvalidList::Nested { .. }), "{twice:?}");
        }
    }

    #[test]
    fn exact_members_may_be_asked_for_and_nothing_else() {
        let asked = |path: &str| {
            [AskedDirectory { field: "parameters[\"x\"]".to_owned(), directory: path.parse().unwrap() }]
        };
        let two = listed(&["/srv/a", "/srv/b"]).unwrap();
        assert_eq!(two.check(&asked("/srv/b")), Ok(()));
        for path in ["/srv", "/srv/a/b", "/srv/c"] {
            let refused = two.check(&asked(path)).unwrap_err().to_string();
            assert!(refused.starts_with("parameters[\"x\"] names the node's directory"), "{refused}");
            assert!(refused.contains("/srv/a, /srv/b; ") && refused.contains("mountPods.hostDirectories"));
        }
        let none = HostDirectories::default().check(&asked("/srv/a")).unwrap_err().to_string();
        assert!(none.contains("they may use none; "), "{none}");
        let machine = HostDirectories::OfTheMachine.check(&asked("/srv/a")).unwrap_err().to_string();
        assert!(machine.contains("without Kubernetes"), "{machine}");
    }

    fn secret(metaurl: &str, storage: &str, bucket: &str) -> JuicefsSecret {
        let entries = [("name", "files"), ("metaurl", metaurl), ("storage", storage), ("bucket", bucket)];
        let entries: Secrets =
            entries.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        JuicefsSecret::read(&entries).unwrap()
    }

    #[test]
    fn files_of_a_filesystem_name_their_directories_by_themselves() {
        let two = listed(&["/srv/a", "/srv/b"]).unwrap();
        let of =
            |secret| two.of_filesystem(&secret).map(|found| found.iter().map(ToString::to_string).collect());
        let names = |names: &[&str]| Ok(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let sqlite = "sqlite3:///srv/a/meta.db?cache=shared";
        assert_eq!(of(secret(sqlite, "file", "/srv/b/objects/")), names(&["/srv/a", "/srv/b"]));
        assert_eq!(of(secret(sqlite, "file", "/srv/a/objects")), names(&["/srv/a"]));
        assert_eq!(of(secret("redis://h/1", "s3", "https://h/b")), names(&[]));
        for (metaurl, bucket, key) in [
            ("sqlite3:///srv/meta.db", "/srv/a", "metaurl"),
            ("sqlite3://meta.db", "/srv/a", "metaurl"),
            ("sqlite3:///srv/a/../../etc/x", "/srv/a", "metaurl"),
            (sqlite, "/srv/objects", "bucket"),
            (sqlite, "objects", "bucket"),
        ] {
            let refused = two.of_filesystem(&secret(metaurl, "file", bucket)).unwrap_err();
            assert_eq!(refused.field, format!("secrets[\"{key}\"]"), "{metaurl} {bucket}");
            assert!(refused.why.contains("/srv/a, /srv/b") && !refused.why.contains("meta.db"), "{refused}");
        }
        assert_eq!(of(secret(sqlite, "FILE", "/srv/b/objects/")), names(&["/srv/a", "/srv/b"]));
        let machine = HostDirectories::OfTheMachine;
        assert_eq!(machine.of_filesystem(&secret("sqlite3://meta.db", "file", "/x")), Ok(BTreeSet::new()));
    }

    #[test]
    fn no_file_of_another_secret_is_mounted_in_a_directory_of_the_node() {
        let two = listed(&["/srv/a", "/srv/b"]).unwrap();
        for (path, is_free) in [("/srv/b", false), ("/srv/a/x", false), ("/srv", false), ("/srv/c", true)] {
            let configs = format!(r#"{{"tls": "{path}"}}"#);
            let entries = [("metaurl", "redis://h/1"), ("configs", configs.as_str())];
            let entries: Secrets =
                entries.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            let answer = two.of_filesystem(&JuicefsSecret::read(&entries).unwrap());
            assert_eq!(answer.is_ok(), is_free, "{path}");
            assert!(answer.err().is_none_or(|refused| refused.field == "secrets[\"configs\"]"), "{path}");
        }
    }
}
