//! How is a list of mount options written as one text?
//!
//! Options are separated by commas; blanks around them do not count, nor do empty ones. An option is `name` or
//! `name=value`. The value is all that follows the first `=`, further `=` among it, up to the comma. A value that holds a
//! comma or a quotation mark, or begins or ends with a blank, stands in quotation marks, where `\"` and `\\` mean
//! `"` and `\`. The JuiceFS CSI driver splits at every comma and refuses a second `=`; what it takes reads the same here.

use std::iter::Peekable;
use std::str::Chars;

/// One option as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Written {
    pub(super) name: String,
    /// `None` when there was no `=`.
    pub(super) value: Option<String>,
}

const SEPARATOR: char = ',';
const ASSIGN: char = '=';
const QUOTE: char = '"';
const ESCAPE: char = '\\';

/// Splits a text into its options; an error continues the sentence that begins with the field.
pub(super) fn split(text: &str) -> Result<Vec<Written>, String> {
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    let mut options = Vec::new();
    let mut rest = text.chars().peekable();
    while rest.peek().is_some() {
        let name = take_until(&mut rest, &[SEPARATOR, ASSIGN]).trim().to_owned();
        let value = if rest.next_if_eq(&ASSIGN).is_some() { Some(value(&name, &mut rest)?) } else { None };
        rest.next_if_eq(&SEPARATOR);
        if !name.is_empty() {
            options.push(Written { name, value });
        } else if value.is_some() {
            return Err("has an option without a name before '='".to_owned());
        }
    }
    Ok(options)
}

/// Writes options so that [`split`] gives them back.
pub(super) fn join(options: &[Written]) -> String {
    let write = |option: &Written| match &option.value {
        None => option.name.clone(),
        Some(value) => format!("{}{ASSIGN}{}", option.name, quoted_if_needed(value)),
    };
    options.iter().map(write).collect::<Vec<_>>().join(&SEPARATOR.to_string())
}

fn take_until(rest: &mut Peekable<Chars<'_>>, ends: &[char]) -> String {
    let mut taken = String::new();
    while let Some(letter) = rest.next_if(|letter| !ends.contains(letter)) {
        taken.push(letter);
    }
    taken
}

fn value(name: &str, rest: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    while rest.next_if_eq(&' ').is_some() {}
    if rest.next_if_eq(&QUOTE).is_none() {
        let plain = take_until(rest, &[SEPARATOR]).trim().to_owned();
        if plain.contains(QUOTE) {
            return Err(format!("has an option {name:?} with a quotation mark inside an unquoted value"));
        }
        return Ok(plain);
    }
    let value = quoted_value(rest).ok_or_else(|| {
        format!("has an option {name:?} whose quoted value does not end, or has a '\\' alone")
    })?;
    if take_until(rest, &[SEPARATOR]).trim().is_empty() {
        Ok(value)
    } else {
        Err(format!("has an option {name:?} with text after its quoted value"))
    }
}

/// What stands between the opening mark, which was taken, and the closing one.
fn quoted_value(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut value = String::new();
    loop {
        match rest.next()? {
            QUOTE => return Some(value),
            ESCAPE => value.push(rest.next_if(|next| [QUOTE, ESCAPE].contains(next))?),
            letter => value.push(letter),
        }
    }
}

fn quoted_if_needed(value: &str) -> String {
    if value.trim() == value && !value.contains([SEPARATOR, QUOTE]) {
        return value.to_owned();
    }
    let escaped = value.replace(ESCAPE, "\\\\").replace(QUOTE, "\\\"");
    format!("{QUOTE}{escaped}{QUOTE}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn written(name: &str, value: Option<&str>) -> Written {
        Written { name: name.to_owned(), value: value.map(str::to_owned) }
    }

    #[test]
    fn options_are_split_as_documented() {
        let cases = [
            ("", vec![]),
            (" , ,", vec![]),
            ("ro", vec![written("ro", None)]),
            (
                "cache-size=1024, writeback ,",
                vec![written("cache-size", Some("1024")), written("writeback", None)],
            ),
            ("tag=a=b==,x", vec![written("tag", Some("a=b==")), written("x", None)]),
            (
                r#"tag="a,b=\"c\"\\" , x= 1 "#,
                vec![written("tag", Some(r#"a,b="c"\"#)), written("x", Some("1"))],
            ),
            (r"log=c:\dir", vec![written("log", Some(r"c:\dir"))]),
            ("a=", vec![written("a", Some(""))]),
        ];
        for (text, want) in cases {
            assert_eq!(split(text).unwrap(), want, "{text}");
            assert_eq!(split(&join(&want)).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for text in ["=1", "a=\"b", "a=\"b\"c", "a=b\"c\"", r#"a="\n""#, "a\nb", "a=\0"] {
            assert!(split(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn values_of_any_letters_survive() {
        for value in ["", ",", "\"", "\\", " a ", "\\\"", "a,b=c", "=", "é", "\\\\,\"\"", "a b"] {
            let options = vec![written("first", Some(value)), written("second", None)];
            assert_eq!(split(&join(&options)).unwrap(), options, "{value:?}");
        }
    }
}
