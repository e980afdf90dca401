//! The certificate authority of the links (X.509, RFC 5280; ECDSA P-256).
//!
//! One self-signed root in a directory of step00; each role gets a certificate
//! whose common name and DNS name are the role, for both ends of TLS.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

const ROOT_VALIDITY: Duration = Duration::days(3650);
const ROLE_VALIDITY: Duration = Duration::days(397);
/// Clocks of the machines may differ by so much.
const BACKDATE: Duration = Duration::hours(1);

/// The root, with its key.
#[derive(Debug)]
pub struct Authority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A role's certificate and key, as PEM.
pub struct Issued {
    pub certificate_pem: String,
    pub key_pem: String,
    pub authority_pem: String,
}

impl Authority {
    /// Reads the root from a directory, or makes one there.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let (certificate, key) = (directory.join("ca.pem"), directory.join("ca.key"));
        if !certificate.exists() {
            create(directory, &certificate, &key)?;
        }
        let certificate_pem = read(&certificate)?;
        let key = KeyPair::from_pem(&read(&key)?).with_context(|| format!("{} is not a key", key.display()))?;
        let issuer = Issuer::new(root_parameters()?, key);
        Ok(Self { certificate_pem, issuer })
    }

    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A new certificate with a new key.
    pub fn issue(&self, role: &str) -> anyhow::Result<Issued> {
        let mut parameters = CertificateParams::new(vec![role.to_owned()])?;
        parameters.distinguished_name = name(role);
        parameters.not_before = OffsetDateTime::now_utc() - BACKDATE;
        parameters.not_after = OffsetDateTime::now_utc() + ROLE_VALIDITY;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            authority_pem: self.certificate_pem.clone(),
        })
    }
}

impl Issued {
    /// Writes `ROLE.pem`, `ROLE.key` (0600) and `ca.pem`.
    pub fn write(&self, directory: &Path, role: &str) -> anyhow::Result<()> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        write(&directory.join("ca.pem"), &self.authority_pem, 0o644)?;
        write(&directory.join(format!("{role}.key")), &self.key_pem, 0o600)?;
        write(&directory.join(format!("{role}.pem")), &self.certificate_pem, 0o644)
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn root_parameters() -> anyhow::Result<CertificateParams> {
    let mut parameters = CertificateParams::new(Vec::<String>::new())?;
    parameters.distinguished_name = name("benocs internal authority");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.not_before = OffsetDateTime::now_utc() - BACKDATE;
    parameters.not_after = OffsetDateTime::now_utc() + ROOT_VALIDITY;
    Ok(parameters)
}

fn create(directory: &Path, certificate: &Path, key: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let pair = KeyPair::generate()?;
    let root = root_parameters()?.self_signed(&pair)?;
    write(key, &pair.serialize_pem(), 0o600)?;
    write(certificate, &root.pem(), 0o644)
}

fn read(path: &PathBuf) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_authority_is_made_once_and_keys_are_private() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let first = Authority::open(directory.path())?.certificate_pem().to_owned();
        let again = Authority::open(directory.path())?;
        assert_eq!(first, again.certificate_pem());
        let issued = again.issue("netflow00")?;
        issued.write(directory.path(), "netflow00")?;
        for key in ["ca.key", "netflow00.key"] {
            let mode = fs::metadata(directory.path().join(key))?.permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
        assert_ne!(issued.certificate_pem, again.issue("netflow00")?.certificate_pem);
        Ok(())
    }
}
