//! How is a snapshot taken, deleted, listed and found?

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::api::v1;
use super::super::inflight::{Claim, Thing};
use super::super::status::RpcError;
use super::super::{request as check, topology};
use super::Desk;
use super::listing::token;
use super::volumes::told_bytes;
use crate::config::parameters;
use crate::mountpod::service::PublishedTargets;
use crate::provision::{FindError, NewSnapshot, Page, Provisioner, Snapshot, Window};
use crate::volume::{Secrets, SnapshotId, VolumeId};

impl<P: Provisioner, W: PublishedTargets> Desk<P, W> {
    pub(super) async fn create_snapshot(
        self: Arc<Self>,
        request: v1::CreateSnapshotRequest,
    ) -> Result<v1::CreateSnapshotResponse, RpcError> {
        let csi_name = check::required_text("name", &request.name)?.to_owned();
        let source = check::volume_id("source_volume_id", &request.source_volume_id)?;
        parameters::snapshot_parameters("parameters", &request.parameters)?;
        let required_nodes = topology::required_nodes(request.accessibility_requirements.as_ref())?;
        let secrets = check::secrets(request.secrets)?;

        let none = || check::not_found("source_volume_id", "volume", &request.source_volume_id);
        let source: VolumeId = source.ok_or_else(none)?;
        let filesystem = self.provisioner.filesystem(Some(source.filesystem())).ok_or_else(none)?;
        topology::satisfied(required_nodes.as_deref(), filesystem.reach, &self.node)
            .map_err(|why| RpcError::Topology { why })?;
        let id = SnapshotId::for_csi_name(filesystem.name, &csi_name);
        let _guard = self.edge.claim(vec![
            Claim::Alone(Thing::SnapshotName(csi_name.clone())),
            Claim::Alone(Thing::Snapshot(id)),
            Claim::Shared(Thing::Volume(source.clone())),
        ])?;
        let snapshot = self.provisioner.create_snapshot(NewSnapshot { csi_name, source }, &secrets).await?;
        Ok(v1::CreateSnapshotResponse { snapshot: Some(told(&snapshot)) })
    }

    pub(super) async fn delete_snapshot(
        self: Arc<Self>,
        request: v1::DeleteSnapshotRequest,
    ) -> Result<v1::DeleteSnapshotResponse, RpcError> {
        let id = check::snapshot_id("snapshot_id", &request.snapshot_id)?;
        let secrets = check::secrets(request.secrets)?;
        // CSI spec, "DeleteSnapshot": what does not exist is deleted.
        let Some(id) = id else { return Ok(v1::DeleteSnapshotResponse {}) };
        let _guard = self.edge.claim(vec![Claim::Alone(Thing::Snapshot(id.clone()))])?;
        self.provisioner.delete_snapshot(&id, &secrets).await?;
        Ok(v1::DeleteSnapshotResponse {})
    }

    pub(super) async fn get_snapshot(
        self: Arc<Self>,
        request: v1::GetSnapshotRequest,
    ) -> Result<v1::GetSnapshotResponse, RpcError> {
        let id = check::snapshot_id("snapshot_id", &request.snapshot_id)?;
        let secrets = check::secrets(request.secrets)?;
        let id = id.ok_or_else(|| check::not_found("snapshot_id", "snapshot", &request.snapshot_id))?;
        let snapshot = self.provisioner.snapshot(&id, &secrets).await?;
        Ok(v1::GetSnapshotResponse { snapshot: Some(told(&snapshot)) })
    }

    pub(super) async fn list_snapshots(
        self: Arc<Self>,
        request: v1::ListSnapshotsRequest,
    ) -> Result<v1::ListSnapshotsResponse, RpcError> {
        let entries_max = check::entries_max(request.max_entries)?;
        let after = check::after(&request.starting_token)?;
        let wanted_id = optional(&request.snapshot_id, |id| check::snapshot_id("snapshot_id", id))?;
        let source = optional(&request.source_volume_id, |id| check::volume_id("source_volume_id", id))?;
        let secrets = check::secrets(request.secrets)?;
        let page = match (wanted_id, source) {
            // An id that can't be ours filters everything away.
            (Filter::Nothing, _) | (_, Filter::Nothing) => Page { items: Vec::new(), next_after: None },
            (Filter::One(id), source) => self.only(&id, &source, after.as_ref(), &secrets).await?,
            (Filter::All, source) => {
                let source = if let Filter::One(source) = source { Some(source) } else { None };
                self.provisioner.snapshots(source, Window { after, entries_max }, &secrets).await?
            }
        };
        let entry =
            |snapshot: &Snapshot| v1::list_snapshots_response::Entry { snapshot: Some(told(snapshot)) };
        Ok(v1::ListSnapshotsResponse {
            entries: page.items.iter().map(entry).collect(),
            next_token: token(page.next_after),
        })
    }

    async fn only(
        &self,
        id: &SnapshotId,
        source: &Filter<VolumeId>,
        after: Option<&SnapshotId>,
        secrets: &Secrets,
    ) -> Result<Page<Snapshot, SnapshotId>, RpcError> {
        let found = match self.provisioner.snapshot(id, secrets).await {
            Ok(snapshot) => Some(snapshot),
            Err(FindError::NoSuchSnapshot(_) | FindError::NoSuchVolume(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let passes = |snapshot: &Snapshot| {
            let of_source = !matches!(source, Filter::One(source) if *source != snapshot.source);
            of_source && after.is_none_or(|after| snapshot.id > *after)
        };
        Ok(Page { items: found.into_iter().filter(passes).collect(), next_after: None })
    }
}

/// What an optional id in a list request lets through.
enum Filter<I> {
    All,
    One(I),
    Nothing,
}

fn optional<I, E>(text: &str, read: impl FnOnce(&str) -> Result<Option<I>, E>) -> Result<Filter<I>, E> {
    if text.is_empty() {
        return Ok(Filter::All);
    }
    Ok(read(text)?.map_or(Filter::Nothing, Filter::One))
}

/// A snapshot as CSI tells it. It names no topology: callers compare it with the volume's, which they know.
fn told(snapshot: &Snapshot) -> v1::Snapshot {
    v1::Snapshot {
        size_bytes: told_bytes(snapshot.size_bytes),
        snapshot_id: snapshot.id.to_string(),
        source_volume_id: snapshot.source.to_string(),
        creation_time: Some(timestamp(snapshot.created)),
        ready_to_use: true,
        group_snapshot_id: String::new(),
        accessible_topology: Vec::new(),
    }
}

fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    prost_types::Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
    }
}
