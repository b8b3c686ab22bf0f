//! Which path component stands for a name that a CSI caller chose?
//!
//! A name that is safe as a component stands for itself. Any other becomes a readable part of itself, `.h` and a hash,
//! so that two names never share a component: a name that already looks like a hashed one is hashed as well.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// Hex digits of the hash: 128 bits of a SHA-256, which two names will not share by chance.
const HASH_DIGITS: usize = 32;
/// Stands between the readable part and the hash.
const HASH_MARK: &str = ".h";

/// The component for `name`, at most `bytes_max` long; `bytes_max` must leave room for mark and hash.
pub(super) fn component_for(name: &str, bytes_max: usize) -> String {
    if name.len() <= bytes_max && is_component(name) && !looks_hashed(name) {
        return name.to_owned();
    }
    let mut hash = HEXLOWER.encode(&Sha256::digest(name.as_bytes()));
    hash.truncate(HASH_DIGITS);
    let readable_max = bytes_max.saturating_sub(HASH_MARK.len() + HASH_DIGITS);
    let readable: String = name
        .chars()
        .map(|letter| if is_plain(letter) { letter } else { '-' })
        .skip_while(|letter| !letter.is_ascii_alphanumeric())
        .take(readable_max)
        .collect();
    if readable.is_empty() { format!("v{HASH_MARK}{hash}") } else { format!("{readable}{HASH_MARK}{hash}") }
}

/// Is the name one safe path component, label value and part of an id?
pub(super) fn is_component(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.chars().all(is_plain)
}

fn is_plain(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.')
}

fn looks_hashed(name: &str) -> bool {
    name.rsplit_once(HASH_MARK).is_some_and(|(_, hash)| {
        hash.len() == HASH_DIGITS && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 95;

    #[test]
    fn a_safe_name_stands_for_itself() {
        for name in ["pvc-2e0d1c5a-7b1f-4b0e-9a55-0c8a8a3f4c11", "A", "a..b", &"x".repeat(MAX)] {
            assert_eq!(component_for(name, MAX), name);
        }
    }

    #[test]
    fn any_other_name_becomes_a_short_safe_component_of_its_own() {
        let long = "x".repeat(MAX + 1);
        let names = ["-rf", "..", ".mountpod", "a/b", "a b", "a#b", "größe", "/", long.as_str(), "../../etc"];
        let mut seen = std::collections::BTreeSet::new();
        for name in names {
            let component = component_for(name, MAX);
            assert!(component.len() <= MAX, "{name:?} became {} bytes", component.len());
            assert!(is_component(&component), "{name:?} became {component:?}");
            assert!(seen.insert(component.clone()), "{component:?} stands for two names");
        }
    }

    #[test]
    fn a_name_that_looks_hashed_does_not_share_a_component() {
        let hashed = component_for("a/b", MAX);
        assert_ne!(component_for(&hashed, MAX), hashed);
    }
}
