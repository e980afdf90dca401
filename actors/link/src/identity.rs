//! Who a machine is: certificate, key, and the authority that both ends trust.
//!
//! TLS 1.3 only, both ends show a certificate (RFC 8446, 4.4.2). The role is the
//! DNS name without a dot among the certificate's subject alternative names
//! (RFC 5280, 4.2.1.6); the common name is not read (RFC 9525, 2).

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot read {what}: {reason}")]
    Pem { what: String, reason: rustls_pki_types::pem::Error },
    #[error("the authority's certificates cannot be used: {0}")]
    Authority(String),
    #[error("certificate and key cannot be used: {0}")]
    Own(#[from] rustls::Error),
    #[error("the certificate names no role: it needs a DNS name without a dot")]
    NoRole,
}

/// A machine's certificate chain and key, and the authority's certificates.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<PrivateKeyDer<'static>>,
    authority: Arc<RootCertStore>,
    role: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.role)
    }
}

impl Identity {
    pub fn load(certificate: &Path, key: &Path, authority: &Path) -> Result<Self, IdentityError> {
        let failed = |path: &Path| {
            let what = path.display().to_string();
            move |reason| IdentityError::Pem { what, reason }
        };
        let certificates = |path: &Path| {
            CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed(path))
        };
        let own_key = PrivateKeyDer::from_pem_file(key).map_err(failed(key))?;
        Self::new(certificates(certificate)?, own_key, certificates(authority)?)
    }

    pub fn from_pem(certificate: &str, key: &str, authority: &str) -> Result<Self, IdentityError> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |reason| IdentityError::Pem { what, reason }
        };
        let certificates = |pem: &str, what| {
            CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(failed(what))
        };
        let own_key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(failed("key"))?;
        Self::new(certificates(certificate, "certificate")?, own_key, certificates(authority, "authority")?)
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        authority: Vec<CertificateDer<'static>>,
    ) -> Result<Self, IdentityError> {
        let mut roots = RootCertStore::empty();
        for certificate in authority {
            roots.add(certificate).map_err(|error| IdentityError::Authority(error.to_string()))?;
        }
        let role = role_of(&chain).ok_or(IdentityError::NoRole)?;
        Ok(Self { chain, key: Arc::new(key), authority: Arc::new(roots), role })
    }

    /// As the certificate names it.
    pub fn role(&self) -> &str {
        &self.role
    }

    pub(crate) fn server_config(&self) -> Result<ServerConfig, IdentityError> {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.authority.clone(), provider.clone())
            .build()
            .map_err(|error| IdentityError::Authority(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    pub(crate) fn client_config(&self) -> Result<ClientConfig, IdentityError> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.authority.clone())
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// The role that the first certificate of a verified chain names.
pub(crate) fn role_of(chain: &[CertificateDer<'_>]) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(chain.first()?).ok()?;
    certificate.valid_dns_names().find(|name| !name.contains('.')).map(str::to_owned)
}
