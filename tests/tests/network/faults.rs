//! What fails, and when: one fault after another by the seed, each with its end.

use crate::dice::Dice;
use crate::ground::Ground;
use std::time::Duration;
use turmoil::Sim;

/// Faults begin when the first controller has been up for so long.
const FIRST: Duration = Duration::from_secs(5);
/// After this time nothing fails.
const LAST: Duration = Duration::from_secs(150);
/// Longest time between the beginnings of two faults, in ms.
const PAUSE_MAX_MS: usize = 8_000;
/// Longest life of a fault, in ms: longer than a poll is held and a connection is waited for.
const LIFE_MAX_MS: usize = 50_000;
/// The links of everybody to a controller are so slow at most while they are slow.
const SLOW_MAX_MS: usize = 4_000;
/// How slow a link is at most when nothing is wrong with it.
pub const LATENCY: Duration = Duration::from_millis(30);

/// How a fault ends.
enum Remedy {
    Repair(String, String),
    Release(String, String),
    Hasten(String, String),
    Start(String),
}

/// See the module.
pub struct Faults {
    dice: Dice,
    next: Duration,
    open: Vec<(Duration, Remedy)>,
}

impl Faults {
    pub fn new(seed: u64) -> Self {
        Self { dice: Dice::of(seed, 3_000_000), next: FIRST, open: Vec::new() }
    }

    /// Begins and ends what is due, so long after the beginning, among controllers and everybody else.
    pub fn step(&mut self, sim: &mut Sim<'_>, ground: &Ground, now: Duration, controllers: &[&str], others: &[String]) {
        let (due, open) = std::mem::take(&mut self.open).into_iter().partition(|(at, _)| *at <= now || LAST < now);
        self.open = open;
        for (_, remedy) in due {
            end(sim, ground, remedy);
        }
        if self.next <= now && now <= LAST {
            self.next = now + Duration::from_millis(200 + self.dice.below(PAUSE_MAX_MS) as u64);
            self.begin(sim, ground, now, controllers, others);
        }
        if LAST < now {
            ground.make_peace();
        }
    }

    fn begin(&mut self, sim: &mut Sim<'_>, ground: &Ground, now: Duration, controllers: &[&str], others: &[String]) {
        let until = now + Duration::from_millis(500 + self.dice.below(LIFE_MAX_MS) as u64);
        let (Some(controller), Some(other)) = (self.dice.pick(controllers).copied(), self.dice.pick(others).cloned())
        else {
            return;
        };
        let controller = controller.to_owned();
        match self.dice.below(12) {
            10 | 11 => {
                said(ground, "answers are lost", &format!("of {controller} to {other}"));
                sim.partition_oneway(controller.as_str(), other.as_str());
                self.open.push((until, Remedy::Repair(other, controller)));
            }
            0..3 => {
                said(ground, "a link is cut", &format!("{other} and {controller}"));
                sim.partition(other.as_str(), controller.as_str());
                self.open.push((until, Remedy::Repair(other, controller)));
            }
            3 => {
                // everybody whose number has this parity, with one of the controllers
                let parity = self.dice.below(2);
                let inside: Vec<_> = others.iter().skip(parity).step_by(2).cloned().collect();
                said(ground, "a zone is cut off", &format!("{inside:?} from {controller}"));
                for other in inside {
                    sim.partition(other.as_str(), controller.as_str());
                    self.open.push((until, Remedy::Repair(other, controller.clone())));
                }
            }
            4 | 5 => {
                said(ground, "a link is held", &format!("{other} and {controller}"));
                sim.hold(other.as_str(), controller.as_str());
                self.open.push((until, Remedy::Release(other, controller)));
            }
            6 => {
                let slow = Duration::from_millis(200 + self.dice.below(SLOW_MAX_MS) as u64);
                said(ground, "a link is slow", &format!("{other} and {controller}, {} ms", slow.as_millis()));
                sim.set_link_latency(other.as_str(), controller.as_str(), slow);
                self.open.push((until, Remedy::Hasten(other, controller)));
            }
            7 if sim.is_host_running(controller.as_str()) => {
                said(ground, "a controller is killed", &controller);
                sim.crash(controller.as_str());
                self.open.push((until.min(now + Duration::from_secs(25)), Remedy::Start(controller)));
            }
            _ if other.starts_with('m') && sim.is_host_running(other.as_str()) => {
                said(ground, "an agent is killed", &other);
                sim.crash(other.as_str());
                self.open.push((until, Remedy::Start(other)));
            }
            _ => {}
        }
    }
}

fn said(ground: &Ground, what: &str, of: &str) {
    ground.count(what);
    ground.tell(&format!("{what}: {of}"));
}

fn end(sim: &mut Sim<'_>, ground: &Ground, remedy: Remedy) {
    match remedy {
        Remedy::Repair(one, other) => {
            ground.tell(&format!("{one} and {other} are joined again"));
            sim.repair(one.as_str(), other.as_str());
        }
        Remedy::Release(one, other) => {
            ground.tell(&format!("{one} and {other}: what was held goes on"));
            sim.release(one.as_str(), other.as_str());
        }
        Remedy::Hasten(one, other) => {
            ground.tell(&format!("{one} and {other} are fast again"));
            sim.set_link_latency(one.as_str(), other.as_str(), LATENCY / 2);
        }
        // a machine that is gone stays so
        Remedy::Start(name) if ground.is_there(&name) => {
            ground.tell(&format!("{name} starts"));
            sim.bounce(name.as_str());
        }
        Remedy::Start(_) => {}
    }
}
