//! Values as people type them: sizes, durations, addresses.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes; K, M, G and T are powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
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
        let (Some(shift), Ok(number)) = (shift, number.parse::<u64>()) else {
            return Err(
                "write a whole number of bytes, or one with K, M, G or T, as in 10G".to_owned(),
            );
        };
        number
            .checked_mul(1 << shift)
            .map(Self)
            .ok_or_else(|| "more than 64 bits can count".to_owned())
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

/// A duration with its unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text)
        .map_err(|_| "write a number with its unit, as in 500us, 5ms, 2s or 1m".to_owned())
}

/// Where to listen for TCP connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            "write HOST:PORT, as in 127.0.0.1:10809 or [::1]:10809; port 0 takes a free one"
                .to_owned()
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(form)?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        if host.is_empty() || (bracketed.is_none() && host.contains([':', '[', ']'])) {
            return Err(form());
        }
        Ok(Self {
            host: host.to_owned(),
            port: port.parse().map_err(|_| form())?,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
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
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "K",
            "10X",
            "-1",
            "1.5G",
            "10 G",
            "10GB",
            "10iB",
            "10KM",
            "1e9",
            "17000000T",
            "+1",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_back_as_printed() {
        for bytes in [0, 1, 512, 1023, 1024, 1536, 8 << 20, 3 << 40, u64::MAX] {
            assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }
        assert_eq!(Size(8 << 20).to_string(), "8M");
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("500us"), Ok(Duration::from_micros(500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for text in ["", "2", "-1s", "s", "2 apples"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for (text, host, port) in [
            ("127.0.0.1:10809", "127.0.0.1", 10809),
            ("localhost:0", "localhost", 0),
            ("[::1]:10809", "::1", 10809),
        ] {
            let address: HostPort = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port));
            assert_eq!(address.to_string(), text);
        }
        for text in [
            "",
            "localhost",
            ":10809",
            "::1:10809",
            "[]:1",
            "h:65536",
            "h:x",
            "[h:1",
        ] {
            assert!(text.parse::<HostPort>().is_err(), "{text}");
        }
    }
}
