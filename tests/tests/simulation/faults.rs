//! What goes wrong, and is mended again.

use crate::history::{History, Trouble};
use std::sync::atomic::Ordering;
use straas_converge::Event;
use straas_schemas::Stage;

/// The clock of a controller is wrong by so much at most, in ms.
pub const SKEW_MS_MAX: i64 = 20_000;

impl History {
    /// Something goes wrong, or is mended.
    pub fn accident(&mut self) {
        let kind = self.dice.below(26);
        let what = match kind {
            0 | 1 => {
                let at = self.dice.below(self.controllers.len());
                if !self.controllers[at].tasks.is_empty() {
                    self.told.count("a controller dies in the middle");
                }
                self.controllers[at].crash();
                format!("controller {at} is killed")
            }
            2 => {
                let away = !self.site.database.book().away;
                self.site.database.book().away = away;
                self.told.count("the database is away");
                format!("the database fails over: {away}")
            }
            3 => {
                self.site.database.book().away = false;
                "the database is there".to_owned()
            }
            4 => {
                let zone = self.some_zone();
                self.cut_off(zone);
                format!("{zone} is cut off")
            }
            24 => self.siege(),
            5 => self.clock(),
            6 => {
                let soil = &mut *self.site.ground.soil();
                soil.no_room = !soil.no_room;
                format!("hosts can be made: {}", !soil.no_room)
            }
            7 => {
                self.trouble.operations = !self.trouble.operations;
                format!("operations fail: {}", self.trouble.operations)
            }
            8 | 9 => {
                self.trouble.cut.clear();
                self.site.cuts.mend();
                "all links are mended".to_owned()
            }
            10 | 11 => {
                self.trouble.failing.clear();
                self.trouble.slow.clear();
                "nodes are well again".to_owned()
            }
            _ => {
                let Some(host) = self.host() else { return };
                // the worst moment is in the middle of what may not happen twice
                let busy = self.agents.iter().find(|(_, agent)| !agent.commands.is_empty()).map(|(host, _)| *host);
                let host = busy.filter(|_| self.dice.one_in(2)).unwrap_or(host);
                self.accident_on(host, kind)
            }
        };
        self.tell(|| what);
    }

    fn accident_on(&mut self, host: u64, kind: usize) -> String {
        let (node, name) = (self.agents[&host].node.clone(), self.agents[&host].label.clone());
        match kind {
            12 => {
                self.trouble.cut.insert(node);
                format!("{name} is cut off")
            }
            13 => {
                self.trouble.cut.insert(node.clone());
                self.trouble.slow.insert(node);
                format!("{name} hangs, and is cut off")
            }
            14..=17 => {
                for _ in 0..self.dice.below(3) {
                    self.act(host);
                }
                self.crash(host, false);
                format!("the agent of {name} is killed")
            }
            18 => {
                self.with(host, |agent| agent.skew += 3_600_000);
                self.crash(host, true);
                format!("{name} reboots, and its clock is set")
            }
            19 => {
                self.with(host, |agent| agent.truth.active = false);
                format!("the service of {name} dies")
            }
            20 => {
                self.ghost.lost.insert(host);
                self.site.ground.soil().machines.remove(node.as_str());
                self.hosts_changed();
                format!("the host of {name} is lost")
            }
            21 | 22 => {
                let stage = Stage::ALL[self.dice.below(4)];
                self.trouble.failing.insert(node, stage);
                format!("{stage} fails on {name}")
            }
            _ => {
                self.trouble.slow.insert(node);
                format!("{name} is slow")
            }
        }
    }

    fn clock(&mut self) -> String {
        if self.dice.one_in(2) {
            self.pass(70_000);
            return "70 s pass".to_owned();
        }
        let at = self.dice.below(self.controllers.len());
        let skew = [-SKEW_MS_MAX, -3_000, 0, 3_000, SKEW_MS_MAX][self.dice.below(5)];
        self.controllers[at].skew.store(skew, Ordering::Relaxed);
        format!("the clock of controller {at} is {skew} ms ahead")
    }

    /// From now on nothing goes wrong.
    pub fn faults_stop(&mut self) {
        self.peace = true;
        self.set_pauses(false);
        self.trouble = Trouble::default();
        self.site.cuts.mend();
        self.site.database.book().away = false;
        self.site.ground.soil().no_room = false;
        for controller in &self.controllers {
            controller.skew.store(0, Ordering::Relaxed);
        }
        self.tell(|| "nothing goes wrong any more".to_owned());
        // what died since the last look is seen by the next
        let hosts: Vec<u64> = self.agents.keys().copied().collect();
        hosts.into_iter().for_each(|host| self.hand(host, Event::Look));
    }

    /// For a while all goes well that is not in trouble.
    pub fn calm(&mut self) {
        for _ in 0..=self.dice.below(6) {
            self.turn(1_000);
        }
    }
}
