//! Which csi-sanity specs do not run against Mountpod, which can't pass with JuiceFS, and why?

use std::collections::BTreeSet;

/// Specs that are skipped for one reason.
pub(crate) struct Group {
    /// Why Mountpod does not do this.
    pub(crate) reason: &'static str,
    /// Full names.
    pub(crate) specs: &'static [&'static str],
}

/// All of them: nothing else may be skipped, and none of these may run.
pub(crate) const EXPECTED_SKIPS: &[Group] = &[
    Group {
        reason: "Volumes need no attach step: PUBLISH_UNPUBLISH_VOLUME is not claimed.",
        specs: &[
            "Controller Service [Controller Server] ControllerPublishVolume should fail when no volume id is provided",
            "Controller Service [Controller Server] ControllerPublishVolume should fail when no node id is provided",
            "Controller Service [Controller Server] ControllerPublishVolume should fail when no volume capability is provided",
            "Controller Service [Controller Server] ControllerPublishVolume should fail when publishing more volumes than the node max attach limit",
            "Controller Service [Controller Server] ControllerPublishVolume should fail when the volume does not exist",
            "Controller Service [Controller Server] ControllerPublishVolume should fail when the node does not exist",
            "Controller Service [Controller Server] ControllerPublishVolume should fail when the volume is already published but is incompatible",
            "Controller Service [Controller Server] ControllerUnpublishVolume should fail when no volume id is provided",
            "Controller Service [Controller Server] volume lifecycle should work",
            "Controller Service [Controller Server] volume lifecycle should be idempotent",
        ],
    },
    Group {
        reason: "A mount pod serves every target itself: STAGE_UNSTAGE_VOLUME is not claimed.",
        specs: &[
            "Node Service NodeStageVolume should fail when no volume id is provided",
            "Node Service NodeStageVolume should fail when no staging target path is provided",
            "Node Service NodeStageVolume should fail when no volume capability is provided",
            "Node Service NodeUnstageVolume should fail when no volume id is provided",
            "Node Service NodeUnstageVolume should fail when no staging target path is provided",
        ],
    },
    Group {
        reason: "No client can snapshot several volumes at one moment: GROUP_CONTROLLER_SERVICE is not claimed.",
        specs: &[
            "GroupController Service [GroupController Server] GroupControllerGetCapabilities should return appropriate capabilities",
            "GroupController Service [GroupController VolumeGroupSnapshots] CreateVolumeGroupSnapshot should fail when no name is provided",
            "GroupController Service [GroupController VolumeGroupSnapshots] GetVolumeGroupSnapshot should fail when no volume id is provided",
            "GroupController Service [GroupController VolumeGroupSnapshots] GetVolumeGroupSnapshot should fail when an invalid volume id is used",
            "GroupController Service [GroupController VolumeGroupSnapshots] DeleteVolumeGroupSnapshot should fail when no volume id is provided",
            "GroupController Service [GroupController VolumeGroupSnapshots] DeleteVolumeGroupSnapshot should succeed when an invalid volume id is used",
        ],
    },
    Group {
        reason: "Pending upstream: what it expects of tokens depends on how a driver pages.",
        specs: &[
            "Controller Service [Controller Server] ListVolumes pagination should detect volumes added between pages and accept tokens when the last volume from a page is deleted",
        ],
    },
];

/// The names of all groups together.
pub(crate) fn expected_skips() -> BTreeSet<&'static str> {
    EXPECTED_SKIPS.iter().flat_map(|group| group.specs.iter().copied()).collect()
}

/// Specs that can't pass with volumes of JuiceFS; hostdir passes them.
pub(crate) const JUICEFS_FAILURES: &[Group] = &[
    Group {
        reason: "A JuiceFS filesystem is known by its Secret alone, and csi-sanity has none for these calls.",
        specs: &[
            "Controller Service [Controller Server] ListVolumes check the presence of new volumes and absence of deleted ones in the volume list",
            "ControllerGetVolumeHealth [Controller Server] should return health for a valid volume",
        ],
    },
    Group {
        reason: "The limits of such a volume stand in its context, which nobody can write anew.",
        specs: &[
            "ModifyVolume [Controller Server] should modify a volume created without a volume attribute class",
            "ModifyVolume [Controller Server] should modify a volume created with a volume attribute class",
        ],
    },
];
