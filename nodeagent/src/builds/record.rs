//! Which build runs, as a value: what is chosen, what is on trial, what is in doubt, and what follows from an event.
//!
//! The picture and the reasons are in `mod.rs`. Every function gives the record as it should be; who calls makes it
//! durable before acting on it.
//!
//! Never here: files, processes, clocks.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use straas_schemas::Digest;
use straas_schemas::build::RefusedBuild;

/// A build by its SHA-256, or the packaged agent.
pub type Which = Option<Digest>;

/// Starts of a build without an answer of any controller, before the one before takes over.
pub const STARTS_MAX: u32 = 3;
/// An answer that the build before gets within this part of a trial's time after its start says that there was a link
/// all along. Of five minutes that is more than one time-out and one back-off: the answer may be to the second try.
const AT_ONCE_PART: u32 = 4;
/// So often a build is in doubt before it is refused.
pub const DOUBTS_MAX: u32 = 3;
/// Where the packaged agent is if nobody has noted it.
const PACKAGED: &str = "/usr/sbin/straas-agent";

/// What is durable of the builds on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The build that has proved itself last.
    #[serde(default)]
    pub chosen: Which,
    /// The one before it, whose file is kept.
    #[serde(default)]
    pub previous: Which,
    /// How that stands which is to take its place.
    #[serde(default)]
    pub standing: Standing,
    /// Of which build there were how many doubts.
    #[serde(default)]
    pub doubts: (Which, u32),
    /// The build that was found to be no good last.
    #[serde(default)]
    pub refused: Option<RefusedBuild>,
    /// Where the packaged agent is.
    #[serde(default = "packaged")]
    pub packaged: PathBuf,
}

/// See the picture in `mod.rs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Standing {
    /// The chosen one runs, and nothing else is tried.
    #[default]
    Settled,
    /// A build has to prove itself.
    Trial {
        /// Which.
        build: Which,
        /// Its starts so far.
        starts: u32,
    },
    /// A build got no answer; the chosen one runs again, to see whether it gets one.
    Doubted {
        /// Which.
        build: Which,
        /// What it did, for people.
        why: String,
    },
}

/// What a start comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launch {
    /// This program goes on.
    Stay,
    /// Another one takes its place.
    Run(Which),
}

fn packaged() -> PathBuf {
    PACKAGED.into()
}

impl Default for Record {
    fn default() -> Self {
        Self {
            chosen: None,
            previous: None,
            standing: Standing::Settled,
            doubts: (None, 0),
            refused: None,
            packaged: packaged(),
        }
    }
}

impl Record {
    /// What the program that is the build `me` does when it starts. `launched` is the build that a start before it in
    /// this very process has run, and counted.
    #[must_use]
    pub fn launch(&self, me: &Which, launched: Option<&Which>) -> (Self, Launch) {
        let mut next = self.clone();
        if let Standing::Trial { build, starts } = &mut next.standing {
            if launched == Some(build) {
                return (next, Launch::Stay);
            }
            if *starts < STARTS_MAX {
                *starts += 1;
                let launch = if build == me { Launch::Stay } else { Launch::Run(build.clone()) };
                return (next, launch);
            }
            let build = build.clone();
            next = next.doubted(build, format!("was started {STARTS_MAX} times and got no answer of a controller"));
        }
        // whoever is not what it was run as would be run over and over
        let stay = next.chosen == *me || launched == Some(&next.chosen);
        let launch = if stay { Launch::Stay } else { Launch::Run(next.chosen.clone()) };
        (next, launch)
    }

    /// A build is tried from now on. `own` is where the packaged agent is, if that runs now.
    #[must_use]
    pub fn begin(&self, build: Which, own: Option<PathBuf>) -> Self {
        let packaged = own.unwrap_or_else(|| self.packaged.clone());
        Self { standing: Standing::Trial { build, starts: 0 }, refused: None, packaged, ..self.clone() }
    }

    /// A controller answered to the build `me`, so long after its start, where a trial takes so long at most.
    #[must_use]
    pub fn answered(&self, me: &Which, after: Duration, trial: Duration) -> Self {
        let settled = Self { standing: Standing::Settled, ..self.clone() };
        match &self.standing {
            Standing::Trial { build, .. } if build == me => {
                Self { chosen: build.clone(), previous: self.chosen.clone(), doubts: (None, 0), ..settled }
            }
            Standing::Doubted { build, why } if self.chosen == *me => {
                let often = self.doubts.0 == *build && self.doubts.1 >= DOUBTS_MAX;
                if after <= trial / AT_ONCE_PART || often {
                    settled.refuse(build.clone(), format!("it {why}"))
                } else {
                    settled
                }
            }
            _ => self.clone(),
        }
    }

    /// The build `me` has run on trial for as long as it may.
    #[must_use]
    pub fn overdue(&self, me: &Which, trial: Duration) -> Self {
        let why = format!("got no answer of a controller for {} s", trial.as_secs());
        if self.on_trial(me) { self.doubted(me.clone(), why) } else { self.clone() }
    }

    /// This build is assigned: a refusal of another one is over.
    #[must_use]
    pub fn assigned(&self, wanted: &Which) -> Self {
        let refused = self.refused.clone().filter(|refused| refused.sha256 == *wanted);
        Self { refused, ..self.clone() }
    }

    /// A build is no good.
    #[must_use]
    pub fn refuse(&self, build: Which, reason: String) -> Self {
        let refused = RefusedBuild { sha256: build, reason: super::bounded(reason) };
        Self { refused: Some(refused), doubts: (None, 0), ..self.clone() }
    }

    /// A build cannot be run as it is on the disk: it is as if it were not there.
    #[must_use]
    pub fn lost(&self, build: &Which) -> Self {
        let mut next = self.clone();
        if matches!(&self.standing, Standing::Trial { build: tried, .. } if tried == build) {
            next.standing = Standing::Settled;
        } else if self.chosen == *build {
            next.chosen = None;
        }
        next
    }

    /// Whether the build `me` is on trial.
    #[must_use]
    pub fn on_trial(&self, me: &Which) -> bool {
        matches!(&self.standing, Standing::Trial { build, .. } if build == me)
    }

    /// Whether an answer to the build `me` would change something.
    #[must_use]
    pub fn awaits_answer(&self, me: &Which) -> bool {
        self.answered(me, Duration::ZERO, Duration::ZERO) != *self
    }

    /// The builds whose files are needed.
    pub fn needed(&self) -> impl Iterator<Item = &Digest> {
        let tried = match &self.standing {
            Standing::Trial { build, .. } | Standing::Doubted { build, .. } => build.as_ref(),
            Standing::Settled => self.previous.as_ref(),
        };
        self.chosen.iter().chain(tried)
    }

    fn doubted(&self, build: Which, why: String) -> Self {
        let before = if self.doubts.0 == build { self.doubts.1 } else { 0 };
        let doubts = (build.clone(), before + 1);
        Self { standing: Standing::Doubted { build, why }, doubts, ..self.clone() }
    }
}

#[cfg(test)]
mod tests;
