//! Whom this agent trusts as its controllers' certificate authorities, on the disk.
//!
//! It begins with the file that its configuration names. What a controller tells later, over a connection that was checked
//! by those known, takes that file's place, and is on the disk before the controller is told that it is known. The file
//! counts again when somebody has written another one there.
//!
//! Never here: asking anybody, or trusting somebody because he says so himself.

use crate::client::Client;
use crate::keys;
use crate::stages::write_private;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use std::path::Path;
use straas_schemas::Digest;
use straas_schemas::authority::{TRUST_BYTES_MAX, TRUSTS_MAX};

/// What was told, in the agent's directory of keys.
const FILE: &str = "trust.json";

/// What was told, and in the place of which file.
#[derive(Serialize, Deserialize)]
struct Told {
    /// SHA-256 of the file that the configuration names, as it was then.
    instead_of: Digest,
    /// The certificates, PEM.
    pem: String,
}

/// The certificates to trust, PEM: those of the file that the configuration names, or what was told in its place.
///
/// # Errors
/// The file cannot be read.
pub fn load(tls: &Path, ca_file: &Path) -> std::io::Result<String> {
    let given = std::fs::read(ca_file);
    let told = std::fs::read(tls.join(FILE)).ok().and_then(|json| serde_json::from_slice::<Told>(&json).ok());
    if let Some(told) = told {
        // a file that is gone says nothing else than what was told since
        let same = given.as_ref().map_or(true, |given| Digest::sha256(given) == told.instead_of);
        if same && fingerprints(&told.pem).is_ok() {
            return Ok(told.pem);
        }
    }
    String::from_utf8(given?).map_err(std::io::Error::other)
}

/// Keeps what was told, for good.
///
/// # Errors
/// In words: what was told is no good, or the disk. Then what was known before stays.
pub fn keep(tls: &Path, ca_file: &Path, pem: &str) -> Result<(), String> {
    if pem.len() > TRUST_BYTES_MAX {
        return Err(format!("the certificates to trust have more than {TRUST_BYTES_MAX} bytes"));
    }
    let known = fingerprints(pem)?;
    if known.len() > TRUSTS_MAX {
        return Err(format!("more than {TRUSTS_MAX} certificates to trust"));
    }
    // of a file that is gone nothing can be the same
    let instead_of = Digest::sha256(&std::fs::read(ca_file).unwrap_or_default());
    let told = serde_json::to_vec(&Told { instead_of, pem: pem.to_owned() }).map_err(|error| error.to_string())?;
    write_private(&tls.join(FILE), &told)?;
    let synced = std::fs::File::open(tls).and_then(|dir| dir.sync_all());
    synced.map_err(|error| format!("{}: {error}", tls.display()))
}

/// Trusts these authorities, and no others, from now on; whether that is so. It is on the disk then.
pub fn take(tls: &Path, ca_file: &Path, client: &Client, pem: &str) -> bool {
    let taken = || {
        keep(tls, ca_file, pem)?;
        let own = keys::load(tls).map(|(_, own)| own);
        client.set_trusted(pem.to_owned(), own.as_ref()).map_err(|error| error.to_string())
    };
    if let Err(error) = taken() {
        tracing::error!(error, "cannot trust the authorities that a controller names; those known stay");
        return false;
    }
    tracing::info!("controllers are checked against other authorities from now on");
    true
}

/// The SHA-256 of each certificate; those of authorities that could be none are an error.
///
/// # Errors
/// In words.
pub fn fingerprints(pem: &str) -> Result<Vec<Digest>, String> {
    let mut roots = rustls::RootCertStore::empty();
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("the certificates to trust: {error}"))?;
        let fingerprint = Digest::sha256(&certificate);
        roots.add(certificate).map_err(|error| format!("the certificates to trust: {error}"))?;
        if !found.contains(&fingerprint) {
            found.push(fingerprint);
        }
    }
    if found.is_empty() { Err("there is no certificate to trust".to_owned()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(name: &str) -> String {
        let mut params = rcgen::CertificateParams::new([]).expect("parameters");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("signed").pem()
    }

    #[test]
    fn what_was_told_takes_the_files_place_until_there_is_another_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (tls, file) = (dir.path().join("tls"), dir.path().join("ca.pem"));
        std::fs::create_dir(&tls).expect("made");
        let (one, two, other) = (authority("one"), authority("two"), authority("other"));
        assert!(load(&tls, &file).is_err(), "there is none");
        std::fs::write(&file, &one).expect("written");
        assert_eq!(load(&tls, &file).expect("read"), one);
        let both = format!("{one}{two}");
        keep(&tls, &file, &both).expect("kept");
        assert_eq!(load(&tls, &file).expect("read"), both);
        assert_eq!(fingerprints(&both).expect("two").len(), 2);
        for bad in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &one.repeat(100)]
        {
            keep(&tls, &file, bad).expect_err("no good");
            assert_eq!(load(&tls, &file).expect("read"), both, "what was known stays");
        }
        keep(&tls, &file, &two).expect("kept");
        assert_eq!(load(&tls, &file).expect("read"), two);
        // a file that is broken says nothing
        let kept = std::fs::read(tls.join(FILE)).expect("read");
        std::fs::write(tls.join(FILE), &kept[..kept.len() / 2]).expect("written");
        assert_eq!(load(&tls, &file).expect("read"), one);
        std::fs::write(tls.join(FILE), &kept).expect("written");
        // an operator gave it another one
        std::fs::write(&file, &other).expect("written");
        assert_eq!(load(&tls, &file).expect("read"), other);
    }
}
