//! How does a `pathPattern` become the path of one volume?
//!
//! The variables are those of the JuiceFS CSI driver (its `pkg/util/resource`, `.pvc` or `.PVC`), and `${.pv.name}`, the
//! directory that it uses without a pattern. It puts nothing for a missing label and takes any value; here both are errors.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::path::{InvalidPath, VolumePath};

/// No longer than a path can be without its variables' values.
const PATTERN_BYTES_MAX: usize = 1024;
const OPEN: &str = "${";
const CLOSE: char = '}';
/// Stands for every value when a pattern is checked before there is a claim.
const SAMPLE: &str = "x";

/// A `pathPattern`, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Variable(Variable),
}

/// A name in a pattern that stands for a fact of the claim or the volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Variable {
    /// `${.pvc.name}`
    ClaimName,
    /// `${.pvc.namespace}`
    ClaimNamespace,
    /// `${.pvc.labels.KEY}`
    ClaimLabel(String),
    /// `${.pvc.annotations.KEY}`
    ClaimAnnotation(String),
    /// `${.pv.name}`
    VolumeName,
}

/// What is known of the claim that a volume is made for. external-provisioner tells the names; labels and annotations the
/// caller reads from the claim.
#[derive(Debug, Clone, Copy)]
pub struct PathFacts<'a> {
    /// The claim's name.
    pub claim_name: Option<&'a str>,
    /// The claim's namespace.
    pub claim_namespace: Option<&'a str>,
    /// The PersistentVolume's name.
    pub volume_name: Option<&'a str>,
    /// The claim's labels.
    pub labels: &'a BTreeMap<String, String>,
    /// The claim's annotations.
    pub annotations: &'a BTreeMap<String, String>,
}

/// Why a text is no pattern; the caller adds the name of the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// Longer than any path.
    #[error("is {0} bytes long, at most {PATTERN_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// `$` that does not begin a variable, or a variable without its end.
    #[error("has a '$' that does not begin a variable of the form ${{.pvc.name}}")]
    Unfinished,
    /// `${...}` with something that this driver has no value for.
    #[error(
        "has the variable {0:?}; known are ${{.pvc.name}}, ${{.pvc.namespace}}, ${{.pvc.labels.KEY}}, \
         ${{.pvc.annotations.KEY}} and ${{.pv.name}}"
    )]
    UnknownVariable(String),
    /// `${.node.*}`: known to the JuiceFS CSI driver.
    #[error("has the variable {0:?}, but a volume's directory does not depend on a node")]
    NodeVariable(String),
    /// No value of its variables makes it a path.
    #[error(transparent)]
    Path(InvalidPath),
}

/// Why a pattern gives no path for a claim; the caller adds the name of the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unrenderable {
    /// The claim has no such label, or the name was not told.
    #[error("needs {0}, which has no value for this claim")]
    Missing(Variable),
    /// A value would open further directories.
    #[error("needs {0}, whose value must not contain '/'")]
    Slash(Variable),
    /// A value has a NUL, a line break or the like.
    #[error("needs {0}, whose value must not contain control characters")]
    ControlCharacter(Variable),
    /// The values together are no path.
    #[error("makes a path that {0}")]
    Path(InvalidPath),
}

impl PathPattern {
    /// The path for one claim.
    ///
    /// # Errors
    /// [`Unrenderable`] when a variable has no value or an unsafe one, or the whole is no path.
    pub fn render(&self, facts: &PathFacts<'_>) -> Result<VolumePath, Unrenderable> {
        let mut path = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => path.push_str(text),
                Piece::Variable(variable) => path.push_str(variable.value(facts)?),
            }
        }
        path.parse().map_err(Unrenderable::Path)
    }

    /// Must the claim be read, because its labels or annotations are asked for?
    #[must_use]
    pub fn needs_claim_metadata(&self) -> bool {
        let of_claim = |piece: &Piece| {
            matches!(piece, Piece::Variable(Variable::ClaimLabel(_) | Variable::ClaimAnnotation(_)))
        };
        self.pieces.iter().any(of_claim)
    }
}

impl FromStr for PathPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(InvalidPattern::TooLong(text.len()));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once(OPEN) {
            let (name, after) = after.split_once(CLOSE).ok_or(InvalidPattern::Unfinished)?;
            pieces.extend(literal_piece(literal)?);
            pieces.push(Piece::Variable(variable(name)?));
            rest = after;
        }
        pieces.extend(literal_piece(rest)?);
        let pattern = Self { pieces };
        pattern.sample().parse::<VolumePath>().map_err(InvalidPattern::Path)?;
        Ok(pattern)
    }
}

impl PathPattern {
    /// The shortest and plainest path that it can make.
    fn sample(&self) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Literal(text) => text.clone(),
            Piece::Variable(_) => SAMPLE.to_owned(),
        };
        self.pieces.iter().map(text).collect()
    }
}

fn literal_piece(text: &str) -> Result<Option<Piece>, InvalidPattern> {
    if text.contains('$') {
        return Err(InvalidPattern::Unfinished);
    }
    Ok((!text.is_empty()).then(|| Piece::Literal(text.to_owned())))
}

fn variable(name: &str) -> Result<Variable, InvalidPattern> {
    let unknown = || InvalidPattern::UnknownVariable(format!("{OPEN}{name}{CLOSE}"));
    if name.starts_with(".node.") {
        return Err(InvalidPattern::NodeVariable(format!("{OPEN}{name}{CLOSE}")));
    }
    if name == ".pv.name" {
        return Ok(Variable::VolumeName);
    }
    let of_claim = name.strip_prefix(".pvc.").or_else(|| name.strip_prefix(".PVC.")).ok_or_else(unknown)?;
    let key = |kind: &str| of_claim.strip_prefix(kind).filter(|key| is_metadata_key(key)).map(str::to_owned);
    match of_claim {
        "name" => Ok(Variable::ClaimName),
        "namespace" => Ok(Variable::ClaimNamespace),
        _ => None
            .or_else(|| key("labels.").map(Variable::ClaimLabel))
            .or_else(|| key("annotations.").map(Variable::ClaimAnnotation))
            .ok_or_else(unknown),
    }
}

/// Letters that a key of a label or an annotation can have (Kubernetes, "qualified name").
fn is_metadata_key(key: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '/');
    !key.is_empty() && key.chars().all(plain)
}

impl Variable {
    fn value<'a>(&self, facts: &PathFacts<'a>) -> Result<&'a str, Unrenderable> {
        let value = match self {
            Self::ClaimName => facts.claim_name,
            Self::ClaimNamespace => facts.claim_namespace,
            Self::VolumeName => facts.volume_name,
            Self::ClaimLabel(key) => facts.labels.get(key).map(String::as_str),
            Self::ClaimAnnotation(key) => facts.annotations.get(key).map(String::as_str),
        };
        let value = value.filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| Unrenderable::Missing(self.clone()))?;
        if value.contains('/') {
            return Err(Unrenderable::Slash(self.clone()));
        }
        if value.chars().any(char::is_control) {
            return Err(Unrenderable::ControlCharacter(self.clone()));
        }
        Ok(value)
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClaimName => f.write_str("${.pvc.name}"),
            Self::ClaimNamespace => f.write_str("${.pvc.namespace}"),
            Self::ClaimLabel(key) => write!(f, "${{.pvc.labels.{key}}}"),
            Self::ClaimAnnotation(key) => write!(f, "${{.pvc.annotations.{key}}}"),
            Self::VolumeName => f.write_str("${.pv.name}"),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => f.write_str(text)?,
                Piece::Variable(variable) => variable.fmt(f)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
