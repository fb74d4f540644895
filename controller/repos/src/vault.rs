//! Values that are secret, at rest: sealed before they are committed, opened only for the node that
//! needs them.
//!
//! ```text
//!  a user's value ─► seal ─► git, database, plans: straas-sealed:1:… ─► open ─► one node's assignment
//! ```
//! A sealed value is bound to its section and key, so it cannot be opened under another name. The same
//! value under the same name is sealed to the same text: what did not change looks unchanged to git
//! and to plans, and that two topologies have the same password for the same key can be seen.
//!
//! Never here: which options are secret (`secret.rs`), or who may have them.

use crate::error::{Doing as _, Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use rand::RngExt as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::hmac;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use straas_schemas::config::{SEALED, is_sealed};

/// Bytes of the key in its file.
const KEY_BYTES: usize = 32;

/// Seals and opens.
pub struct Vault {
    key: LessSafeKey,
    /// Makes the nonce of a value from the value itself.
    nonces: hmac::Key,
}

impl Vault {
    /// With the key in a file, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Io`], also for a file that holds something else.
    pub fn open(path: &Path) -> Result<Self> {
        let key = match std::fs::read(path) {
            Ok(key) => key,
            Err(error) if error.kind() == ErrorKind::NotFound => make(path)?,
            Err(error) => return Err(error).doing(|| format!("reading the key {}", path.display())),
        };
        Self::of(&key).ok_or_else(|| Error::Io {
            doing: format!("reading the key {}, which has to have {KEY_BYTES} bytes,", path.display()),
            source: ErrorKind::InvalidData.into(),
        })
    }

    fn of(key: &[u8]) -> Option<Self> {
        if key.len() != KEY_BYTES {
            return None;
        }
        let root = Salt::new(HKDF_SHA256, b"straas: secrets of configurations").extract(key);
        let sealing = root.expand(&[b"seal"], &AES_256_GCM).map(UnboundKey::from).ok()?;
        let nonces = root.expand(&[b"nonces"], hmac::HMAC_SHA256).map(hmac::Key::from).ok()?;
        Some(Self { key: LessSafeKey::new(sealing), nonces })
    }

    /// A value as it may be kept; one that is sealed already stays as it is.
    #[must_use]
    pub fn seal(&self, section: &str, key: &str, value: &str) -> String {
        if is_sealed(value) {
            return value.to_owned();
        }
        let name = name(section, key);
        let mut tag = hmac::Context::with_key(&self.nonces);
        tag.update(&name);
        tag.update(value.as_bytes());
        let tag = tag.sign();
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&tag.as_ref()[..NONCE_LEN]);
        let mut text = value.as_bytes().to_vec();
        // fails for texts of many GiB only
        if self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&name), &mut text).is_err()
        {
            return String::new();
        }
        let bytes: Vec<u8> = nonce.iter().chain(&text).copied().collect();
        format!("{SEALED}{}", BASE64.encode(bytes))
    }

    /// The value; `None` if it was sealed with another key or under another name. One that is not
    /// sealed is as it is: an operator committed it by hand.
    #[must_use]
    pub fn unseal(&self, section: &str, key: &str, value: &str) -> Option<String> {
        let Some(sealed) = value.strip_prefix(SEALED) else { return Some(value.to_owned()) };
        let bytes = BASE64.decode(sealed).ok()?;
        let (nonce, text) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let open = self.key.open_in_place(nonce, Aad::from(name(section, key)), &mut text).ok()?;
        String::from_utf8(open.to_vec()).ok()
    }
}

/// Section and key, so that no two pairs are the same bytes.
fn name(section: &str, key: &str) -> Vec<u8> {
    let mut name = (section.len() as u64).to_le_bytes().to_vec();
    name.extend(section.as_bytes());
    name.extend(key.as_bytes());
    name
}

/// A new key, on the disk before it is used.
fn make(path: &Path) -> Result<Vec<u8>> {
    let key: [u8; KEY_BYTES] = rand::rng().random();
    let written = || {
        let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&key)?;
        file.sync_all()?;
        std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    written().doing(|| format!("writing the key {}", path.display()))?;
    Ok(key.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_name_open_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        let vault = Vault::open(&path).expect("made");
        let sealed = vault.seal("db", "password", "open sesame");
        assert!(is_sealed(&sealed) && !sealed.contains("sesame"), "{sealed}");
        assert_eq!(sealed, vault.seal("db", "password", "open sesame"), "the same looks the same");
        assert_eq!(sealed, vault.seal("db", "password", &sealed), "once is enough");
        let again = Vault::open(&path).expect("read");
        assert_eq!(again.unseal("db", "password", &sealed).as_deref(), Some("open sesame"));
        assert_eq!(again.unseal("db", "password", "plain").as_deref(), Some("plain"));
        for (section, key) in [("db", "passwor"), ("d", "bpassword"), ("dbp", "assword"), ("web", "password")] {
            assert_ne!(vault.seal(section, key, "open sesame"), sealed);
            assert_eq!(vault.unseal(section, key, &sealed), None, "{section}.{key}");
        }
        let other = Vault::open(&dir.path().join("other")).expect("made");
        assert_eq!(other.unseal("db", "password", &sealed), None);
        for broken in [SEALED, "straas-sealed:1:!", "straas-sealed:1:AAAA", &sealed[..sealed.len() - 2]] {
            assert_eq!(vault.unseal("db", "password", broken), None, "{broken}");
        }
        std::fs::write(&path, "short").expect("written");
        assert!(Vault::open(&path).is_err());
    }

    #[test]
    fn the_key_is_its_owners() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        Vault::open(&path).expect("made");
        assert_eq!(std::fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    }
}
