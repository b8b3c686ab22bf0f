//! What decides how a client is run, and which mounts may therefore share one session?

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{FilesystemName, InvalidId, Secrets, VolumeId, kept_as_text};

/// Hex digits of a session id: 128 bits of a SHA-256, which two sessions of one node will not share by chance.
const SESSION_ID_DIGITS: usize = 32;

/// Which FUSE program serves a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientKind {
    /// The built-in client: a directory of the node.
    Hostdir,
    /// The JuiceFS Community client.
    Juicefs,
}

impl ClientKind {
    /// Every client that there is.
    pub const ALL: &[Self] = &[Self::Hostdir, Self::Juicefs];

    /// Does it give files to their owners on the node? Then it serves as root, with the capabilities for that alone; any
    /// other client needs no right at all.
    #[must_use]
    pub fn sets_owners(self) -> bool {
        match self {
            Self::Hostdir => true,
            Self::Juicefs => false,
        }
    }

    /// Does it tell metrics over HTTP?
    #[must_use]
    pub fn has_metrics(self) -> bool {
        match self {
            Self::Hostdir => false,
            Self::Juicefs => true,
        }
    }

    /// The name in parameters, records and mount types.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hostdir => "hostdir",
            Self::Juicefs => "juicefs",
        }
    }
}

/// Everything that decides how a client is run, except its resources. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MountSpec {
    /// The FUSE program.
    pub client: ClientKind,
    /// The filesystem that it serves.
    pub filesystem: FilesystemName,
    /// The directory of the filesystem that becomes the root of the mount: plain, relative, without `..`.
    pub subdirectory: String,
    /// Options of the client, by name.
    pub options: BTreeMap<String, String>,
    /// Tells other credentials apart without holding them.
    pub credentials: Option<CredentialsDigest>,
}

/// HMAC of a request's secrets under the node's own random key.
///
/// A plain hash would let a reader of pod annotations test guesses of a password.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CredentialsDigest(String);

/// The random key of a node; it never leaves it.
#[derive(Clone)]
pub struct NodeKey(SecretSlice<u8>);

impl NodeKey {
    /// Takes the key's bytes, which its owner read from the node's key file.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(SecretSlice::from(bytes))
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(<redacted>)")
    }
}

impl CredentialsDigest {
    /// Digests the secrets of a request; `None` when it carried none.
    #[must_use]
    pub fn of(secrets: &Secrets, key: &NodeKey) -> Option<Self> {
        if secrets.is_empty() {
            return None;
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(key.0.expose_secret()).ok()?;
        for (name, value) in secrets.expose() {
            // Lengths make the encoding unambiguous: ("ab","c") and ("a","bc") differ.
            for part in [name, value] {
                mac.update(&part.len().to_le_bytes());
                mac.update(part.as_bytes());
            }
        }
        Some(Self(HEXLOWER.encode(&mac.finalize().into_bytes())))
    }
}

/// Identifies a mount spec.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpecHash([u8; 32]);

impl MountSpec {
    /// The identity of this spec.
    ///
    /// # Errors
    /// Never in practice: a spec of strings always has a JSON form.
    pub fn hash(&self) -> Result<SpecHash, serde_json::Error> {
        Ok(SpecHash(Sha256::digest(serde_json::to_vec(self)?).into()))
    }
}

/// What may share one session: the volume by default.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ShareKey {
    /// A session of the volume's own.
    Volume(VolumeId),
    /// One for the volumes of a group, which are all of this filesystem.
    Group(FilesystemName, String),
    /// One for all volumes of this filesystem.
    Filesystem(FilesystemName),
}

impl ShareKey {
    /// Parts of which no two keys have the same row.
    fn parts(&self) -> [String; 3] {
        match self {
            Self::Volume(volume) => ["volume".to_owned(), volume.to_string(), String::new()],
            Self::Group(filesystem, group) => ["group".to_owned(), filesystem.to_string(), group.clone()],
            Self::Filesystem(filesystem) => ["filesystem".to_owned(), filesystem.to_string(), String::new()],
        }
    }
}

/// Names one session on a node: derived from the share key and the spec hash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

impl SessionId {
    /// The session of these two.
    #[must_use]
    pub fn new(share_key: &ShareKey, spec: &SpecHash) -> Self {
        let mut hash = Sha256::new();
        for part in share_key.parts().iter().filter(|part| !part.is_empty()) {
            hash.update(part);
            hash.update(b"\0");
        }
        hash.update(spec.0);
        let mut digits = HEXLOWER.encode(&hash.finalize());
        digits.truncate(SESSION_ID_DIGITS);
        Self(digits)
    }

    /// The id as text: 32 hex digits, safe as a file name and a label value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = InvalidId;

    fn from_str(id: &str) -> Result<Self, InvalidId> {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if id.len() == SESSION_ID_DIGITS && id.bytes().all(hex) {
            Ok(Self(id.to_owned()))
        } else {
            Err(InvalidId::Form)
        }
    }
}

kept_as_text!(SessionId, InvalidId);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn spec() -> MountSpec {
        MountSpec {
            client: ClientKind::Hostdir,
            filesystem: "main".parse().unwrap(),
            subdirectory: "pvc-1".to_owned(),
            options: BTreeMap::new(),
            credentials: None,
        }
    }

    fn secrets(entries: &[(&str, &str)]) -> Secrets {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn other_credentials_never_share_a_session() {
        let key = NodeKey::new(vec![7; 32]);
        let with =
            |entries| MountSpec { credentials: CredentialsDigest::of(&secrets(entries), &key), ..spec() };
        let session = |spec: &MountSpec| {
            SessionId::new(&ShareKey::Volume("main#pvc-1".parse().unwrap()), &spec.hash().unwrap())
        };
        let sessions: std::collections::BTreeSet<_> =
            [spec(), with(&[("ab", "c")]), with(&[("a", "bc")]), with(&[("a", "b"), ("c", "")])]
                .iter()
                .map(session)
                .collect();
        assert_eq!(sessions.len(), 4);
        assert_eq!(session(&with(&[("a", "b")])), session(&with(&[("a", "b")])));
    }

    #[test]
    fn a_digest_depends_on_the_nodes_key_and_shows_no_secret() {
        let secrets = secrets(&[("password", "hunter2")]);
        let one = CredentialsDigest::of(&secrets, &NodeKey::new(vec![1; 32]));
        assert_ne!(one, CredentialsDigest::of(&secrets, &NodeKey::new(vec![2; 32])));
        assert_eq!(CredentialsDigest::of(&Secrets::default(), &NodeKey::new(vec![1; 32])), None);
        assert!(!format!("{one:?} {secrets:?}").contains("hunter2"));
    }

    #[test]
    fn each_kind_of_sharing_has_sessions_of_its_own() {
        let (main, other): (FilesystemName, FilesystemName) =
            ("main".parse().unwrap(), "other".parse().unwrap());
        let keys = [
            ShareKey::Volume("main#a".parse().unwrap()),
            ShareKey::Group(main.clone(), "a".to_owned()),
            ShareKey::Group(main.clone(), "b".to_owned()),
            ShareKey::Group(other, "a".to_owned()),
            ShareKey::Filesystem(main),
        ];
        let hash = spec().hash().unwrap();
        let ids: std::collections::BTreeSet<_> = keys.iter().map(|key| SessionId::new(key, &hash)).collect();
        assert_eq!(ids.len(), keys.len());
    }

    #[test]
    fn a_session_id_is_read_as_it_was_printed() {
        let id = SessionId::new(&ShareKey::Volume("main#a".parse().unwrap()), &spec().hash().unwrap());
        assert_eq!(id.as_str().parse::<SessionId>().unwrap(), id);
        for other in ["", "../../etc", &"g".repeat(SESSION_ID_DIGITS)] {
            assert!(other.parse::<SessionId>().is_err(), "{other:?}");
        }
    }
}
