//! How are the fields of a request read without passing its end?

use std::ffi::CStr;

use super::{Malformed, Name};

/// Reads fields one after the other and never past the end.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Malformed::TooShort)?;
        self.rest = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed::TooShort)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_ne_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_ne_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_ne_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_ne_bytes(self.array()?))
    }

    pub(super) fn skip(&mut self, length: usize) -> Result<(), Malformed> {
        self.bytes(length).map(|_| ())
    }

    pub(super) fn text(&mut self) -> Result<&'a CStr, Malformed> {
        let text = CStr::from_bytes_until_nul(self.rest).map_err(|_| Malformed::UnendedName)?;
        self.skip(text.count_bytes() + 1)?;
        Ok(text)
    }

    pub(super) fn name(&mut self) -> Result<Name<'a>, Malformed> {
        Name::new(self.text()?)
    }
}
