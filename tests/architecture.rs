//! Does the code keep what ARCHITECTURE.md promises? Each test holds one invariant by reading the sources.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

/// A word that only some files may use, and why.
struct Rule {
    words: &'static [&'static str],
    allowed: &'static [&'static str],
    because: &'static str,
}

const ONE_PLACE: &[Rule] = &[
    Rule {
        words: &[
            " Code::",
            "(Code::",
            "tonic::Code",
            "Status::invalid_argument",
            "Status::not_found",
            "Status::internal",
            "Status::aborted",
        ],
        allowed: &["src/csi/status.rs"],
        because: "one file maps errors to gRPC codes",
    },
    Rule {
        words: &[
            "SYS_open_tree",
            "SYS_move_mount",
            "SYS_mount_setattr",
            "SYS_fsopen",
            "SYS_fsmount",
            "umount2(",
            "nix::mount",
        ],
        allowed: &["src/mounts/syscalls.rs"],
        because: "one file makes mount system calls",
    },
    Rule {
        words: &["backoff::"],
        allowed: &["src/retry.rs"],
        because: "the unmaintained crate lives behind one module",
    },
];

/// What the pure rooms must not know.
const PURE: &[&str] = &[
    "src/volume/",
    "src/mountpod/facts.rs",
    "src/mountpod/decide",
    "src/mountpod/plan.rs",
    "src/mountpod/refs.rs",
    "src/mountpod/parts.rs",
    "src/mountpod/pod.rs",
];
const IMPURE: &[&str] = &[
    "tokio",
    "kube::Client",
    "kube::Api",
    "std::fs",
    "std::net",
    "Instant",
    "SystemTime",
    "std::process",
    "nix::",
];

/// Files that may hold `unsafe`: named after the kernel's side of them, and the two that fork, because only they know
/// that no other thread runs.
const UNSAFE_FILES: &[&str] = &["sys.rs", "syscalls.rs", "keeper.rs", "launch.rs"];

/// Longest file, in lines; a longer one answers more than one question.
const FILE_LINES_MAX: usize = 500;

#[test]
fn pure_rooms_know_no_clock_no_files_and_no_clients() {
    let mut wrong = Vec::new();
    for (path, text) in
        sources().into_iter().filter(|(path, _)| PURE.iter().any(|room| path.starts_with(room)))
    {
        let used = code_lines(&text).filter(|(_, line)| IMPURE.iter().any(|word| line.contains(word)));
        wrong.extend(used.map(|(number, line)| format!("{path}:{number}: {line}")));
    }
    assert!(
        wrong.is_empty(),
        "time, files and clients reach these rooms only as facts:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn some_words_have_one_place() {
    let mut wrong = Vec::new();
    for rule in ONE_PLACE {
        for (path, text) in sources().into_iter().filter(|(path, _)| !rule.allowed.contains(&path.as_str())) {
            let used =
                code_lines(&text).filter(|(_, line)| rule.words.iter().any(|word| line.contains(word)));
            wrong.extend(used.map(|(number, line)| format!("{path}:{number}: {line} ({})", rule.because)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_only_in_syscall_files() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let file = Path::new(&path).file_name().unwrap().to_string_lossy().into_owned();
        if UNSAFE_FILES.contains(&file.as_str()) {
            continue;
        }
        let used = code_lines(&text).filter(|(_, line)| line.contains("unsafe "));
        wrong.extend(used.map(|(number, line)| format!("{path}:{number}: {line}")));
    }
    assert!(wrong.is_empty(), "unsafe belongs into a sys.rs or syscalls.rs:\n{}", wrong.join("\n"));
}

#[test]
fn every_length_of_time_has_a_name() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let unnamed = code_lines(&text).filter(|(_, line)| {
            line.contains("Duration::from_")
                && !line.contains("const ")
                && !line.contains("Duration::from_millis(self")
        });
        let literal = unnamed.filter(|(_, line)| {
            let after = line
                .split("Duration::from_")
                .nth(1)
                .and_then(|rest| rest.split_once('('))
                .map(|(_, rest)| rest);
            after.is_some_and(|argument| argument.starts_with(|c: char| c.is_ascii_digit()))
        });
        wrong.extend(literal.map(|(number, line)| format!("{path}:{number}: {line}")));
    }
    assert!(wrong.is_empty(), "a limit is a const with a reason:\n{}", wrong.join("\n"));
}

#[test]
fn every_module_says_what_it_answers_and_stays_short() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        if !text.starts_with("//! ") {
            wrong.push(format!("{path}: has no first line that says which question it answers"));
        }
        if text.lines().count() > FILE_LINES_MAX {
            wrong.push(format!("{path}: {} lines, at most {FILE_LINES_MAX}", text.lines().count()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_map_names_every_room_and_only_rooms_that_exist() {
    let map = fs::read_to_string("ARCHITECTURE.md").unwrap();
    let rooms: Vec<String> = fs::read_dir("src")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|p| p.is_dir())
        .map(|path| format!("{}/", path.display()))
        .filter(|room| room != "src/bin/")
        .collect();
    let missing: Vec<_> = rooms.iter().filter(|room| !map.contains(room.as_str())).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md does not name {missing:?}");
    let named = map.split('`').filter(|word| {
        ["src/", "tests/", "docs/", "proto/", "benches/"].iter().any(|top| word.starts_with(top))
            && !word.contains(['*', '{', ' '])
    });
    let gone: Vec<_> = named.filter(|path| !Path::new(path).exists()).collect();
    assert!(gone.is_empty(), "ARCHITECTURE.md names what is not there: {gone:?}");
}

/// Path and text of every Rust file of the product.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") && !is_test(&entry) {
                found.push((entry.display().to_string(), fs::read_to_string(&entry).unwrap()));
            }
        }
    }
    assert!(found.len() > 20, "only {} sources were found: is this the project's directory?", found.len());
    found
}

fn is_test(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "tests" || stem.to_string_lossy().ends_with("_tests"))
        || path.components().any(|part| part.as_os_str() == "tests")
}

/// Numbered lines of code: no comments, nothing from the unit tests on.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines.take_while(|(_, line)| *line != "#[cfg(test)]").filter(|(_, line)| !line.starts_with("//"))
}
