//! A certificate made on the spot, so that a first start has TLS without any preparation.
//!
//! Nobody vouches for it: mail programs ask whether to trust it, or are given its public half. In
//! the directory:
//!
//! | file | what it is |
//! |---|---|
//! | `self-signed.pem` | certificate and key in one file, mode 0600, so that they always match |
//! | `certificate.pem` | the certificate alone, to hand to those who shall trust it |
//!
//! The first file begins with a line of text, as RFC 7468, section 5.2, allows: until when the
//! certificate is valid, and for which names. It is used again at the next start, and replaced
//! thirty days before its end or when it is asked for with other names.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};

use super::{TlsError, file_error, read};

/// How long a certificate is valid.
const VALID_S: u64 = 365 * 24 * 3600;
/// How long before its end it is replaced.
const RENEW_S: u64 = 30 * 24 * 3600;
/// Clocks that are late by up to this take a fresh certificate for valid.
const SLACK_S: u64 = 24 * 3600;

const BOTH: &str = "self-signed.pem";
const PUBLIC: &str = "certificate.pem";
const MARK: &str = "Made by Posthouse.";

/// The file with a certificate for `names`, made if there is none that still serves.
pub fn ensure(dir: &Path, names: &[String], now_s: u64) -> Result<PathBuf, TlsError> {
    let path = dir.join(BOTH);
    if is_due(dir, names, now_s) {
        make(dir, names, now_s)?;
    }
    Ok(path)
}

/// Whether the certificate in `dir` has to be made, or made anew.
pub fn is_due(dir: &Path, names: &[String], now_s: u64) -> bool {
    let Ok(octets) = read(&dir.join(BOTH)) else {
        return true;
    };
    let text = String::from_utf8_lossy(&octets);
    let until = text.lines().next().and_then(|line| {
        let (until, of) = line.strip_prefix(MARK)?.trim().split_once(' ')?;
        (of == names.join(" ")).then_some(until.parse::<u64>().ok()?)
    });
    until.is_none_or(|until| until < now_s.saturating_add(RENEW_S))
}

fn make(dir: &Path, names: &[String], now_s: u64) -> Result<(), TlsError> {
    let until_s = now_s + VALID_S;
    let mut params = CertificateParams::new(names.to_vec())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Posthouse");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now_s.saturating_sub(SLACK_S));
    params.not_after = epoch + Duration::from_secs(until_s);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    let both = format!(
        "{MARK} {until_s} {}\n{certificate}{}",
        names.join(" "),
        key.serialize_pem()
    );
    make_dir(dir).map_err(|error| file_error(dir, error))?;
    // The public half first: with the other one, the certificate counts as made.
    for (name, text, mode) in [(PUBLIC, &certificate, 0o644), (BOTH, &both, 0o600)] {
        let path = dir.join(name);
        replace(&path, text, mode).map_err(|error| file_error(&path, error))?;
    }
    Ok(())
}

#[allow(clippy::disallowed_methods)] // Certificates are files of the real world alone.
fn make_dir(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)
}

/// Writes a file whole, or leaves it as it was.
#[allow(clippy::disallowed_methods)] // As above.
fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Made anew, so that the mode is the one given here and nobody has it open.
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW_S: u64 = 1_800_000_000;

    fn names() -> Vec<String> {
        ["localhost", "127.0.0.1", "::1"]
            .map(str::to_owned)
            .to_vec()
    }

    #[test]
    fn it_is_kept_until_it_nears_its_end_or_other_names_are_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("tls");
        let path = ensure(&inner, &names(), NOW_S).unwrap();
        let first = read(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let public = read(&inner.join(PUBLIC)).unwrap();
        assert!(!String::from_utf8(public).unwrap().contains("PRIVATE"));
        ensure(&inner, &names(), NOW_S + VALID_S - RENEW_S).unwrap();
        assert_eq!(read(&path).unwrap(), first);
        ensure(&inner, &names(), NOW_S + VALID_S - RENEW_S + 1).unwrap();
        let second = read(&path).unwrap();
        assert_ne!(second, first);
        ensure(&inner, &["localhost".to_owned()], NOW_S).unwrap();
        assert_ne!(read(&path).unwrap(), second);
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn what_somebody_else_has_written_there_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for garbage in ["", "Made by Posthouse.", "Made by Posthouse. x localhost\n"] {
            std::fs::write(dir.path().join(BOTH), garbage).unwrap();
            assert!(is_due(dir.path(), &names(), NOW_S));
            ensure(dir.path(), &names(), NOW_S).unwrap();
            assert!(!is_due(dir.path(), &names(), NOW_S));
        }
        assert!(ensure(dir.path(), &["bad\0name\u{e9}".to_owned()], NOW_S).is_err());
    }
}
