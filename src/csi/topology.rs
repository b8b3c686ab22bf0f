//! From where can a volume be reached, and is that where it is wanted?

use std::collections::HashMap;

use super::api::v1;
use crate::config::field::{InvalidField, entry, plain_map, quoted};
use crate::config::flags::NodeId;
use crate::provision::Reach;

/// The one topological domain that this driver knows: the node.
pub(super) const NODE_KEY: &str = "topology.mountpod.dev/node";

/// The topology of a node.
pub(super) fn of_node(node: &NodeId) -> v1::Topology {
    v1::Topology { segments: HashMap::from([(NODE_KEY.to_owned(), node.as_str().to_owned())]) }
}

/// From where a volume can be reached: empty is "from everywhere".
pub(super) fn of_volume(reach: Reach, node: &NodeId) -> Vec<v1::Topology> {
    match reach {
        Reach::Shared => Vec::new(),
        Reach::NodeLocal => vec![of_node(node)],
    }
}

/// The nodes that `accessibility_requirements.requisite` names; `None` when there is no requirement.
pub(super) fn required_nodes(
    requirement: Option<&v1::TopologyRequirement>,
) -> Result<Option<Vec<String>>, InvalidField> {
    let Some(requirement) = requirement else { return Ok(None) };
    let read = |name: &str, topologies: &[v1::Topology]| -> Result<Vec<String>, InvalidField> {
        let field = |index| format!("accessibility_requirements.{name}[{index}]");
        topologies.iter().enumerate().map(|(index, topology)| node(&field(index), topology)).collect()
    };
    let requisite = read("requisite", &requirement.requisite)?;
    read("preferred", &requirement.preferred)?;
    Ok((!requisite.is_empty()).then_some(requisite))
}

/// The node that a topology names.
pub(super) fn node(field: &str, topology: &v1::Topology) -> Result<String, InvalidField> {
    let segments_field = format!("{field}.segments");
    let segments = plain_map(&segments_field, &topology.segments)?;
    if let Some(key) = segments.keys().find(|key| **key != NODE_KEY) {
        let why = format!("is unknown; the only key is {NODE_KEY}");
        return Err(InvalidField::new(entry(&segments_field, key), why));
    }
    let node = segments.get(NODE_KEY).ok_or_else(|| InvalidField::new(&segments_field, "is missing"))?;
    if node.parse::<NodeId>().is_err() {
        let why = format!("is {}, which is no name of a node", quoted(node));
        return Err(InvalidField::new(entry(&segments_field, NODE_KEY), why));
    }
    Ok((*node).to_owned())
}

/// Can what lies on this node be reached from one of these?
///
/// # Errors
/// Why not, for people.
pub(super) fn satisfied(required: Option<&[String]>, reach: Reach, node: &NodeId) -> Result<(), String> {
    match (required, reach) {
        (None, _) | (_, Reach::Shared) => Ok(()),
        (Some(nodes), Reach::NodeLocal) if nodes.iter().any(|name| name == node.as_str()) => Ok(()),
        (Some(nodes), Reach::NodeLocal) => {
            let wanted = quoted(&nodes.join(", "));
            Err(format!("wanted on {wanted}, but this root's files are on node {node} only"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn topology(key: &str, value: &str) -> v1::Topology {
        v1::Topology { segments: HashMap::from([(key.to_owned(), value.to_owned())]) }
    }

    fn requisite(topologies: Vec<v1::Topology>) -> v1::TopologyRequirement {
        v1::TopologyRequirement { requisite: topologies, preferred: Vec::new() }
    }

    #[test]
    fn a_local_root_serves_its_own_node() {
        let here: NodeId = "n1".parse().unwrap();
        let wanted = |names: &[&str]| {
            let topologies = names.iter().map(|name| topology(NODE_KEY, name)).collect();
            required_nodes(Some(&requisite(topologies))).unwrap()
        };
        assert!(satisfied(wanted(&["n2", "n1"]).as_deref(), Reach::NodeLocal, &here).is_ok());
        assert!(satisfied(wanted(&["n2"]).as_deref(), Reach::NodeLocal, &here).is_err());
        assert!(satisfied(wanted(&["n2"]).as_deref(), Reach::Shared, &here).is_ok());
        assert!(satisfied(wanted(&[]).as_deref(), Reach::NodeLocal, &here).is_ok());
    }

    #[test]
    fn an_unknown_domain_is_named() {
        let cases = [
            (topology("zone", "z"), "accessibility_requirements.requisite[0].segments[\"zone\"]"),
            (v1::Topology::default(), "accessibility_requirements.requisite[0].segments"),
            (
                topology(NODE_KEY, "../n"),
                "accessibility_requirements.requisite[0].segments[\"topology.mountpod.dev/node\"]",
            ),
        ];
        for (topology, field) in cases {
            let error = required_nodes(Some(&requisite(vec![topology]))).unwrap_err();
            assert_eq!(error.field, field);
        }
    }
}
