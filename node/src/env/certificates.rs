//! Where the doors in this process get TLS from.

use posthouse_gateway::tls::{Source, Tls, TlsError};

/// Gives TLS.
pub trait Certificates: Send + Sync {
    /// TLS with this certificate; `None` in a world without TLS, such as a simulated one: TLS
    /// draws its randomness, and reads the clock, by itself.
    fn open(&self, source: Source) -> Result<Option<Tls>, TlsError>;
}

/// Certificates in files.
pub struct CertificateFiles;

impl Certificates for CertificateFiles {
    fn open(&self, source: Source) -> Result<Option<Tls>, TlsError> {
        Tls::open(source).map(Some)
    }
}
