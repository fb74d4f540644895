//! The provider of machines, and all that really happens on them.
//!
//! Nobody in the history reads it but the checks: it is what no program knows of itself. It outlives every kill.

use crate::dice::Dice;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use straas_converge::CommandFate;
use straas_drivers::{HostError, HostSpec, HostStatus, Hosts};
use straas_schemas::CommandId;

/// A machine.
#[derive(Clone)]
pub struct Machine {
    /// Its number, never given again.
    pub serial: u64,
    pub spec: Arc<HostSpec>,
    /// When it was made.
    pub made_ms: i64,
    /// Its service worked when it was looked at last.
    pub works: bool,
    /// It was seen down since it was configured last.
    pub failed: bool,
    /// It worked, was disturbed by us, and was not seen to work since.
    pub disturbed: bool,
    /// Results of stages that its agent wrote down, by the numbers of their reports.
    pub results: BTreeSet<u64>,
    /// The newest generation that its agent had.
    pub generation: u64,
    pub dice: Dice,
}

impl Machine {
    /// Its name in the network.
    pub fn name(&self) -> String {
        format!("m{}", self.serial)
    }
}

/// All of it.
#[derive(Default)]
pub struct Facts {
    serials: u64,
    /// By node.
    pub machines: BTreeMap<String, Machine>,
    /// Made, and not started.
    pub fresh: Vec<Machine>,
    /// Destroyed, and still running.
    pub gone: Vec<Machine>,
    /// What commands came to, for each time that one was begun; none yet, or never.
    pub commands: BTreeMap<CommandId, Vec<Option<CommandFate>>>,
    /// The command that a user's wish, by its word, was run as.
    pub wishes: BTreeMap<String, CommandId>,
    /// What must not be.
    pub faults: Vec<String>,
    lines: Vec<String>,
    seen: BTreeMap<String, u64>,
}

/// What happened in a history.
pub struct Told {
    pub lines: Vec<String>,
    pub seen: BTreeMap<String, u64>,
}

/// See the module.
pub struct Ground {
    facts: Mutex<Facts>,
    /// Unix time of the history, in ms.
    now: AtomicI64,
    began: i64,
    seed: u64,
    peace: AtomicBool,
}

impl Ground {
    pub fn new(seed: u64) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let began = i64::try_from(now.as_millis()).unwrap();
        Self { facts: Mutex::default(), now: AtomicI64::new(began), began, seed, peace: AtomicBool::new(false) }
    }

    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now_ms(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }

    /// It is so long after the beginning.
    pub fn set(&self, since: std::time::Duration) {
        self.now.store(self.began + i64::try_from(since.as_millis()).unwrap(), Ordering::Relaxed);
    }

    /// Nothing fails from now on, but for what scripts do.
    pub fn make_peace(&self) {
        self.peace.store(true, Ordering::Relaxed);
    }

    pub fn is_peaceful(&self) -> bool {
        self.peace.load(Ordering::Relaxed)
    }

    /// Whether a program of this name in the network has a place to run in.
    pub fn is_there(&self, name: &str) -> bool {
        !name.starts_with('m') || self.facts().machines.values().any(|machine| machine.name() == name)
    }

    pub fn tell(&self, line: &str) {
        let at = (self.now_ms() - self.began) as f64 / 1000.0;
        tracing::info!(target: "network", "{line}");
        self.facts().lines.push(format!("{at:>8.2} {line}"));
    }

    pub fn count(&self, what: &str) {
        *self.facts().seen.entry(what.to_owned()).or_default() += 1;
    }

    /// Something must not be.
    pub fn fault(&self, what: String) {
        self.tell(&format!("FAULT {what}"));
        self.facts().faults.push(what);
    }

    /// Changes what is true of a node's machine, unless that is another one by now.
    pub fn with(&self, of: &Machine, what: impl FnOnce(&mut Machine)) {
        let mut facts = self.facts();
        if let Some(machine) = facts.machines.get_mut(&of.spec.id).filter(|known| known.serial == of.serial) {
            what(machine);
        }
    }

    /// Of one topology as many members may be disturbed by us at once as its type allows, which is one.
    pub fn check_disturbed(&self) {
        let mut by_owner: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for machine in self.facts().machines.values().filter(|machine| machine.disturbed) {
            by_owner.entry(machine.spec.owner.clone()).or_default().push(machine.spec.name.clone());
        }
        for down in by_owner.into_values().filter(|down| down.len() > 1) {
            self.fault(format!("more than one member is disturbed: {down:?}"));
        }
    }

    pub fn told(&self) -> Told {
        let mut facts = self.facts();
        Told { lines: std::mem::take(&mut facts.lines), seen: std::mem::take(&mut facts.seen) }
    }
}

fn status(machine: &Machine) -> HostStatus {
    let number = machine.serial.to_be_bytes();
    let HostSpec { id, name, owner, zone, .. } = &*machine.spec;
    HostStatus::running(id, name, owner, zone, IpAddr::from([10, 9, number[6], number[7]]))
}

#[async_trait]
impl Hosts for Ground {
    fn kind(&self) -> &'static str {
        "played"
    }

    fn isolation_note(&self) -> Option<String> {
        None
    }

    fn fault_domains(&self, _zone: &str) -> u32 {
        1
    }

    async fn ensure(&self, spec: &HostSpec) -> Result<HostStatus, HostError> {
        let mut facts = self.facts();
        if let Some(machine) = facts.machines.get(&spec.id) {
            return Ok(status(machine));
        }
        facts.serials += 1;
        let machine = Machine {
            serial: facts.serials,
            spec: Arc::new(spec.clone()),
            made_ms: self.now_ms(),
            works: false,
            failed: false,
            disturbed: false,
            results: BTreeSet::new(),
            generation: 0,
            dice: Dice::of(self.seed, 1_000_000 + facts.serials),
        };
        facts.machines.insert(spec.id.clone(), machine.clone());
        facts.fresh.push(machine.clone());
        Ok(status(&machine))
    }

    async fn destroy(&self, id: &str) -> Result<(), HostError> {
        let mut facts = self.facts();
        let machine = facts.machines.remove(id);
        facts.gone.extend(machine);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<HostStatus>, HostError> {
        Ok(self.facts().machines.values().map(status).collect())
    }
}
