#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::agent::clients::ClientPrograms;
use crate::agent::frames::{ClientLaunch, Negotiated};
use crate::agent::messages::SessionFds;
use crate::juicefs::saved::STATE_BYTES;
use crate::session::state::create_state;
use crate::volume::ClientKind;

const SECRET: &[(&str, &str)] = &[
    ("name", "vol"),
    ("metaurl", "redis://:meta-pw@h:6379/1"),
    ("storage", "s3"),
    ("bucket", "https://b.example.com"),
    ("access-key", "ak-id"),
    ("secret-key", "sk-value"),
    ("trash-days", "0"),
    ("encrypt_rsa_key", "pem-line"),
    ("format-options", "block-size=4096,enable-acl"),
];

fn map<T: FromIterator<(String, String)>>(entries: &[(&str, &str)]) -> T {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn serving(options: &[(&str, &str)]) -> Serving {
    let options: BTreeMap<_, _> = map(options);
    Serving {
        session: "0123456789abcdef0123456789abcdef".parse().unwrap(),
        client: ClientLaunch { kind: ClientKind::Juicefs, subdirectory: "vols/a b".to_owned(), options },
        negotiated: Negotiated {
            minor: 28,
            flags: 0xc6_7433,
            max_readahead: 131_072,
            max_write: 131_072,
            max_pages: 32,
        },
        fds: SessionFds {
            fuse: File::open("/dev/null").unwrap().into(),
            state: create_state(STATE_BYTES).unwrap(),
        },
        tree: None,
        credentials: map(SECRET),
    }
}

fn client(serving: &Serving, directory: &Path) -> Result<Juicefs, LaunchError> {
    let places = Places {
        programs: ClientPrograms::BesideThis,
        hostdir_program: None,
        juicefs_program: Some("/bin/juicefs".into()),
        cache: "/pods/1/cache".into(),
        metrics: Metrics::default(),
        directory: directory.to_owned(),
    };
    Juicefs::new(serving, &places)
}

fn words(program: &Program) -> String {
    let words: Vec<_> = program.arguments.iter().map(|argument| argument.to_str().unwrap()).collect();
    words.join(" ")
}

fn variables(program: &Program) -> Vec<&str> {
    program.environment.0.iter().map(|variable| variable.to_str().unwrap()).collect()
}

#[tokio::test]
async fn the_client_is_started_as_itself_with_secrets_in_its_environment_only() {
    let directory = tempfile::tempdir().unwrap();
    let serving = serving(&[]);
    let mut client = client(&serving, directory.path()).unwrap();
    assert!(client.preparation(&serving).unwrap().is_none(), "without options of a person nothing is asked");
    let launch = client.serve(&serving).unwrap();
    let expected = "juicefs mount --no-usage-report --no-syslog --no-agent --no-color --max-fuse-io=128K \
                    --backup-meta=0 --cache-dir=memory --metrics=127.0.0.1:0 --cache-size=128 --subdir=vols/a b \
                    redis://h:6379/1 /mountpod/0123456789abcdef0123456789abcdef";
    assert_eq!(words(&launch.program), expected);
    let seen = variables(&launch.program);
    let path = directory.path().display();
    for variable in [
        "JFS_SUPERVISOR=1".to_owned(),
        "META_PASSWORD=meta-pw".to_owned(),
        format!("_FUSE_FD_COMM={path}/fuse.sock"),
        format!("_FUSE_STATE_PATH={path}/handles.json"),
    ] {
        assert!(seen.contains(&variable.as_str()), "{variable}: {seen:?}");
    }
    assert!(
        !seen.iter().any(|variable| variable.starts_with("_JFS_META_SID") || variable.contains("sk-value"))
    );
    assert!(launch.fds.is_empty() && matches!(launch.voice, Voice::Desk(_)));
    assert!(!format!("{launch:?}").contains("meta-pw"));
}

#[tokio::test]
async fn options_take_the_place_of_defaults_and_are_asked_for_first() {
    let directory = tempfile::tempdir().unwrap();
    let serving =
        serving(&[("cache-dir", "/cache"), ("enable-acl", ""), ("metrics", "0.0.0.0:9567"), ("o", "debug")]);
    let mut client = client(&serving, directory.path()).unwrap();
    let asks = client.preparation(&serving).unwrap().unwrap();
    assert_eq!(words(&asks.program), "juicefs mount --help");
    let Voice::Prepares { output: Some(output) } = asks.voice else { panic!("it is to be heard") };
    let mut answer = File::from(output);
    answer.write_all(b"   --cache-dir value  x\n   -o value  y\n   --metrics value  z\n").unwrap();
    client.prepared(&serving).unwrap();
    assert!(client.preparation(&serving).unwrap().is_none());
    let mount = words(&client.serve(&serving).unwrap().program);
    assert!(mount.contains("--cache-dir=/pods/1/cache --metrics=0.0.0.0:9567 -o debug redis"), "{mount}");
    assert!(
        !mount.contains("memory") && !mount.contains("--cache-size") && !mount.contains("enable-acl"),
        "{mount}"
    );
}

#[tokio::test]
async fn metrics_are_told_where_the_pod_says_with_the_name_of_the_volume() {
    let directory = tempfile::tempdir().unwrap();
    let metrics = Metrics { port: Some(9567), volume: Some("fs#pvc-1".to_owned()) };
    for (options, expected) in [
        (&[][..], "--metrics=:9567 --custom-labels=volume:fs#pvc-1 "),
        (&[("custom-labels", "team:a")], "--metrics=:9567 --custom-labels=volume:fs#pvc-1;team:a "),
        (
            &[("metrics", "[::]:1")],
            "--custom-labels=volume:fs#pvc-1 --cache-size=128 --subdir=vols/a b --metrics=[::]:1 ",
        ),
    ] {
        let serving = serving(options);
        let mut client = client(&serving, directory.path()).unwrap();
        client.metrics = metrics.clone();
        let words = words(&client.serve(&serving).unwrap().program);
        assert!(words.contains(expected), "{words}");
    }
}

#[tokio::test]
async fn what_every_client_knows_is_not_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let serving =
        serving(&[("cache-dir", "/cache"), ("cache-size", "8192"), ("noexec", ""), ("read-only", "")]);
    let mut client = client(&serving, directory.path()).unwrap();
    assert!(client.preparation(&serving).unwrap().is_none());
    let mount = words(&client.serve(&serving).unwrap().program);
    assert!(mount.contains("--cache-dir=/pods/1/cache --cache-size=8192 --read-only redis"), "{mount}");
}

#[tokio::test]
async fn an_option_that_the_client_lacks_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let lacks = serving(&[("of-tomorrow", "1")]);
    let mut asked = client(&lacks, directory.path()).unwrap();
    assert!(asked.preparation(&lacks).unwrap().is_some());
    let refused = asked.prepared(&lacks).unwrap_err().to_string();
    assert!(refused.contains("of-tomorrow"), "{refused}");
    let refused = client(&serving(&[("force", "")]), directory.path()).unwrap_err().to_string();
    assert!(refused.contains("force"), "{refused}");
}

#[tokio::test]
async fn a_filesystem_is_formatted_when_the_client_finds_none_and_only_once() {
    let directory = tempfile::tempdir().unwrap();
    let serving = serving(&[]);
    let mut client = client(&serving, directory.path()).unwrap();
    assert!(!client.remedy("WRONGPASS"));
    assert!(client.remedy("database is not formatted, please"));
    let launch = client.preparation(&serving).unwrap().unwrap();
    let expected = "juicefs format --no-color --no-update --storage=s3 --bucket=https://b.example.com --trash-days=0 \
                    --block-size=4096 --enable-acl --encrypt-rsa-key=/proc/self/fd/3 redis://h:6379/1 vol";
    assert_eq!(words(&launch.program), expected);
    let seen = variables(&launch.program);
    assert!(seen.contains(&"ACCESS_KEY=ak-id") && seen.contains(&"SECRET_KEY=sk-value"), "{seen:?}");
    let mut key = String::new();
    File::from(launch.fds.into_iter().next().unwrap()).read_to_string(&mut key).unwrap();
    assert_eq!(key, "pem-line");
    assert_eq!(client.complaint("Storage s3 is not empty; please clean it up").hope, Hope::Some);
    assert_eq!(client.complaint("Storage s3 is not configured correctly").hope, Hope::None);
    client.prepared(&serving).unwrap();
    assert!(client.preparation(&serving).unwrap().is_none());
    assert!(!client.remedy("database is not formatted, please"), "it was formatted, and is not there");
}

#[tokio::test]
async fn a_successor_goes_on_with_what_was_left_until_it_serves() {
    let directory = tempfile::tempdir().unwrap();
    let serving = serving(&[]);
    let mut client = client(&serving, directory.path()).unwrap();
    let state = File::from(serving.fds.state.try_clone().unwrap());
    use crate::juicefs::saved::{HEAD_BYTES, Head};
    use std::os::unix::fs::FileExt;
    state.write_all_at(b"{}", HEAD_BYTES as u64).unwrap();
    state.write_all_at(&Head { session: 42, handles: 2 }.bytes(), 0).unwrap();
    let launch = client.serve(&serving).unwrap();
    assert!(variables(&launch.program).contains(&"_JFS_META_SID=42"));
    assert_eq!(std::fs::read_to_string(directory.path().join("handles.json")).unwrap(), "{}");
    drop(launch);
    client.serves(&serving);
    let launch = client.serve(&serving).unwrap();
    assert!(!variables(&launch.program).iter().any(|variable| variable.starts_with("_JFS_META_SID")));
    assert!(!directory.path().join("handles.json").exists());
}

#[tokio::test]
async fn a_client_that_did_not_part_in_time_keeps_no_other_from_it() {
    let (places, shared) = ([(); 2].map(|()| tempfile::tempdir().unwrap()), tempfile::tempdir().unwrap());
    let serving = serving(&[]);
    let [mut slow, mut other] = places.each_ref().map(|place| {
        let state = StateFiles::with_client_in(shared.path(), place.path());
        Juicefs { state, ..client(&serving, place.path()).unwrap() }
    });
    assert!(slow.state.reserve().unwrap() && !other.state.reserve().unwrap());
    slow.serve(&serving).unwrap();
    assert!(other.state.reserve().unwrap());
}
