//! How are credentials carried so that they are never shown?

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// Stands where a secret was.
const REDACTED: &str = "<redacted>";

/// The secrets of one request: keys may be shown, values never.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, SecretString>);

impl Secrets {
    /// True when the request carried no secret.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Key and exposed value, in the order of the keys; for the HMAC and for the agent's socket only.
    pub fn expose(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.expose_secret()))
    }

    /// A text without their values.
    #[must_use]
    pub fn hidden_in(&self, text: String) -> String {
        let mut values: Vec<_> =
            self.expose().map(|(_, value)| value).filter(|value| !value.is_empty()).collect();
        // One may be part of another, whose rest would stay.
        values.sort_by_key(|value| Reverse(value.len()));
        values.into_iter().fold(text, |text, value| text.replace(value, REDACTED))
    }
}

impl FromIterator<(String, String)> for Secrets {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(secrets: I) -> Self {
        Self(secrets.into_iter().map(|(key, value)| (key, SecretString::from(value))).collect())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|key| (key, REDACTED))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_value_is_left() {
        let secrets: Secrets = [("a", "pass"), ("b", "password"), ("c", "")]
            .map(|(key, value)| (key.into(), value.into()))
            .into_iter()
            .collect();
        assert_eq!(secrets.hidden_in("password, pass".to_owned()), "<redacted>, <redacted>");
    }
}
