//! The life of a local host: made, booted, listed, removed. Both modes go the same way; what
//! differs is in `micro` and `process`.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::HostError;
use crate::hosts::{HostPhase, HostSpec, HostStatus, Hosts, Link, check_id, check_spec};
use crate::local::record::{HostRecord, RECORD_VERSION};
use crate::local::registry::Known;
use crate::local::tools::{make_dirs, sync_dir};
use crate::local::{LocalHosts, blocking, micro, process, quiet, wanted_v4};

#[async_trait]
impl Hosts for LocalHosts {
    fn kind(&self) -> &'static str {
        if self.inner.fabric.is_some() { "microhost" } else { "process" }
    }

    fn isolation_note(&self) -> Option<String> {
        self.inner.fabric.is_none().then(|| process::NOTE.to_owned())
    }

    fn fault_domains(&self, _zone: &str) -> u32 {
        self.inner.config.fault_domains
    }

    async fn ensure(&self, spec: &HostSpec) -> Result<HostStatus, HostError> {
        check_spec(spec)?;
        let gate = self.inner.registry.gate(&spec.id);
        let _held = gate.lock().await;
        if let Some(known) = self.inner.registry.get(&spec.id)? {
            same(&known.record, spec)?;
            return self.boot_held(known).await;
        }
        if self.inner.fabric.is_none() && !spec.userdata.is_empty() {
            return Err(HostError::Unsupported("process mode cannot run userdata: there is no root of its own".into()));
        }
        let lower = self.image(quiet()).await?;
        let address = self.inner.registry.take_address(&spec.id, wanted_v4(spec.address)?)?;
        let group = spec.spread.as_ref().map(|spread| (spec.owner.clone(), spread.clone()));
        let place = self.inner.registry.places.take(&spec.id, group, self.inner.config.fault_domains);
        let record = HostRecord {
            version: RECORD_VERSION,
            id: spec.id.clone(),
            name: spec.name.clone(),
            owner: spec.owner.clone(),
            zone: spec.zone.clone(),
            flavor: spec.flavor,
            address,
            lower,
            cut: false,
            spread: spec.spread.clone(),
            fault_domain: place.map(|place| place.domain),
        };
        let made = match self.make(spec, record).await {
            Ok(known) => self.boot_held(known).await,
            Err(error) => Err(error),
        };
        if made.is_err()
            && let Err(error) = self.remove_held(&spec.id).await
        {
            tracing::warn!(host = %spec.id, error = %error.chain(), "a host that could not be made could not be removed");
        }
        made
    }

    async fn destroy(&self, id: &str) -> Result<(), HostError> {
        check_id(id)?;
        let gate = self.inner.registry.gate(id);
        let _held = gate.lock().await;
        self.remove_held(id).await
    }

    async fn list(&self) -> Result<Vec<HostStatus>, HostError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let mut found = Vec::new();
            for id in inner.registry.ids()? {
                if let Some(known) = inner.registry.get(&id)? {
                    found.push(status(&known, inner.fabric.is_some()));
                }
            }
            Ok(found)
        })
        .await
    }
}

impl LocalHosts {
    /// Puts a new host's files on disk; the record comes last and makes it complete.
    async fn make(&self, spec: &HostSpec, record: HostRecord) -> Result<Known, HostError> {
        let (inner, spec) = (Arc::clone(&self.inner), spec.clone());
        blocking(move || {
            let dir = inner.registry.dir(&spec.id);
            inner.registry.clear(&dir, None, inner.fabric.as_ref())?;
            make_dirs(dir.path())?;
            if inner.fabric.is_some() {
                micro::make_disk(&dir, &spec, &record)?;
            } else {
                process::make_disk(&dir, &spec, &record, &inner.config.state_dir)?;
            }
            dir.write_record(&record)?;
            if let Some(hosts) = dir.path().parent() {
                sync_dir(hosts)?;
            }
            Ok(Known { dir, record })
        })
        .await
    }

    /// Boots a host unless it runs. Its gate must be held.
    pub(super) async fn boot_held(&self, known: Known) -> Result<HostStatus, HostError> {
        let inner = &self.inner;
        if known.running().is_none() {
            let number = inner.registry.number(&known.record)?;
            match &inner.fabric {
                Some(fabric) => {
                    // Of a host that went down by itself a port or a delay may be left.
                    let (dir, shared) = (known.dir.clone(), Arc::clone(inner));
                    blocking(move || shared.registry.power_off(&dir, Some(number), shared.fabric.as_ref())).await?;
                    micro::start(&inner.helper, fabric, &known, number).await?;
                }
                None => process::start(&inner.helper, &inner.config.agent_binary, &known).await?,
            }
        }
        let micro = inner.fabric.is_some();
        blocking(move || Ok(status(&known, micro))).await
    }

    async fn remove_held(&self, id: &str) -> Result<(), HostError> {
        let (inner, id) = (Arc::clone(&self.inner), id.to_owned());
        blocking(move || {
            let dir = inner.registry.dir(&id);
            let number = match dir.record() {
                Ok(Some(record)) => inner.registry.number(&record).ok(),
                _ => None,
            };
            inner.registry.clear(&dir, number, inner.fabric.as_ref())?;
            inner.registry.free_address(&id);
            inner.registry.places.free(&id);
            Ok(())
        })
        .await
    }
}

/// Looks at a host: at its files and at `/proc`. Blocking, but quick.
pub(super) fn status(known: &Known, micro: bool) -> HostStatus {
    let Known { dir, record } = known;
    let running = known.running();
    let link = match (record.cut, known.delayed()) {
        (true, _) => Link::Cut,
        (false, Some(_)) => Link::Delayed,
        (false, None) => Link::Up,
    };
    HostStatus {
        id: record.id.clone(),
        name: record.name.clone(),
        owner: record.owner.clone(),
        zone: record.zone.clone(),
        address: IpAddr::V4(record.address),
        fault_domain: record.fault_domain.map(|domain| format!("fd-{domain}")),
        phase: if running.is_some() { HostPhase::Running } else { HostPhase::Down },
        boots: dir.run().map_or(0, |run| run.boots),
        pid: running.map(|process| process.pid),
        link,
        detail: micro.then(|| micro::userdata_failure(dir)).flatten(),
    }
}

/// A host's identity never changes under its id.
fn same(record: &HostRecord, spec: &HostSpec) -> Result<(), HostError> {
    let conflict = |what: &str, is: &str, wanted: &str| {
        Err(HostError::Conflict { id: record.id.clone(), reason: format!("its {what} is {is:?}, not {wanted:?}") })
    };
    if record.name != spec.name {
        return conflict("name", &record.name, &spec.name);
    }
    if record.owner != spec.owner {
        return conflict("owner", &record.owner, &spec.owner);
    }
    match spec.address {
        Some(wanted) if wanted != IpAddr::V4(record.address) => {
            conflict("address", &record.address.to_string(), &wanted.to_string())
        }
        _ => Ok(()),
    }
}
