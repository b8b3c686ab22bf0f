//! Which gRPC code does an error get?
//!
//! The only file that names codes. Who reads them: external-provisioner and external-snapshotter take CANCELLED,
//! DEADLINE_EXCEEDED, UNAVAILABLE, RESOURCE_EXHAUSTED and ABORTED for "may still be running" and call again before they
//! do anything else; kubelet takes the same codes for "may have been mounted", and any other for "nothing is left".

use std::time::Duration;

use tonic::{Code, Status};

use super::inflight::Busy;
use crate::config::capacity::UnsupportedRange;
use crate::config::field::InvalidField;
use crate::mountpod::plan::Refusal;
use crate::mountpod::service::{MountError, RefusedBy};
use crate::provision::{
    ChangeError, CopyError, CreateSnapshotError, CreateVolumeError, DeleteError, FilesystemError, FindError,
    Full, StoreError,
};
use crate::volume::{ClientFault, TargetPath, VolumeId};

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum RpcError {
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    #[error(transparent)]
    Range(#[from] UnsupportedRange),
    #[error(transparent)]
    Busy(#[from] Busy),
    #[error("{field}: there is no such {thing} as {id}")]
    NotFound { field: &'static str, thing: &'static str, id: String },
    #[error("volume {id} is published at {target} on this node; unpublish it first")]
    Published { id: VolumeId, target: TargetPath },
    #[error("starting_token {token} is none that this driver gave out; begin again without one")]
    Token { token: String },
    #[error("accessibility_requirements: {why}")]
    Topology { why: String },
    #[error("{what}; {remedy}")]
    Prerequisite { what: &'static str, remedy: &'static str },
    #[error("the driver can't work: {why}")]
    NotHealthy { why: String },
    #[error("{method} is not offered by this driver")]
    NotOffered { method: &'static str },
    #[error("not done within {} s; it goes on, ask again", limit.as_secs())]
    Deadline { limit: Duration },
    #[error("the call was given up, because of a mistake in this driver; see its log")]
    Panicked,
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    CreateVolume(#[from] CreateVolumeError),
    #[error(transparent)]
    CreateSnapshot(#[from] CreateSnapshotError),
    #[error(transparent)]
    Delete(#[from] DeleteError),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(transparent)]
    Find(#[from] FindError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RpcError {
    pub(super) fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::Range(_) => Code::OutOfRange,
            // CSI spec, "ListVolumes Errors": ABORTED is also the code of a bad token.
            Self::Busy(_) | Self::Token { .. } => Code::Aborted,
            Self::NotFound { .. } => Code::NotFound,
            Self::Published { .. } | Self::NotHealthy { .. } | Self::Prerequisite { .. } => {
                Code::FailedPrecondition
            }
            Self::Topology { .. } => Code::ResourceExhausted,
            Self::NotOffered { .. } => Code::Unimplemented,
            Self::Deadline { .. } => Code::DeadlineExceeded,
            Self::Panicked => Code::Internal,
            Self::Mount(error) => mount(error),
            Self::CreateVolume(error) => create_volume(error),
            Self::CreateSnapshot(error) => create_snapshot(error),
            Self::Delete(error) => delete(error),
            Self::Change(error) => change(error),
            Self::Find(error) => find(error),
            Self::Store(error) => store(error),
        }
    }

    /// Does it say that the driver or the machine failed, rather than that the call can't be taken now or ever?
    pub(super) fn is_failure(&self) -> bool {
        self.code() == Code::Internal
    }

    /// The error and all that caused it, in one line: the last words of a client are several, and a sidecar's log has no
    /// place for more than one.
    pub(super) fn chain(&self) -> String {
        let told = crate::telemetry::chain(self);
        let lines: Vec<_> = told.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines.join(" | ")
    }
}

/// Does a caller read of this status that another call for the same still goes on?
pub(crate) fn tells_of_another_call(status: &Status) -> bool {
    status.code() == Code::Aborted
}

impl From<&RpcError> for Status {
    fn from(error: &RpcError) -> Self {
        Self::new(error.code(), error.chain())
    }
}

fn mount(error: &MountError) -> Code {
    match error {
        MountError::Refused(Refusal::InUse { .. }) | MountError::NoFiles(_) => Code::FailedPrecondition,
        MountError::Refused(Refusal::BoundOtherwise { .. }) => Code::AlreadyExists,
        MountError::Target { .. } => Code::InvalidArgument,
        MountError::NoSuchVolume { .. }
        | MountError::NoSuchDirectory { .. }
        | MountError::NotMounted { .. } => Code::NotFound,
        MountError::TimedOut { .. } => Code::DeadlineExceeded,
        MountError::ClientFailed { fault, .. } => client(*fault),
        MountError::PodRefused { by: RefusedBy::Quota, .. } => Code::ResourceExhausted,
        // The engine has taken everything back by then, so kubelet need not call unpublish.
        MountError::Refused(Refusal::PodFails { .. } | Refusal::PodStuck { .. })
        | MountError::PodRefused { .. }
        | MountError::Failed { .. } => Code::Internal,
    }
}

/// Nothing is left of such a publish. `UNAVAILABLE` makes kubelet call unpublish before it tries again, which finds nothing.
fn client(fault: ClientFault) -> Code {
    match fault {
        ClientFault::Option => Code::InvalidArgument,
        ClientFault::Credentials => Code::Unauthenticated,
        ClientFault::Filesystem => Code::FailedPrecondition,
        ClientFault::Unreachable => Code::Unavailable,
        ClientFault::Unknown => Code::Internal,
    }
}

fn create_volume(error: &CreateVolumeError) -> Code {
    match error {
        CreateVolumeError::Exists { .. }
        | CreateVolumeError::Foreign { .. }
        | CreateVolumeError::PathTaken { .. } => Code::AlreadyExists,
        CreateVolumeError::NoSuchFilesystem(_) | CreateVolumeError::Field(_) => Code::InvalidArgument,
        CreateVolumeError::ClusterSilent { .. } => Code::Unavailable,
        CreateVolumeError::NoSuchSource(_) => Code::NotFound,
        CreateVolumeError::Range(_) => Code::OutOfRange,
        CreateVolumeError::Copy(error) => copy(error),
        CreateVolumeError::Filesystem(error) => filesystem(error),
        CreateVolumeError::Store(error) => store(error),
    }
}

fn create_snapshot(error: &CreateSnapshotError) -> Code {
    match error {
        CreateSnapshotError::Exists { .. } => Code::AlreadyExists,
        CreateSnapshotError::NoSuchVolume(_) => Code::NotFound,
        CreateSnapshotError::Copy { source, .. } => copy(source),
        CreateSnapshotError::Filesystem(error) => filesystem(error),
        CreateSnapshotError::Store(error) => store(error),
    }
}

fn copy(error: &CopyError) -> Code {
    match error {
        CopyError::MountInside { .. } => Code::FailedPrecondition,
        // Nothing goes on any more, so none of the "may still be running" codes.
        CopyError::Stopped => Code::Internal,
        CopyError::Store(error) => store(error),
    }
}

fn delete(error: &DeleteError) -> Code {
    match error {
        DeleteError::MountInside { .. } => Code::FailedPrecondition,
        DeleteError::Stopped => Code::Unavailable,
        DeleteError::Filesystem(error) => filesystem(error),
        DeleteError::Store(error) => store(error),
    }
}

fn change(error: &ChangeError) -> Code {
    match error {
        ChangeError::NoSuchVolume(_) => Code::NotFound,
        ChangeError::Range(_) => Code::OutOfRange,
        ChangeError::Unchangeable(_) => Code::InvalidArgument,
        ChangeError::Filesystem(error) => filesystem(error),
        ChangeError::Store(error) => store(error),
    }
}

fn find(error: &FindError) -> Code {
    match error {
        FindError::NoSuchVolume(_) | FindError::NoSuchSnapshot(_) => Code::NotFound,
        FindError::Filesystem(error) => filesystem(error),
        FindError::Store(error) => store(error),
    }
}

fn filesystem(error: &FilesystemError) -> Code {
    match error {
        FilesystemError::NoSecrets { .. } | FilesystemError::NoClient => Code::FailedPrecondition,
        FilesystemError::Secret(_) => Code::InvalidArgument,
        FilesystemError::Client { trouble, .. } => client(trouble.fault()),
        FilesystemError::Mount { source, .. } => match &**source {
            MountError::ClientFailed { fault, .. } => client(*fault),
            MountError::PodRefused { by: RefusedBy::Quota, .. } => Code::ResourceExhausted,
            MountError::NoFiles(_) => Code::FailedPrecondition,
            // The engine goes on with it.
            MountError::TimedOut { .. } => Code::Unavailable,
            _ => Code::Internal,
        },
        // What was begun goes on as soon as the filesystem answers.
        FilesystemError::Silent { .. }
        | FilesystemError::LeftBehind { .. }
        | FilesystemError::OutOfReach { .. }
        | FilesystemError::StillWaiting(_)
        | FilesystemError::Stopping => Code::Unavailable,
        FilesystemError::Store(error) => store(error),
    }
}

fn store(error: &StoreError) -> Code {
    match error.full() {
        // CSI gives a full disk this code, although callers take it for "may still be running".
        Full::Yes => Code::ResourceExhausted,
        Full::No => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io;
    use std::sync::Arc;

    use super::*;

    fn code(error: impl Into<RpcError>) -> Code {
        error.into().code()
    }

    fn full() -> StoreError {
        StoreError::new("writing", io::Error::from(io::ErrorKind::StorageFull))
    }

    fn broken() -> StoreError {
        StoreError::new("writing", io::Error::from_raw_os_error(5))
    }

    #[test]
    fn a_full_disk_is_told_apart_wherever_it_happens() {
        let id: VolumeId = "main#a".parse().unwrap();
        assert_eq!(code(full()), Code::ResourceExhausted);
        assert_eq!(code(CreateVolumeError::Copy(CopyError::Store(full()))), Code::ResourceExhausted);
        assert_eq!(code(CreateVolumeError::Store(full())), Code::ResourceExhausted);
        assert_eq!(code(CreateSnapshotError::Copy { id, source: full().into() }), Code::ResourceExhausted);
        for error in
            [code(broken()), code(CreateVolumeError::Store(broken())), code(DeleteError::Store(broken()))]
        {
            assert_eq!(error, Code::Internal);
        }
    }

    #[test]
    fn a_creation_that_has_ended_never_looks_as_if_it_went_on() {
        let ended = [
            CreateVolumeError::Copy(CopyError::Stopped),
            CreateVolumeError::Store(broken()),
            CreateVolumeError::NoSuchSource(crate::provision::Source::Volume("main#a".parse().unwrap())),
        ];
        for error in ended {
            let code = code(error);
            let may_run = [Code::Cancelled, Code::DeadlineExceeded, Code::Unavailable, Code::Aborted];
            assert!(!may_run.contains(&code), "{code:?}");
        }
    }

    #[test]
    fn a_second_target_and_another_readonly_have_the_codes_of_the_csi_table() {
        let other: TargetPath = "/t".parse().unwrap();
        let in_use = Refusal::InUse { other: other.clone() };
        assert_eq!(code(MountError::from(in_use)), Code::FailedPrecondition);
        let writability = crate::volume::Writability::ReadOnly;
        let otherwise = Refusal::BoundOtherwise { target: other, writability };
        assert_eq!(code(MountError::from(otherwise)), Code::AlreadyExists);
    }

    #[test]
    fn a_secret_that_is_missing_is_named_with_the_key_and_the_namespace() {
        use crate::mountpod::service::NoFiles;

        let missing = || NoFiles::Missing { secret: "tls".parse().unwrap(), namespace: "volumes".to_owned() };
        let told = MountError::NoFiles(missing()).to_string();
        let wanted = "secrets[\"configs\"]: there is no Secret tls in namespace volumes";
        assert!(told.starts_with(wanted), "{told}");
        for why in [missing(), NoFiles::NoCluster] {
            let filesystem = "fs".parse().unwrap();
            let source = Arc::new(MountError::NoFiles(why.clone()));
            assert_eq!(code(MountError::NoFiles(why)), Code::FailedPrecondition);
            let mount = RpcError::CreateVolume(FilesystemError::Mount { filesystem, source }.into());
            assert_eq!(mount.code(), Code::FailedPrecondition);
        }
    }

    #[test]
    fn what_a_client_complains_of_has_a_code_of_its_own() {
        let failed = |fault| code(MountError::ClientFailed { why: "its last words".to_owned(), fault });
        assert_eq!(failed(ClientFault::Option), Code::InvalidArgument);
        assert_eq!(failed(ClientFault::Credentials), Code::Unauthenticated);
        assert_eq!(failed(ClientFault::Filesystem), Code::FailedPrecondition);
        assert_eq!(failed(ClientFault::Unreachable), Code::Unavailable);
        assert_eq!(failed(ClientFault::Unknown), Code::Internal);
    }

    #[test]
    fn a_filesystem_that_can_not_be_worked_in_says_whose_turn_it_is() {
        use crate::juicefs::words::Trouble;
        use crate::provision::SecretsOf;

        let of_client = |trouble| FilesystemError::Client {
            doing: "setting the quota".to_owned(),
            trouble,
            words: "its last words".to_owned(),
        };
        let mount =
            |source| FilesystemError::Mount { filesystem: "fs".parse().unwrap(), source: Arc::new(source) };
        let failed = MountError::ClientFailed { why: String::new(), fault: ClientFault::Credentials };
        let late = MountError::TimedOut { what: String::new(), limit_s: 1.0, state: String::new() };
        let silent = FilesystemError::Silent { doing: String::new(), limit: Duration::ZERO };
        let cases = [
            (FilesystemError::NoSecrets { wanted: SecretsOf::Provisioner }, Code::FailedPrecondition),
            (of_client(Trouble::Unreachable), Code::Unavailable),
            (of_client(Trouble::Unknown), Code::Internal),
            (mount(failed), Code::Unauthenticated),
            (mount(late), Code::Unavailable),
            (silent, Code::Unavailable),
            (
                FilesystemError::OutOfReach { filesystem: "fs".parse().unwrap(), source: broken() },
                Code::Unavailable,
            ),
            (full().into(), Code::ResourceExhausted),
        ];
        for (error, want) in cases {
            let text = error.to_string();
            assert_eq!(code(CreateVolumeError::from(error)), want, "{text}");
        }
    }

    #[test]
    fn a_parameter_is_wrong_only_when_the_cluster_has_answered() {
        let (field, why) = ("parameters[\"pathPattern\"]", "needs labels");
        assert_eq!(code(CreateVolumeError::Field(InvalidField::new(field, why))), Code::InvalidArgument);
        let silent = CreateVolumeError::ClusterSilent { field: field.to_owned(), why: why.to_owned() };
        assert_eq!(silent.to_string(), "parameters[\"pathPattern\"] needs labels");
        assert_eq!(code(silent), Code::Unavailable);
    }

    #[test]
    fn a_message_tells_the_whole_chain_once() {
        let error = RpcError::from(CreateVolumeError::Copy(CopyError::Store(broken())));
        let message = Status::from(&error).message().to_owned();
        assert_eq!(
            message,
            "the volume could not be filled from its source: writing failed: Input/output error (os error 5)"
        );
    }
}
