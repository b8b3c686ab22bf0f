use super::*;

/// As juicefs v1.4.1 printed it.
const PRINTED: &[(&str, Trouble)] = &[
    (
        "<FATAL>: database is not formatted, please run `juicefs format ...` first [main@main.go:31]",
        Trouble::NotFormatted,
    ),
    (
        "<WARNING>: parse info: WRONGPASS invalid username-password pair or user is disabled. [checkServerConfig@redis.go:4599]",
        Trouble::Credentials,
    ),
    ("<FATAL>: NOAUTH Authentication required. [main@main.go:31]", Trouble::Credentials),
    (
        "redis: connection pool: failed to dial after 5 attempts: dial tcp 127.0.0.1:16409: connect: connection refused",
        Trouble::Unreachable,
    ),
    ("dial tcp: lookup no-such-host.invalid on 192.0.2.53:53: no such host", Trouble::Unreachable),
    ("<FATAL>: unknown option: \"--nonsense=1\" [reorderOptions@main.go:265]", Trouble::Option),
    ("<FATAL>: invalid value \"zzz\" for flag -io-retries: parse error [main@main.go:31]", Trouble::Option),
    (
        "<FATAL>: Storage file:///proc/nope/vol/ is not configured correctly: Failed to put: mkdir /proc/nope: no such file",
        Trouble::Storage,
    ),
    (
        "<FATAL>: Storage file:///data/vol/ is not empty; please clean it up or pick another volume name [format@format.go:585]",
        Trouble::Storage,
    ),
    (
        "<FATAL>: Meta rediss://h:1/1?tls-ca-cert-file=/etc/a/ca is not available: read ca cert file error path:/etc/a/ca \
         error:open /etc/a/ca: no such file or directory [NewClient@interface.go:655]",
        Trouble::Certificate,
    ),
    (
        "<FATAL>: Meta rediss://h:1/1?tls-cert-file=/etc/a/b is not available: get certificate error certFile:/etc/a/b \
         keyFile: error:open /etc/a/b: no such file or directory [NewClient@interface.go:655]",
        Trouble::Certificate,
    ),
    (
        "<FATAL>: get status: load setting: tls: failed to verify certificate: x509: certificate signed by unknown \
         authority [status@status.go:84]",
        Trouble::Certificate,
    ),
    (
        "<FATAL>: redis: can't parse map reply: \"HTTP/1.1 400 Bad Request\" [main@main.go:31]",
        Trouble::Unreachable,
    ),
    (
        "2026/11/21 21:20:54 juicefs[7] <INFO>: Meta address: redis://h:1/5 [NewClient@interface.go:643]\n\
         it did not serve within 18s: it is killed",
        Trouble::Unreachable,
    ),
    (
        "2026/11/21 21:20:54 juicefs[7] <INFO>: Meta address: redis://h:1/5 [NewClient@interface.go:643]\n\
         2026/11/21 21:20:54 juicefs[7] <INFO>: Ping redis latency: 70us [checkServerConfig@redis.go:4560]\n\
         it did not serve within 18s: it is killed",
        Trouble::Unknown,
    ),
    (
        "<FATAL>: unable to open database file: no such file or directory [main@main.go:31]",
        Trouble::Directory,
    ),
    ("the client has no right to write to \"/srv/jfs\"", Trouble::Directory),
    ("panic: something else", Trouble::Unknown),
];

/// Of a bucket that is not there, the third time.
const THIRD_TRY: &str = "<WARNING>: Test storage s3://127.0.0.1:16380/none/vol/ failed: Failed to create bucket \
    s3://127.0.0.1:16380/none/vol/: operation error S3: CreateBucket\nPlease create bucket s3://127.0.0.1:16380/none/vol/ \
    manually, then format again., tries: #3 [test@format.go:374]";

#[test]
fn the_last_try_of_an_object_storage_is_known() {
    assert!(THIRD_TRY.contains(LAST_TRY) && !THIRD_TRY.replace("#3", "#2").contains(LAST_TRY));
    assert_eq!(Trouble::of(THIRD_TRY), Trouble::Storage);
    assert_eq!(Trouble::of("<WARNING>: Test storage ceph://c/ failed: denied, tries: #3"), Trouble::Storage);
}

#[test]
fn what_a_workload_meets_by_itself_is_no_complaint() {
    for line in [
        "juicefs[7] <ERROR>: read file 2: input/output error [done@reader.go:125]",
        "juicefs[7] <WARNING>: fail to read sliceId 1 (off:0, size:4, clen: 9, inode: 2): get chunks/0/0/1_0_4 [r@reader.go:1]",
        "juicefs[7] <ERROR>: write inode:5 indx:0 input/output error [commitThread@writer.go:221]",
    ] {
        assert!(is_complaint(line), "{line}");
    }
    for line in [
        "juicefs[7] <INFO>: Create session 5 OK with version: 1.4.1 [NewSession@base.go:796]",
        "juicefs[7] <WARNING>: CAP_SYS_RESOURCE is needed for PR_SET_IO_FLUSHER [SetIOFlusher@utils_linux.go:76]",
        "juicefs[7] <ERROR>: write inode:5 indx:0 disk quota exceeded [commitThread@writer.go:221]",
    ] {
        assert!(!is_complaint(line), "{line}");
    }
}

#[test]
fn what_the_client_prints_is_understood() {
    for (words, trouble) in PRINTED {
        assert_eq!(Trouble::of(words), *trouble, "{words}");
        assert!(!trouble.to_string().is_empty());
    }
}

#[test]
fn the_session_s_number_is_found_in_its_line_only() {
    let line = "2026/11/21 16:31:30.1 juicefs[12] <INFO>: Create session 5 OK with version: 1.4.1 [NewSession@base.go:796]";
    assert_eq!(session_in(line), Some(5));
    assert_eq!(session_in(&line.replace("Create", "Update")), Some(5));
    let read_only =
        "juicefs[12] <INFO>: Create read-only session OK with version: 1.4.1 [NewSession@base.go:777]";
    assert_eq!(session_in(read_only), Some(0));
    assert_eq!(session_in("renamed session 7 to 8 OK with version: x"), None);
    assert_eq!(session_in("nothing"), None);
}
