//! How is a metadata URL given to the client without its password?
//!
//! The client's arguments can be read by every process of its PID namespace, and stand in the node's process table: so
//! the address goes there alone, and the password into the environment variable `META_PASSWORD`
//! (juicefs v1.4.1: `pkg/meta/redis.go` for Redis, `setPasswordFromEnv` of `pkg/meta/interface.go` for SQL).

use std::fmt;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

/// Metadata engines that take their password from `META_PASSWORD`.
const WITH_PASSWORD: &[&str] = &["redis", "rediss", "unix", "mysql", "postgres"];
/// Of these, the engine whose address is a URL: its password is percent-encoded there, and plain in the environment.
const PERCENT_ENCODED: &[&str] = &["redis", "rediss", "unix", "postgres"];
/// Engines in a file: what follows the scheme is a path, with no user in it.
const IN_A_FILE: &[&str] = &["sqlite3", "badger"];

/// Settings of PostgreSQL and SQLite that are passwords.
const PASSWORD_SETTINGS: &[&str] = &["password", "sslpassword", "_auth_pass"];

/// A metadata URL in two parts.
#[derive(Clone)]
pub struct MetaUrl {
    address: String,
    password: Option<SecretString>,
}

impl fmt::Debug for MetaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetaUrl").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why a metadata URL can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMetaUrl {
    /// Nothing is there.
    #[error("is empty")]
    Empty,
    /// It can't be an argument, or would be read as an option.
    #[error("holds a control character or begins with '-'")]
    Characters,
    /// The engine would want the password in its argument.
    #[error(
        "has a password, which this metadata engine takes from its arguments only, where others can read it; \
         engines with a password are redis, rediss, mysql and postgres"
    )]
    PasswordInArguments,
    /// It would stand in an argument.
    #[error(
        "has a password among its settings, after '?', where others can read it; write it as \
         SCHEME://USER:PASSWORD@..."
    )]
    PasswordInSettings,
    /// The percent-encoding of the password is broken.
    #[error("has a password whose percent-encoding is broken")]
    Encoding,
}

impl MetaUrl {
    /// Takes the password out of a URL. As for the client, a URL without a scheme is one of Redis.
    ///
    /// # Errors
    /// See [`InvalidMetaUrl`]; none repeats the URL.
    pub fn parse(url: &str) -> Result<Self, InvalidMetaUrl> {
        let url = url.trim();
        if url.is_empty() {
            return Err(InvalidMetaUrl::Empty);
        }
        if url.starts_with('-') || url.chars().any(char::is_control) {
            return Err(InvalidMetaUrl::Characters);
        }
        let (scheme, rest) = url.split_once("://").unwrap_or(("redis", url));
        if has_password_setting(rest) {
            return Err(InvalidMetaUrl::PasswordInSettings);
        }
        let plain = || Self { address: format!("{scheme}://{rest}"), password: None };
        if IN_A_FILE.contains(&scheme) {
            return Ok(plain());
        }
        // The last '@', as the client looks for it: a password of MySQL may have one.
        let Some((user, place)) = rest.rsplit_once('@') else { return Ok(plain()) };
        let Some((user, password)) = user.split_once(':') else { return Ok(plain()) };
        if password.is_empty() {
            return Ok(plain());
        }
        if !WITH_PASSWORD.contains(&scheme) {
            return Err(InvalidMetaUrl::PasswordInArguments);
        }
        let password = if PERCENT_ENCODED.contains(&scheme) {
            decoded(password).ok_or(InvalidMetaUrl::Encoding)?
        } else {
            password.to_owned()
        };
        // SQL engines find the place of the password by the '@'; Redis knows no user without a name.
        let address = match (scheme, user) {
            ("redis" | "rediss" | "unix", "") => format!("{scheme}://{place}"),
            _ => format!("{scheme}://{user}:@{place}"),
        };
        Ok(Self { address, password: Some(SecretString::from(password)) })
    }

    /// The URL without a password: an argument.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The file of an engine that keeps everything in one, or its directory: what stands before its settings.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        let (scheme, place) = self.address.split_once("://")?;
        let path = place.split('?').next().unwrap_or_default();
        IN_A_FILE.contains(&scheme).then(|| Path::new(path))
    }

    /// The password, for `META_PASSWORD`.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_ref().map(ExposeSecret::expose_secret)
    }
}

/// Settings stand after a '?'. A password that looks like one of them is refused, too.
fn has_password_setting(rest: &str) -> bool {
    let names = rest.split(['?', '&']).skip(1).map(|setting| setting.split('=').next().unwrap_or_default());
    names.into_iter().any(|name| PASSWORD_SETTINGS.contains(&name))
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_password_leaves_the_address() {
        for (url, address, password) in [
            ("redis://:pw@h:6379/1", "redis://h:6379/1", Some("pw")),
            ("rediss://u:p%40w%2F@h/1", "rediss://u:@h/1", Some("p@w/")),
            ("redis://:pw@master,a,b:26379/1", "redis://master,a,b:26379/1", Some("pw")),
            ("h:6379/1", "redis://h:6379/1", None),
            ("redis://u@h/1", "redis://u@h/1", None),
            ("mysql://u:p@%2F@(h:3306)/db", "mysql://u:@(h:3306)/db", Some("p@%2F")),
            ("postgres://u:pw@h/db?sslmode=disable", "postgres://u:@h/db?sslmode=disable", Some("pw")),
            ("sqlite3:///data/a:b@c.db", "sqlite3:///data/a:b@c.db", None),
            ("etcd://h:2379/p", "etcd://h:2379/p", None),
        ] {
            let parsed = MetaUrl::parse(url).unwrap();
            assert_eq!((parsed.address(), parsed.password()), (address, password), "{url}");
            assert!(!format!("{parsed:?}").contains("pw"), "{parsed:?}");
        }
    }

    #[test]
    fn what_would_stand_in_arguments_is_refused() {
        for (url, why) in [
            ("", InvalidMetaUrl::Empty),
            ("--log=/etc/x", InvalidMetaUrl::Characters),
            ("redis://h\n/1", InvalidMetaUrl::Characters),
            ("etcd://u:secret@h:2379/p", InvalidMetaUrl::PasswordInArguments),
            ("redis://:a%zz@h/1", InvalidMetaUrl::Encoding),
            ("postgres://h/db?user=u&password=secret", InvalidMetaUrl::PasswordInSettings),
            ("postgres://u@h/db?sslpassword=s@secret", InvalidMetaUrl::PasswordInSettings),
            ("sqlite3:///data/a.db?_auth_pass=secret", InvalidMetaUrl::PasswordInSettings),
        ] {
            let refused = MetaUrl::parse(url).unwrap_err();
            assert_eq!(refused, why, "{url}");
            assert!(!refused.to_string().contains("secret"));
        }
    }
}
