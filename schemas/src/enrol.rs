//! Enrolment: a join token becomes a certificate, once.
//!
//! The token travels in the host's userdata, is bound to one node and expires; the controller
//! keeps only its hash. The private key is made on the node and never leaves it.

use crate::NodeId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest certificate signing request accepted, in bytes of PEM: an Ed25519 or P-256 request has
/// under 700.
pub const CSR_BYTES_MAX: usize = 8 * 1024;

/// Asks for the node's first certificate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnrolRequest {
    /// Protocol version of the agent.
    pub protocol: u32,
    /// The one-time join token.
    pub token: String,
    /// Certificate signing request, PEM. Only its public key is used.
    pub csr_pem: String,
    /// The host's name, for logs.
    pub hostname: String,
    /// The agent's version.
    pub agent_version: String,
}

impl fmt::Debug for EnrolRequest {
    /// Without the token, so that it cannot reach a log by accident.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnrolRequest").field("hostname", &self.hostname).field("token", &"***").finish_non_exhaustive()
    }
}

/// Asks for a new certificate over a connection that the old one still authenticates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RenewRequest {
    /// Certificate signing request, PEM, of a new key.
    pub csr_pem: String,
}

/// Asks for a new certificate in the place of one that has ended, by a node that was off or cut off for too long to renew it.
/// No client certificate is shown: the ended one names the node, and the request, which is signed with its key, proves
/// that the node asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ComeBackRequest {
    /// The certificate that has ended, PEM.
    pub certificate_pem: String,
    /// Certificate signing request, PEM, of the same key.
    pub csr_pem: String,
}

/// A certificate and what the agent needs beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// The node it stands for.
    pub node: NodeId,
    /// The incarnation of the node: counts its hosts. Reports of an older one are refused.
    pub incarnation: u64,
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The certificate authority, PEM.
    pub ca_pem: String,
    /// When it ends, Unix ms by the controller's clock.
    pub not_after_ms: i64,
}
