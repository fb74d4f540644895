//! Zones: where topologies and controllers are, and who reaches whom while one of them is cut off.
//!
//! ```text
//!   agents of az2 ◄──► controllers in az2  ✂  controllers elsewhere, the database, the provider of hosts
//! ```
//! A zone that is cut off is whole in itself: its agents reach the controllers in it, which answer from what they
//! remember, and nobody else. The database is not in it: of a cluster the majority goes on outside.
//!
//! Never here: single nodes without a link (`faults.rs`), what a controller does without its database.

use crate::history::History;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use straas_schemas::NodeId;

/// All zones.
pub const ZONES: [&str; 3] = ["az1", "az2", "az3"];

/// The zones that are cut off, as everybody in one world feels it.
#[derive(Clone, Default)]
pub struct Cuts(Arc<Mutex<BTreeSet<&'static str>>>);

impl Cuts {
    fn off(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a zone is cut off.
    pub fn has(&self, zone: &str) -> bool {
        self.off().contains(zone)
    }

    /// Whether nothing comes from one zone to another.
    pub fn between(&self, one: &str, other: &str) -> bool {
        let off = self.off();
        one != other && (off.contains(one) || off.contains(other))
    }

    pub fn cut(&self, zone: &'static str) {
        self.off().insert(zone);
    }

    pub fn mend(&self) {
        self.off().clear();
    }
}

impl History {
    /// A zone in which there is something.
    pub fn some_zone(&mut self) -> &'static str {
        let used: Vec<&'static str> = self.homes.iter().map(|home| home.zone).collect();
        let all: Vec<&'static str> = used.into_iter().chain(self.controllers.iter().map(|c| c.zone)).collect();
        self.dice.pick(&all).copied().unwrap_or(ZONES[0])
    }

    /// A zone is cut off.
    pub fn cut_off(&mut self, zone: &'static str) {
        self.site.cuts.cut(zone);
        self.told.count("a zone is cut off");
    }

    /// Whether a node has no link, wherever its zone is.
    fn is_single(&self, node: &NodeId) -> bool {
        self.trouble.cut.contains(node)
    }

    /// Whether a host and a controller reach each other.
    pub fn reaches(&self, host: u64, controller: usize) -> bool {
        // what a host said that is gone meanwhile is on its way
        let Some(agent) = self.agents.get(&host) else { return true };
        !self.is_single(&agent.node) && !self.site.cuts.between(&agent.machine.zone, self.controllers[controller].zone)
    }

    /// The controller that a host asks next, of those that it reaches.
    pub fn door_of(&self, host: u64, turn: usize) -> Option<usize> {
        let open: Vec<usize> = (0..self.controllers.len()).filter(|at| self.reaches(host, *at)).collect();
        open.get(turn % open.len().max(1)).copied()
    }

    /// Whether a host reaches no controller.
    pub fn is_cut(&self, host: u64) -> bool {
        (0..self.controllers.len()).all(|at| !self.reaches(host, at))
    }

    /// Whether a controller reaches the database.
    pub fn has_database(&self, controller: usize) -> bool {
        !self.site.cuts.has(self.controllers[controller].zone)
    }

    /// A zone is cut off for longer than nodes may be silent, at times for longer than commands may wait; users go on
    /// asking.
    pub fn siege(&mut self) -> String {
        let zone = self.some_zone();
        self.cut_off(zone);
        self.tell(|| format!("{zone} is cut off for long"));
        self.told.count("a zone is cut off for long");
        let ms = if self.dice.one_in(3) { 120_000 } else { 30_000 };
        for _ in 0..3 + self.dice.below(3) {
            self.turn(ms);
            if self.dice.one_in(2) {
                self.wish();
            }
        }
        if self.dice.one_in(2) {
            self.site.cuts.mend();
        }
        format!("{zone} is cut off still: {}", self.site.cuts.has(zone))
    }
}
