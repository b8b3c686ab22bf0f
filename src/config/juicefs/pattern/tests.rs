//! Does a pattern give the path that is meant, and never one outside?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn variables_of_both_spellings_are_filled_in() {
    let labels = map(&[("app.kubernetes.io/name", "web"), ("tier", "..")]);
    let annotations = map(&[("team", "blue"), ("dir", "a/b"), ("none", ""), ("nul", "a\0b")]);
    let facts = PathFacts {
        claim_name: Some("data"),
        claim_namespace: Some("shop"),
        volume_name: Some("pvc-1"),
        labels: &labels,
        annotations: &annotations,
    };
    let cases = [
        ("${.pvc.namespace}-${.pvc.name}", Ok("shop-data")),
        ("${.PVC.namespace}/${.PVC.name}", Ok("shop/data")),
        ("k8s/${.pv.name}", Ok("k8s/pvc-1")),
        ("${.pvc.labels.app.kubernetes.io/name}/${.pvc.annotations.team}", Ok("web/blue")),
        ("fixed/dir", Ok("fixed/dir")),
        ("${.pvc.labels.tier}x", Ok("..x")),
        ("${.pvc.labels.tier}", Err(Unrenderable::Path(InvalidPath::DotComponent))),
        ("a/${.pvc.labels.tier}/b", Err(Unrenderable::Path(InvalidPath::DotComponent))),
        ("${.pvc.labels.none}", Err(Unrenderable::Missing(Variable::ClaimLabel("none".to_owned())))),
        (
            "${.pvc.annotations.none}",
            Err(Unrenderable::Missing(Variable::ClaimAnnotation("none".to_owned()))),
        ),
        ("${.pvc.annotations.dir}", Err(Unrenderable::Slash(Variable::ClaimAnnotation("dir".to_owned())))),
        (
            "${.pvc.annotations.nul}",
            Err(Unrenderable::ControlCharacter(Variable::ClaimAnnotation("nul".to_owned()))),
        ),
    ];
    for (pattern, want) in cases {
        let got = pattern.parse::<PathPattern>().unwrap().render(&facts);
        assert_eq!(got.as_ref().map(VolumePath::as_str), want.as_ref().copied(), "{pattern}");
    }
}

#[test]
fn a_name_that_was_not_told_is_an_error_that_names_it() {
    let none = BTreeMap::new();
    let facts = PathFacts {
        claim_name: None,
        claim_namespace: None,
        volume_name: None,
        labels: &none,
        annotations: &none,
    };
    for variable in ["${.pvc.name}", "${.pvc.namespace}", "${.pv.name}", "${.pvc.labels.a/b}"] {
        let error = variable.parse::<PathPattern>().unwrap().render(&facts).unwrap_err();
        assert!(error.to_string().contains(variable), "{error}");
    }
}

#[test]
fn a_pattern_that_can_never_be_a_path_is_refused_at_once() {
    let unknown = |name: &str| InvalidPattern::UnknownVariable(name.to_owned());
    let cases = [
        ("", InvalidPattern::Path(InvalidPath::Empty)),
        ("/${.pvc.name}", InvalidPattern::Path(InvalidPath::Absolute)),
        ("${.pvc.name}/", InvalidPattern::Path(InvalidPath::EmptyComponent)),
        ("../${.pvc.name}", InvalidPattern::Path(InvalidPath::DotComponent)),
        ("a/./b", InvalidPattern::Path(InvalidPath::DotComponent)),
        (".mountpod/${.pv.name}", InvalidPattern::Path(InvalidPath::Reserved(".mountpod".to_owned()))),
        ("$(.pvc.name)", InvalidPattern::Unfinished),
        ("${.pvc.name", InvalidPattern::Unfinished),
        ("a$", InvalidPattern::Unfinished),
        ("${pvc.name}", unknown("${pvc.name}")),
        ("${.pvc.uid}", unknown("${.pvc.uid}")),
        ("${.pvc.labels.}", unknown("${.pvc.labels.}")),
        ("${.pvc.labels.a b}", unknown("${.pvc.labels.a b}")),
        ("${.node.name}", InvalidPattern::NodeVariable("${.node.name}".to_owned())),
    ];
    for (pattern, why) in cases {
        assert_eq!(pattern.parse::<PathPattern>().unwrap_err(), why, "{pattern:?}");
    }
    assert_eq!("a".repeat(1025).parse::<PathPattern>().unwrap_err(), InvalidPattern::TooLong(1025));
}

#[test]
fn the_caller_learns_what_a_pattern_needs() {
    let cases = [
        ("${.pv.name}", false),
        ("${.pvc.namespace}/${.pvc.name}", false),
        ("${.pvc.labels.a}/${.pv.name}", true),
        ("${.pvc.annotations.a}", true),
    ];
    for (text, metadata) in cases {
        let pattern: PathPattern = text.parse().unwrap();
        assert_eq!(pattern.needs_claim_metadata(), metadata, "{text}");
        assert_eq!(pattern.to_string(), text);
    }
}

/// A small generator of its own (SplitMix64): the same texts in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }

    fn text(&mut self, alphabet: &[&str], pieces_max: usize) -> String {
        let pieces = self.below(pieces_max + 1);
        (0..pieces).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }
}

#[test]
fn no_rendered_path_ever_escapes() {
    const PATTERN: &[&str] = &[
        "${.pvc.name}",
        "${.pvc.labels.a}",
        "${.pvc.annotations.b}",
        "${.pv.name}",
        "/",
        ".",
        "..",
        "x",
        "-",
        "\\",
    ];
    const VALUE: &[&str] =
        &[".", "..", "/", "a", "\0", "\n", "${.pv.name}", "%2e", "é", "\\", " ", ".mountpod", ".jfs."];
    let mut dice = Dice(1);
    let mut rendered = 0;
    for _ in 0..20_000 {
        let Ok(pattern) = dice.text(PATTERN, 5).parse::<PathPattern>() else { continue };
        let (name, volume) = (dice.text(VALUE, 2), dice.text(VALUE, 3));
        let labels = map(&[("a", &dice.text(VALUE, 2))]);
        let annotations = map(&[("b", &dice.text(VALUE, 2))]);
        let facts = PathFacts {
            claim_name: Some(&name),
            claim_namespace: None,
            volume_name: Some(&volume),
            labels: &labels,
            annotations: &annotations,
        };
        let Ok(path) = pattern.render(&facts) else { continue };
        rendered += 1;
        let components: Vec<_> = std::path::Path::new(path.as_str()).components().collect();
        let plain = components.iter().all(|part| matches!(part, std::path::Component::Normal(_)));
        assert!(plain && !components.is_empty(), "{pattern} gave {path:?}");
        assert_eq!(components.len(), path.as_str().split('/').count(), "{pattern} gave {path:?}");
        assert_eq!(components.len(), pattern.to_string().split('/').count(), "{path:?}");
        assert!(!path.as_str().chars().any(char::is_control), "{pattern} gave {path:?}");
        assert!(!path.as_str().starts_with(".mountpod/") && path.as_str() != ".mountpod", "{path:?}");
    }
    assert!(rendered > 1000, "only {rendered} patterns gave a path: the generator tests too little");
}
