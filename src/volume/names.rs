//! Which path component stands for a name that a CSI caller chose?
//!
//! A name that is safe as a component stands for itself. Any other becomes a readable part of itself, `.h` and a hash,
//! so that two names never share a component: a name that already looks like a hashed one is hashed as well.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// Most hex digits of the hash: 128 bits of a SHA-256, which two names will not share by chance.
const HASH_DIGITS_MAX: usize = 32;
/// Where there is little room, this part of it is the hash's.
const HASH_SHARE: usize = 2;
/// Stands between the readable part and the hash.
const HASH_MARK: &str = ".h";

/// The component for `name`, at most `bytes_max` long, which is at least 16.
pub(super) fn component_for(name: &str, bytes_max: usize) -> String {
    let digits = HASH_DIGITS_MAX.min(bytes_max / HASH_SHARE);
    if name.len() <= bytes_max && is_component(name) && !looks_hashed(name, digits) {
        return name.to_owned();
    }
    let mut hash = HEXLOWER.encode(&Sha256::digest(name.as_bytes()));
    hash.truncate(digits);
    let readable_max = bytes_max.saturating_sub(HASH_MARK.len() + digits);
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

fn looks_hashed(name: &str, digits: usize) -> bool {
    name.rsplit_once(HASH_MARK).is_some_and(|(_, hash)| {
        hash.len() == digits && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 95;
    const SHORT: usize = 32;

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
            for max in [MAX, SHORT] {
                let component = component_for(name, max);
                assert!(component.len() <= max, "{name:?} became {} bytes", component.len());
                assert!(is_component(&component), "{name:?} became {component:?}");
                assert!(seen.insert(component.clone()), "{component:?} stands for two names");
            }
        }
    }

    #[test]
    fn a_name_that_looks_hashed_does_not_share_a_component() {
        for max in [MAX, SHORT] {
            let hashed = component_for("a/b", max);
            assert_ne!(component_for(&hashed, max), hashed);
        }
    }
}
