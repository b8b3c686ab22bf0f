//! How is a Kubernetes quantity (`500m`, `256Mi`, `1.5`, `2e3`) read?
//!
//! The grammar is that of k8s.io/apimachinery `resource.Quantity`: a decimal number and one suffix, or an exponent.

/// Factors of the suffixes in thousandths, so that `m` is a whole number.
const SUFFIXES: &[(&str, u128)] = &[
    ("m", 1),
    ("", 1000),
    ("k", 1_000_000),
    ("M", 1_000_000_000),
    ("G", 1_000_000_000_000),
    ("T", 1_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000_000),
    ("Ki", 1000 << 10),
    ("Mi", 1000 << 20),
    ("Gi", 1000 << 30),
    ("Ti", 1000 << 40),
    ("Pi", 1000 << 50),
    ("Ei", 1000 << 60),
];
/// More digits than any quantity needs; keeps the arithmetic within 128 bits.
const DIGITS_MAX: usize = 16;
/// Largest exponent of the form `1e15`.
const EXPONENT_MAX: u32 = 18;

/// Why a text is no quantity; the caller adds the name of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuantity {
    /// Not of the grammar.
    #[error("must be a Kubernetes quantity, for example 500m, 2, 256Mi or 1.5Gi")]
    Grammar,
    /// A minus sign.
    #[error("must not be negative")]
    Negative,
    /// Finer than can be honoured.
    #[error("is finer than can be honoured")]
    TooFine,
}

/// Thousandths that a quantity amounts to, exactly.
///
/// # Errors
/// When the text is not of the grammar, negative, or has parts of a thousandth.
pub fn thousandths(text: &str) -> Result<u128, InvalidQuantity> {
    if text.starts_with('-') {
        return Err(InvalidQuantity::Negative);
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let number_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > DIGITS_MAX || fraction.contains('.') {
        return Err(InvalidQuantity::Grammar);
    }
    let mantissa: u128 = digits.parse().map_err(|_| InvalidQuantity::Grammar)?;
    let scaled = mantissa * factor(suffix)?;
    let places = u32::try_from(fraction.len()).map_err(|_| InvalidQuantity::Grammar)?;
    let divisor = 10_u128.pow(places);
    if scaled.is_multiple_of(divisor) { Ok(scaled / divisor) } else { Err(InvalidQuantity::TooFine) }
}

/// Whole units that a quantity amounts to; a part of a unit is refused.
///
/// # Errors
/// As [`thousandths`], and when the text has a part of a unit.
pub fn whole(text: &str) -> Result<u128, InvalidQuantity> {
    let thousandths = thousandths(text)?;
    if thousandths.is_multiple_of(1000) { Ok(thousandths / 1000) } else { Err(InvalidQuantity::TooFine) }
}

fn factor(suffix: &str) -> Result<u128, InvalidQuantity> {
    if let Some((_, factor)) = SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        return Ok(*factor);
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(InvalidQuantity::Grammar)?;
    let exponent: u32 = exponent.parse().map_err(|_| InvalidQuantity::Grammar)?;
    if exponent > EXPONENT_MAX {
        return Err(InvalidQuantity::Grammar);
    }
    Ok(1000 * 10_u128.pow(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        let cases = [
            ("1", 1000),
            ("500m", 500),
            ("0", 0),
            ("+2", 2000),
            ("1.5", 1500),
            (".5", 500),
            ("2.", 2000),
            ("0.1k", 100_000),
            ("256Mi", 256 * 1024 * 1024 * 1000),
            ("1.5Gi", 1536 * 1024 * 1024 * 1000),
            ("1e3", 1_000_000),
            ("1E3", 1_000_000),
            ("1E", 1_000_000_000_000_000_000_000),
        ];
        for (text, want) in cases {
            assert_eq!(thousandths(text), Ok(want), "{text}");
        }
        assert_eq!(whole("1.5Ki"), Ok(1536));
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        use InvalidQuantity::{Grammar, Negative, TooFine};
        let cases = [
            ("", Grammar),
            ("Mi", Grammar),
            (".", Grammar),
            ("1 Gi", Grammar),
            ("1gi", Grammar),
            ("0x10", Grammar),
            ("1.2.3", Grammar),
            ("1e19", Grammar),
            ("1e-3", Grammar),
            ("12345678901234567", Grammar),
            ("1Gi\0", Grammar),
            ("-1", Negative),
            ("0.1m", TooFine),
        ];
        for (text, want) in cases {
            assert_eq!(thousandths(text), Err(want), "{text:?}");
        }
        assert_eq!(whole("500m"), Err(TooFine));
    }
}
