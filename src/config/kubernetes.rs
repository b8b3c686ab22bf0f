//! What do the flags of `mountpod node` and `mountpod controller` say?

use std::fmt;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::flags::{DEFAULT_DRIVER_NAME, DriverName, Endpoint, HostdirRoot, NodeId, absolute_dir};
use crate::volume::HostDirectory;

/// The name of the node engine: label of its mount pods, and directory below the driver's own.
pub const NODE_OWNER: &str = "node";
/// The name of the controller's engine: label of its mount pods.
pub const CONTROLLER_OWNER: &str = "controller";
/// Bytes of a namespace's name (Kubernetes: a DNS label, RFC 1123).
const NAMESPACE_BYTES_MAX: usize = 63;

/// Flags that say how this node's volumes are served.
#[derive(Debug, Clone, clap::Args)]
pub struct NodeOptions {
    /// Unix socket to serve CSI on, for example
    /// unix:///var/lib/kubelet/plugins/csi.mountpod.dev/node/csi.sock.
    #[arg(long, env = "CSI_ENDPOINT", value_name = "unix:///PATH")]
    pub endpoint: Endpoint,

    /// Name of this node's Node object.
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node_name: NodeId,

    /// What the mount pods are.
    #[command(flatten)]
    pub mount_pods: MountPodOptions,

    /// What the controller is told, too.
    #[command(flatten)]
    pub common: CommonOptions,

    /// How many volumes may be used on this node at once; 0 sets no limit.
    #[arg(long, default_value_t = 0, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub max_volumes_per_node: u32,
}

/// Flags that say how volumes are provided for the whole cluster.
#[derive(Debug, Clone, clap::Args)]
pub struct ControllerOptions {
    /// Unix socket to serve CSI on, shared with the CSI sidecars, for example unix:///csi/csi.sock.
    #[arg(long, env = "CSI_ENDPOINT", value_name = "unix:///PATH")]
    pub endpoint: Endpoint,

    /// Name of the node that this program runs on: volumes in a root that is not shared belong to it.
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node_name: NodeId,

    /// What the nodes are told, too.
    #[command(flatten)]
    pub common: CommonOptions,

    /// What JuiceFS volumes need.
    #[command(flatten)]
    pub juicefs: Offered<JuicefsOptions>,
}

/// Flags that make the controller provide JuiceFS volumes, for which it mounts filesystems itself.
#[derive(Debug, Clone, clap::Args)]
pub struct JuicefsOptions {
    /// The JuiceFS client's program; without it no JuiceFS volume can be made. It needs --mount-image and --state-dir.
    #[arg(long, value_name = "FILE", value_parser = absolute_dir)]
    pub juicefs_program: PathBuf,

    /// Directory for what the controller must remember while it runs; what an earlier controller left there is removed.
    #[arg(long, value_name = "DIR", value_parser = absolute_dir)]
    pub state_dir: PathBuf,

    /// What the controller's own mount pods are.
    #[command(flatten)]
    pub mount_pods: MountPodOptions,
}

/// Flags of something that is offered when the first of them is given, and then wants others as well.
#[derive(Debug, Clone)]
pub struct Offered<T>(pub Option<T>);

/// The flag that says whether JuiceFS volumes are offered, and those that it wants.
const JUICEFS_OFFERED: &str = "juicefs_program";
const JUICEFS_WANTS: [&str; 2] = ["state_dir", "mount_image"];

impl Args for Offered<JuicefsOptions> {
    fn augment_args(command: Command) -> Command {
        let command = JuicefsOptions::augment_args(command);
        let command = JUICEFS_WANTS.iter().fold(command, |command, flag| {
            command.mut_arg(flag, |flag| flag.required(false).requires(JUICEFS_OFFERED))
        });
        command.mut_arg(JUICEFS_OFFERED, |flag| flag.required(false).requires_all(JUICEFS_WANTS))
    }

    fn augment_args_for_update(command: Command) -> Command {
        JuicefsOptions::augment_args_for_update(command)
    }
}

impl FromArgMatches for Offered<JuicefsOptions> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let offered = matches.contains_id(JUICEFS_OFFERED);
        offered.then(|| JuicefsOptions::from_arg_matches(matches)).transpose().map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Flags that say where mount pods live and what they are, for every program with mount pods of its own.
#[derive(Debug, Clone, clap::Args)]
pub struct MountPodOptions {
    /// The kubelet's directory, at the path that it has on the node.
    ///
    /// A node driver sees all of it, with bidirectional mount propagation, and keeps its sessions in plugins/DRIVER/node.
    /// A controller sees its directory `pods`, with mount propagation from the host.
    #[arg(long, default_value = "/var/lib/kubelet", value_name = "DIR", value_parser = absolute_dir)]
    pub kubelet_dir: PathBuf,

    /// Namespace of the mount pods and of nothing else.
    #[arg(long, env = "MOUNT_POD_NAMESPACE", default_value = "mountpod-volumes", value_name = "NAME")]
    pub namespace: Namespace,

    /// Image of the mount pods: the agent and its clients.
    #[arg(long, env = "MOUNT_IMAGE", value_name = "IMAGE", value_parser = not_blank)]
    pub mount_image: String,

    /// When the kubelet pulls that image; by default as Kubernetes decides from its tag.
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub image_pull_policy: Option<String>,

    /// Secret in the mount pods' namespace to pull that image with. Repeatable.
    #[arg(long = "image-pull-secret", value_name = "NAME", value_parser = not_blank)]
    pub image_pull_secrets: Vec<String>,

    /// PriorityClass of the mount pods. With another one than the default, workloads can displace them.
    #[arg(long, default_value = "system-node-critical", value_name = "NAME", value_parser = not_blank)]
    pub priority_class: String,

    /// Port of the mount pods on which clients that have metrics (JuiceFS) tell them at /metrics, with the label `volume`;
    /// without it nobody can ask for them.
    #[arg(long, value_name = "PORT")]
    pub metrics_port: Option<NonZeroU16>,

    /// Directory of the nodes that JuiceFS mount pods may use, for caches and for filesystems in files. Repeatable.
    ///
    /// The program sees it at the same path, and gives one that is empty and root's own to the mount pods' user. The
    /// namespace of the mount pods must allow hostPath volumes (Pod Security `privileged`).
    #[arg(long = "host-directory", value_name = "DIR")]
    pub host_directories: Vec<HostDirectory>,
}

/// Flags that node and controller must be given alike.
#[derive(Debug, Clone, clap::Args)]
pub struct CommonOptions {
    /// Name of the driver, as workloads and storage classes refer to it.
    #[arg(long, default_value = DEFAULT_DRIVER_NAME, value_name = "NAME")]
    pub driver_name: DriverName,

    /// Directory of the nodes in which volumes may be made, and the name that requests use for it. Repeatable; without
    /// it no volume of hostdir can be made.
    ///
    /// A volume becomes a subdirectory of DIR. Requests choose a root by its NAME (parameter `root`), never by a
    /// path; the first one given serves those that name none. Add ",shared" when the same files are reachable on
    /// every node (NFS and the like); otherwise a volume belongs to the controller's node alone.
    #[arg(long = "hostdir-root", value_name = "NAME=DIR[,shared]")]
    pub hostdir_roots: Vec<HostdirRoot>,
}

impl NodeOptions {
    /// Everything that the driver must remember about this node: `<kubelet>/plugins/<driver>/node`.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.mount_pods.kubelet_dir.join("plugins").join(self.common.driver_name.as_str()).join(NODE_OWNER)
    }
}

/// A namespace's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(String);

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a flag's value can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No name of a namespace.
    #[error(
        "must be 1 to {NAMESPACE_BYTES_MAX} lower-case letters, digits or '-', and begin and end with a letter or digit"
    )]
    Namespace,
    /// Nothing was given.
    #[error("must not be empty or have blanks in it")]
    Blank,
}

impl FromStr for Namespace {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = name.as_bytes();
        let ends_well = |byte: Option<&u8>| byte.is_some_and(|byte| plain(*byte));
        let fits = bytes.len() <= NAMESPACE_BYTES_MAX && ends_well(bytes.first()) && ends_well(bytes.last());
        if fits && bytes.iter().all(|byte| plain(*byte) || *byte == b'-') {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidName::Namespace)
        }
    }
}

fn not_blank(text: &str) -> Result<String, InvalidName> {
    if text.is_empty() || text.contains(char::is_whitespace) {
        Err(InvalidName::Blank)
    } else {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::path::Path;

    use super::*;

    const LEAST: [&str; 7] =
        ["node", "--endpoint", "unix:///csi.sock", "--node-name", "n1", "--mount-image", "mount:1"];

    fn node(more: &[&str]) -> Result<NodeOptions, clap::Error> {
        let command = NodeOptions::augment_args(Command::new("node"));
        let matches = command.try_get_matches_from([&LEAST[..], more].concat())?;
        NodeOptions::from_arg_matches(&matches)
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let options = node(&[]).unwrap();
        assert_eq!(options.state_dir(), Path::new("/var/lib/kubelet/plugins/csi.mountpod.dev/node"));
        assert_eq!(options.mount_pods.namespace.to_string(), "mountpod-volumes");
        assert_eq!(options.mount_pods.priority_class, "system-node-critical");
        assert!(options.common.hostdir_roots.is_empty());
    }

    #[test]
    fn bad_values_are_refused_by_the_flags_name() {
        let cases = [
            ("--namespace", "Upper"),
            ("--namespace", "-a"),
            ("--mount-image", ""),
            ("--mount-image", "a b"),
            ("--image-pull-policy", "Sometimes"),
            ("--kubelet-dir", "relative"),
            ("--hostdir-root", "a"),
            ("--priority-class", ""),
            ("--host-directory", "/a/../b"),
        ];
        for (flag, value) in cases {
            let error = node(&[&format!("{flag}={value}")]).unwrap_err();
            assert!(error.to_string().contains(flag), "{flag} {value}: {error}");
        }
    }

    fn controller(more: &[&str]) -> Result<ControllerOptions, clap::Error> {
        const LEAST: [&str; 5] = ["controller", "--endpoint", "unix:///csi.sock", "--node-name", "n1"];
        let command = ControllerOptions::augment_args(Command::new("controller"));
        let matches = command.try_get_matches_from([&LEAST[..], more].concat())?;
        ControllerOptions::from_arg_matches(&matches)
    }

    #[test]
    fn juicefs_is_offered_with_its_program_and_all_that_it_wants() {
        assert!(controller(&[]).unwrap().juicefs.0.is_none());
        let program = ["--juicefs-program", "/clients/juicefs"];
        let wanted = ["--state-dir", "/state", "--mount-image", "mount:1"];
        let juicefs = controller(&[&program[..], &wanted].concat()).unwrap().juicefs.0.unwrap();
        assert_eq!(juicefs.juicefs_program, Path::new("/clients/juicefs"));
        assert_eq!(juicefs.mount_pods.mount_image, "mount:1");
        assert_eq!(juicefs.mount_pods.kubelet_dir, Path::new("/var/lib/kubelet"));
        for (given, missing) in [
            (&program[..], "--state-dir"),
            (&["--juicefs-program", "/juicefs", "--state-dir", "/state"], "--mount-image"),
            (&wanted[..2], "--juicefs-program"),
        ] {
            let error = controller(given).unwrap_err().to_string();
            assert!(error.contains(missing), "{given:?}: {error}");
        }
    }
}
