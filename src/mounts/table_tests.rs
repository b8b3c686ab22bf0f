//! Is every line of a mount table understood, and no other?
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use super::*;

/// Rounds of the loop over damaged tables; it takes well under a second.
const FUZZ_ROUNDS: u32 = 20_000;
/// A fixed seed: a failure can be had again.
const FUZZ_SEED: u64 = 0x6d6f_756e_7470_6f64;

fn one(line: &str) -> Option<MountEntry> {
    MountTable::parse(line.as_bytes()).entries.pop()
}

#[test]
fn a_line_is_read_field_by_field() {
    let entry = one("129 27 0:52 /sub /run/t ro,nosuid,nodev,relatime shared:7 master:3 - fuse.hostdir mountpod:x rw,user_id=0").unwrap();
    assert_eq!(entry.id, MountId(129));
    assert_eq!(entry.parent, MountId(27));
    assert_eq!(entry.device, DeviceNumber { major: 0, minor: 52 });
    assert_eq!(entry.root, Path::new("/sub"));
    assert_eq!(entry.mount_point, Path::new("/run/t"));
    assert_eq!(entry.writability, Writability::ReadOnly);
    assert_eq!((entry.fs_type.as_str(), entry.source.as_str()), ("fuse.hostdir", "mountpod:x"));
}

#[test]
fn a_read_only_file_system_is_not_a_read_only_mount() {
    assert_eq!(one("1 2 0:3 / /a rw - ext4 /dev/x ro").unwrap().writability, Writability::ReadWrite);
}

#[test]
fn escapes_are_undone_and_other_backslashes_kept() {
    let mount_point = |escaped: &str| one(&format!("1 2 0:3 / {escaped} rw - t s o")).unwrap().mount_point;
    for (escaped, plain) in [
        (r"/a\040b", "/a b"),
        (r"/a\011b\012c", "/a\tb\nc"),
        (r"/a\134040", r"/a\040"),
        (r"/a\043", "/a#"),
        (r"/a\9zz", r"/a\9zz"),
        (r"/a\04", r"/a\04"),
        (r"/a\777", r"/a\777"),
        (r"/gone\040dir//deleted", "/gone dir//deleted"),
    ] {
        assert_eq!(mount_point(escaped), Path::new(plain), "{escaped}");
    }
}

#[test]
fn bytes_that_are_no_utf8_survive_in_paths() {
    let table = MountTable::parse(b"1 2 0:3 / /\xff\xfe rw - t s o");
    assert_eq!(table.entries[0].mount_point.as_os_str().as_encoded_bytes(), b"/\xff\xfe");
}

#[test]
fn an_empty_source_and_a_source_like_the_separator_are_read() {
    assert_eq!(one("1 2 0:3 / /a rw - tmpfs  rw").unwrap().source, "");
    assert_eq!(one("1 2 0:3 / /a rw - tmpfs - rw").unwrap().source, "-");
}

#[test]
fn what_is_no_line_is_left_out() {
    for line in [
        "",
        " ",
        "1",
        "1 2",
        "1 2 0:3",
        "1 2 0:3 /",
        "1 2 0:3 / /a",
        "1 2 0:3 / /a rw",
        "1 2 0:3 / /a rw -",
        "1 2 0:3 / /a rw - ext4",
        "1 2 0:3 / /a rw shared:1 ext4 s rw",
        "-1 2 0:3 / /a rw - t s o",
        "1 2 03 / /a rw - t s o",
        "1 2 :3 / /a rw - t s o",
        "1 2 0: / /a rw - t s o",
        "99999999999999999999999 2 0:3 / /a rw - t s o",
    ] {
        assert_eq!(one(line), None, "{line:?}");
    }
}

#[test]
fn a_stack_is_told_bottom_first_whatever_the_order_of_lines() {
    let lines = [
        "30 21 0:9 / /t rw - fuse s3 rw",
        "20 1 0:7 / /t rw - fuse s1 rw",
        "21 20 0:8 / /t ro - fuse s2 rw",
        "22 1 0:7 / /t/below rw - fuse s4 rw",
    ];
    let table = MountTable::parse(lines.join("\n").as_bytes());
    let sources: Vec<_> = table.stack_at(Path::new("/t")).iter().map(|entry| entry.source.as_str()).collect();
    assert_eq!(sources, ["s1", "s2", "s3"]);
    assert_eq!(table.count_of(DeviceNumber { major: 0, minor: 7 }), 2);
    assert!(table.stack_at(Path::new("/")).is_empty());
}

#[test]
fn a_line_of_a_megabyte_is_read() {
    let long = "d/".repeat(500_000);
    let entry = one(&format!("1 2 0:3 / /{long} rw - overlay o lowerdir={long}")).unwrap();
    assert_eq!(entry.mount_point.as_os_str().len(), long.len() + 1);
}

#[test]
fn the_table_of_this_machine_has_a_root() {
    let table = MountTable::read().unwrap();
    assert!(!table.stack_at(Path::new("/")).is_empty());
}

/// Marsaglia's xorshift64*: random enough to damage lines, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % sides
    }
}

#[test]
fn no_damaged_table_makes_it_panic() {
    let sample =
        b"129 27 0:52 / /run/a\\040b rw,nosuid shared:7 - fuse.hostdir mountpod:x rw\n20 1 0:7 / /t rw - f s o\n";
    let alphabet = b" \\\n-:0123456789/,ar\xff\0";
    let mut dice = Dice(FUZZ_SEED);
    for _ in 0..FUZZ_ROUNDS {
        let mut bytes = sample.to_vec();
        for _ in 0..=dice.roll(12) {
            let at = dice.roll(bytes.len());
            match dice.roll(3) {
                0 => bytes[at] = alphabet[dice.roll(alphabet.len())],
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, alphabet[dice.roll(alphabet.len())]),
            }
        }
        let table = MountTable::parse(&bytes);
        for entry in table.iter() {
            assert!(!table.stack_at(&entry.mount_point).is_empty());
        }
    }
}
