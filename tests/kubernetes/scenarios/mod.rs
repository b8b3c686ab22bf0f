//! Which promises are tried, in which order?

mod budget;
mod data;
mod inside;
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
    Scenario { name: "budget_of_idle_volumes", run: budget::idle },
    Scenario { name: "data_expanded", run: data::expanded },
    Scenario { name: "data_snapshot_and_restore", run: data::restored },
    Scenario { name: "data_clone", run: data::cloned },
    Scenario { name: "options_fs_group_read_only_sub_path", run: options::of_pods },
    Scenario { name: "options_resources_of_the_mount_pod", run: options::resources },
    Scenario { name: "options_inline_volume", run: options::inline },
    Scenario { name: "refused_by_a_quota", run: refused::by_quota },
    Scenario { name: "refused_for_an_unknown_root", run: refused::unknown_root },
    Scenario { name: "bench", run: bench::promises },
];
