//! What does each target of a shared session show, and how is it bound?
//!
//! The engine counts and binds targets alike. What a target shows comes with its publish, is written beside its ref, and
//! is kept here in between. A directory within a FUSE mount is looked up by its client, so a helper process does that.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{Instant, sleep};

use super::effects::{NodeEffects, blocking};
use super::outcome::{failed, target_error};
use crate::mountpod::effects::EffectError;
use crate::mountpod::parts::{Part, Shown, part_annotation, part_in};
use crate::mountpod::pod::is_of;
use crate::mountpod::refs::Refs;
use crate::mountpod::service::MountError;
use crate::mounts::bind::remove_target;
use crate::mounts::helper::{HelperError, HelperJob};
use crate::mounts::target::{Origin, Place};
use crate::runtime::MountPods;
use crate::volume::{Exclusivity, SessionId, TargetPath, VolumeId, Writability};

/// A client looks a directory up in milliseconds; one that asks its metadata engine anew in seconds, or not at all.
const BIND_LIMIT: Duration = Duration::from_secs(10);
/// Between two tries to have the one helper of a session: another target is bound, or somebody asks for statistics.
const BUSY_WAIT: Duration = Duration::from_millis(20);

/// What publishes have said of their targets.
#[derive(Debug, Default)]
pub(super) struct Parts(Mutex<BTreeMap<(SessionId, TargetPath), Part>>);

impl Parts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(SessionId, TargetPath), Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A target is to show this.
    pub(super) fn show(&self, session: &SessionId, target: &TargetPath, part: Part) {
        self.lock().insert((session.clone(), target.clone()), part);
    }

    /// A target shows nothing any more.
    pub(super) fn forget(&self, session: &SessionId, target: &TargetPath) {
        self.lock().remove(&(session.clone(), target.clone()));
    }

    /// Only these sessions are known.
    pub(super) fn retain(&self, known: impl Fn(&SessionId) -> bool) {
        self.lock().retain(|(session, _), _| known(session));
    }

    fn get(&self, session: &SessionId, target: &TargetPath) -> Option<Part> {
        self.lock().get(&(session.clone(), target.clone())).cloned()
    }
}

impl<R: MountPods> NodeEffects<R> {
    /// Do several volumes share the session?
    pub(super) fn is_shared(&self, session: &SessionId) -> bool {
        self.launch_of(session).is_ok_and(|launch| launch.served.shown == Shown::Part)
    }

    /// What was said of a target: by its publish, or beside its ref.
    fn part_said(&self, session: &SessionId, target: &TargetPath) -> Option<Part> {
        self.parts.get(session, target).or_else(|| {
            let pods = self.runtime.list();
            pods.iter().filter(|pod| is_of(&pod.record, session)).find_map(|pod| part_in(&pod.record, target))
        })
    }

    /// Does the target, which is mounted, show another directory of the session, or that of another volume?
    pub(super) fn shows_another(&self, session: &SessionId, target: &TargetPath, wanted: &Part) -> bool {
        self.part_said(session, target).is_some_and(|said| {
            said.volume.is_some() && (said.volume != wanted.volume || said.directory != wanted.directory)
        })
    }

    /// What a target shows; a bind that was left without its ref tells its directory itself.
    async fn part_of(&self, session: &SessionId, target: &TargetPath) -> Result<Option<Part>, EffectError> {
        if let Some(said) = self.part_said(session, target) {
            return Ok(Some(said));
        }
        let table = self.table().await?;
        let stack = table.stack_at(target.as_path());
        let bound =
            stack.iter().rev().find(|mount| self.state_dir.session_of(mount).as_ref() == Some(session));
        Ok(bound.and_then(|mount| {
            let directory = mount.root.to_str()?.trim_start_matches('/').to_owned();
            Some(Part { volume: None, directory, exclusivity: Exclusivity::Shared })
        }))
    }

    /// The volume that a target shows, as far as it is known.
    pub(super) fn volume_at(&self, session: &SessionId, target: &TargetPath) -> Option<VolumeId> {
        let launch = self.launch_of(session).ok()?;
        match launch.served.shown {
            Shown::Whole => Some(launch.served.volume.clone()),
            Shown::Part => self.part_said(session, target)?.volume,
        }
    }

    /// Where within the session's own mount the volume of a target lies.
    pub(super) fn place_of(&self, session: &SessionId, target: &TargetPath) -> PathBuf {
        let mount_point = self.state_dir.mount_point(session);
        if !self.is_shared(session) {
            return mount_point;
        }
        match self.part_said(session, target) {
            Some(part) if !part.directory.is_empty() => mount_point.join(part.directory),
            Some(_) | None => mount_point,
        }
    }

    /// The annotations that say what these targets show.
    pub(super) async fn part_annotations(
        &self,
        session: &SessionId,
        refs: &Refs,
    ) -> Result<BTreeMap<String, String>, EffectError> {
        let mut annotations = BTreeMap::new();
        if self.is_shared(session) {
            for (target, _) in refs.iter() {
                if let Some(part) = self.part_of(session, target).await? {
                    let said = part_annotation(target, &part);
                    annotations
                        .extend([said.map_err(|error| failed("write down what a target shows", error))?]);
                }
            }
        }
        Ok(annotations)
    }

    /// Binds the part of a shared session that the target is to show.
    pub(super) async fn bind_part(
        &self,
        session: &SessionId,
        target: &TargetPath,
        writability: Writability,
    ) -> Result<(), EffectError> {
        const WHAT: &str = "bind the volume";
        let part = self.part_of(session, target).await?;
        // Never the whole of it for want of a better word: that would show the volumes of others.
        let part = part.ok_or_else(|| {
            failed(WHAT, std::io::Error::other(format!("nothing says what {target} is to show")))
        })?;
        let place = target.clone();
        let made = move || Place::find(&place)?.open_or_create().map(|(_, origin)| origin);
        let origin = blocking("make the target", move || made().map_err(target_error)).await?;
        let job = HelperJob::Bind {
            path: self.state_dir.mount_point(session),
            source: self.state_dir.mount_source(session),
            directory: part.directory.clone(),
            target: target.as_path().to_owned(),
            read_only: writability == Writability::ReadOnly,
        };
        let Err(error) = self.run_in_turn(session, &job).await else { return Ok(()) };
        if origin == Origin::Created {
            self.remove_made(target).await;
        }
        Err(match error {
            HelperError::TimedOut { limit, .. } => EffectError::TimedOut {
                what: WHAT.to_owned(),
                limit_s: limit.as_secs_f64(),
                state: "the client does not answer".to_owned(),
            },
            error => match (why_no_directory(&error), part.volume) {
                (Some(why), Some(volume)) => {
                    let directory = part.directory;
                    failed(WHAT, MountError::NoSuchDirectory { volume, directory, why })
                }
                _ => failed(WHAT, error),
            },
        })
    }

    async fn remove_made(&self, target: &TargetPath) {
        let target = target.clone();
        if let Err(error) = blocking("remove the target", move || remove_target(&target)).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a target directory of ours stays");
        }
    }

    /// Runs a helper as soon as no other one of the session runs.
    async fn run_in_turn(&self, session: &SessionId, job: &HelperJob) -> Result<(), HelperError> {
        let deadline = Instant::now() + BIND_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.helpers.run(session, job, left).await {
                Err(HelperError::StillWaiting { .. }) if !left.is_zero() => sleep(BUSY_WAIT).await,
                answer => return answer.map(drop),
            }
        }
    }
}

/// What a failed look-up says of the directory, if it is about that.
fn why_no_directory(error: &HelperError) -> Option<&'static str> {
    let HelperError::Refused { errno, .. } = error else { return None };
    match errno {
        Errno::ENOENT => Some("does not exist in its filesystem; make it first"),
        Errno::ENOTDIR | Errno::ELOOP => Some("is no directory; a symbolic link is not followed"),
        _ => None,
    }
}
