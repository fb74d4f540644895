//! Which hosts there are: the directories of an instance, its addresses, and one gate per host.
//!
//! The truth is on disk and in `/proc`; nothing about a host is cached but its address. Opening the
//! registry adopts what an earlier controller left: complete hosts stay as they are, half-made ones
//! and the trash are removed, ports without a host are deleted.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::HostError;
use crate::hosts::check_id;
use crate::local::fabric::Fabric;
use crate::local::places::Places;
use crate::local::proc::{Process, ProcessId};
use crate::local::record::{HostDir, HostRecord, read_json};
use crate::local::subnet::Subnet;
use crate::local::tools::{lock_file, make_dirs, remove_tree};
use crate::local::{micro, process};

/// A host with its record.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its files.
    pub dir: HostDir,
    /// What it is.
    pub record: HostRecord,
}

impl Known {
    /// Its init (or supervisor) if it is alive.
    pub fn running(&self) -> Option<Process> {
        running(&self.dir)
    }

    /// Its delay helper if one is alive.
    pub fn delayed(&self) -> Option<Process> {
        delay_helper(&self.dir)
    }
}

/// Waits for a helper that is still starting the host (of a controller that was killed), and keeps
/// the next one out until the lock is dropped.
fn lock_dir(dir: &HostDir) -> Result<File, HostError> {
    let lock = lock_file(&dir.at("lock"))?;
    lock.lock().map_err(HostError::at("lock", dir.path()))?;
    Ok(lock)
}

/// Power off, with the directory's lock held.
fn end(dir: &HostDir, number: Option<u32>, fabric: Option<&Fabric>) -> Result<(), HostError> {
    match fabric {
        Some(fabric) => micro::power_off(dir, number, fabric),
        None => process::power_off(dir),
    }
}

/// The process that a host's last boot left, if it is alive.
pub fn running(dir: &HostDir) -> Option<Process> {
    dir.run()?.process.open()
}

/// The delay helper that a host's directory names, if it is alive.
pub fn delay_helper(dir: &HostDir) -> Option<Process> {
    read_json::<ProcessId>(&dir.at("delay.json")).ok()??.open()
}

/// The hosts of an instance.
pub struct Registry {
    hosts: PathBuf,
    trash: PathBuf,
    subnet: Subnet,
    addresses: Mutex<BTreeMap<Ipv4Addr, String>>,
    /// In which fault domain each host is.
    pub places: Places,
    gates: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Registry {
    /// Adopts the directory of an instance. Blocking; waits for helpers still at work.
    pub fn open(state: &Path, subnet: Subnet, fabric: Option<&Fabric>) -> Result<Self, HostError> {
        let registry = Self {
            hosts: state.join("hosts"),
            trash: state.join("trash"),
            subnet,
            addresses: Mutex::default(),
            places: Places::default(),
            gates: Mutex::default(),
        };
        make_dirs(&registry.hosts)?;
        remove_tree(&registry.trash)?;
        make_dirs(&registry.trash)?;
        let mut ports = Vec::new();
        for id in registry.ids()? {
            let dir = registry.dir(&id);
            drop(lock_dir(&dir)?);
            let Some(record) = dir.record()? else {
                tracing::warn!(host = %id, "removing a half-made host");
                registry.clear(&dir, None, fabric)?;
                continue;
            };
            if record.lower.is_empty() != fabric.is_none() {
                let made = if record.lower.is_empty() { "process" } else { "microhost" };
                return Err(HostError::Conflict {
                    id,
                    reason: format!(
                        "it was made in {made} mode; start with `--isolation {made}` or remove {}",
                        dir.path().display()
                    ),
                });
            }
            let number = registry.number(&record)?;
            if let Some(fabric) = fabric {
                ports.push(Fabric::port(number));
                if delay_helper(&dir).is_none() {
                    fabric.straighten_port(number)?;
                } else {
                    ports.push(format!("da{number}"));
                    ports.push(format!("db{number}"));
                    ports.push(format!("dr{number}"));
                }
            }
            registry.places.note(&id, record.place());
            registry.addresses().insert(record.address, id);
        }
        if let Some(fabric) = fabric {
            for port in fabric.ports()?.into_iter().filter(|port| !ports.contains(port)) {
                tracing::warn!(%port, "removing a link without a host");
                fabric.delete_link(&port)?;
            }
        }
        Ok(registry)
    }

    /// How many hosts there are.
    pub fn len(&self) -> usize {
        self.addresses().len()
    }

    /// The directory of a host, whether it exists or not. `id` must have been checked.
    pub fn dir(&self, id: &str) -> HostDir {
        HostDir(self.hosts.join(id))
    }

    /// The ids of all directories, sorted. Foreign names are left alone.
    pub fn ids(&self) -> Result<Vec<String>, HostError> {
        let entries = fs::read_dir(&self.hosts).map_err(HostError::at("read", &self.hosts))?;
        let mut ids: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| check_id(name).is_ok())
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// A complete host, or `None`.
    pub fn get(&self, id: &str) -> Result<Option<Known>, HostError> {
        let dir = self.dir(id);
        Ok(dir.record()?.map(|record| Known { dir, record }))
    }

    /// The gate of a host: whoever changes it holds it.
    pub fn gate(&self, id: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        Arc::clone(gates.entry(id.to_owned()).or_default())
    }

    /// Takes an address for a host, the wanted one or the lowest free.
    pub fn take_address(&self, id: &str, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr, HostError> {
        let mut addresses = self.addresses();
        let taken = addresses.keys().copied().collect();
        let address = match wanted {
            Some(wanted) => self.subnet.claim(wanted, &taken)?,
            None => self.subnet.allocate(&taken)?,
        };
        addresses.insert(address, id.to_owned());
        Ok(address)
    }

    /// Gives a host's address back.
    pub fn free_address(&self, id: &str) {
        self.addresses().retain(|_, owner| owner != id);
    }

    /// The host number that names a host's links.
    pub fn number(&self, record: &HostRecord) -> Result<u32, HostError> {
        self.subnet.number(record.address).ok_or_else(|| HostError::Conflict {
            id: record.id.clone(),
            reason: format!("its address {} is outside the configured subnet {}", record.address, self.subnet),
        })
    }

    /// Ends a host's processes and link; what is left is a disk. Blocking.
    pub fn power_off(&self, dir: &HostDir, number: Option<u32>, fabric: Option<&Fabric>) -> Result<(), HostError> {
        let _lock = lock_dir(dir)?;
        end(dir, number, fabric)
    }

    /// Removes a host with everything; first its processes, last its files. Blocking.
    pub fn clear(&self, dir: &HostDir, number: Option<u32>, fabric: Option<&Fabric>) -> Result<(), HostError> {
        if !dir.path().exists() {
            return Ok(());
        }
        let _lock = lock_dir(dir)?;
        end(dir, number, fabric)?;
        // Out of sight in one step: a removal that is cut short leaves trash, not half a host.
        let name = dir.path().file_name().unwrap_or_default();
        let gone = self.trash.join(name);
        remove_tree(&gone)?;
        fs::rename(dir.path(), &gone).map_err(HostError::at("remove", dir.path()))?;
        remove_tree(&gone)
    }

    fn addresses(&self) -> std::sync::MutexGuard<'_, BTreeMap<Ipv4Addr, String>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
