//! Which promises are tried, in which order?

mod budget;
mod data;
mod inside;
mod juicefs_clients;
mod juicefs_configs;
mod juicefs_controller;
mod juicefs_copies;
mod juicefs_deletion;
mod juicefs_on_one_node;
mod juicefs_outage;
mod juicefs_quota;
mod juicefs_refused;
mod juicefs_secrets;
mod juicefs_sharing;
mod juicefs_volumes;
mod lifecycle;
mod many;
mod options;
mod plugin;
mod refused;
mod replaced;

use crate::{Scenario, bench};

/// All of them, the most important first.
pub const ALL: &[Scenario] = &[
    Scenario { name: "lifecycle_two_workloads_on_one_volume", run: lifecycle::two_workloads },
    Scenario { name: "inside_a_mount_pod_has_nothing_it_does_not_need", run: inside::least_privilege },
    Scenario { name: "replaced_when_the_mount_pod_is_deleted", run: replaced::deleted },
    Scenario { name: "replaced_when_the_mount_pod_is_deleted_by_force", run: replaced::deleted_by_force },
    Scenario { name: "replaced_when_the_client_is_killed", run: replaced::client_killed },
    Scenario { name: "plugin_killed_under_a_writer", run: plugin::killed },
    Scenario { name: "plugin_gone_while_a_workload_ends", run: plugin::unpublish_later },
    Scenario { name: "many_twenty_volumes_at_once", run: many::twenty },
    Scenario { name: "many_ten_rounds_without_a_leak", run: many::rounds },
    Scenario { name: "budget_of_api_requests", run: budget::publishes },
    Scenario { name: "data_expanded", run: data::expanded },
    Scenario { name: "data_snapshot_and_restore", run: data::restored },
    Scenario { name: "data_clone", run: data::cloned },
    Scenario { name: "options_fs_group_read_only_sub_path", run: options::of_pods },
    Scenario { name: "options_resources_of_the_mount_pod", run: options::resources },
    Scenario { name: "options_inline_volume", run: options::inline },
    Scenario { name: "refused_by_a_quota", run: refused::by_quota },
    Scenario { name: "refused_by_a_limit_range", run: refused::by_limit_range },
    Scenario { name: "refused_for_its_image", run: refused::for_its_image },
    Scenario { name: "refused_for_an_unknown_root", run: refused::unknown_root },
    Scenario { name: "juicefs_static_volumes", run: juicefs_volumes::existing },
    Scenario { name: "juicefs_dynamic_volumes", run: juicefs_volumes::new },
    Scenario { name: "juicefs_inside_a_mount_pod", run: inside::least_privilege_of_juicefs },
    Scenario { name: "juicefs_quota_and_expansion", run: juicefs_quota::expanded },
    Scenario { name: "juicefs_shared_mount_pod", run: juicefs_sharing::one_mount_pod },
    Scenario { name: "juicefs_snapshots_and_restores_at_once", run: juicefs_copies::at_once },
    Scenario { name: "juicefs_clients_renewed_and_killed", run: juicefs_clients::renewed_and_killed },
    Scenario { name: "juicefs_controller_replaced_and_killed", run: juicefs_controller::replaced },
    Scenario { name: "juicefs_deletion_is_exact", run: juicefs_deletion::exact },
    Scenario { name: "juicefs_on_one_node", run: juicefs_on_one_node::kept },
    Scenario { name: "juicefs_refused_in_time", run: juicefs_refused::in_time },
    Scenario { name: "juicefs_configs_are_files", run: juicefs_configs::files },
    Scenario { name: "juicefs_metadata_server_away", run: juicefs_outage::a_minute },
    // After the others, whose logs it looks at, too.
    Scenario { name: "juicefs_secrets_are_nowhere", run: juicefs_secrets::nowhere },
    Scenario { name: "bench", run: bench::promises },
];
