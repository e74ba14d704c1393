//! The settings of the `posthouse-gateway` process, a TOML file:
//!
//! ```toml
//! nodes = ["127.0.0.1:6600"]      # any nodes of the cluster; the others are found through them
//! spool = "/var/spool/posthouse"  # default: the system's directory for temporary files
//!
//! [tls]
//! certificate = "/etc/posthouse/chain.pem"
//! key = "/etc/posthouse/key.pem"
//! # or, without these two: a self-signed certificate, made in
//! directory = "/var/lib/posthouse-gateway"
//!
//! [lmtp]
//! listen = "127.0.0.1:2400"       # "": no LMTP door
//! dedupe = true
//!
//! [imap]
//! listen = "0.0.0.0:143"          # default: none
//! listen_tls = "0.0.0.0:993"      # default: none
//!
//! [pop3]
//! listen = "0.0.0.0:110"          # default: none
//! listen_tls = "0.0.0.0:995"      # default: none
//! ```

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::imap;
use crate::lmtp::settings::Settings;
use crate::pop3;
use crate::tls::Source;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Nodes to ask first.
    pub nodes: Vec<String>,
    /// Where large messages wait while they are on their way.
    pub spool: Option<PathBuf>,
    /// The certificate of all doors.
    pub tls: TlsSettings,
    /// The LMTP door.
    pub lmtp: Settings,
    /// The IMAP door.
    pub imap: imap::settings::Settings,
    /// The POP3 door.
    pub pop3: pop3::settings::Settings,
}

/// Where the certificate of all doors comes from. With none of it, there is no TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// The chain, PEM.
    pub certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// Where a self-signed certificate is kept, when there is no other.
    pub directory: Option<PathBuf>,
    /// Names and IP addresses that a self-signed certificate is for, besides those of this
    /// machine's loopback.
    pub names: Vec<String>,
}

impl TlsSettings {
    /// Where the certificate comes from; `None`: no TLS.
    pub fn source(&self) -> Result<Option<Source>, String> {
        match (&self.certificate, &self.key, &self.directory) {
            (Some(certificate), Some(key), _) => Ok(Some(Source::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            })),
            (None, None, Some(dir)) => {
                let here = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
                let mut names = here.to_vec();
                names.extend(self.names.iter().filter(|n| !here.contains(n)).cloned());
                Ok(Some(Source::SelfSigned {
                    dir: dir.clone(),
                    names,
                }))
            }
            (None, None, None) => Ok(None),
            _ => Err("tls.certificate and tls.key are given together or not at all".into()),
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            nodes: vec!["127.0.0.1:6600".into()],
            spool: None,
            tls: TlsSettings::default(),
            lmtp: Settings::default(),
            imap: imap::settings::Settings::default(),
            pop3: pop3::settings::Settings::default(),
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
        let pop3 = Config::parse("[pop3]\nlisten_tls = 'c:995'\n[tls]\nkey = 'k'").unwrap();
        assert_eq!(pop3.pop3.listen_tls, "c:995");
        assert!(pop3.tls.source().is_err());
        assert_eq!(Config::default().tls.source(), Ok(None));
    }
}
