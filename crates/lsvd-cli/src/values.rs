//! Values as people type and read them that only this program knows: addresses.

use std::fmt;
use std::str::FromStr;

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
