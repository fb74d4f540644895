//! The certificate authorities of the fleet, once they were ever exchanged, and which certificates agents have.
//!
//! What is kept of an agent's certificate is the digest of its public key: of one that was lost sight of for a whole
//! exchange it tells whether the certificate it comes back with was really given to it, also where the key of the
//! authority that signed it got into other hands. Private keys of authorities are kept sealed, never in plain.

use crate::Result;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::fmt;
use straas_schemas::authority::{AgentKind, RotationPhase};
use straas_schemas::{Digest, HostId, NodeId};

/// Most agents of one call of [`AuthorityStore::note_shown`]: keeps a write transaction under some tens of milliseconds.
pub const SHOWN_BATCH_MAX: usize = 512;

/// The authorities and how far their exchange is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityRecord {
    /// Counts the changes of the record; 0 of one that is not recorded yet.
    #[serde(skip)]
    pub revision: u64,
    /// How far it is.
    pub phase: RotationPhase,
    /// The one that issues, by its fingerprint.
    pub issuer: Digest,
    /// Those whose keys are kept: one, or two while they are exchanged.
    pub kept: Vec<AuthorityKept>,
    /// Earlier ones, newest first.
    pub retired: Vec<RetiredAuthority>,
    /// How many there ever were.
    pub made: u32,
    /// Who began the exchange, or took it back.
    pub by: String,
    /// Since when the phase lasts, Unix ms.
    pub since_ms: i64,
}

impl AuthorityRecord {
    /// The one that issues.
    #[must_use]
    pub fn issuing(&self) -> Option<&AuthorityKept> {
        self.kept.iter().find(|kept| kept.fingerprint == self.issuer)
    }

    /// The other one, while there are two.
    #[must_use]
    pub fn other(&self) -> Option<&AuthorityKept> {
        self.kept.iter().find(|kept| kept.fingerprint != self.issuer)
    }
}

/// An authority with its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityKept {
    /// SHA-256 of its certificate.
    pub fingerprint: Digest,
    /// Its certificate, PEM.
    pub certificate_pem: String,
    /// Its private key, sealed.
    pub key_sealed: String,
    /// Its certificate as the one before it signed it, PEM.
    pub bridge_pem: Option<String>,
}

impl fmt::Debug for AuthorityKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorityKept").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

/// An authority that is trusted no more; its key is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredAuthority {
    /// SHA-256 of its certificate.
    pub fingerprint: Digest,
    /// Its certificate, PEM.
    pub certificate_pem: String,
    /// Its certificate as the one before it signed it, PEM.
    pub bridge_pem: Option<String>,
}

/// An agent, as the owner of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgentId {
    /// A node's.
    Node(NodeId),
    /// That of a host of the pool.
    Host(HostId),
}

impl AgentId {
    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> AgentKind {
        match self {
            Self::Node(_) => AgentKind::Node,
            Self::Host(_) => AgentKind::Host,
        }
    }

    /// The id of the node or host.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Node(node) => node.as_str(),
            Self::Host(host) => host.as_str(),
        }
    }
}

/// What an agent showed and said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateShown {
    /// Who.
    pub agent: AgentId,
    /// As which incarnation.
    pub incarnation: u64,
    /// The digest of the key that it proved to have.
    pub key: Digest,
    /// The authority that signed its certificate.
    pub by: Digest,
    /// Those that it trusts; none if its build does not say.
    pub trusts: Option<Vec<Digest>>,
}

/// An agent that enrolled or joined, and what is known of its certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentCertificate {
    /// Who.
    pub agent: AgentId,
    /// The node's or host's name.
    pub name: String,
    /// Its newest incarnation.
    pub incarnation: u64,
    /// When it was heard of last, Unix ms.
    pub heard_ms: Option<i64>,
    /// The key that its newest certificate was made for.
    pub issued_key: Option<Digest>,
    /// The key that it showed last.
    pub shown_key: Option<Digest>,
    /// The authority of the certificate that it showed last.
    pub shown_by: Option<Digest>,
    /// Those that it trusts, as it said last.
    pub trusts: Option<Vec<Digest>>,
}

/// What the store promises of authorities and certificates.
#[async_trait]
pub trait AuthorityStore: Send + Sync {
    /// The authorities; none as long as they were never exchanged.
    async fn authorities(&self) -> Result<Option<AuthorityRecord>>;
    /// Writes them if the revision is still that of `record` (0: none are recorded), and raises it by one. `Conflict` of an
    /// `authority` otherwise.
    async fn change_authorities(&self, record: &AuthorityRecord) -> Result<()>;
    /// Notes that an agent's incarnation is given a certificate for the key of this digest. `Conflict` of an `authority` if
    /// `issuer` is not the one that issues, as far as that is recorded; of an incarnation that is not the newest nothing is
    /// noted.
    async fn note_issued(&self, agent: &AgentId, incarnation: u64, key: &Digest, issuer: &Digest) -> Result<()>;
    /// Notes what agents showed and said, at most [`SHOWN_BATCH_MAX`]; of an incarnation that is not the newest, or an agent
    /// that is not there, nothing is noted.
    async fn note_shown(&self, shown: &[CertificateShown]) -> Result<()>;
    /// Every agent that enrolled or joined: nodes, then hosts, each by id.
    async fn agent_certificates(&self) -> Result<Vec<AgentCertificate>>;
    /// One of them.
    async fn agent_certificate(&self, agent: &AgentId) -> Result<Option<AgentCertificate>>;
}

/// Fingerprints as one text.
pub(crate) fn joined(trusts: &[Digest]) -> String {
    trusts.iter().map(Digest::as_str).collect::<Vec<_>>().join(" ")
}
