//! How large is a volume to be?

use super::field::InvalidField;

/// Size of a volume when its caller names none: small enough for any root, large enough to be useful.
pub const DEFAULT_BYTES: u64 = 1 << 30;
/// No root is this large; a larger figure is a mistake of its caller.
pub const ABSURD_BYTES: u64 = 1 << 60;

/// What a caller accepts, bytes; zero of CSI is `None` here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapacityRange {
    /// At least.
    pub required: Option<u64>,
    /// At most.
    pub limit: Option<u64>,
}

/// A range that nothing can satisfy, though it is well-formed: CSI `OUT_OF_RANGE`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("capacity_range.{bound} {why}")]
pub struct UnsupportedRange {
    /// `required_bytes` or `limit_bytes`.
    pub bound: &'static str,
    /// Why, as the rest of a sentence.
    pub why: String,
}

impl CapacityRange {
    /// Reads the two numbers of a CSI `CapacityRange`.
    ///
    /// # Errors
    /// When one is negative or the range is empty.
    pub fn parse(required_bytes: i64, limit_bytes: i64) -> Result<Self, InvalidField> {
        let required = bound("capacity_range.required_bytes", required_bytes)?;
        let limit = bound("capacity_range.limit_bytes", limit_bytes)?;
        if let (Some(required), Some(limit)) = (required, limit)
            && limit < required
        {
            let why = format!("is {limit}, less than required_bytes, {required}");
            return Err(InvalidField::new("capacity_range.limit_bytes", why));
        }
        Ok(Self { required, limit })
    }

    /// Is a volume of this size what the caller accepts?
    #[must_use]
    pub fn contains(&self, bytes: u64) -> bool {
        self.required.is_none_or(|required| required <= bytes)
            && self.limit.is_none_or(|limit| bytes <= limit)
    }

    /// The size that a volume of so many bytes gets: it never shrinks.
    ///
    /// # Errors
    /// When the range asks for an absurd size, or ends below the present one.
    pub fn grown(&self, bytes: u64) -> Result<u64, UnsupportedRange> {
        if self.required.is_some_and(|required| required > bytes) {
            return self.choose(bytes);
        }
        // Refuses a limit below.
        Self { required: None, ..*self }.choose(bytes)?;
        Ok(bytes)
    }

    /// The size for a new volume that must have room for `least` bytes: exactly what is required, else the default.
    ///
    /// # Errors
    /// When the range asks for an absurd size, or ends below `least`.
    pub fn choose(&self, least: u64) -> Result<u64, UnsupportedRange> {
        if let Some(required) = self.required.filter(|required| *required > ABSURD_BYTES) {
            let why = format!("is {required}, at most {ABSURD_BYTES} bytes (1 EiB) are possible");
            return Err(UnsupportedRange { bound: "required_bytes", why });
        }
        if let Some(required) = self.required.filter(|required| *required < least) {
            let why = format!("is {required}, but the source has {least} bytes");
            return Err(UnsupportedRange { bound: "required_bytes", why });
        }
        if let Some(limit) = self.limit.filter(|limit| *limit < least) {
            let why = format!("is {limit}, but {least} bytes are needed");
            return Err(UnsupportedRange { bound: "limit_bytes", why });
        }
        let unasked = DEFAULT_BYTES.max(least);
        Ok(self.required.unwrap_or_else(|| self.limit.map_or(unasked, |limit| unasked.min(limit))))
    }
}

fn bound(field: &str, bytes: i64) -> Result<Option<u64>, InvalidField> {
    match u64::try_from(bytes) {
        Ok(0) => Ok(None),
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) => Err(InvalidField::new(field, format!("is {bytes}, must not be negative"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn negative_and_empty_ranges_name_their_field() {
        let field = |required, limit| CapacityRange::parse(required, limit).unwrap_err().field;
        assert_eq!(field(-1, 0), "capacity_range.required_bytes");
        assert_eq!(field(0, i64::MIN), "capacity_range.limit_bytes");
        assert_eq!(field(2, 1), "capacity_range.limit_bytes");
        assert!(CapacityRange::parse(2, 2).is_ok());
    }

    #[test]
    fn a_new_volume_gets_what_was_required_else_the_default() {
        let choose = |required, limit, least| CapacityRange::parse(required, limit).unwrap().choose(least);
        assert_eq!(choose(0, 0, 0), Ok(DEFAULT_BYTES));
        assert_eq!(choose(5, 0, 0), Ok(5));
        assert_eq!(choose(0, 5, 0), Ok(5));
        assert_eq!(choose(0, i64::MAX, 0), Ok(DEFAULT_BYTES));
        assert_eq!(choose(0, 0, 2 * DEFAULT_BYTES), Ok(2 * DEFAULT_BYTES));
        assert_eq!(choose(4, 0, 5).unwrap_err().bound, "required_bytes");
        assert_eq!(choose(0, 4, 5).unwrap_err().bound, "limit_bytes");
        assert_eq!(choose(i64::MAX, 0, 0).unwrap_err().bound, "required_bytes");
    }

    #[test]
    fn a_range_contains_its_bounds() {
        let range = CapacityRange::parse(2, 4).unwrap();
        assert_eq!([1, 2, 4, 5].map(|bytes| range.contains(bytes)), [false, true, true, false]);
        assert!(CapacityRange::default().contains(0));
    }
}
