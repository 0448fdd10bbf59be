//! NBD URIs: where a server listens and which of its exports is meant.
//!
//! `nbd://HOST[:PORT][/EXPORT]` and `nbd+unix:///[EXPORT]?socket=PATH`, as the NBD project writes
//! them down, without TLS. A query's keys other than `socket` are passed over, as it asks for.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::str::FromStr;

use super::{Client, ClientError, ClientOptions};

/// The port of servers that name none.
const DEFAULT_PORT: u16 = 10809;

/// Where an export is found. Prints as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    text: String,
    place: Place,
    export: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Unix(PathBuf),
    Tcp { host: String, port: u16 },
}

/// Why a text is no URI of an export.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no NBD URI: {fault}; write nbd+unix:///?socket=PATH or nbd://HOST:PORT")]
pub struct UriError {
    text: String,
    fault: &'static str,
}

impl Uri {
    /// The export's name; most servers have one whose name is empty.
    #[must_use]
    pub fn export(&self) -> &str {
        &self.export
    }

    /// Connects and asks for the export that the URI names; `options` say the rest.
    ///
    /// # Errors
    /// The connection or its handshake fails.
    pub async fn connect(&self, options: &ClientOptions) -> Result<Client, ClientError> {
        let options = ClientOptions {
            export: self.export.clone(),
            ..options.clone()
        };
        match &self.place {
            Place::Unix(path) => Client::unix(path, &options).await,
            Place::Tcp { host, port } => Client::tcp((host.as_str(), *port), &options).await,
        }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let (place, export) = parse(text).map_err(|fault| UriError {
            text: text.to_owned(),
            fault,
        })?;
        Ok(Self {
            text: text.to_owned(),
            place,
            export,
        })
    }
}

fn parse(text: &str) -> Result<(Place, String), &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, export) = rest.split_once('/').unwrap_or((rest, ""));
    let export = String::from_utf8(unescape(export)?).map_err(|_| "its export is not UTF-8")?;
    let place = match scheme {
        "nbd+unix" => {
            if !authority.is_empty() {
                return Err("a unix socket has no host");
            }
            let socket = query
                .split('&')
                .find_map(|part| part.strip_prefix("socket="))
                .filter(|path| !path.is_empty())
                .ok_or("it names no socket")?;
            Place::Unix(OsString::from_vec(unescape(socket)?).into())
        }
        "nbd" => tcp(authority)?,
        "nbds" | "nbds+unix" => return Err("TLS is not spoken here"),
        _ => return Err("its scheme is unknown"),
    };
    Ok((place, export))
}

fn tcp(authority: &str) -> Result<Place, &'static str> {
    let bad_port = "its port is no number from 1 to 65535";
    // The colons inside of an IPv6 address's brackets part nothing.
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[after_brackets..].rfind(':') {
        Some(at) => {
            let (host, port) = authority.split_at(after_brackets + at);
            let port = port[1..].parse().map_err(|_| bad_port)?;
            (host, port)
        }
        None => (authority, DEFAULT_PORT),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let host = String::from_utf8(unescape(bare)?).map_err(|_| "its host is not UTF-8")?;
    if host.is_empty() || host.contains(['[', ']', '@']) {
        return Err("it names no host");
    }
    if port == 0 {
        return Err(bad_port);
    }
    Ok(Place::Tcp { host, port })
}

/// Takes percent-encoding away.
fn unescape(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let mut digit = || {
            let digit = bytes.next().and_then(|byte| char::from(byte).to_digit(16));
            digit.ok_or("a percent sign in it is followed by no two hexadecimal digits")
        };
        let value = (digit()? << 4) | digit()?;
        plain.push(u8::try_from(value).unwrap_or_default());
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_exports_are_found() {
        let unix = |path: &str| Place::Unix(path.into());
        let tcp = |host: &str, port| Place::Tcp {
            host: host.to_owned(),
            port,
        };
        for (text, place, export) in [
            ("nbd+unix:///?socket=/run/s", unix("/run/s"), ""),
            ("nbd+unix:///a%20b?x=y&socket=s%2Ft", unix("s/t"), "a b"),
            ("nbd+unix://?socket=s", unix("s"), ""),
            ("nbd://localhost", tcp("localhost", 10809), ""),
            ("nbd://h:1/disk/one", tcp("h", 1), "disk/one"),
            ("nbd://[::1]:10810/", tcp("::1", 10810), ""),
            ("nbd://[::1]", tcp("::1", 10809), ""),
        ] {
            let uri: Uri = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((&uri.place, uri.export()), (&place, export), "{text}");
            assert_eq!(uri.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for text in [
            "",
            "/run/s",
            "nbd:unix:/run/s",
            "nbd+unix:///",
            "nbd+unix:///?socket=",
            "nbd+unix://host/?socket=s",
            "nbd+unix:///?socket=%4",
            "nbd+unix:///%ff?socket=s",
            "nbds://localhost",
            "nbd://",
            "nbd://:1",
            "nbd://h:0",
            "nbd://h:65536",
            "nbd://me@h",
            "http://localhost",
        ] {
            assert!(text.parse::<Uri>().is_err(), "{text}");
        }
    }
}
