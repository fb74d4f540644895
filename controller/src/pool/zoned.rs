//! Hosts by their zones: those of some zones are the pool's, the others are made here.
//!
//! Never here: a zone that is in both. What a node has already is found wherever it is, so that a zone can be moved from
//! one to the other while its nodes stay until they are replaced.

use super::Pool;
use async_trait::async_trait;
use straas_drivers::{HostError, HostSpec, HostStatus, Hosts};

/// Which zones are the pool's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zones(Vec<String>);

impl Zones {
    /// These; `*` for all.
    #[must_use]
    pub fn new(zones: &[String]) -> Self {
        Self(zones.to_vec())
    }

    /// Whether a zone's hosts are the pool's.
    #[must_use]
    pub fn has(&self, zone: &str) -> bool {
        self.all() || self.0.iter().any(|of| of == zone)
    }

    /// Whether every zone's are.
    #[must_use]
    pub fn all(&self) -> bool {
        self.0.iter().any(|zone| zone == "*")
    }
}

/// Hosts of the pool in its zones; in the others those of another provider.
pub struct Zoned {
    zones: Zones,
    pool: Pool,
    others: Option<std::sync::Arc<dyn Hosts>>,
}

impl Zoned {
    /// `others` for the zones that are not the pool's.
    pub fn new(zones: Zones, pool: Pool, others: Option<std::sync::Arc<dyn Hosts>>) -> Self {
        Self { zones, pool, others }
    }

    fn of(&self, zone: &str) -> Option<&dyn Hosts> {
        if self.zones.has(zone) { Some(&self.pool) } else { self.others.as_deref() }
    }
}

#[async_trait]
impl Hosts for Zoned {
    fn kind(&self) -> &'static str {
        match &self.others {
            Some(others) if !self.zones.all() => others.kind(),
            _ => self.pool.kind(),
        }
    }

    fn isolation_note(&self) -> Option<String> {
        self.others.as_ref().and_then(|others| others.isolation_note())
    }

    fn fault_domains(&self, zone: &str) -> u32 {
        self.of(zone).map_or(1, |hosts| hosts.fault_domains(zone))
    }

    fn needs_boot(&self, zone: &str) -> bool {
        self.of(zone).is_some_and(|hosts| hosts.needs_boot(zone))
    }

    async fn ensure(&self, spec: &HostSpec) -> Result<HostStatus, HostError> {
        let hosts = self.of(&spec.zone).ok_or_else(|| {
            HostError::NoHost(format!(
                "no hosts are made here, and zone {} is none of the pool's ([pool] zones)",
                spec.zone
            ))
        })?;
        hosts.ensure(spec).await
    }

    async fn destroy(&self, id: &str) -> Result<(), HostError> {
        self.pool.destroy(id).await?;
        match &self.others {
            Some(others) => others.destroy(id).await,
            None => Ok(()),
        }
    }

    async fn list(&self) -> Result<Vec<HostStatus>, HostError> {
        let mut list = self.pool.list().await?;
        if let Some(others) = &self.others {
            list.extend(others.list().await?);
            list.sort_by(|a, b| a.id.cmp(&b.id));
        }
        Ok(list)
    }
}
