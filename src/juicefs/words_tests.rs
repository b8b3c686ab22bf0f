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
        "<FATAL>: redis: can't parse map reply: \"HTTP/1.1 400 Bad Request\" [main@main.go:31]",
        Trouble::Unreachable,
    ),
    ("panic: something else", Trouble::Unknown),
];

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
