//! Which volumes and snapshots are there, page by page?

use super::super::files::record;
use super::super::{Lifetime, Page, Snapshot, StoreError, Volume, Window};
use super::record::VolumeRecord;
use super::root::OpenRoot;
use super::{Roots, snapshots, volumes};
use crate::volume::{FilesystemName, InvalidId, SnapshotId, VolumeId};

/// The volumes that are ready.
pub(super) fn volumes(
    roots: &Roots,
    window: &Window<VolumeId>,
) -> Result<Page<Volume, VolumeId>, StoreError> {
    let ids = ids(roots, |root| record::names(&root.volumes), VolumeId::new)?;
    page(roots, ids, window, VolumeId::filesystem, |root, id| {
        let listed = |record: &VolumeRecord| record.lifetime == Lifetime::Persistent;
        Ok(volumes::ready_record(root, id)?.filter(listed).map(|record| volumes::volume(id, record)))
    })
}

/// The snapshots, those of one volume when it is named.
pub(super) fn snapshots(
    roots: &Roots,
    source: Option<&VolumeId>,
    window: &Window<SnapshotId>,
) -> Result<Page<Snapshot, SnapshotId>, StoreError> {
    let ids = ids(roots, snapshots::names, SnapshotId::new)?;
    page(roots, ids, window, SnapshotId::filesystem, |root, id| {
        let record = snapshots::read(root, id)?.filter(|record| snapshots::is_of(record, source));
        Ok(record.map(|record| snapshots::snapshot(id.clone(), record)))
    })
}

/// All ids of all roots, in their order.
fn ids<I: Ord>(
    roots: &Roots,
    names: impl Fn(&OpenRoot) -> Result<Vec<String>, StoreError>,
    id: impl Fn(FilesystemName, &str) -> Result<I, InvalidId>,
) -> Result<Vec<I>, StoreError> {
    let mut ids = Vec::new();
    for root in roots.iter() {
        let named = names(&root.open()?)?;
        // What has no name of ours was put there by somebody else.
        ids.extend(named.iter().filter_map(|name| id(root.name().clone(), name).ok()));
    }
    ids.sort();
    Ok(ids)
}

/// Reads items after the window's begin until it is full and one more is known.
fn page<I: Ord + Clone, T>(
    roots: &Roots,
    ids: Vec<I>,
    window: &Window<I>,
    filesystem: impl Fn(&I) -> &FilesystemName,
    read: impl Fn(&OpenRoot, &I) -> Result<Option<T>, StoreError>,
) -> Result<Page<T, I>, StoreError> {
    let mut page = Page { items: Vec::new(), next_after: None };
    let mut last: Option<I> = None;
    let mut open: Option<(FilesystemName, OpenRoot)> = None;
    for id in ids.into_iter().filter(|id| window.after.as_ref().is_none_or(|after| id > after)) {
        let name = filesystem(&id);
        if open.as_ref().is_none_or(|(opened, _)| opened != name) {
            open = roots.get(name).map(|root| root.open().map(|root| (name.clone(), root))).transpose()?;
        }
        let Some((_, root)) = &open else { continue };
        let Some(item) = read(root, &id)? else { continue };
        if window.entries_max.is_some_and(|max| page.items.len() >= max.get()) {
            page.next_after = last;
            break;
        }
        page.items.push(item);
        last = Some(id);
    }
    Ok(page)
}
