//! The settings of the `posthouse-gateway` process, a TOML file:
//!
//! ```toml
//! nodes = ["127.0.0.1:6600"]      # any nodes of the cluster; the others are found through them
//! spool = "/var/spool/posthouse"  # default: the system's directory for temporary files
//!
//! [lmtp]
//! listen = "127.0.0.1:2400"
//! dedupe = true
//! ```

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::lmtp::settings::Settings;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Nodes to ask first.
    pub nodes: Vec<String>,
    /// Where large messages wait while they are on their way.
    pub spool: Option<PathBuf>,
    /// The LMTP door.
    pub lmtp: Settings,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            nodes: vec!["127.0.0.1:6600".into()],
            spool: None,
            lmtp: Settings::default(),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is no configuration.
    #[error("{}: {error}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        error: Box<toml::de::Error>,
    },
}

impl Config {
    /// Reads a file.
    #[allow(clippy::disallowed_methods)]
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read {
            path: path.to_owned(),
            error,
        })?;
        Config::parse(&text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            error: Box::new(error),
        })
    }

    fn parse(text: &str) -> Result<Config, toml::de::Error> {
        toml::from_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default_and_typing_errors_are_found() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
        let some =
            Config::parse("nodes = ['a:1']\n[lmtp]\nlisten = 'b:2'\ndedupe = false").unwrap();
        assert_eq!(some.nodes, ["a:1"]);
        assert_eq!(some.lmtp.listen, "b:2");
        assert!(!some.lmtp.dedupe);
        assert_eq!(some.lmtp.recipients, 1000);
        assert!(Config::parse("[lmtp]\nlistne = 'b:2'").is_err());
        assert!(Config::parse("node = []").is_err());
    }
}
