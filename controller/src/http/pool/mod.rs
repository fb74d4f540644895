//! The pool of hosts: who announces them, looks at them and takes them out, and the tokens that they join with.
//!
//! Hosts belong to the platform, not to a tenant: operators and administrators handle them. What a host is to have is
//! decided where nodes get their hosts (`crate::pool`); a request here never gives a node to one.

mod hosts;
mod tokens;

pub use hosts::{HostsQuery, Removal, announce, list, patch, remove, show};
pub use tokens::{create as make_token, list as tokens, remove as remove_token, show as token};

use crate::secrets;
use straas_schemas::HostId;
use straas_schemas::pool::{JoinTokenView, TOKEN_LIFE_S};
use straas_store::PoolToken;
use uuid::Uuid;

/// A new token and what is kept of it.
fn new_token(
    created_ms: i64,
    by: &str,
    zone: String,
    fault_domain: Option<String>,
    host: Option<HostId>,
    most: u32,
    life_s: Option<u32>,
) -> (String, PoolToken) {
    let token = secrets::new_token();
    let kept = PoolToken {
        id: Uuid::now_v7().to_string(),
        hash: secrets::hash(&token),
        label: String::new(),
        zone,
        fault_domain,
        host,
        most,
        joined: 0,
        by: by.to_owned(),
        created_ms,
        expires_ms: created_ms + i64::from(life_s.unwrap_or(TOKEN_LIFE_S)) * 1000,
    };
    (token, kept)
}

fn token_view(token: PoolToken) -> JoinTokenView {
    let PoolToken { id, hash: _, label, zone, fault_domain, host, most: hosts, joined, by, created_ms, expires_ms } =
        token;
    JoinTokenView { id, label, zone, fault_domain, host, hosts, joined, by, created_ms, expires_ms }
}
