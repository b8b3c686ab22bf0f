//! What does the cluster know of claims and volumes, beyond what a call tells?

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::pin::Pin;

use super::{StoreError, Volume};

/// What a claim's owner wrote on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimMetadata {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Why a claim's metadata are not known, as the rest of a sentence that begins with what needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// Asking again does not help: there is no such claim, or nobody to ask.
    ForGood(String),
    /// The cluster could not be asked; the next try may succeed.
    ForNow(String),
}

/// An answer to come.
pub type Answer<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// Answers what the driver must ask the cluster.
pub trait Cluster: Debug + Send + Sync + 'static {
    /// Labels and annotations of a claim.
    ///
    /// # Errors
    /// Why they can't be known.
    fn metadata<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, ClaimMetadata, Unknown>;

    /// The JuiceFS volumes that this driver made, in no order; `None` when there is nobody to ask.
    ///
    /// # Errors
    /// When they can't be read.
    fn volumes(&self) -> Answer<'_, Option<Vec<Volume>>, StoreError>;
}

/// There is no cluster: this driver does not serve Kubernetes.
#[derive(Debug, Clone, Copy)]
pub struct NoCluster;

impl Cluster for NoCluster {
    fn metadata<'a>(&'a self, _namespace: &'a str, _name: &'a str) -> Answer<'a, ClaimMetadata, Unknown> {
        Box::pin(async {
            let why =
                "needs labels or annotations of a claim, which a driver without Kubernetes does not know";
            Err(Unknown::ForGood(why.to_owned()))
        })
    }

    fn volumes(&self) -> Answer<'_, Option<Vec<Volume>>, StoreError> {
        Box::pin(async { Ok(None) })
    }
}
