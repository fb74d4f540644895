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
use std::fs::Metadata;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use straas_schemas::config::{SEALED, is_sealed};

/// Bytes of a key in its file.
const KEY_BYTES: usize = 32;
/// Keys in a file: one a year for as long as anybody looks back. Each makes a value that none opens cost more.
const KEYS_MAX: usize = 16;

/// Seals and opens.
///
/// The first key of its file seals, each opens; so does one that lies ready beside it (`….next`), to be the first
/// once every controller has it. The files are looked at again when they changed.
pub struct Vault {
    path: PathBuf,
    keys: Mutex<Arc<Keys>>,
}

struct Keys {
    all: Vec<Key>,
    seen: [Stamp; 2],
}

struct Key {
    sealing: LessSafeKey,
    /// Makes the nonce of a value from the value itself.
    nonces: hmac::Key,
}

/// What tells two states of a file apart; `None` if it is not there.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Vault {
    /// With the keys in a file, which is made with one if it is not there.
    ///
    /// # Errors
    /// [`Error::Io`], also for a file that holds something else.
    pub fn open(path: &Path) -> Result<Self> {
        if let Err(error) = std::fs::metadata(path) {
            match error.kind() {
                ErrorKind::NotFound => write_new(path, &random())?,
                _ => return Err(error).doing(|| format!("reading the key {}", path.display())),
            }
        }
        Ok(Self { path: path.to_owned(), keys: Mutex::new(Arc::new(Keys::read(path)?)) })
    }

    /// Has another key seal from now on; all there are still open. With `prepare` it only lies ready: then each
    /// controller gets a copy of it, and is told to take it afterwards. Returns the file that was written.
    ///
    /// A crash leaves the one state or the other, and being told again goes on from there.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Conflict`] if there are as many keys as there may be, or one lies ready already.
    pub fn rotate(path: &Path, prepare: bool) -> Result<PathBuf> {
        let (known, beside) = (bytes(path)?, next_to(path));
        let ready = match bytes(&beside) {
            Ok(key) => Some(key),
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => None,
            Err(other) => return Err(other),
        };
        let refuse = |what: String, next: &str| Err(Error::Conflict { what, next: next.to_owned() });
        if prepare {
            if ready.is_some() {
                let what = format!("{} lies ready already", beside.display());
                return refuse(what, "copy it to every controller, then take it on each");
            }
            write_new(&beside, &random())?;
            return Ok(beside);
        }
        // it was taken, and only not removed any more
        let taken = ready.as_deref() == Some(&known[..KEY_BYTES]);
        if !taken {
            if known.len() / KEY_BYTES >= KEYS_MAX {
                let what = format!("{} has {KEYS_MAX} keys", path.display());
                return refuse(what, "cut off the last ones (32 bytes each) that nothing is sealed with any more");
            }
            let mut all = ready.unwrap_or_else(|| random().to_vec());
            all.extend(known);
            let part = path.with_extension("part");
            let _ = std::fs::remove_file(&part);
            write_new(&part, &all)?;
            let doing = || format!("writing the key {}", path.display());
            std::fs::rename(&part, path).and_then(|()| synced(path)).doing(doing)?;
        }
        match std::fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).doing(|| format!("removing {}", beside.display()))
            }
            _ => Ok(path.to_owned()),
        }
    }

    /// The keys as the files have them now; those known before while these cannot be read.
    fn keys(&self) -> Arc<Keys> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.seen != stamps(&self.path) {
            match Keys::read(&self.path) {
                Ok(read) => *keys = Arc::new(read),
                Err(error) => tracing::error!(%error, "the keys of the secrets cannot be read; those known stay"),
            }
        }
        keys.clone()
    }

    /// What a value that an older key sealed is with the one that seals now; `None` for any other.
    #[must_use]
    pub fn resealed(&self, section: &str, key: &str, value: &str) -> Option<String> {
        let (keys, name) = (self.keys(), name(section, key));
        let sealed = value.strip_prefix(SEALED)?;
        let (newest, older) = keys.all.split_first()?;
        if newest.open(&name, sealed).is_some() {
            return None;
        }
        older.iter().find_map(|key| key.open(&name, sealed)).map(|clear| newest.seal(&name, &clear))
    }

    /// A value as it may be kept; one that is sealed already stays as it is.
    #[must_use]
    pub fn seal(&self, section: &str, key: &str, value: &str) -> String {
        if is_sealed(value) {
            return value.to_owned();
        }
        self.keys().all.first().map_or_else(String::new, |newest| newest.seal(&name(section, key), value))
    }

    /// The value; `None` if it was sealed with another key or under another name. One that is not
    /// sealed is as it is: an operator committed it by hand.
    #[must_use]
    pub fn unseal(&self, section: &str, key: &str, value: &str) -> Option<String> {
        let Some(sealed) = value.strip_prefix(SEALED) else { return Some(value.to_owned()) };
        let name = name(section, key);
        self.keys().all.iter().find_map(|key| key.open(&name, sealed))
    }
}

impl Key {
    fn of(key: &[u8]) -> Option<Self> {
        let root = Salt::new(HKDF_SHA256, b"straas: secrets of configurations").extract(key);
        let sealing = root.expand(&[b"seal"], &AES_256_GCM).map(UnboundKey::from).ok()?;
        let nonces = root.expand(&[b"nonces"], hmac::HMAC_SHA256).map(hmac::Key::from).ok()?;
        Some(Self { sealing: LessSafeKey::new(sealing), nonces })
    }

    fn seal(&self, name: &[u8], value: &str) -> String {
        let mut tag = hmac::Context::with_key(&self.nonces);
        tag.update(name);
        tag.update(value.as_bytes());
        let tag = tag.sign();
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&tag.as_ref()[..NONCE_LEN]);
        let mut text = value.as_bytes().to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        // fails for texts of many GiB only
        if self.sealing.seal_in_place_append_tag(unique, Aad::from(name), &mut text).is_err() {
            return String::new();
        }
        let bytes: Vec<u8> = nonce.iter().chain(&text).copied().collect();
        format!("{SEALED}{}", BASE64.encode(bytes))
    }

    fn open(&self, name: &[u8], sealed: &str) -> Option<String> {
        let bytes = BASE64.decode(sealed).ok()?;
        let (nonce, text) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let open = self.sealing.open_in_place(nonce, Aad::from(name), &mut text).ok()?;
        String::from_utf8(open.to_vec()).ok()
    }
}

impl Keys {
    fn read(path: &Path) -> Result<Self> {
        // before the files: what is written meanwhile is read at the next use
        let seen = stamps(path);
        let mut all = bytes(path)?;
        match bytes(&next_to(path)) {
            Ok(ready) => all.extend(ready),
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            Err(other) => return Err(other),
        }
        Ok(Self { all: all.chunks(KEY_BYTES).filter_map(Key::of).collect(), seen })
    }
}

fn next_to(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    name.into()
}

fn stamps(path: &Path) -> [Stamp; 2] {
    let stamp = |meta: Metadata| (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
    [path, &next_to(path)].map(|path| std::fs::metadata(path).ok().map(stamp))
}

/// The keys in a file.
fn bytes(path: &Path) -> Result<Vec<u8>> {
    let key = std::fs::read(path).doing(|| format!("reading the key {}", path.display()))?;
    if !key.is_empty() && key.len().is_multiple_of(KEY_BYTES) && key.len() / KEY_BYTES <= KEYS_MAX {
        return Ok(key);
    }
    let what = format!("which has to have 1 to {KEYS_MAX} times {KEY_BYTES} bytes,");
    Err(Error::Io {
        doing: format!("reading the key {}, {what}", path.display()),
        source: ErrorKind::InvalidData.into(),
    })
}

/// Section and key, so that no two pairs are the same bytes.
fn name(section: &str, key: &str) -> Vec<u8> {
    let mut name = (section.len() as u64).to_le_bytes().to_vec();
    name.extend(section.as_bytes());
    name.extend(key.as_bytes());
    name
}

fn random() -> [u8; KEY_BYTES] {
    rand::rng().random()
}

/// Keys in a file of their owner's, on the disk before they are used.
fn write_new(path: &Path, keys: &[u8]) -> Result<()> {
    let written = || {
        let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(keys)?;
        file.sync_all()?;
        synced(path)
    };
    written().doing(|| format!("writing the key {}", path.display()))
}

/// Has the folder of a file on the disk.
fn synced(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
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

    #[test]
    fn the_newest_key_seals_and_all_open() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, other) = (dir.path().join("secrets.key"), dir.path().join("other"));
        let vault = Vault::open(&path).expect("made");
        let first = vault.seal("db", "password", "open sesame");
        let opens = |vault: &Vault, sealed: &str| vault.unseal("db", "password", sealed).is_some();
        assert_eq!(vault.resealed("db", "password", &first), None, "nothing to be done");
        Vault::rotate(&path, false).expect("another key");
        // whoever has it open sees that
        let second = vault.seal("db", "password", "open sesame");
        assert!(second != first && opens(&vault, &first) && opens(&vault, &second));
        assert_eq!(vault.resealed("db", "password", &first), Some(second.clone()));
        assert_eq!(vault.resealed("db", "password", &second), None);
        assert_eq!(vault.resealed("db", "password", "plain"), None);
        assert_eq!(vault.resealed("web", "password", &first), None, "it opens under its own name only");

        // two controllers: the other one opens what the first seals with the new key before it was taken there
        std::fs::copy(&path, &other).expect("copied");
        let there = Vault::open(&other).expect("read");
        let ready = Vault::rotate(&path, true).expect("prepared");
        assert_eq!(vault.seal("db", "password", "open sesame"), second, "it only lies ready");
        assert!(matches!(Vault::rotate(&path, true), Err(Error::Conflict { .. })));
        std::fs::copy(&ready, next_to(&other)).expect("copied");
        Vault::rotate(&path, false).expect("taken");
        let third = vault.seal("db", "password", "open sesame");
        assert!(third != second && opens(&there, &third) && opens(&there, &first) && !ready.exists());
        assert_eq!(there.seal("db", "password", "open sesame"), second);
        Vault::rotate(&other, false).expect("taken");
        assert_eq!(there.seal("db", "password", "open sesame"), third);
        assert_eq!(std::fs::read(&path).expect("read"), std::fs::read(&other).expect("read"));
    }

    #[test]
    fn what_a_crash_leaves_is_gone_on_with_and_a_broken_file_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secrets.key");
        let vault = Vault::open(&path).expect("made");
        let ready = Vault::rotate(&path, true).expect("prepared");
        let key = std::fs::read(&ready).expect("read");
        Vault::rotate(&path, false).expect("taken");
        // taken, and the copy not yet removed; a part of an earlier try lies about
        std::fs::write(&ready, &key).expect("written");
        std::fs::write(path.with_extension("part"), "half").expect("written");
        let whole = std::fs::read(&path).expect("read");
        Vault::rotate(&path, false).expect("nothing more to do");
        assert_eq!((std::fs::read(&path).expect("read"), ready.exists()), (whole.clone(), false));
        Vault::rotate(&path, false).expect("a third");
        assert_eq!(std::fs::read(&path).expect("read").len(), 3 * KEY_BYTES);
        let sealed = vault.seal("db", "password", "open sesame");
        std::fs::write(&path, &whole[..40]).expect("written");
        assert!(Vault::rotate(&path, false).is_err() && Vault::open(&path).is_err());
        assert!(vault.unseal("db", "password", &sealed).is_some(), "those that are known stay");
        std::fs::write(&path, vec![7; KEYS_MAX * KEY_BYTES]).expect("written");
        assert!(matches!(Vault::rotate(&path, false), Err(Error::Conflict { .. })));
    }
}
