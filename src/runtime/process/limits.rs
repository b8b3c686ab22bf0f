//! Which limits does a pod's record ask for?

use k8s_openapi::api::core::v1::Pod;

use super::records::RecordError;
use crate::volume::{CpuMillis, MemoryBytes, Resources};

/// Thousandths in a whole processor.
const MILLIS: u64 = 1000;

/// The limits of the pod's container, in the form that our own records have: `500m` or `2`, and plain bytes.
///
/// # Errors
/// [`RecordError::Limit`] when one has another form.
pub(super) fn limits_of(pod: &Pod) -> Result<Resources, RecordError> {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let limits = container.and_then(|container| container.resources.as_ref()?.limits.as_ref());
    let find = |name| limits.and_then(|limits| limits.get(name)).map(|quantity| quantity.0.as_str());
    let cpu =
        find("cpu").map(|value| cpu_millis(value).ok_or_else(|| unreadable("cpu", value))).transpose()?;
    let memory =
        find("memory").map(|value| value.parse().map_err(|_| unreadable("memory", value))).transpose()?;
    Ok(Resources { cpu_limit: cpu.map(CpuMillis), memory_limit: memory.map(MemoryBytes) })
}

fn cpu_millis(value: &str) -> Option<u64> {
    match value.strip_suffix('m') {
        Some(millis) => millis.parse().ok(),
        None => value.parse::<u64>().ok()?.checked_mul(MILLIS),
    }
}

fn unreadable(resource: &'static str, value: &str) -> RecordError {
    RecordError::Limit { resource, value: value.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the failure of the test")]

    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::*;

    fn pod(limits: &[(&str, &str)]) -> Pod {
        let limits: BTreeMap<_, _> =
            limits.iter().map(|(name, value)| ((*name).to_owned(), Quantity((*value).to_owned()))).collect();
        let resources = ResourceRequirements { limits: Some(limits), ..ResourceRequirements::default() };
        let container = Container { resources: Some(resources), ..Container::default() };
        Pod { spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }), ..Pod::default() }
    }

    #[test]
    fn limits_are_read_in_our_form_only() {
        let both = limits_of(&pod(&[("cpu", "250m"), ("memory", "1048576")])).unwrap();
        assert_eq!((both.cpu_limit, both.memory_limit), (Some(CpuMillis(250)), Some(MemoryBytes(1 << 20))));
        assert_eq!(limits_of(&pod(&[("cpu", "2")])).unwrap().cpu_limit, Some(CpuMillis(2000)));
        assert_eq!(limits_of(&Pod::default()).unwrap(), Resources::default());
        assert!(limits_of(&pod(&[("memory", "1Gi")])).is_err());
        assert!(limits_of(&pod(&[("cpu", "-1")])).is_err());
    }
}
