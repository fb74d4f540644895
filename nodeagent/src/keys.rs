//! Keys and certificates on the disk, of a node or of a host of the pool.
//!
//! ```text
//! tls/pending.key            the key of a request under way; kept, so that a request whose answer
//!                            was lost is repeated with the same key
//! tls/<n>/{node.key,node.pem,identity.json}
//! tls/current -> <n>         switched by one rename: key and certificate always belong together
//! tls/node.key, tls/node.pem -> current/...
//! ```
//! The private key is made here and never leaves. Never here: asking anybody for a certificate.

use crate::agent::unix_ms;
use crate::client::{Client, Credentials};
use crate::enrol::EnrolError;
use crate::stages::write_private;
use rcgen::{CertificateParams, KeyPair};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// Shortest time between two renewals: a wrong clock must not make a loop. Of a certificate that
/// does not even live for some minutes, a part of its life.
const RENEW_PAUSE: Duration = Duration::from_secs(60);
/// Which part.
const PAUSE_PARTS: u32 = 6;

/// Who the controller says this is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// The node or host. The name on the disk is from when there were nodes only.
    #[serde(rename = "node")]
    pub id: String,
    /// Counts how often it enrolled or joined.
    pub incarnation: u64,
    /// When it was issued, by this host's clock.
    pub issued_ms: i64,
    /// When it ends, by the controller's clock.
    pub not_after_ms: i64,
}

impl Identity {
    /// How long to wait with the renewal: until two thirds of the certificate's life are over.
    #[must_use]
    pub fn renewal_in(&self) -> Duration {
        millis(self.issued_ms + self.life_ms() / 3 * 2 - unix_ms())
    }

    /// How long to wait after a renewal at least.
    #[must_use]
    pub fn renewal_pause(&self) -> Duration {
        RENEW_PAUSE.min(millis(self.life_ms()) / PAUSE_PARTS)
    }

    fn life_ms(&self) -> i64 {
        (self.not_after_ms - self.issued_ms).max(0)
    }
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// Uses a certificate from now on, and keeps it with its key. One of another key is refused before anything is replaced.
///
/// # Errors
/// The certificate, or the disk.
pub fn take(tls: &Path, client: &Client, own: &Credentials, identity: Identity) -> Result<Identity, EnrolError> {
    client.set_credentials(own)?;
    write(tls, own, &identity).map_err(EnrolError::Setup)?;
    Ok(identity)
}

/// A key that is on the disk already, and a request for it.
///
/// # Errors
/// In words.
pub fn request(tls: &Path) -> Result<(String, String), String> {
    std::fs::create_dir_all(tls).map_err(|error| format!("{}: {error}", tls.display()))?;
    let pending = tls.join("pending.key");
    let key = std::fs::read_to_string(&pending).ok().and_then(|pem| KeyPair::from_pem(&pem).ok());
    let key = match key {
        Some(key) => key,
        None => {
            let key = KeyPair::generate().map_err(|error| format!("a key cannot be made: {error}"))?;
            write_private(&pending, key.serialize_pem().as_bytes())?;
            key
        }
    };
    let key_pem = key.serialize_pem();
    let csr = request_of(&key_pem)?;
    Ok((key_pem, csr))
}

/// A request for a key.
///
/// # Errors
/// In words.
pub fn request_of(key_pem: &str) -> Result<String, String> {
    let made = KeyPair::from_pem(key_pem).and_then(|key| CertificateParams::default().serialize_request(&key)?.pem());
    made.map_err(|error| format!("a request cannot be made: {error}"))
}

/// Keeps a certificate with its key and uses it from now on; earlier ones are removed.
///
/// # Errors
/// In words.
fn write(tls: &Path, own: &Credentials, identity: &Identity) -> Result<(), String> {
    let name = identity.issued_ms.to_string();
    let dir = tls.join(&name);
    let at = |error: std::io::Error| format!("{}: {error}", tls.display());
    std::fs::create_dir_all(&dir).map_err(at)?;
    write_private(&dir.join("node.key"), own.key_pem.as_bytes())?;
    write_private(&dir.join("node.pem"), own.certificate_pem.as_bytes())?;
    let json = serde_json::to_vec(identity).map_err(|error| error.to_string())?;
    write_private(&dir.join("identity.json"), &json)?;
    link(&tls.join("current"), &name).map_err(at)?;
    for file in ["node.key", "node.pem"] {
        link(&tls.join(file), &format!("current/{file}")).map_err(at)?;
    }
    for sync in [&dir, &tls.to_path_buf()] {
        std::fs::File::open(sync).and_then(|dir| dir.sync_all()).map_err(at)?;
    }
    let _ = std::fs::remove_file(tls.join("pending.key"));
    for entry in std::fs::read_dir(tls).map_err(at)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && entry.file_name() != name.as_str() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

fn link(path: &Path, target: &str) -> std::io::Result<()> {
    if std::fs::read_link(path).is_ok_and(|now| now == Path::new(target)) {
        return Ok(());
    }
    let new = path.with_extension("new-link");
    let _ = std::fs::remove_file(&new);
    std::os::unix::fs::symlink(target, &new)?;
    std::fs::rename(&new, path)
}

/// What is in use, if it is whole.
#[must_use]
pub fn load(tls: &Path) -> Option<(Identity, Credentials)> {
    let read = |name: &str| std::fs::read_to_string(tls.join("current").join(name)).ok();
    let identity = serde_json::from_str(&read("identity.json")?).ok()?;
    Some((identity, Credentials { certificate_pem: read("node.pem")?, key_pem: read("node.key")? }))
}
