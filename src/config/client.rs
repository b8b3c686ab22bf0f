//! Which client serves a volume?
//!
//! One rule for StorageClasses, volume contexts and static PersistentVolumes. Those that were written for the JuiceFS CSI
//! driver name no client; their keys and their Secret tell it.

use std::collections::HashMap;

use super::field::{InvalidField, entry, quoted};
use super::parameters::CLIENT;
use crate::juicefs::secret::METAURL;
use crate::volume::{ClientKind, Secrets};

/// How the keys of the JuiceFS CSI driver begin.
const JUICEFS_PREFIX: &str = "juicefs/";

/// The client that parameters, a volume context or attributes mean; `field` is their name in errors.
///
/// What is said counts. Else keys of the JuiceFS CSI driver, or a Secret with a `metaurl`, mean JuiceFS; nothing means the
/// built-in client.
///
/// # Errors
/// [`InvalidField`] when the named client is none.
pub fn client_of(
    field: &str,
    map: &HashMap<String, String>,
    secrets: &Secrets,
) -> Result<ClientKind, InvalidField> {
    if let Some(name) = map.get(CLIENT) {
        return named(name).ok_or_else(|| {
            let known: Vec<_> = ClientKind::ALL.iter().map(|client| client.as_str()).collect();
            let why = format!("is {}, known clients are: {}", quoted(name), known.join(", "));
            InvalidField::new(entry(field, CLIENT), why)
        });
    }
    let speaks_juicefs = map.keys().any(|key| key.starts_with(JUICEFS_PREFIX));
    let is_juicefs = speaks_juicefs || secrets.expose().any(|(key, _)| key == METAURL);
    Ok(if is_juicefs { ClientKind::Juicefs } else { ClientKind::Hostdir })
}

fn named(name: &str) -> Option<ClientKind> {
    ClientKind::ALL.iter().copied().find(|client| client.as_str() == name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    type Entries = &'static [(&'static str, &'static str)];

    fn of(map: &[(&str, &str)], secrets: &[&str]) -> Result<ClientKind, InvalidField> {
        let map = map.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let secrets = secrets.iter().map(|key| ((*key).to_owned(), "hunter2".to_owned())).collect();
        client_of("parameters", &map, &secrets)
    }

    #[test]
    fn what_is_said_counts_and_the_rest_is_told_by_keys_and_secret() {
        let cases: &[(Entries, &[&str], ClientKind)] = &[
            (&[], &[], ClientKind::Hostdir),
            (&[("root", "main")], &["password"], ClientKind::Hostdir),
            (&[("subPath", "a")], &["name", "metaurl"], ClientKind::Juicefs),
            (&[("juicefs/mount-cpu-limit", "1")], &[], ClientKind::Juicefs),
            (&[("client", "juicefs")], &[], ClientKind::Juicefs),
            (&[("client", "hostdir")], &["metaurl"], ClientKind::Hostdir),
        ];
        for (map, secrets, want) in cases {
            assert_eq!(of(map, secrets).unwrap(), *want, "{map:?} {secrets:?}");
        }
    }

    #[test]
    fn an_unknown_client_is_named_with_those_that_are_known() {
        let error = of(&[("client", "ceph")], &["metaurl"]).unwrap_err();
        assert_eq!(error.field, "parameters[\"client\"]");
        assert!(error.to_string().contains("hostdir, juicefs"), "{error}");
    }
}
