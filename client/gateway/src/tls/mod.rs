//! TLS for all doors (rustls): 1.2 and 1.3, the server alone shows a certificate.
//!
//! | module | what it is |
//! |---|---|
//! | this one | server configuration, handshakes, and a certificate that follows its files |
//! | [`self_signed`] | a certificate made on the spot, where there is none |
//!
//! A certificate lives for weeks, a door for months: so the files are looked at every minute and
//! read again when they have changed, and what is made on the spot is made anew before it ends.
//! Sessions that are open go on with what they began with. When the new files cannot be used, the
//! old certificate stays and the log says why.
//!
//! This module reads files and the wall clock, and rustls draws randomness of its own: the only
//! place of this crate that cannot be simulated. Simulated doors run without TLS.

pub mod self_signed;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

pub use rustls::ServerConfig;

use crate::listen::Stream;
use crate::spool::locked;

/// How often a certificate's files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// No certificate chain is larger, and no key.
const FILE_BYTES: u64 = 1 << 20;

/// Where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// PEM files.
    Files {
        /// The chain, the server's own certificate first.
        certificate: PathBuf,
        /// Its key: PKCS #8, PKCS #1 or SEC 1.
        key: PathBuf,
    },
    /// Made on the spot, and kept in a directory; see [`self_signed`].
    SelfSigned {
        /// The directory; made when it is not there.
        dir: PathBuf,
        /// Names and IP addresses that the certificate is for.
        names: Vec<String>,
    },
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} holds no usable {what}: {why}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// A certificate or a key.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The key is not the certificate's, or of a kind that is not known.
    #[error("certificate and key do not work: {0}")]
    Pair(#[from] rustls::Error),
    /// No certificate can be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// A server configuration, and the certificate in it.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
}

/// The server configuration for a certificate that nobody looks after; see [`Tls::open`].
pub fn server_config(source: Source) -> Result<Arc<ServerConfig>, TlsError> {
    Ok(Tls::open(source)?.config())
}

impl Tls {
    /// Reads the certificate, or makes it.
    pub fn open(source: Source) -> Result<Tls, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (key, stamp) = load(&source, &provider)?;
        let current = Arc::new(Current {
            source,
            provider: Arc::clone(&provider),
            key: Mutex::new(key),
            stamp: Mutex::new(stamp),
        });
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(current.clone());
        Ok(Tls {
            config: Arc::new(config),
            current,
        })
    }

    /// What doors take.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Looks at the files now: true when there is a new certificate. After an error the old one
    /// goes on.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        self.current.refresh()
    }

    /// Looks at the files every minute until `shutdown`.
    pub async fn keep_fresh(&self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            match self.refresh() {
                Ok(false) => {}
                Ok(true) => tracing::info!("a new certificate is in use"),
                Err(error) => tracing::warn!(%error, "the certificate stays as it was"),
            }
        }
    }
}

/// Takes a handshake over `stream`; given up after `patience`.
pub async fn accept(
    config: &Arc<ServerConfig>,
    stream: Box<dyn Stream>,
    patience: Duration,
) -> io::Result<Box<dyn Stream>> {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(config));
    let stream = tokio::time::timeout(patience, acceptor.accept(stream)).await??;
    Ok(Box::new(stream))
}

/// The certificate that new connections are shown.
#[derive(Debug)]
struct Current {
    source: Source,
    provider: Arc<CryptoProvider>,
    key: Mutex<Arc<CertifiedKey>>,
    stamp: Mutex<Stamp>,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(locked(&self.key).clone())
    }
}

impl Current {
    fn refresh(&self) -> Result<bool, TlsError> {
        let mut seen = locked(&self.stamp);
        let same = match &self.source {
            Source::Files { certificate, key } => Stamp::of([certificate, key])? == *seen,
            Source::SelfSigned { dir, names } => !self_signed::is_due(dir, names, now_s()),
        };
        if same {
            return Ok(false);
        }
        let (key, stamp) = load(&self.source, &self.provider)?;
        *locked(&self.key) = key;
        *seen = stamp;
        Ok(true)
    }
}

/// What shows that files have changed: when they were written, and how long they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Stamp(Vec<(Option<SystemTime>, u64)>);

impl Stamp {
    fn of(paths: [&Path; 2]) -> Result<Stamp, TlsError> {
        let look = |path: &Path| {
            let found = std::fs::metadata(path).map_err(|error| file_error(path, error))?;
            Ok((found.modified().ok(), found.len()))
        };
        paths
            .into_iter()
            .map(look)
            .collect::<Result<_, _>>()
            .map(Stamp)
    }
}

fn load(
    source: &Source,
    provider: &CryptoProvider,
) -> Result<(Arc<CertifiedKey>, Stamp), TlsError> {
    let (certificate, key, stamp) = match source {
        Source::Files { certificate, key } => {
            // Before the files are read: what changes after this is seen the next time.
            let stamp = Stamp::of([certificate, key])?;
            (certificate.clone(), key.clone(), stamp)
        }
        Source::SelfSigned { dir, names } => {
            let both = self_signed::ensure(dir, names, now_s())?;
            (both.clone(), both, Stamp::default())
        }
    };
    let content = |path: &Path, what, why: String| TlsError::Content {
        path: path.to_owned(),
        what,
        why,
    };
    let pem = read(&certificate)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|why| content(&certificate, "certificate", why.to_string()))?;
    if chain.is_empty() {
        let why = "there is none in it".to_owned();
        return Err(content(&certificate, "certificate", why));
    }
    let private = PrivateKeyDer::from_pem_slice(&read(&key)?)
        .map_err(|why| content(&key, "key", why.to_string()))?;
    let pair = CertifiedKey::from_der(chain, private, provider)?;
    Ok((Arc::new(pair), stamp))
}

fn file_error(path: &Path, error: io::Error) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        error,
    }
}

/// A small file, whole.
#[allow(clippy::disallowed_methods)] // Certificates are files of the real world alone.
fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    use std::io::Read;
    let read = || {
        let mut octets = Vec::new();
        let mut file = std::fs::File::open(path)?.take(FILE_BYTES + 1);
        file.read_to_end(&mut octets)?;
        match octets.len() as u64 > FILE_BYTES {
            true => Err(io::Error::other("far too large for a certificate or a key")),
            false => Ok(octets),
        }
    };
    read().map_err(|error| file_error(path, error))
}

/// Seconds since 1970.
#[allow(clippy::disallowed_methods)] // The ends of certificates are dates of the real world.
fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> Source {
        Source::Files {
            certificate: dir.join("chain.pem"),
            key: dir.join("key.pem"),
        }
    }

    #[allow(clippy::disallowed_methods)]
    fn write_pair(dir: &Path, name: &str) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        std::fs::write(dir.join("chain.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }

    fn shown(tls: &Tls) -> CertificateDer<'static> {
        locked(&tls.current.key).cert[0].clone()
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn files_are_read_again_when_they_change_and_bad_ones_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Tls::open(files(dir.path())).is_err());
        let first = write_pair(dir.path(), "a.example");
        let tls = Tls::open(files(dir.path())).unwrap();
        assert_eq!(shown(&tls), first);
        assert!(!tls.refresh().unwrap());
        // Another length is seen even where the clock of the file system is coarse.
        let second = write_pair(dir.path(), "longer.b.example");
        assert!(tls.refresh().unwrap());
        assert_eq!(shown(&tls), second);
        std::fs::write(dir.path().join("key.pem"), "nothing").unwrap();
        assert!(tls.refresh().is_err());
        assert_eq!(shown(&tls), second);
        // A key of another certificate.
        write_pair(dir.path(), "c.example");
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        std::fs::write(dir.path().join("key.pem"), key + "\n\n").unwrap();
        assert!(matches!(tls.refresh(), Err(TlsError::Pair(_))));
        assert_eq!(shown(&tls), second);
    }

    #[tokio::test]
    async fn a_handshake_that_is_none_ends() {
        let dir = tempfile::tempdir().unwrap();
        let source = Source::SelfSigned {
            dir: dir.path().to_owned(),
            names: vec!["localhost".into()],
        };
        let config = server_config(source).unwrap();
        let (mut ours, theirs) = tokio::io::duplex(1024);
        tokio::io::AsyncWriteExt::write_all(&mut ours, b"USER ann\r\n")
            .await
            .unwrap();
        let patience = Duration::from_secs(5);
        assert!(accept(&config, Box::new(theirs), patience).await.is_err());
        // Silence, too.
        tokio::time::pause();
        let (_ours, theirs) = tokio::io::duplex(1024);
        let error = accept(&config, Box::new(theirs), patience).await.err();
        assert_eq!(error.map(|e| e.kind()), Some(io::ErrorKind::TimedOut));
    }
}
