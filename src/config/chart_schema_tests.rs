//! Does the chart's schema refuse the paths that the tables of the code refuse, and no others?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::host_directories::taken;
use crate::juicefs::taken::TAKEN;

const SCHEMA: &str = include_str!("../../deploy/charts/mountpod/values.schema.json");

/// The chart's `kubeletDir`; its check for another one is a template's.
const KUBELET_DIR: &str = "/var/lib/kubelet";

/// Matches these paths, all below them and all above them. The root directory has no need of it: it is no path there.
fn pattern<'a>(paths: impl Iterator<Item = &'a Path>) -> String {
    let paths: BTreeSet<_> = paths.collect();
    let outermost = |path: &&&Path| !path.ancestors().skip(1).any(|above| paths.contains(above));
    let taken: Vec<_> = paths.iter().filter(outermost).copied().collect();
    let above: BTreeSet<_> = taken.iter().flat_map(|path| path.ancestors().skip(1)).collect();
    let above = above.into_iter().filter(|path| *path != Path::new("/")).collect::<Vec<_>>();
    format!("^/({}|({})(/.*)?)$", alternatives(&above), alternatives(&taken))
}

fn alternatives(paths: &[&Path]) -> String {
    let names: Vec<_> = paths.iter().map(|path| path.to_str().unwrap()[1..].replace('.', r"\.")).collect();
    names.join("|")
}

/// The pattern that the items of a list must not match.
fn refused_at(pointer: &str) -> String {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let rules = schema.pointer(pointer).unwrap().pointer("/allOf").unwrap().as_array().unwrap().clone();
    let refused = rules.iter().find_map(|rule| rule.pointer("/not/pattern"));
    refused.unwrap().as_str().unwrap().to_owned()
}

#[test]
fn a_pattern_covers_what_lies_around_and_in_a_path() {
    let wanted = r"^/(a|a/b|(a/b/c\.d|e)(/.*)?)$";
    assert_eq!(pattern(["/a/b/c.d", "/e/f", "/e"].map(Path::new).into_iter()), wanted);
}

#[test]
fn files_of_the_controller_can_be_where_those_of_mount_pods_can() {
    let files = "/properties/juicefs/properties/files/items/properties/path";
    assert_eq!(refused_at(files), pattern(TAKEN.iter().map(|(path, _)| Path::new(path))));
}

#[test]
fn directories_of_the_node_can_be_where_the_driver_takes_them() {
    let directories = "/properties/mountPods/properties/hostDirectories/items";
    assert_eq!(refused_at(directories), pattern(taken(Path::new(KUBELET_DIR))));
}
