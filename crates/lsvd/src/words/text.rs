//! Sizes and durations as people write them, on a command line or in a setting, and moments as they
//! read them.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use super::error::{Error, ErrorKind, Result};

/// A number of bytes as people write it; K, M, G and T are powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

impl FromStr for Size {
    type Err = Error;

    /// Reads `4096`, `8M`, `10g` or `10GiB`.
    fn from_str(text: &str) -> Result<Self> {
        // Digits alone: the standard parser takes a sign as well.
        let end = text.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = text.split_at(end.unwrap_or(text.len()));
        let unit = unit.to_ascii_uppercase();
        let shift = match unit.strip_suffix("IB").unwrap_or(&unit) {
            "" if unit.is_empty() => Some(0),
            short => UNITS
                .iter()
                .find(|(letter, _)| short.len() == 1 && short.starts_with(*letter))
                .map(|(_, shift)| *shift),
        };
        let Some(shift) = shift.filter(|_| !number.is_empty()) else {
            return Err(wrong(
                "write a whole number of bytes, or one with K, M, G or T, as in 10G",
            ));
        };
        // Digits that do not parse are too many.
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(1 << shift))
            .map(Self)
            .ok_or_else(|| wrong("more than 64 bits can count"))
    }
}

impl fmt::Display for Size {
    /// The shortest exact spelling, which [`FromStr`] reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .find(|(_, shift)| self.0 != 0 && self.0.is_multiple_of(1 << shift));
        match unit {
            Some((letter, shift)) => write!(f, "{}{letter}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Reads a duration with its unit, as `500us`, `5ms`, `2s` or `1m`; `0` alone needs none.
///
/// # Errors
/// [`ErrorKind::InvalidArgument`], and what to write.
pub fn duration(text: &str) -> Result<Duration> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text)
        .map_err(|_| wrong("write a number with its unit, as in 500us, 5ms, 2s or 1m"))
}

/// A time since the Unix epoch as people read it, to the second: RFC 3339, in UTC.
#[must_use]
pub fn wall_time(since_epoch: Duration) -> String {
    // The last moment that can be written with four digits of the year.
    let last = Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since_epoch.min(last)).to_string()
}

fn wrong(advice: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("4k", 4096),
            ("8M", 8 << 20),
            ("10G", 10 << 30),
            ("10GiB", 10 << 30),
            ("16T", 16 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse::<Size>().unwrap(), Size(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "", "K", "10X", "-1", "1.5G", "10 G", "10GB", "10iB", "10KM", "1e9", "+1",
        ] {
            let error = text.parse::<Size>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}");
            assert!(error.to_string().contains("as in 10G"), "{text}: {error}");
        }
        for text in ["17000000T", "18446744073709551616"] {
            let error = text.parse::<Size>().unwrap_err();
            assert!(error.to_string().contains("64 bits"), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_read_back_as_printed() {
        for bytes in [0, 1, 512, 1023, 1024, 1536, 8 << 20, 3 << 40, u64::MAX] {
            let printed = Size(bytes).to_string();
            assert_eq!(printed.parse::<Size>().unwrap(), Size(bytes));
        }
        assert_eq!(Size(8 << 20).to_string(), "8M");
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, expected) in [
            ("2s", Duration::from_secs(2)),
            ("500us", Duration::from_micros(500)),
            ("0", Duration::ZERO),
        ] {
            assert_eq!(duration(text).unwrap(), expected, "{text}");
        }
        for text in ["", "2", "-1s", "s", "2 apples"] {
            let error = duration(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{text}");
        }
    }
}
