//! TLS of IPFIX sessions (RFC 7011 11): version 1.3 or 1.2, a certificate of the
//! collector, and one of the exporter where an authority is configured.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Config;
use crate::error::ConfigError;

const CERTIFICATE: &str = "collector.ipfix_tls_certificate_file";
const KEY: &str = "collector.ipfix_tls_key_file";
const CLIENT_CA: &str = "collector.ipfix_tls_client_ca_file";

pub(crate) fn server_config(config: &Config) -> Result<Arc<ServerConfig>, ConfigError> {
    let certificate = config.ipfix_tls_certificate_file.as_ref().ok_or(ConfigError::TlsMissing(CERTIFICATE))?;
    let key_file = config.ipfix_tls_key_file.as_ref().ok_or(ConfigError::TlsMissing(KEY))?;
    let chain = certificates(CERTIFICATE, certificate)?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(pem(KEY, key_file))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| unusable(CERTIFICATE, certificate, &error))?;
    let builder = match &config.ipfix_tls_client_ca_file {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(CLIENT_CA, file)? {
                roots.add(authority).map_err(|error| unusable(CLIENT_CA, file, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| unusable(CLIENT_CA, file, &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let tls = builder.with_single_cert(chain, key).map_err(|error| unusable(KEY, key_file, &error))?;
    Ok(Arc::new(tls))
}

fn certificates(setting: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(pem(setting, file))?;
    if found.is_empty() {
        return Err(unusable(setting, file, &"there is no certificate in it"));
    }
    Ok(found)
}

fn pem(setting: &'static str, path: &Path) -> impl FnOnce(rustls_pki_types::pem::Error) -> ConfigError {
    let path = path.to_owned();
    move |reason| ConfigError::Pem { setting, path, reason }
}

fn unusable(setting: &'static str, path: &Path, reason: &dyn ToString) -> ConfigError {
    ConfigError::Certificate { setting, path: path.to_owned(), reason: reason.to_string() }
}
