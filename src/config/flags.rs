//! What do the flags of `mountpod standalone` say?

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::volume::{FilesystemName, InvalidId};

/// Bytes of a Unix socket's address less its terminating NUL (unix(7), `sun_path`).
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The driver's name, unless the administrator gives it another one.
pub(super) const DEFAULT_DRIVER_NAME: &str = "csi.mountpod.dev";
/// The name of the root that is served when no `--hostdir-root` is given.
pub const DEFAULT_ROOT: &str = "data";

/// Flags that say what a standalone driver serves, and where.
#[derive(Debug, Clone, clap::Args)]
pub struct StandaloneOptions {
    /// Unix socket to serve CSI on, for example unix:///run/mountpod/csi.sock.
    ///
    /// Its directory must exist. Only the user that starts the driver may connect (mode 0600). A socket that a dead
    /// driver left behind is replaced; if a driver still answers on it, this one refuses to start.
    #[arg(long, env = "CSI_ENDPOINT", value_name = "unix:///PATH")]
    pub endpoint: Endpoint,

    /// Directory for everything the driver must remember: sessions, mount pods, its key. Created if it is missing.
    ///
    /// Keep it on a local disk and give each driver its own. Mounted volumes survive a restart of the driver only if
    /// the new one finds this directory as the old one left it.
    #[arg(long, value_name = "DIR", value_parser = absolute_dir)]
    pub state_dir: PathBuf,

    /// Directory of this machine in which volumes may be made, and the name that requests use for it. Repeatable.
    ///
    /// A volume becomes a subdirectory of DIR. Requests choose a root by its NAME (parameter `root`), never by a
    /// path; the first one given serves those that name none. Add ",shared" when the same files are reachable on
    /// every node (NFS and the like); otherwise a volume belongs to this node alone. Without this flag the driver
    /// serves one root named "data", the directory `data` in --state-dir.
    #[arg(long = "hostdir-root", value_name = "NAME=DIR[,shared]")]
    pub hostdir_roots: Vec<HostdirRoot>,

    /// The JuiceFS client of this machine, for volumes of JuiceFS. Without it such volumes are refused.
    ///
    /// Any Community client of version 1.4 will do; it is run unmodified. Mount pods in a cluster have one in their image.
    #[arg(long, value_name = "PATH", value_parser = absolute_dir)]
    pub juicefs_program: Option<PathBuf>,

    /// Name of the driver, as workloads and storage classes refer to it.
    #[arg(long, default_value = DEFAULT_DRIVER_NAME, value_name = "NAME")]
    pub driver_name: DriverName,

    /// Name of this node, unique in the cluster; by default the host name.
    #[arg(long, value_name = "ID")]
    pub node_id: Option<NodeId>,

    /// How many volumes may be used on this node at once; 0 sets no limit.
    ///
    /// The scheduler of the caller holds this limit; the driver only tells it.
    #[arg(long, default_value_t = 0, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub max_volumes_per_node: u32,
}

impl StandaloneOptions {
    /// The roots to serve: those that were given, else the default one in the state directory.
    ///
    /// # Errors
    /// Never in practice: the default root's name is a valid one.
    pub fn roots(&self) -> Result<Vec<HostdirRoot>, InvalidId> {
        if !self.hostdir_roots.is_empty() {
            return Ok(self.hostdir_roots.clone());
        }
        let name = DEFAULT_ROOT.parse()?;
        let dir = self.state_dir.join(DEFAULT_ROOT);
        Ok(vec![HostdirRoot { name, dir, reach: Reach::NodeLocal, missing: MissingRoot::Create }])
    }
}

/// Why a flag's value can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFlag {
    /// Not an endpoint of ours.
    #[error("must be unix:///ABSOLUTE/PATH (or unix:/ABSOLUTE/PATH), without '..' or '//' in the path")]
    Endpoint,
    /// The kernel takes no longer address.
    #[error("the socket's path is {0} bytes long, at most {SOCKET_PATH_BYTES_MAX} are possible")]
    EndpointTooLong(usize),
    /// Not a directory's path.
    #[error("must be an absolute path without '..' in it")]
    Path,
    /// The root does not have the form.
    #[error("must be NAME=DIR or NAME=DIR,shared")]
    RootForm,
    /// The root's name can't be used.
    #[error("the root's name {0}")]
    RootName(InvalidId),
    /// The root's directory can't be used.
    #[error("the root's directory must be an absolute path without '..' and commas, and not '/'")]
    RootDir,
    /// Not a driver name (CSI spec, `GetPluginInfoResponse.name`).
    #[error("must be 2 to 63 letters, digits, '-', '_' or '.', and begin and end with a letter or digit")]
    DriverName,
    /// Not a node name (CSI spec, `Topology`: a segment's value).
    #[error("must be 1 to 63 letters, digits, '-', '_' or '.', and begin and end with a letter or digit")]
    NodeId,
}

/// A Unix socket to serve on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(PathBuf);

impl Endpoint {
    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for Endpoint {
    type Err = InvalidFlag;

    fn from_str(text: &str) -> Result<Self, InvalidFlag> {
        let rest = text.strip_prefix("unix:").ok_or(InvalidFlag::Endpoint)?;
        let path = rest.strip_prefix("//").unwrap_or(rest);
        let plain =
            path.starts_with('/') && !path.contains("//") && !path.ends_with('/') && !path.contains('\0');
        if !plain || !is_absolute_plain(Path::new(path)) {
            return Err(InvalidFlag::Endpoint);
        }
        if path.len() > SOCKET_PATH_BYTES_MAX {
            return Err(InvalidFlag::EndpointTooLong(path.len()));
        }
        Ok(Self(PathBuf::from(path)))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

/// On which nodes are the files of a root?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// On this one.
    NodeLocal,
    /// On every one.
    Shared,
}

/// What to do about a root whose directory is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingRoot {
    /// An administrator named it: perhaps its disk is not mounted yet, so nothing must be made in its place.
    Refuse,
    /// It is the embedded default, the driver's own.
    Create,
}

/// A directory of the node that an administrator gave a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostdirRoot {
    /// What requests call it.
    pub name: FilesystemName,
    /// Where it is.
    pub dir: PathBuf,
    /// Where its files can be reached.
    pub reach: Reach,
    /// What to do when it is not there.
    pub missing: MissingRoot,
}

impl FromStr for HostdirRoot {
    type Err = InvalidFlag;

    fn from_str(text: &str) -> Result<Self, InvalidFlag> {
        let (name, rest) = text.split_once('=').ok_or(InvalidFlag::RootForm)?;
        let (dir, reach) = match rest.split_once(',') {
            None => (rest, Reach::NodeLocal),
            Some((dir, "shared")) => (dir, Reach::Shared),
            Some(_) => return Err(InvalidFlag::RootForm),
        };
        let name = name.parse().map_err(InvalidFlag::RootName)?;
        let dir = PathBuf::from(dir);
        if dir == Path::new("/") || !is_absolute_plain(&dir) {
            return Err(InvalidFlag::RootDir);
        }
        Ok(Self { name, dir, reach, missing: MissingRoot::Refuse })
    }
}

/// The driver's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverName(String);

impl DriverName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DriverName {
    type Err = InvalidFlag;

    fn from_str(name: &str) -> Result<Self, InvalidFlag> {
        if name.len() >= 2 && is_label(name) {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidFlag::DriverName)
        }
    }
}

impl fmt::Display for DriverName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeId(String);

impl NodeId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = InvalidFlag;

    fn from_str(name: &str) -> Result<Self, InvalidFlag> {
        if is_label(name) { Ok(Self(name.to_owned())) } else { Err(InvalidFlag::NodeId) }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 1 to 63 plain characters, with a letter or digit at both ends.
pub(super) fn is_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    text.len() <= 63
        && bytes.iter().copied().all(plain)
        && ends_well(bytes.first())
        && ends_well(bytes.last())
}

pub(super) fn absolute_dir(text: &str) -> Result<PathBuf, InvalidFlag> {
    let dir = PathBuf::from(text);
    if is_absolute_plain(&dir) { Ok(dir) } else { Err(InvalidFlag::Path) }
}

fn is_absolute_plain(path: &Path) -> bool {
    path.is_absolute() && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use clap::{Args, FromArgMatches};

    use super::*;

    fn options(args: &[&str]) -> Result<StandaloneOptions, clap::Error> {
        let command = StandaloneOptions::augment_args(clap::Command::new("standalone"));
        let matches = command.try_get_matches_from([&["standalone"], args].concat())?;
        StandaloneOptions::from_arg_matches(&matches)
    }

    const LEAST: [&str; 4] = ["--endpoint", "unix:///run/csi.sock", "--state-dir", "/var/lib/mountpod"];

    #[test]
    fn without_roots_the_state_directory_holds_the_default_one() {
        let roots = options(&LEAST).unwrap().roots().unwrap();
        assert_eq!(roots.len(), 1);
        assert_eq!(roots[0].dir, Path::new("/var/lib/mountpod/data"));
        assert_eq!((roots[0].reach, roots[0].missing), (Reach::NodeLocal, MissingRoot::Create));
    }

    #[test]
    fn roots_are_served_as_given() {
        let given = ["--hostdir-root", "a=/srv/a", "--hostdir-root", "b=/srv/b,shared"];
        let roots = options(&[&LEAST[..], &given[..]].concat()).unwrap().roots().unwrap();
        assert_eq!(roots.iter().map(|root| root.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            roots.iter().map(|root| root.reach).collect::<Vec<_>>(),
            [Reach::NodeLocal, Reach::Shared]
        );
        assert!(roots.iter().all(|root| root.missing == MissingRoot::Refuse));
    }

    #[test]
    fn values_are_refused_while_they_are_parsed() {
        let cases: [&[&str]; 9] = [
            &["--endpoint", "tcp://0.0.0.0:1", "--state-dir", "/s"],
            &["--endpoint", "unix://relative", "--state-dir", "/s"],
            &["--endpoint", "unix:///a", "--state-dir", "s"],
            &["--endpoint", "unix:///a", "--state-dir", "/s", "--hostdir-root", "a"],
            &["--endpoint", "unix:///a", "--state-dir", "/s", "--hostdir-root", "a=b"],
            &["--endpoint", "unix:///a", "--state-dir", "/s", "--driver-name", "-"],
            &["--endpoint", "unix:///a", "--state-dir", "/s", "--node-id", "a/b"],
            &["--endpoint", "unix:///a", "--state-dir", "/s", "--max-volumes-per-node", "-1"],
            &["--state-dir", "/s"],
        ];
        for args in cases {
            assert!(options(args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn endpoints_have_two_spellings() {
        let long = format!("unix:///{}", "x".repeat(SOCKET_PATH_BYTES_MAX));
        for good in ["unix:///run/csi.sock", "unix:/run/csi.sock"] {
            assert_eq!(good.parse::<Endpoint>().unwrap().path(), Path::new("/run/csi.sock"));
        }
        for bad in
            ["/run/csi.sock", "unix:run", "unix:///a/../b", "unix:////a", "unix:///", "unix:///a/", &long]
        {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn roots_have_a_name_and_a_plain_directory() {
        for bad in
            ["a=/", "a=/x,private", "=/x", "../a=/x", "a=/x/../y", "a=", "a=/x,shared,shared", "a b=/x"]
        {
            assert!(bad.parse::<HostdirRoot>().is_err(), "{bad}");
        }
    }
}
