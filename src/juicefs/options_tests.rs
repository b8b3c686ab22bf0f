#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn map(options: &[(&str, &str)]) -> BTreeMap<String, String> {
    options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn options_are_read_in_all_forms_that_people_write() {
    let list =
        ["cache-size=2048", "--prefetch", "-o allow_other,writeback_cache", "async_dio", "ro", "", "o=debug"];
    let expected = map(&[
        ("cache-size", "2048"),
        ("o", "writeback_cache,async_dio,debug"),
        ("prefetch", ""),
        ("read-only", ""),
    ]);
    assert_eq!(from_list(list).unwrap(), expected);
    let values = ["custom-labels=a:b=c,d:e", "network-interfaces=eth0,eth1", "metrics 0.0.0.0:9567"];
    let expected = map(&[
        ("custom-labels", "a:b=c,d:e"),
        ("metrics", "0.0.0.0:9567"),
        ("network-interfaces", "eth0,eth1"),
    ]);
    assert_eq!(from_list(values).unwrap(), expected);
    let list = ["cache-size=1", "noexec", "network-interfaces=eth0,eth1", "allow_other", "ro"];
    let read = from_list(list).unwrap();
    assert_eq!(read["network-interfaces"], "eth0,eth1");
    assert_eq!(read.keys().collect::<Vec<_>>(), ["cache-size", "network-interfaces", "noexec", "read-only"]);
}

#[test]
fn dangerous_options_are_refused_by_name_with_a_reason() {
    for (option, name) in [
        ("-d", "d"),
        ("background", "background"),
        ("log=/var/log/x", "log"),
        ("update-fstab", "update-fstab"),
        ("--writeback", "writeback"),
        ("force", "force"),
        ("subdir=/other", "subdir"),
        ("secret-key=hunter2", "secret-key"),
        ("-o fd=7", "fd"),
        ("-o suid,dev", "suid"),
        ("user_id=0", "user_id"),
        ("rootmode=40000", "rootmode"),
        ("allow_root", "allow_root"),
        ("max-fuse-io=64K", "max-fuse-io"),
        ("cache-dir=../x", "cache-dir"),
        ("Cache-Size=1", "Cache-Size"),
    ] {
        let refused = from_list([option]);
        let known_only_to_the_client = matches!(name, "rootmode");
        match refused {
            Err(refused) => {
                assert_eq!(refused.name, name, "{option}: {refused}");
                assert!(!refused.to_string().contains("hunter2"));
            }
            Ok(_) => assert!(known_only_to_the_client, "{option} was taken"),
        }
    }
    assert!(from_list(["cache-size=1", "force"]).is_err());
}

#[test]
fn what_the_client_does_not_know_is_refused_by_name() {
    let help = "OPTIONS:\n   CACHE\n\n   --cache-size value  size of cached object\n   --verbose, --debug, -v  enable debug log\n   \
                --read-only   allow lookup\n   -o value  other\n   with --not-a-flag in a text";
    let known = flags_in_help(help);
    assert_eq!(
        known.iter().map(String::as_str).collect::<Vec<_>>(),
        ["cache-size", "debug", "o", "read-only", "v", "verbose"]
    );
    check_known(&map(&[("cache-size", "1"), ("enable-acl", ""), ("o", "debug")]), &known).unwrap();
    let refused = check_known(&map(&[("rootmode", "40000")]), &known).unwrap_err();
    assert_eq!(refused.name, "rootmode");
}

#[test]
fn options_that_were_read_apart_are_read_by_the_same_rules() {
    let read = from_pairs(&map(&[("writeback_cache", ""), ("cache-size", "1024"), ("ro", "")])).unwrap();
    assert_eq!(read, from_list(["writeback_cache", "cache-size=1024", "ro"]).unwrap());
    assert_eq!(read.get("o").map(String::as_str), Some("writeback_cache"));
    assert_eq!(from_pairs(&map(&[("subdir", "/x")])).unwrap_err().name, "subdir");
}
