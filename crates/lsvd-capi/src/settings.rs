//! Settings as text: `LSVD_*` variables for the default volume, `key=value,...` for others.

use std::ffi::OsString;
use std::path::PathBuf;

use engine::words::text::{Size, duration};
use engine::{EphemeralOptions, FlushTarget};
use lsvd_store::{LatencyRange, StoreUrl};

use crate::call::Failure;

/// Where the default volume keeps its objects.
const DEFAULT_DIRECTORY: &str = "/tmp/lsvd";

/// Size of the default volume in bytes.
const DEFAULT_SIZE: u64 = 1 << 30;

/// What the variables begin with.
const PREFIX: &str = "LSVD_";

/// The settings, as options are written; a variable is the same in capitals behind `LSVD_`, with
/// `_` for `-`.
const KEYS: [&str; 7] = [
    "size",
    "object-size",
    "store-latency",
    "window",
    "seal-timeout",
    "flush",
    "retry-timeout",
];

/// Variables that say nothing about a volume, though they begin as ours do: those of the program
/// `lsvd`, which may well be set where a C program runs.
const NOT_OURS: [&str; 1] = ["LSVD_LOG"];

/// All that can be set about a volume besides its place.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) ephemeral: EphemeralOptions,
    pub(crate) store_latency: Option<LatencyRange>,
}

impl Settings {
    fn new(size: u64) -> Self {
        Self {
            ephemeral: EphemeralOptions::new(size),
            store_latency: None,
        }
    }

    /// Changes the setting `key`, which is one of [`KEYS`]; `name` is what the user calls it.
    fn set(&mut self, key: &str, name: &str, value: &str) -> Result<(), Failure> {
        let wrong = |advice: String| Failure::invalid(format!("{name}={value} is wrong: {advice}"));
        let form = |form: &str| wrong(format!("write {form}"));
        let size = || match value.parse() {
            Ok(Size(bytes)) => Ok(bytes),
            Err(error) => Err(wrong(error.to_string())),
        };
        let duration = || duration(value).map_err(|error| wrong(error.to_string()));
        match key {
            "size" => self.ephemeral.size = size()?,
            "object-size" => self.ephemeral.object_size = size()?,
            "store-latency" => {
                let latency = value.parse();
                self.store_latency =
                    Some(latency.map_err(|_| form("a latency, as in 5ms..10ms or 5ms"))?);
            }
            "window" => {
                let window = value.parse();
                self.ephemeral.window =
                    window.map_err(|_| form("how many uploads may run at once, as in 8"))?;
            }
            "seal-timeout" => self.ephemeral.seal_timeout = duration()?,
            "retry-timeout" => self.ephemeral.retry_timeout = duration()?,
            "flush" => {
                self.ephemeral.flush = match value {
                    "local" => FlushTarget::Local,
                    "store" => FlushTarget::Store,
                    _ => return Err(form("local or store")),
                }
            }
            _ => {
                let known = KEYS.join(", ");
                return Err(Failure::invalid(format!(
                    "there is no setting {name}; there are {known}"
                )));
            }
        }
        Ok(())
    }
}

/// Place and settings of the default volume from these variables. Those that do not begin with
/// `LSVD_` are not looked at, and neither are those of the program; all others must be known, for a
/// mistyped one would be a wrong disk without a word.
pub(crate) fn from_variables(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(StoreUrl, Settings), Failure> {
    let mut place = StoreUrl::LocalDirectory(PathBuf::from(DEFAULT_DIRECTORY));
    let mut settings = Settings::new(DEFAULT_SIZE);
    for (name, value) in variables {
        let Some((name, setting)) = name.to_str().and_then(|name| {
            let setting = name.strip_prefix(PREFIX)?;
            Some((name, setting))
        }) else {
            continue;
        };
        if NOT_OURS.contains(&name) {
            continue;
        }
        if setting == "DIR" {
            place = match value.to_str() {
                Some(url) => url.parse()?,
                // A path need not be text.
                None => StoreUrl::LocalDirectory(PathBuf::from(value)),
            };
            continue;
        }
        let key = KEYS.into_iter().find(|key| variable(key) == name);
        let Some(key) = key else {
            let known: Vec<_> = KEYS.into_iter().map(variable).collect();
            return Err(Failure::invalid(format!(
                "there is no variable {name}; there are LSVD_DIR, {}; unset it or mend its name",
                known.join(", ")
            )));
        };
        let value = value
            .to_str()
            .ok_or_else(|| Failure::invalid(format!("the value of {name} is not UTF-8")))?;
        settings.set(key, name, value)?;
    }
    Ok((place, settings))
}

/// The variable of a setting.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('-', "_"))
}

/// Settings from `ephemeral,key=value,...`. The order does not matter, and nothing is said twice.
pub(crate) fn from_options(options: &str) -> Result<Settings, Failure> {
    let mut settings = Settings::new(0);
    let mut seen: Vec<&str> = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option, None),
        };
        if seen.contains(&key) {
            return Err(Failure::invalid(format!("the option {key} is given twice")));
        }
        seen.push(key);
        match (key, value) {
            ("ephemeral", None) => {}
            ("ephemeral", Some(_)) => {
                return Err(Failure::invalid("the option ephemeral takes no value"));
            }
            (key, Some(value)) => settings.set(key, key, value)?,
            (key, None) => {
                return Err(Failure::invalid(format!(
                    "the option {key:?} has no value; write ephemeral,key=value,... with the keys \
                     {}",
                    KEYS.join(", ")
                )));
            }
        }
    }
    if !seen.contains(&"ephemeral") {
        return Err(Failure::invalid(
            "only ephemeral volumes exist in this version; say so with the option ephemeral",
        ));
    }
    if !seen.contains(&"size") {
        return Err(Failure::invalid(
            "the size is missing; add an option as size=1G",
        ));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn variables(list: &[(&str, &str)]) -> Result<(StoreUrl, Settings), Failure> {
        let own = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
        from_variables(list.iter().map(own))
    }

    #[test]
    fn variables_have_defaults() {
        let (place, settings) = variables(&[("PATH", "/bin"), ("LSVDX", "1")]).unwrap();
        assert_eq!(place, StoreUrl::LocalDirectory(PathBuf::from("/tmp/lsvd")));
        assert_eq!(settings.ephemeral.size, 1 << 30);
        assert_eq!(settings.ephemeral.flush, FlushTarget::Local);
        assert_eq!(settings.store_latency, None);
    }

    #[test]
    fn every_setting_is_a_variable_and_an_option() {
        let (place, by_variables) = variables(&[
            ("LSVD_DIR", "/d"),
            ("LSVD_SIZE", "10G"),
            ("LSVD_OBJECT_SIZE", "4m"),
            ("LSVD_STORE_LATENCY", "5ms..10ms"),
            ("LSVD_WINDOW", "3"),
            ("LSVD_SEAL_TIMEOUT", "500ms"),
            ("LSVD_FLUSH", "store"),
            ("LSVD_RETRY_TIMEOUT", "1m"),
        ])
        .unwrap();
        assert_eq!(place, StoreUrl::LocalDirectory(PathBuf::from("/d")));
        let by_options = from_options(
            "size=10G,object-size=4m,store-latency=5ms..10ms,window=3,ephemeral,\
             seal-timeout=500ms,flush=store,retry-timeout=1m",
        )
        .unwrap();
        for settings in [by_variables, by_options] {
            assert_eq!(settings.ephemeral.size, 10 << 30);
            assert_eq!(settings.ephemeral.object_size, 4 << 20);
            assert_eq!(settings.ephemeral.window, 3);
            assert_eq!(settings.ephemeral.seal_timeout, Duration::from_millis(500));
            assert_eq!(settings.ephemeral.flush, FlushTarget::Store);
            assert_eq!(settings.ephemeral.retry_timeout, Duration::from_secs(60));
            let latency = settings.store_latency.unwrap();
            assert_eq!(latency.to_string(), "5ms..10ms");
        }
    }

    #[test]
    fn the_variable_of_the_program_is_ignored() {
        for level in ["debug", "no level at all"] {
            let (_, settings) = variables(&[("LSVD_LOG", level), ("LSVD_SIZE", "2M")]).unwrap();
            assert_eq!(settings.ephemeral.size, 2 << 20);
        }
    }

    #[test]
    fn wrong_variables_are_refused_by_name() {
        for (name, value) in [
            ("LSVD_SIZE", ""),
            ("LSVD_SIZE", "K"),
            ("LSVD_SIZE", "+1"),
            ("LSVD_SIZE", "1X"),
            ("LSVD_SIZE", "99999999999T"),
            ("LSVD_WINDOW", "-1"),
            ("LSVD_FLUSH", "disk"),
            ("LSVD_SEAL_TIMEOUT", "2"),
            ("LSVD_STORE_LATENCY", "10ms..5ms"),
            ("LSVD_SIEZ", "1G"),
            ("LSVD_size", "1G"),
            ("LSVD_", "1"),
            ("LSVD_LOGS", "warn"),
            ("LSVD_log", "warn"),
        ] {
            let failure = variables(&[(name, value)]).unwrap_err();
            assert!(failure.message().contains(name), "{}", failure.message());
        }
        let failure = variables(&[("LSVD_DIR", "s3://bucket")]).unwrap_err();
        assert!(failure.message().contains("s3"), "{}", failure.message());
    }

    #[test]
    fn wrong_options_are_refused_by_name() {
        for (options, word) in [
            ("", "ephemeral"),
            ("size=1G", "ephemeral"),
            ("ephemeral", "size"),
            ("ephemeral=yes,size=1G", "ephemeral"),
            ("ephemeral,size", "\"size\""),
            ("ephemeral,size=1G,size=2G", "size is given twice"),
            ("ephemeral,size=1G,colour=red", "colour"),
            ("ephemeral,size=1G, window=3", " window"),
        ] {
            let failure = from_options(options).unwrap_err();
            assert!(failure.message().contains(word), "{}", failure.message());
        }
    }
}
