//! A certificate authority of the fleet.
//!
//! The first is made in `data_dir/ca`, private key 0600; how it is exchanged for another is told in `authority/`. It signs
//! two kinds of certificates: the controller's own for the agent port, made anew at each start, and one per enrolment of a
//! node, whose identity (node and incarnation) is a URI in the subject alternative name. Of a request
//! only the public key is used; names and extensions in it are ignored.
//!
//! It also signs the authority that takes its place. With that certificate (a *bridge*) in a controller's chain, whoever
//! knows only this authority can check a controller that shows a certificate of the next one.

use rand::RngExt as _;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
};
use ring::hmac;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use straas_schemas::authority::AuthorityInfo;
use straas_schemas::{Digest, NodeId};
use time::{Duration, OffsetDateTime};

/// The DNS name agents expect in the controller's certificate, whatever address they connect to.
pub const CONTROLLER_NAME: &str = "straas-controller";
/// Years the authority's own certificate lives.
const CA_YEARS: i64 = 10;
/// Days the controller's certificate lives: as long as the authority's. Its key is made anew at each start and is never on a
/// disk, and a controller that runs for years must not be refused one day.
const SERVER_DAYS: i64 = 365 * CA_YEARS;
/// So many authorities, each exchanged for the next, lead from what an agent knows to the one that issues.
pub const BRIDGES_MAX: u8 = 4;
/// The name of the first; later ones have a number after it, so that a certificate says whose it is.
const CA_NAME: &str = "StraaS fleet CA";
/// Certificates begin so many minutes in the past, for controllers whose clocks are a little apart.
const BACKDATE_MINUTES: i64 = 10;
/// Those that agents check begin so many days in the past: a node whose clock is behind by days has to get in before
/// anything can tell it so.
const BACKDATE_DAYS: i64 = 90;

/// What can go wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A request for a certificate is not one.
    #[error("the certificate signing request is not valid: {0}")]
    Request(rcgen::Error),
    /// Making a certificate failed.
    #[error("making a certificate failed: {0}")]
    Make(#[from] rcgen::Error),
    /// A certificate of ours is not one.
    #[error("a certificate of our own cannot be read: {0}")]
    Read(String),
    /// The key of an authority is sealed with a key that is not here.
    #[error(
        "the key of the certificate authority {fingerprint} is sealed with a key of the secrets that this controller does \
         not have: copy secrets.key from a controller that has it, or whose it was"
    )]
    Locked {
        /// The authority.
        fingerprint: String,
    },
    /// The authority's files cannot be read or written.
    #[error("the certificate authority in {path}: {source}")]
    Files {
        /// The folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// The authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pair: Pair,
    about: AuthorityInfo,
    /// Made of the authority's key: what all controllers of a fleet have and nobody else.
    tokens: hmac::Key,
}

/// A certificate with its key, both PEM.
pub struct Pair {
    /// The certificate.
    pub certificate_pem: String,
    /// Its private key.
    pub key_pem: String,
}

/// What the identities in certificates begin with: `straas://node/<id>/<incarnation>`.
pub const SCHEME: &str = "straas://";
/// The kind of a node's identity.
pub const NODE: &str = "node";
/// The kind of the identity of a host of the pool.
pub const HOST: &str = "host";

/// A certificate of a node or host.
pub struct ClientCertificate {
    /// PEM.
    pub pem: String,
    /// Unix ms.
    pub not_after_ms: i64,
}

impl Ca {
    /// Opens the authority in `dir`, making it on first use.
    ///
    /// # Errors
    /// The files cannot be read, written or understood.
    pub fn open(dir: &Path) -> Result<Self, CaError> {
        let files = |source| CaError::Files { path: dir.display().to_string(), source };
        let (key_path, certificate_path) = (dir.join("ca.key"), dir.join("ca.pem"));
        if !certificate_path.exists() {
            Self::make(1)?.write(dir)?;
        }
        let key_pem = std::fs::read_to_string(&key_path).map_err(files)?;
        let certificate_pem = std::fs::read_to_string(&certificate_path).map_err(files)?;
        Self::of(Pair { certificate_pem, key_pem })
    }

    /// Of its certificate and key.
    ///
    /// # Errors
    /// They cannot be understood.
    pub fn of(pair: Pair) -> Result<Self, CaError> {
        let tokens = hmac::Key::new(hmac::HMAC_SHA256, pair.key_pem.as_bytes());
        let issuer = Issuer::from_ca_cert_pem(&pair.certificate_pem, KeyPair::from_pem(&pair.key_pem)?)?;
        let about = about(&pair.certificate_pem)?;
        Ok(Self { issuer, pair, about, tokens })
    }

    /// Another one, the how many-th.
    ///
    /// # Errors
    /// Key generation failed.
    pub fn make(number: u32) -> Result<Self, CaError> {
        let key = KeyPair::generate()?;
        let name = if number > 1 { format!("{CA_NAME} {number}") } else { CA_NAME.to_owned() };
        let now = OffsetDateTime::now_utc();
        let certificate = authority(&name, now + Duration::days(365 * CA_YEARS)).self_signed(&key)?;
        Self::of(Pair { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Writes it into a folder, in the place of the one that was there.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self, dir: &Path) -> Result<(), CaError> {
        let written = || {
            std::fs::create_dir_all(dir)?;
            // the certificate is written last: where it is, the key is
            write_private(&dir.join("ca.key"), self.pair.key_pem.as_bytes())?;
            write_private(&dir.join("ca.pem"), self.pair.certificate_pem.as_bytes())
        };
        written().map_err(|source| CaError::Files { path: dir.display().to_string(), source })
    }

    /// What is told of it.
    #[must_use]
    pub const fn about(&self) -> &AuthorityInfo {
        &self.about
    }

    /// SHA-256 of its certificate.
    #[must_use]
    pub const fn fingerprint(&self) -> &Digest {
        &self.about.fingerprint
    }

    /// Its private key, PEM.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.pair.key_pem
    }

    /// The certificate of the authority that takes its place, signed by this one, PEM: see the module. It ends when this
    /// one does.
    ///
    /// # Errors
    /// Signing failed.
    pub fn bridge(&self, next: &Self) -> Result<String, CaError> {
        let end = self.about.not_after_ms.min(next.about.not_after_ms) / 1000;
        let end = OffsetDateTime::from_unix_timestamp(end).map_err(|error| CaError::Read(error.to_string()))?;
        let mut params = authority(&next.about.name, end);
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(next.issuer.key(), &self.issuer)?.pem())
    }

    /// The join token of the host that a node gets after this incarnation, 64 hex digits: the same at every controller, so
    /// that of two which make the host at once neither ends the other's token.
    #[must_use]
    pub fn join_token(&self, node: &NodeId, incarnation: u64) -> String {
        let signed = hmac::sign(&self.tokens, format!("join/{node}/{incarnation}").as_bytes());
        signed.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The authority's certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.pair.certificate_pem
    }

    /// A certificate for the controller's agent port.
    ///
    /// # Errors
    /// Key generation failed.
    pub fn server(&self, addresses: &[IpAddr]) -> Result<Pair, CaError> {
        let key = KeyPair::generate()?;
        let mut params = leaf(CONTROLLER_NAME, SERVER_DAYS, ExtendedKeyUsagePurpose::ServerAuth);
        params.subject_alt_names = vec![SanType::DnsName(Ia5String::try_from(CONTROLLER_NAME)?)];
        params.subject_alt_names.extend(addresses.iter().map(|a| SanType::IpAddress(*a)));
        params.not_before = OffsetDateTime::now_utc() - Duration::days(BACKDATE_DAYS);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Signs the public key of a request as the identity of one incarnation of a node ([`NODE`]) or host ([`HOST`]).
    ///
    /// # Errors
    /// `Request` if the request is not one or is not signed by its own key.
    pub fn sign(
        &self,
        csr_pem: &str,
        (kind, id): (&str, &str),
        incarnation: u64,
        days: u32,
    ) -> Result<ClientCertificate, CaError> {
        let csr = CertificateSigningRequestParams::from_pem(csr_pem).map_err(CaError::Request)?;
        let mut params = leaf(id, i64::from(days), ExtendedKeyUsagePurpose::ClientAuth);
        let identity = format!("{SCHEME}{kind}/{id}/{incarnation}");
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(identity)?)];
        let not_after_ms = i64::try_from(params.not_after.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
        let certificate = params.signed_by(&csr.public_key, &self.issuer)?;
        Ok(ClientCertificate { pem: certificate.pem(), not_after_ms })
    }
}

/// The digest of a request's public key.
///
/// # Errors
/// `Request` if the request is not one or is not signed by its own key.
pub fn key_of(csr_pem: &str) -> Result<Digest, CaError> {
    let csr = CertificateSigningRequestParams::from_pem(csr_pem).map_err(CaError::Request)?;
    Ok(Digest::sha256(&csr.public_key.subject_public_key_info()))
}

fn leaf(name: &str, days: i64, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![usage];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial());
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::minutes(BACKDATE_MINUTES);
    params.not_after = now + Duration::days(days);
    params
}

/// Random, positive and of 16 octets: two certificates never share one (RFC 5280, 4.1.2.2).
fn serial() -> SerialNumber {
    let mut bytes: [u8; 16] = rand::rng().random();
    bytes[0] &= 0x7f;
    SerialNumber::from(bytes.to_vec())
}

/// An authority's certificate, to be signed by its own key or by another's.
fn authority(name: &str, end: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(BRIDGES_MAX));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial());
    params.not_before = OffsetDateTime::now_utc() - Duration::days(BACKDATE_DAYS);
    params.not_after = end;
    params
}

/// What a certificate of an authority says of it.
///
/// # Errors
/// It is none.
pub fn about(certificate_pem: &str) -> Result<AuthorityInfo, CaError> {
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes());
    let der = der.map_err(|error| CaError::Read(error.to_string()))?;
    let (_, x509) = x509_parser::parse_x509_certificate(&der).map_err(|error| CaError::Read(error.to_string()))?;
    let name = x509.subject().iter_common_name().find_map(|name| name.as_str().ok()).unwrap_or_default();
    Ok(AuthorityInfo {
        fingerprint: Digest::sha256(&der),
        name: name.to_owned(),
        not_after_ms: x509.validity().not_after.timestamp() * 1000,
    })
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
/// Any step of writing, syncing or renaming.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let part = path.with_extension("part");
    let _ = std::fs::remove_file(&part);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&part, path)?;
    if let Some(dir) = path.parent() {
        std::fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}
