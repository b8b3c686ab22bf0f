//! Are mount options read as their writer meant them, or refused by name?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn flags(flags: &[&str]) -> Vec<String> {
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}

fn client(options: &[(&str, &str)]) -> BTreeMap<String, String> {
    options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn options_of_the_mount_and_of_the_client_are_told_apart() {
    let said = flags(&[
        "cache-size=204800",
        "writeback_cache",
        "ro, noexec,nodev",
        "subdir=/my/dir",
        "cache-dir=memory",
    ]);
    let options = MountOptions::of_flags("flags", &said).unwrap();
    assert_eq!(options.attributes.writability, Some(Writability::ReadOnly));
    assert_eq!(options.attributes.execution, Some(Execution::Refused));
    assert_eq!(options.subdirectory.as_ref().map(VolumePath::as_str), Some("my/dir"));
    assert_eq!(options.cache, Some(CachePlace::Memory));
    assert_eq!(options.client, client(&[("cache-size", "204800"), ("writeback_cache", "")]));
    assert_eq!(MountOptions::of_text("text", &options.to_text()).unwrap(), options);
}

#[test]
fn values_may_hold_equals_signs_and_quoted_commas() {
    let options = MountOptions::of_text("text", r#"tag="a=1,b=2",custom-labels=k=v"#).unwrap();
    assert_eq!(options.client, client(&[("tag", "a=1,b=2"), ("custom-labels", "k=v")]));
    assert_eq!(MountOptions::of_text("text", &options.to_text()).unwrap(), options);
}

#[test]
fn a_cache_in_directories_of_the_node_is_written_as_it_was_read() {
    let options = MountOptions::of_text("text", "cache-dir=/srv/a:/srv/b:/srv/a").unwrap();
    assert_eq!(options.to_text(), "cache-dir=/srv/a:/srv/b");
    assert_eq!(MountOptions::of_text("text", &options.to_text()).unwrap(), options);
}

#[test]
fn a_refused_option_is_named() {
    let cases = [
        ("suid", "\"suid\""),
        ("ro,rw", "\"rw\""),
        ("exec,noexec", "\"noexec\""),
        ("ro=1", "\"ro\""),
        ("cache-dir=data/cache", "\"cache-dir\""),
        ("cache-dir=/a:/b/..", "\"cache-dir\""),
        ("cache-dir", "\"cache-dir\""),
        ("subdir=../x", "\"subdir\""),
        ("subdir=a,subdir=b", "\"subdir\""),
        ("--cache-size=1", "\"--cache-size\""),
        ("cache-size=1,cache-size=2", "\"cache-size\""),
        ("cache-size=", "\"cache-size\""),
        ("cache-group=${.node.name}", "\"cache-group\""),
        ("a b=1", "\"a b\""),
        ("fd=3", "\"fd\""),
    ];
    for (text, name) in cases {
        let error = MountOptions::of_text("text", text).unwrap_err();
        assert_eq!(error.field, "text", "{text}");
        assert!(error.why.contains(name), "{text}: {error}");
    }
}

#[test]
fn an_option_may_be_repeated_but_not_contradicted() {
    let options = MountOptions::of_text("text", "cache-size=1,cache-size=1,ro,read-only").unwrap();
    assert_eq!(options.client, client(&[("cache-size", "1")]));
    let same = options.clone().with_flags("flags", &flags(&["cache-size=1"])).unwrap();
    assert_eq!(same, options);
    let error = options.with_flags("flags", &flags(&["ro", "cache-size=2"])).unwrap_err();
    assert_eq!(error.field, "flags[1]");
}

#[test]
fn a_contradiction_does_not_repeat_values() {
    let error = MountOptions::of_text("text", "bucket=s3cr3t,bucket=other").unwrap_err();
    assert!(!error.to_string().contains("s3cr3t"), "{error}");
}

#[test]
fn flags_have_the_limit_of_csi() {
    let long = flags(&[&format!("tag={}", "x".repeat(4100))]);
    assert!(MountOptions::of_flags("flags", &long).unwrap_err().why.contains("4096"));
    assert!(MountOptions::of_flags("flags", &[]).unwrap().is_empty());
}
