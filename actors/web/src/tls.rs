//! Certificates, and TLS 1.2 and 1.3 with ring's suites, no others.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

use crate::config::Config;

/// A self-signed certificate is made again this long before it ends.
const RENEW: Duration = Duration::days(30);
/// Browsers refuse longer ones.
const VALID: Duration = Duration::days(398);

pub fn server_config(config: &Config, data: &Path) -> anyhow::Result<ServerConfig> {
    let (certificate_file, key_file) = match (&config.certificate_file, &config.key_file) {
        (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
        (None, None) => self_signed(config, data)?,
        _ => bail!("web.certificate_file and web.key_file go together: give both or none"),
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&certificate_file)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read the certificate {}", certificate_file.display()))?;
    let key = PrivateKeyDer::from_pem_file(&key_file)
        .with_context(|| format!("cannot read the private key {}", key_file.display()))?;
    if std::fs::metadata(&key_file)?.permissions().mode() & 0o077 != 0 {
        tracing::warn!(file = %key_file.display(), "the private key is readable by others: chmod 600");
    }
    let mut tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .context("cannot set up TLS")?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .with_context(|| format!("{} is not the key of {}", key_file.display(), certificate_file.display()))?;
    tls.send_half_rtt_data = false;
    Ok(tls)
}

/// The certificate and the key in the data directory; made where missing or nearly over.
fn self_signed(config: &Config, data: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    let directory = data.join("tls");
    let certificate_file = directory.join("web.crt");
    let key_file = directory.join("web.key");
    let until_file = directory.join("web.until");
    let until = std::fs::read_to_string(&until_file).ok().and_then(|text| text.trim().parse::<i64>().ok());
    let now = OffsetDateTime::now_utc();
    let fresh = until.is_some_and(|until| until > (now + RENEW).unix_timestamp());
    if fresh && certificate_file.exists() && key_file.exists() {
        return Ok((certificate_file, key_file));
    }
    std::fs::create_dir_all(&directory)?;
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700))?;
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    if let Ok(name) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        names.push(name.trim().to_owned());
    }
    names.extend(config.names.iter().cloned());
    names.retain(|name| !name.is_empty());
    names.dedup();
    let mut params = rcgen::CertificateParams::new(names).context("web.names holds what is no name")?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "benocs");
    params.not_before = now - Duration::hours(1);
    params.not_after = now + VALID;
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = rcgen::KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    write_private(&key_file, key.serialize_pem().as_bytes())?;
    write_private(&certificate_file, certificate.pem().as_bytes())?;
    write_private(&until_file, (now + VALID).unix_timestamp().to_string().as_bytes())?;
    tracing::info!(file = %certificate_file.display(), "made a self-signed certificate");
    Ok((certificate_file, key_file))
}

/// Whole or not at all, 0600 from its first octet.
fn write_private(path: &Path, octets: &[u8]) -> anyhow::Result<()> {
    let draft = path.with_extension("draft");
    let _ = std::fs::remove_file(&draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .with_context(|| format!("cannot write {}", draft.display()))?;
    file.write_all(octets)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_private() -> anyhow::Result<()> {
        let data = tempfile::tempdir()?;
        let config = Config::default();
        server_config(&config, data.path())?;
        let key = data.path().join("tls/web.key");
        assert_eq!(std::fs::metadata(&key)?.permissions().mode() & 0o777, 0o600);
        let first = std::fs::read(&key)?;
        server_config(&config, data.path())?;
        assert_eq!(first, std::fs::read(&key)?);
        std::fs::write(data.path().join("tls/web.until"), "0")?;
        server_config(&config, data.path())?;
        assert_ne!(first, std::fs::read(&key)?);
        Ok(())
    }

    #[test]
    fn half_a_pair_is_refused() -> anyhow::Result<()> {
        let data = tempfile::tempdir()?;
        let config = Config { certificate_file: Some("x".into()), ..Config::default() };
        assert!(server_config(&config, data.path()).is_err());
        Ok(())
    }
}
