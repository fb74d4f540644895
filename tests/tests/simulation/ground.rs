//! Hosts as they really are, and the driver by which controllers make and remove them.
//!
//! Never here: who should have one; what runs on them (`agent.rs`).

use crate::turns::Pause;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use straas_drivers::{HostError, HostPhase, HostSpec, HostStatus, Hosts, Link};

/// One host.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Counts the hosts that were ever made.
    pub serial: u64,
    pub name: String,
    pub token: String,
    pub address: IpAddr,
    owner: String,
    zone: String,
}

/// All hosts, by the node that each carries.
#[derive(Default)]
pub struct Soil {
    pub machines: BTreeMap<String, Machine>,
    /// No host can be made.
    pub no_room: bool,
    /// Whoever asks gives others a turn.
    pub pauses: bool,
    made: u64,
}

/// The provider.
#[derive(Clone, Default)]
pub struct Ground(Arc<Mutex<Soil>>);

impl Ground {
    pub fn soil(&self) -> MutexGuard<'_, Soil> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pause(&self) {
        let pauses = self.soil().pauses;
        if pauses {
            Pause::default().await;
        }
    }
}

fn status(id: &str, machine: &Machine) -> HostStatus {
    HostStatus {
        id: id.to_owned(),
        name: machine.name.clone(),
        owner: machine.owner.clone(),
        zone: machine.zone.clone(),
        address: machine.address,
        fault_domain: None,
        phase: HostPhase::Running,
        boots: 1,
        pid: None,
        link: Link::Up,
        detail: None,
    }
}

#[async_trait]
impl Hosts for Ground {
    fn kind(&self) -> &'static str {
        "simulated"
    }

    fn isolation_note(&self) -> Option<String> {
        None
    }

    async fn ensure(&self, spec: &HostSpec) -> Result<HostStatus, HostError> {
        self.pause().await;
        let made = {
            let mut soil = self.soil();
            if !soil.machines.contains_key(&spec.id) {
                if soil.no_room {
                    return Err(HostError::Unsupported("there is no room".into()));
                }
                soil.made += 1;
                let serial = soil.made;
                let low = u16::try_from(serial).expect("a short history").to_be_bytes();
                let machine = Machine {
                    serial,
                    name: spec.name.clone(),
                    token: spec.agent.join_token.expose().to_owned(),
                    address: Ipv4Addr::new(10, 0, low[0], low[1]).into(),
                    owner: spec.owner.clone(),
                    zone: spec.zone.clone(),
                };
                soil.machines.insert(spec.id.clone(), machine);
            }
            status(&spec.id, &soil.machines[&spec.id])
        };
        self.pause().await;
        Ok(made)
    }

    async fn destroy(&self, id: &str) -> Result<(), HostError> {
        self.pause().await;
        self.soil().machines.remove(id);
        self.pause().await;
        Ok(())
    }

    async fn list(&self) -> Result<Vec<HostStatus>, HostError> {
        self.pause().await;
        Ok(self.soil().machines.iter().map(|(id, machine)| status(id, machine)).collect())
    }
}
