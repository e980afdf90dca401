//! Passwords and secrets: argon2id (RFC 9106), random 256-bit secrets kept as SHA-256.

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::Rng as _;
use sha2::{Digest as _, Sha256};

/// Shortest password that a user may choose.
pub const CHARACTERS_MIN: usize = 10;
/// Longest that is hashed, so that hashing costs the same for everybody.
pub const OCTETS_MAX: usize = 256;

/// 19 MiB, two passes, one lane: OWASP's recommendation for argon2id.
fn hasher() -> Argon2<'static> {
    let params = Params::new(19 * 1024, 2, 1, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// A verifier in PHC format.
pub fn hash(password: &str) -> anyhow::Result<String> {
    let mut octets = [0u8; 16];
    rand::rng().fill(&mut octets);
    let salt = SaltString::encode_b64(&octets).map_err(|error| anyhow::anyhow!("cannot make a salt: {error}"))?;
    let hash = hasher()
        .hash_password(password.as_bytes(), &salt)
        .map_err(|error| anyhow::anyhow!("cannot hash a password: {error}"))?;
    Ok(hash.to_string())
}

pub fn verify(password: &str, verifier: &str) -> bool {
    password.len() <= OCTETS_MAX
        && PasswordHash::new(verifier)
            .is_ok_and(|parsed| hasher().verify_password(password.as_bytes(), &parsed).is_ok())
}

/// Why a chosen password is refused, if it is.
pub fn objection(name: &str, password: &str) -> Option<String> {
    if password.chars().count() < CHARACTERS_MIN {
        return Some(format!("a password has at least {CHARACTERS_MIN} characters"));
    }
    if password.len() > OCTETS_MAX {
        return Some(format!("a password has at most {OCTETS_MAX} octets"));
    }
    if password.eq_ignore_ascii_case(name) {
        return Some("the password must not be the user's name".to_owned());
    }
    None
}

/// A password that a person can type: 20 of 31 letters and digits that are not mistaken for each other, 99 bits.
pub fn random_password() -> String {
    const LETTERS: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";
    let mut random = rand::rng();
    let groups: Vec<String> =
        (0..4).map(|_| (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()).collect();
    groups.join("-")
}

/// 256 random bits in base64url.
pub fn random_secret() -> String {
    let mut octets = [0u8; 32];
    rand::rng().fill(&mut octets);
    URL_SAFE_NO_PAD.encode(octets)
}

/// What is kept of a secret.
pub fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_verifies_against_its_own_hash_only() -> anyhow::Result<()> {
        let verifier = hash("correct horse battery")?;
        assert!(verifier.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(verify("correct horse battery", &verifier));
        assert!(!verify("correct horse batterz", &verifier));
        assert!(!verify("", &verifier));
        assert!(!verify("x", "not a hash"));
        Ok(())
    }

    #[test]
    fn secrets_differ() {
        assert_ne!(random_secret(), random_secret());
        assert_eq!(random_secret().len(), 43);
        assert_eq!(random_password().len(), 23);
        assert!(objection("admin", &random_password()).is_none());
        assert!(objection("admin", "short").is_some());
    }
}
