//! Which known name did a caller mean?

/// More letters wrong than this is another word.
const DISTANCE_MAX: usize = 3;

/// The known name that is closest to `word`, if one is close; letter case and the prefix `juicefs/` do not count.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = plain(word);
    let measured = known.map(|name| (distance(&word, &plain(name)), name));
    let (distance, name) = measured.min_by_key(|(distance, _)| *distance)?;
    // Of a short word, half of the letters may be wrong before it is another.
    (distance <= DISTANCE_MAX && 2 * distance < word.chars().count()).then_some(name)
}

fn plain(name: &str) -> String {
    name.trim_start_matches("juicefs/").to_lowercase()
}

/// Levenshtein's distance: letters to insert, remove or change.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in to.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["cpuLimit", "pathPattern", "juicefs/mount-cpu-limit", "inodes"];
        let cases = [
            ("cpulimit", Some("cpuLimit")),
            ("cpuLimits", Some("cpuLimit")),
            ("pathpatern", Some("pathPattern")),
            ("juicefs/mount-cpu-limits", Some("juicefs/mount-cpu-limit")),
            ("inode", Some("inodes")),
            ("x", None),
            ("provisioner", None),
        ];
        for (word, want) in cases {
            assert_eq!(nearest(word, known.into_iter()), want, "{word}");
        }
        assert_eq!(nearest("cpuLimit", [].into_iter()), None);
    }
}
