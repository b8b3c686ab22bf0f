//! Which directory of its filesystem does a new volume get?

use super::super::CreateVolumeError;
use super::super::cluster::{ClaimMetadata, Cluster, Unknown};
use crate::config::field::{InvalidField, entry};
use crate::config::juicefs::{ClassParameters, VolumePath};
use crate::volume::VolumeId;

/// By the `pathPattern` of its class; without one, a directory of the volume's own name.
///
/// # Errors
/// When the pattern has no path for this claim, or what it needs of the cluster can't be known; the parameter is named.
pub(super) async fn path_of(
    id: &VolumeId,
    class: &ClassParameters,
    cluster: &dyn Cluster,
) -> Result<VolumePath, CreateVolumeError> {
    let field = || entry("parameters", "pathPattern");
    let invalid = |why: String| CreateVolumeError::from(InvalidField::new(field(), why));
    let Some(pattern) = &class.path_pattern else {
        let path = id.name().parse();
        return path.map_err(|why| InvalidField::new("name", format!("makes a path that {why}")).into());
    };
    let metadata = if pattern.needs_claim_metadata() {
        let (Some(namespace), Some(name)) = (&class.claim.claim_namespace, &class.claim.claim_name) else {
            let why = "needs the claim's name, which external-provisioner tells with --extra-create-metadata";
            return Err(invalid(why.to_owned()));
        };
        cluster.metadata(namespace, name).await.map_err(|unknown| match unknown {
            Unknown::ForGood(why) => invalid(why),
            Unknown::ForNow(why) => CreateVolumeError::ClusterSilent { field: field(), why },
        })?
    } else {
        ClaimMetadata::default()
    };
    let facts = class.claim.with_metadata(&metadata.labels, &metadata.annotations);
    pattern.render(&facts).map_err(|why| invalid(why.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::{BTreeMap, HashMap};

    use super::super::super::cluster::{Answer, NoCluster};
    use super::super::super::{StoreError, Volume};
    use super::*;

    #[derive(Debug)]
    struct Labelled;

    impl Cluster for Labelled {
        fn metadata<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, ClaimMetadata, Unknown> {
            let label = ("team".to_owned(), format!("{namespace}-{name}"));
            let metadata = ClaimMetadata { labels: BTreeMap::from([label]), ..ClaimMetadata::default() };
            Box::pin(async { Ok(metadata) })
        }

        fn volumes(&self) -> Answer<'_, Option<Vec<Volume>>, StoreError> {
            Box::pin(async { Ok(None) })
        }
    }

    #[derive(Debug)]
    struct Silent;

    impl Cluster for Silent {
        fn metadata<'a>(&'a self, _: &'a str, _: &'a str) -> Answer<'a, ClaimMetadata, Unknown> {
            Box::pin(async { Err(Unknown::ForNow("needs what nobody tells now".to_owned())) })
        }

        fn volumes(&self) -> Answer<'_, Option<Vec<Volume>>, StoreError> {
            Box::pin(async { Ok(None) })
        }
    }

    async fn path(entries: &[(&str, &str)], cluster: &dyn Cluster) -> Result<String, CreateVolumeError> {
        let map: HashMap<_, _> =
            entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let class = ClassParameters::of_map("parameters", &map).unwrap();
        let path = path_of(&"fs#pvc-1".parse().unwrap(), &class, cluster).await;
        path.map(|path| path.to_string())
    }

    #[tokio::test]
    async fn a_path_is_the_patterns_or_the_name() {
        let claim = [("csi.storage.k8s.io/pvc/name", "data"), ("csi.storage.k8s.io/pvc/namespace", "prod")];
        let with = |pattern| [claim[0], claim[1], ("pathPattern", pattern)];
        assert_eq!(path(&[], &NoCluster).await.unwrap(), "pvc-1");
        assert_eq!(path(&with("${.pvc.namespace}/${.pvc.name}"), &NoCluster).await.unwrap(), "prod/data");
        assert_eq!(path(&with("t/${.pvc.labels.team}"), &Labelled).await.unwrap(), "t/prod-data");
        for (pattern, cluster) in [
            ("t/${.pvc.labels.team}", &NoCluster as &dyn Cluster),
            ("t/${.pvc.labels.other}", &Labelled),
            ("t/${.pv.name}", &Labelled),
        ] {
            let refused = path(&with(pattern), cluster).await.unwrap_err();
            let CreateVolumeError::Field(refused) = refused else { panic!("{pattern}: {refused}") };
            assert_eq!(refused.field, "parameters[\"pathPattern\"]", "{pattern}");
        }
        let unnamed = path(&[("pathPattern", "${.pvc.labels.team}")], &Labelled).await.unwrap_err();
        assert!(unnamed.to_string().contains("--extra-create-metadata"), "{unnamed}");
        let silent = path(&with("t/${.pvc.labels.team}"), &Silent).await.unwrap_err();
        assert!(matches!(silent, CreateVolumeError::ClusterSilent { .. }), "{silent}");
        assert_eq!(silent.to_string(), "parameters[\"pathPattern\"] needs what nobody tells now");
        assert_eq!(path(&with("${.pvc.name}"), &Silent).await.unwrap(), "data");
    }
}
