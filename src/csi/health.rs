//! How is what is known of a volume told as a condition (CSI up to 1.12) and as health (since 1.13)?

use super::api::v1;
use super::api::v1::volume_health::VolumeHealthEntry;
use crate::mountpod::service::Condition;
use crate::provision::DataCondition;

/// Something that is wrong with a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    kind: v1::VolumeHealthErrorType,
    reason: &'static str,
    message: String,
}

impl Trouble {
    /// What a session's condition amounts to.
    pub(super) fn of_session(condition: &Condition) -> Option<Self> {
        let (kind, reason, message) = match condition {
            Condition::Serving => return None,
            Condition::Complaining { message } => {
                (v1::VolumeHealthErrorType::Degraded, "ClientComplains", message.clone())
            }
            Condition::Recovering { message } => {
                (v1::VolumeHealthErrorType::Degraded, "ClientRecovering", message.clone())
            }
            Condition::Lost { message } => {
                (v1::VolumeHealthErrorType::Inaccessible, "ClientLost", message.clone())
            }
        };
        Some(Self { kind, reason, message })
    }

    /// A session that does not answer.
    pub(super) fn not_answering(message: String) -> Self {
        Self { kind: v1::VolumeHealthErrorType::Inaccessible, reason: "ClientNotAnswering", message }
    }

    /// What the state of a volume's data amounts to.
    pub(super) fn of_data(condition: &DataCondition) -> Option<Self> {
        match condition {
            DataCondition::Present => None,
            DataCondition::Missing { message } => Some(Self {
                kind: v1::VolumeHealthErrorType::Inaccessible,
                reason: "DataMissing",
                message: message.clone(),
            }),
        }
    }
}

/// All that is wrong with a volume, in the form of CSI 1.13.
pub(super) fn volume_health(volume_id: String, troubles: Vec<Trouble>) -> v1::VolumeHealth {
    let mut seen: Vec<VolumeHealthEntry> = Vec::new();
    for trouble in troubles {
        let status = trouble.kind.into();
        // CSI spec, `VolumeHealth`: a (status, reason) pair must not be told twice.
        if !seen.iter().any(|entry| entry.status == status && entry.reason == trouble.reason) {
            seen.push(VolumeHealthEntry {
                status,
                reason: trouble.reason.to_owned(),
                message: trouble.message,
            });
        }
    }
    v1::VolumeHealth { volume_id, health_statuses: seen }
}

/// All that is wrong with a volume, in the form of CSI up to 1.12.
pub(super) fn volume_condition(trouble: Option<Trouble>) -> v1::VolumeCondition {
    match trouble {
        None => v1::VolumeCondition { abnormal: false, message: "the volume is healthy".to_owned() },
        Some(trouble) => v1::VolumeCondition { abnormal: true, message: trouble.message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_healthy_volume_has_no_entries() {
        assert_eq!(Trouble::of_session(&Condition::Serving), None);
        assert!(volume_health("main#a".to_owned(), Vec::new()).health_statuses.is_empty());
        assert!(!volume_condition(None).abnormal);
    }

    #[test]
    fn the_same_trouble_at_two_targets_is_told_once() {
        let lost = Condition::Lost { message: "gone".to_owned() };
        let troubles: Vec<Trouble> = [&lost, &lost].into_iter().filter_map(Trouble::of_session).collect();
        let health = volume_health("main#a".to_owned(), troubles.clone());
        assert_eq!(health.health_statuses.len(), 1);
        assert_eq!(health.health_statuses[0].reason, "ClientLost");
        assert!(volume_condition(troubles.into_iter().next()).abnormal);
    }
}
