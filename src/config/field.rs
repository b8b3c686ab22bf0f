//! How does an error name the field that is wrong?

use std::collections::BTreeMap;
use std::collections::HashMap;

/// Longest string of a request where nothing else is said (CSI spec, "Size Limits"), bytes.
pub const STRING_BYTES_MAX: usize = 128;
/// Largest map of a request where nothing else is said (CSI spec, "Size Limits"), bytes of keys and values.
pub const MAP_BYTES_MAX: usize = 4096;
/// A key or value that was refused is repeated up to this length, so that an error stays readable.
const SHOWN_CHARS_MAX: usize = 80;

/// A field of a request or a flag that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {why}")]
pub struct InvalidField {
    /// The field as its caller knows it: `parameters["root"]`, `volume_capabilities[0].access_mode`.
    pub field: String,
    /// Why, as the rest of a sentence that begins with the field.
    pub why: String,
}

impl InvalidField {
    /// An error about `field`; `why` continues the sentence: "must be ...", "is missing".
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers give a text or an error that they have no more use for"
    )]
    pub fn new(field: impl Into<String>, why: impl ToString) -> Self {
        Self { field: field.into(), why: why.to_string() }
    }

    /// The same error, seen from the message that the field belongs to.
    #[must_use]
    pub fn inside(self, outer: &str) -> Self {
        Self { field: format!("{outer}.{}", self.field), why: self.why }
    }
}

/// The name of an entry of a map field.
#[must_use]
pub fn entry(map: &str, key: &str) -> String {
    format!("{map}[{}]", quoted(key))
}

/// A caller's text for an error: quoted, control characters escaped, shortened.
#[must_use]
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Takes a string field that may be empty, up to the general limit and without control characters.
///
/// # Errors
/// When the text is too long or holds control characters.
pub fn plain_text<'a>(field: &str, text: &'a str) -> Result<&'a str, InvalidField> {
    if text.len() > STRING_BYTES_MAX {
        return Err(too_long(field, text.len(), STRING_BYTES_MAX));
    }
    if text.chars().any(is_banned) {
        return Err(InvalidField::new(field, "must not contain control characters"));
    }
    Ok(text)
}

/// Takes a map field in the order of its keys, up to the general limit and without control characters in keys.
///
/// # Errors
/// When the map is too large or a key holds control characters.
pub fn plain_map<'a>(
    field: &str,
    map: &'a HashMap<String, String>,
) -> Result<BTreeMap<&'a str, &'a str>, InvalidField> {
    let bytes: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAP_BYTES_MAX {
        return Err(too_long(field, bytes, MAP_BYTES_MAX));
    }
    for (key, value) in map {
        if key.is_empty() {
            return Err(InvalidField::new(entry(field, key), "has an empty key"));
        }
        if key.chars().chain(value.chars()).any(is_banned) {
            return Err(InvalidField::new(entry(field, key), "must not contain control characters"));
        }
    }
    Ok(map.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect())
}

/// An error about a field's length.
#[must_use]
pub fn too_long(field: &str, got: usize, max: usize) -> InvalidField {
    InvalidField::new(field, format!("is {got} bytes long, at most {max} are allowed"))
}

/// Characters that CSI bans from names ("CreateVolumeRequest.name"); no field of ours needs them.
fn is_banned(letter: char) -> bool {
    matches!(letter, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{9f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_field_and_stays_short() {
        let error = InvalidField::new(entry("parameters", &"k\n".repeat(500)), "is unknown").inside("outer");
        let text = error.to_string();
        assert!(text.starts_with("outer.parameters[\"k\\nk"), "{text}");
        assert!(text.len() < 300 && !text.contains('\n'), "{text}");
    }

    #[test]
    fn text_is_bounded_and_plain() {
        assert!(plain_text("name", &"x".repeat(128)).is_ok());
        for bad in ["x".repeat(129), "a\0b".to_owned(), "a\u{85}".to_owned(), "\u{7f}".to_owned()] {
            assert_eq!(plain_text("name", &bad).map_err(|e| e.field), Err("name".to_owned()), "{bad:?}");
        }
    }

    #[test]
    fn a_map_is_bounded_and_plain() {
        let map = |key: &str, value: &str| HashMap::from([(key.to_owned(), value.to_owned())]);
        assert!(plain_map("parameters", &map("a", &"x".repeat(4095))).is_ok());
        for bad in [map("a", &"x".repeat(4096)), map("", "x"), map("a\0", "x"), map("a", "\0")] {
            assert!(plain_map("parameters", &bad).is_err(), "{bad:?}");
        }
    }
}
