#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn secrets(entries: &[(&str, &str)]) -> Secrets {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

const FULL: &[(&str, &str)] = &[
    ("name", "vol"),
    ("metaurl", "redis://:meta-pw@h/1"),
    ("storage", "s3"),
    ("bucket", "https://b.s3.example.com"),
    ("access-key", "ak-id"),
    ("secret-key", "sk-value"),
    ("trash-days", "2"),
    ("format-options", "block-size=4096, compress=lz4,enable-acl"),
    ("envs", r#"{"GOGC": "50", "JFS_DROP_OSCACHE": "env-value", "CLOUD_KEY": "{\n  second-line\n}"}"#),
    ("passphrase", "pass"),
    ("encrypt_rsa_key", "-----BEGIN KEY-----\nkey-line\n"),
    ("configs", r#"{"gcs-key": "/etc/gcs"}"#),
];

#[test]
fn a_secret_of_the_juicefs_csi_driver_is_read_and_shows_nothing() {
    let secret = JuicefsSecret::read(&secrets(FULL)).unwrap();
    assert_eq!(secret.meta_url.address(), "redis://h/1");
    let environment: Vec<_> = secret.environment().collect();
    assert_eq!(
        environment,
        [
            ("META_PASSWORD", "meta-pw"),
            ("CLOUD_KEY", "{\n  second-line\n}"),
            ("GOGC", "50"),
            ("JFS_DROP_OSCACHE", "env-value"),
            ("JFS_RSA_PASSPHRASE", "pass")
        ]
    );
    let format = secret.format.as_ref().unwrap();
    assert_eq!(
        format.environment().collect::<Vec<_>>(),
        [("ACCESS_KEY", "ak-id"), ("SECRET_KEY", "sk-value")]
    );
    assert_eq!((format.name.as_str(), format.trash_days), ("vol", Some(2)));
    assert_eq!(format.options.keys().collect::<Vec<_>>(), ["block-size", "compress", "enable-acl"]);
    assert_eq!(secret.files.len(), 1);
    let shown = format!("{secret:?}");
    let hidden: Vec<String> = secret.hidden().expose().map(|(_, value)| value.to_owned()).collect();
    for value in ["meta-pw", "ak-id", "sk-value", "env-value", "second-line", "pass", "key-line"] {
        assert!(hidden.iter().any(|hidden| hidden == value), "{value}");
        assert!(!shown.contains(value), "{shown}");
    }
    assert!(!hidden.iter().any(|value| ["vol", "s3", "50", "{"].contains(&value.as_str())), "{hidden:?}");
}

#[test]
fn without_storage_a_filesystem_is_not_formatted() {
    let secret = JuicefsSecret::read(&secrets(&[("metaurl", "h/1"), ("name", "vol")])).unwrap();
    assert!(secret.format.is_none());
}

#[test]
fn a_key_that_can_not_be_used_is_refused_by_name_without_its_value() {
    let with = |key: &str, value: &str| {
        let mut entries: BTreeMap<_, _> = FULL.iter().copied().collect();
        entries.insert(key, value);
        JuicefsSecret::read(&entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
            .unwrap_err()
    };
    for (key, value) in [
        ("metaurl", ""),
        ("metaurl", "etcd://u:hunter2@h/x"),
        ("token", "hunter2"),
        ("configs", "hunter2"),
        ("configs", r#"{"gcs-key": "/tmp"}"#),
        ("acces-key", "hunter2"),
        ("bucket", ""),
        ("storage", ""),
        ("bucket", "--force"),
        ("name", ""),
        ("name", "Vol"),
        ("trash-days", "hunter2"),
        ("format-options", "force"),
        ("format-options", "secret-key=hunter2"),
        ("format-options", "Block=hunter2"),
        ("envs", "hunter2"),
        ("envs", r#"{"LD_PRELOAD": "hunter2"}"#),
        ("envs", r#"{"_JFS_META_SID": "hunter2"}"#),
        ("envs", r#"{"a=b": "hunter2"}"#),
    ] {
        let refused = with(key, value);
        assert_eq!(refused.key, key, "{refused}");
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
    }
}
