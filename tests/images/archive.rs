//! What is in an OCI archive? Reads one and checks every digest and size on the way.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tar::{Archive, EntryType};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image of one layer, taken out of its archive.
pub(crate) struct Image {
    pub(crate) layout_version: String,
    pub(crate) reference: String,
    /// Operating system and architecture, as the index says them.
    pub(crate) platform: (String, String),
    pub(crate) config: Value,
    pub(crate) entries: Vec<Entry>,
    /// Files of the archive that neither the layout nor a descriptor asks for.
    pub(crate) unreferenced: Vec<String>,
    /// The layer, not compressed.
    layer: Vec<u8>,
}

/// A file or directory of the layer.
pub(crate) struct Entry {
    /// With a leading slash, without a trailing one.
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    /// Seconds since 1970.
    pub(crate) time: u64,
    pub(crate) is_directory: bool,
    content: Vec<u8>,
}

impl Image {
    pub(crate) fn open(path: &Path) -> Self {
        let mut files = Files::of(path);
        let layout = files.take_json("oci-layout");
        let index = files.take_json("index.json");
        assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&2.into(), &INDEX.into()));
        let in_index = only(&index["manifests"]);
        let manifest: Value = serde_json::from_slice(&files.take_blob(in_index, MANIFEST)).unwrap();
        assert_eq!((&manifest["schemaVersion"], &manifest["mediaType"]), (&2.into(), &MANIFEST.into()));
        let config: Value = serde_json::from_slice(&files.take_blob(&manifest["config"], CONFIG)).unwrap();
        let compressed = files.take_blob(only(&manifest["layers"]), LAYER);
        // RFC 1952: the time lies at byte 4; flag 8 at byte 3 says that a file name follows.
        assert_eq!(
            (&compressed[4..8], compressed[3] & 8),
            (&[0; 4][..], 0),
            "gzip keeps no time and no name"
        );
        let mut layer = Vec::new();
        GzDecoder::new(&compressed[..]).read_to_end(&mut layer).unwrap();
        assert_eq!(config["rootfs"]["type"], "layers");
        assert_eq!(only(&config["rootfs"]["diff_ids"]), &digest(&layer));

        Self {
            layout_version: text(&layout["imageLayoutVersion"]),
            reference: text(&in_index["annotations"]["org.opencontainers.image.ref.name"]),
            platform: (text(&in_index["platform"]["os"]), text(&in_index["platform"]["architecture"])),
            entries: entries(&layer),
            unreferenced: files.0.into_keys().collect(),
            config,
            layer,
        }
    }

    /// Destinations of the executable files.
    pub(crate) fn programs(&self) -> impl Iterator<Item = &str> {
        let programs: Vec<_> =
            self.entries.iter().filter(|entry| !entry.is_directory && entry.mode & 0o111 != 0).collect();
        assert!(!programs.is_empty(), "an image holds a program");
        programs.into_iter().map(|entry| entry.path.as_str())
    }

    pub(crate) fn content(&self, path: &str) -> Vec<u8> {
        self.entries.iter().find(|entry| entry.path == path).map(|entry| entry.content.clone()).unwrap()
    }

    pub(crate) fn unpack(&self, root: &Path) {
        let mut layer = Archive::new(&self.layer[..]);
        layer.set_preserve_permissions(true);
        layer.unpack(root).unwrap();
    }
}

/// The archive's files by name.
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn of(path: &Path) -> Self {
        let mut archive = Archive::new(File::open(path).unwrap());
        let mut files = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            match entry.header().entry_type() {
                EntryType::Directory => {
                    assert!(["blobs/", "blobs/sha256/"].contains(&name.as_str()), "{name}");
                }
                EntryType::Regular => {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content).unwrap();
                    assert!(files.insert(name.clone(), content).is_none(), "{name} stands there twice");
                }
                other => panic!("{name} is neither a file nor a directory but {other:?}"),
            }
        }
        Self(files)
    }

    fn take_json(&mut self, name: &str) -> Value {
        serde_json::from_slice(&self.0.remove(name).unwrap_or_else(|| panic!("{name} is missing"))).unwrap()
    }

    /// The blob that a descriptor names, checked against it.
    fn take_blob(&mut self, descriptor: &Value, media_type: &str) -> Vec<u8> {
        assert_eq!(descriptor["mediaType"], media_type);
        let named = text(&descriptor["digest"]);
        let path = format!("blobs/{}", named.replace(':', "/"));
        let blob = self.0.remove(&path).unwrap_or_else(|| panic!("{path} is missing"));
        assert_eq!(digest(&blob), named);
        assert_eq!(descriptor["size"], blob.len());
        blob
    }
}

fn entries(layer: &[u8]) -> Vec<Entry> {
    let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        let kind = header.entry_type();
        let path = format!("/{}", header.path().unwrap().display().to_string().trim_end_matches('/'));
        assert!(kind.is_dir() || kind.is_file(), "{path} is neither a file nor a directory but {kind:?}");
        Entry {
            mode: header.mode().unwrap(),
            owner: (header.uid().unwrap(), header.gid().unwrap()),
            time: header.mtime().unwrap(),
            is_directory: kind.is_dir(),
            path,
            content,
        }
    };
    Archive::new(layer).entries().unwrap().map(read).collect()
}

fn only(list: &Value) -> &Value {
    match list.as_array().map(Vec::as_slice) {
        Some([one]) => one,
        _ => panic!("exactly one is expected in {list}"),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a string is expected, not {value}")).to_owned()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}
