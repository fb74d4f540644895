//! Hosts as they really are, and the driver by which controllers make and remove them.
//!
//! Never here: who should have one; what runs on them (`agent.rs`).

use crate::mutants::Mutant;
use crate::turns::Pause;
use crate::zones::Cuts;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use straas_drivers::{HostError, HostSpec, HostStatus, Hosts};

/// One host.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Counts the hosts that were ever made.
    pub serial: u64,
    pub name: String,
    pub token: String,
    pub address: IpAddr,
    pub zone: String,
    owner: String,
}

/// All hosts, by the node that each carries.
#[derive(Default)]
pub struct Soil {
    pub machines: BTreeMap<String, Machine>,
    /// Every address there ever was, with the node whose host had it.
    pub addresses: BTreeMap<String, String>,
    /// No host can be made.
    pub no_room: bool,
    /// It has a way of its own into zones that are cut off.
    pub enters: bool,
    /// Whoever asks gives others a turn.
    pub pauses: bool,
    made: u64,
}

/// The provider, as it is reached from a zone; from none by whoever sees everything.
#[derive(Clone, Default)]
pub struct Ground {
    soil: Arc<Mutex<Soil>>,
    cuts: Cuts,
    mutant: Option<Mutant>,
    from: Option<&'static str>,
}

impl Ground {
    pub fn soil(&self) -> MutexGuard<'_, Soil> {
        self.soil.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn new(cuts: &Cuts, mutant: Option<Mutant>) -> Self {
        Self { cuts: cuts.clone(), mutant, ..Self::default() }
    }

    /// The same, as it is reached from a zone.
    pub fn seen_from(&self, zone: &'static str) -> Self {
        Self { from: Some(zone), ..self.clone() }
    }

    /// Whether something can be done in a zone.
    fn reach(&self, zone: Option<&str>) -> Result<(), HostError> {
        let own = self.from.is_some_and(|from| self.cuts.has(from));
        let there = zone.is_some_and(|zone| self.cuts.has(zone)) && !self.soil().enters;
        if own || there { Err(HostError::Unsupported("there is no link".into())) } else { Ok(()) }
    }

    async fn pause(&self) {
        let pauses = self.soil().pauses;
        if pauses {
            Pause::default().await;
        }
    }
}

fn status(id: &str, machine: &Machine) -> HostStatus {
    HostStatus::running(id, &machine.name, &machine.owner, &machine.zone, machine.address)
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
        self.reach(Some(&spec.zone))?;
        let made = {
            let mut soil = self.soil();
            let same = |(_, there): &(&String, &Machine)| there.name == spec.name;
            if let Some((_, machine)) =
                soil.machines.iter().find(same).filter(|_| self.mutant == Some(Mutant::HostsByName))
            {
                return Ok(status(&spec.id, machine));
            }
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
                soil.addresses.insert(machine.address.to_string(), spec.id.clone());
                soil.machines.insert(spec.id.clone(), machine);
            }
            status(&spec.id, &soil.machines[&spec.id])
        };
        self.pause().await;
        Ok(made)
    }

    async fn destroy(&self, id: &str) -> Result<(), HostError> {
        self.pause().await;
        let zone = self.soil().machines.get(id).map(|machine| machine.zone.clone());
        self.reach(zone.as_deref())?;
        self.soil().machines.remove(id);
        self.pause().await;
        Ok(())
    }

    async fn list(&self) -> Result<Vec<HostStatus>, HostError> {
        self.pause().await;
        self.reach(None)?;
        Ok(self.soil().machines.iter().map(|(id, machine)| status(id, machine)).collect())
    }
}
