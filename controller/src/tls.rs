//! TLS of the agent port: client certificates, and who they stand for.
//!
//! A client without a certificate gets in, since enrolment has none yet; each route decides what
//! it needs. Sessions are never resumed: a resumed one would skip the certificate's verifier.
//! Standing (is this incarnation still the one, and the authority of its certificate not retired?) is judged per request,
//! not per connection, since an open poll outlives every list of revoked certificates.

use crate::authority::{InForce, Known};
use crate::ca::{CaError, HOST, NODE, SCHEME};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use straas_schemas::{Digest, HostId, NodeId};

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Whom its certificate stands for, if it has one.
    pub who: Option<Who>,
}

/// Whom a certificate stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// A node.
    Node(Identity<NodeId>),
    /// A host of the pool.
    Host(Identity<HostId>),
}

/// A node or host as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity<Id> {
    /// Its id.
    pub id: Id,
    /// How often it had enrolled or joined when it got the certificate.
    pub incarnation: u64,
    /// When two thirds of the certificate's life are over, Unix ms.
    pub renew_at_ms: i64,
    /// When the certificate ends, Unix ms: a connection may outlive it.
    pub not_after_ms: i64,
    /// The authority that signed it.
    pub authority: Digest,
    /// The digest of its public key.
    pub key: Digest,
}

/// TLS of the agent port, as the authorities in force have it.
pub struct Tls {
    /// For the next connections.
    pub server: Arc<ServerConfig>,
    /// Those whose certificates are good.
    roots: Vec<Root>,
}

/// An authority, and what takes its certificates alone.
struct Root {
    authority: Digest,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Root {
    fn of(known: &Known) -> Result<Self, TlsError> {
        let verifier = verifier(std::slice::from_ref(known), Arc::new(rustls::crypto::ring::default_provider()))?;
        Ok(Self { authority: known.fingerprint.clone(), verifier })
    }

    /// Whether it signed a certificate that is good at a time.
    fn signed(&self, certificate: &CertificateDer<'_>, at: UnixTime) -> bool {
        // nothing that the other end sent leads from one to the other
        self.verifier.verify_client_cert(certificate, &[], at).is_ok()
    }
}

impl Tls {
    /// With a certificate for these addresses, made now.
    ///
    /// # Errors
    /// Certificates could not be made.
    pub fn new(in_force: &InForce, addresses: &[IpAddr]) -> Result<Self, TlsError> {
        let pair = in_force.issuer.server(addresses)?;
        let mut chain = vec![CertificateDer::from_pem_slice(pair.certificate_pem.as_bytes())?];
        // whoever knows only an earlier authority checks the certificate by these
        for bridge in &in_force.bridges {
            chain.push(CertificateDer::from_pem_slice(bridge.as_bytes())?);
        }
        let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = verifier(&in_force.trusted, provider.clone())?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let roots = in_force.trusted.iter().map(Root::of).collect::<Result<_, _>>()?;
        Ok(Self { server: Arc::new(config), roots })
    }

    /// Who is at the other end, if a certificate of ours says so.
    pub fn who(&self, connection: &rustls::ServerConnection) -> Option<Who> {
        let certificate = connection.peer_certificates()?.first()?;
        // the handshake has checked it; of several authorities it is asked which one signed it
        let root = match self.roots.as_slice() {
            [root] => root,
            several => several.iter().find(|root| root.signed(certificate, UnixTime::now()))?,
        };
        named_in(certificate, &root.authority)
    }
}

/// Takes certificates of these authorities, and whoever shows none.
fn verifier(known: &[Known], provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for known in known {
        roots.add(CertificateDer::from_pem_slice(known.certificate_pem.as_bytes())?)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    Ok(builder.allow_unauthenticated().build()?)
}

/// What can go wrong while TLS is set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Certificates.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// PEM.
    #[error("a certificate of our own cannot be read: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// rustls.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    /// The verifier of client certificates.
    #[error("TLS: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Whom a certificate that is not shown in a handshake stood for at its end; none if it is not one of ours, now or ever.
pub fn who_was(in_force: &InForce, certificate_pem: &str) -> Option<Who> {
    let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).ok()?;
    let (_, x509) = x509_parser::parse_x509_certificate(&certificate).ok()?;
    // verified as of a moment at which it was good
    let last = u64::try_from(x509.validity().not_after.timestamp()).ok()?.saturating_sub(1);
    let at = UnixTime::since_unix_epoch(Duration::from_secs(last));
    let ever = in_force.trusted.iter().chain(&in_force.retired);
    let root = ever.filter_map(|known| Root::of(known).ok()).find(|root| root.signed(&certificate, at))?;
    named_in(&certificate, &root.authority)
}

/// Whom a certificate of an authority names.
fn named_in(certificate: &CertificateDer<'_>, authority: &Digest) -> Option<Who> {
    let (_, x509) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = x509.subject_alternative_name().ok()??;
    let uri = names.value.general_names.iter().find_map(|name| match name {
        x509_parser::extensions::GeneralName::URI(uri) => uri.strip_prefix(SCHEME),
        _ => None,
    })?;
    let (kind, rest) = uri.split_once('/')?;
    let (id, incarnation) = rest.split_once('/')?;
    let (from, to) = (x509.validity().not_before.timestamp(), x509.validity().not_after.timestamp());
    let incarnation = incarnation.parse().ok()?;
    let (renew_at_ms, not_after_ms) = ((from + (to - from) / 3 * 2) * 1000, to * 1000);
    let (authority, key) = (authority.clone(), Digest::sha256(x509.public_key().raw));
    match kind {
        NODE => Some(Who::Node(Identity { id: id.into(), incarnation, renew_at_ms, not_after_ms, authority, key })),
        HOST => Some(Who::Host(Identity { id: id.into(), incarnation, renew_at_ms, not_after_ms, authority, key })),
        _ => None,
    }
}
