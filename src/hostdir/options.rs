//! What can be said on the command line of `mount-hostdir`?

use std::num::NonZeroU64;

/// Options of `serve`.
#[derive(clap::Args, Clone, Debug)]
pub struct ServeOptions {
    /// Largest write in bytes, as negotiated when the session was mounted. A takeover must offer the same value.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(4096..=16_777_216))]
    pub max_write: u32,

    /// FUSE init flags in hexadecimal, as negotiated when the session was mounted.
    #[arg(long, value_name = "HEX", value_parser = parse_hex)]
    pub init_flags: u64,

    /// Refuse every change with "Read-only file system".
    #[arg(long)]
    pub read_only: bool,

    /// How many requests are answered at once.
    #[arg(long, value_name = "N", default_value = "4", value_parser = parse_threads)]
    pub threads: usize,

    /// For tests: the serving process kills itself with probability 1/N at each of four points of every request.
    #[arg(long, value_name = "N", hide = true)]
    pub chaos: Option<NonZeroU64>,
}

/// Most workers: each has two request buffers, and a journal record of its own.
const THREADS_MAX: usize = 64;

fn parse_hex(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).map_err(|_| "expected a hexadecimal number such as 0x4000".to_owned())
}

fn parse_threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=THREADS_MAX) => Ok(threads),
        _ => Err(format!("expected a number from 1 to {THREADS_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_with_and_without_prefix() {
        assert_eq!((parse_hex("0x4f"), parse_hex("4F")), (Ok(0x4f), Ok(0x4f)));
        assert!(
            parse_hex("flags").is_err() && parse_hex("").is_err() && parse_hex("11112222333344445").is_err()
        );
    }

    #[test]
    fn threads_are_at_least_one_and_bounded() {
        assert_eq!((parse_threads("1"), parse_threads("64")), (Ok(1), Ok(64)));
        assert!(["0", "65", "-1", "many"].iter().all(|text| parse_threads(text).is_err()));
    }
}
