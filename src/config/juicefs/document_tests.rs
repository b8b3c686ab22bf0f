//! Does docs/migrate-from-juicefs-csi.md say what the tables of this room say?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use super::keys::{Fate, KEYS, Origin, Place, Setting, find};
use super::special_options::special_names;

const DOCUMENT: &str = include_str!("../../../docs/migrate-from-juicefs-csi.md");

/// The text from a heading to the next one.
fn section(heading: &str) -> &'static str {
    let (_, rest) = DOCUMENT.split_once(&format!("\n## {heading}\n")).unwrap();
    rest.split("\n#").next().unwrap()
}

fn words_in_code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Key, fate and what stands in its place, of each row of the section's tables with three columns.
fn rows(heading: &str) -> BTreeMap<&'static str, (&'static str, &'static str)> {
    let cells = |line: &'static str| line.trim_matches('|').splitn(3, '|').map(str::trim).collect::<Vec<_>>();
    let rows = section(heading).lines().filter(|line| line.starts_with("| `")).map(cells);
    rows.filter(|cells| cells.len() == 3)
        .map(|cells| (words_in_code(cells[0])[0], (cells[1], cells[2])))
        .collect()
}

fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Taken(_) => "taken",
        Fate::Ignored(_) => "ignored",
        Fate::Refused(_) => "refused",
    }
}

#[test]
fn the_document_names_every_key_of_the_juicefs_csi_driver_and_what_becomes_of_it() {
    for (heading, place) in
        [("StorageClass parameters", Place::Class), ("PersistentVolume attributes", Place::Volume)]
    {
        let theirs = KEYS.iter().filter(|key| matches!(key.origin, Origin::JuicefsCsi | Origin::Both));
        let table: BTreeMap<_, _> = theirs.map(|key| (key.name, word(key.fate(place)))).collect();
        let told: BTreeMap<_, _> = rows(heading).into_iter().map(|(key, (fate, _))| (key, fate)).collect();
        assert_eq!(told, table, "{heading}");
    }
}

#[test]
fn the_document_puts_the_right_neutral_name_beside_a_key() {
    for (heading, place) in
        [("StorageClass parameters", Place::Class), ("PersistentVolume attributes", Place::Volume)]
    {
        for (key, (_, here)) in rows(heading) {
            let Fate::Taken(setting) = find(key).unwrap().fate(place) else { continue };
            let neutral = find(words_in_code(here)[0]).unwrap();
            assert_ne!(neutral.origin, Origin::JuicefsCsi, "{key}");
            let wanted = if setting == Setting::CacheEmptyDir { Setting::CacheMedium } else { setting };
            assert_eq!(neutral.fate(place), Fate::Taken(wanted), "{key}");
        }
    }
}

#[test]
fn the_document_names_our_own_keys_and_every_option_of_the_mount() {
    let parameters = words_in_code(section("StorageClass parameters"));
    for key in KEYS.iter().filter(|key| key.origin == Origin::Ours) {
        if matches!(key.fate(Place::Class), Fate::Taken(_)) {
            assert!(parameters.contains(&key.name), "{} is not told", key.name);
        }
    }
    let options = words_in_code(section("Mount options"));
    for option in special_names() {
        assert!(options.contains(&option), "the option {option} is not told");
    }
}
