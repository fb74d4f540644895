//! Builds of the agent: how an agent is replaced by another one, and how the one before comes back.
//!
//! ```text
//!                     an assignment names another build: fetched, checked, nothing runs
//!   Settled(chosen) ───────────────────────────────────────────────► Trial(build) ── a controller answers ──► Settled(build)
//!      ▲  ▲                                                              │ 3 starts, or 5 min of one, without an answer
//!      │  │                                                              ▼
//!      │  └── late: the link was cut, nothing is known; tried anew ── Doubted(build): chosen runs
//!      └── the chosen one gets an answer at once: the build is refused ──┘
//! ```
//! The program that the host starts is always the packaged one; the first thing that it does is to look into the record
//! here and to go on as the build that is named there (`launch.rs`): same process, same arguments. So a restart, a reboot
//! and a crash all come to the right build, and whoever replaces the process (systemd, init, a script) need not know.
//!
//! **Why in doubt.** A new build that gets no answer may be no good, or the link may be cut: it cannot tell. So it is not
//! judged by itself. The build before takes over, which is known to work: if that gets an answer at once, the link was
//! there, and the new one is refused, which the controller hears. If it does not either, nothing is known of the new one;
//! as soon as there is a link again it is tried anew. That costs a host without a link nothing but some restarts of its
//! agent, and it ends: after three doubts a build is refused.
//!
//! Each start of a build on trial is counted and durable before it happens: one that ends at once, or hangs the host, is
//! started three times and no more. One that hangs itself is ended by the kernel: an alarm is set before it is executed,
//! and only a build that has proved itself takes it back. On trial nothing is set aside that an older agent could not do without (the ledger):
//! a build that cannot read it ends.
//!
//! Services do not notice: they are no children that would end with the agent, and no stage and no guest command runs
//! while the program is replaced.
//!
//! Never here: which build is wanted (the assignment says), and what is signed by whom: the controller is known by its
//! certificate, and what it names by a hash.

mod disk;
pub mod keep;
mod launch;
mod record;

pub use launch::start;
pub use record::{Record, Standing, Which};

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::time::Duration;
use straas_schemas::Digest;
use straas_schemas::build::{BUILD_TEXT_BYTES_MAX, BuildStatus, name};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What a build says with `--version` that can be replaced by another one: without it, it would be the last.
pub const REPLACEABLE: &str = "can be replaced by another build";

/// The builds of a running agent.
#[derive(Debug)]
pub struct Builds {
    dir: PathBuf,
    /// How long a build may be on trial.
    trial: Duration,
    me: Which,
    record: RefCell<Record>,
    /// What is being done about the build that is assigned, and how often that failed.
    coming: RefCell<Option<String>>,
    proven: Cell<bool>,
    /// Something has changed that may allow the next step.
    pub moved: Notify,
}

impl Builds {
    /// What is known in a state directory; a build is on trial for so long at most.
    #[must_use]
    pub fn open(state_dir: &Path, trial: Duration) -> Self {
        let dir = disk::dir(state_dir);
        let (me, record) = (disk::own(&dir), disk::read(&dir));
        let proven = Cell::new(!record.awaits_answer(&me));
        launch::alarm(record.on_trial(&me).then_some(trial));
        Self { dir, trial, me, record: RefCell::new(record), coming: RefCell::default(), proven, moved: Notify::new() }
    }

    /// The build that runs.
    #[must_use]
    pub const fn me(&self) -> &Which {
        &self.me
    }

    /// Whether it runs on trial: nothing may be given up that the one before would need.
    #[must_use]
    pub fn on_trial(&self) -> bool {
        self.record.borrow().on_trial(&self.me)
    }

    /// Whether an answer of a controller would tell something about a build.
    #[must_use]
    pub fn awaits_answer(&self) -> bool {
        !self.proven.get()
    }

    /// A controller answered, so long after the start; whether that changed something.
    pub fn answered(&self, after: Duration) -> bool {
        if self.proven.get() {
            return false;
        }
        let next = self.record.borrow().answered(&self.me, after, self.trial);
        if !self.write(next) {
            // as if there had been no answer: the next one is as good
            return false;
        }
        self.proven.set(true);
        launch::alarm(None);
        let record = self.record.borrow();
        match record.refused.as_ref() {
            Some(refused) if record.standing == Standing::Settled => {
                let (build, reason) = (name(refused.sha256.as_ref()), &refused.reason);
                tracing::error!(build, reason, "this build of the agent is no good; the one before goes on");
            }
            _ => tracing::info!(build = name(self.me.as_ref()), "a controller answers to this build of the agent"),
        }
        true
    }

    /// Ends when the trial of the build that runs is over, if it is on trial: the one before was to take over then, and
    /// could not.
    pub async fn overdue(&self, start: Instant) {
        if !self.on_trial() {
            return std::future::pending().await;
        }
        sleep_until(start + self.trial).await;
        if !self.on_trial() {
            return std::future::pending().await;
        }
        tracing::error!("no controller has answered to this build of the agent; the one before takes over");
        let next = self.record.borrow().overdue(&self.me, self.trial);
        if self.write(next) {
            launch::run(&self.dir, None, self.trial);
        }
    }

    /// What a heartbeat says.
    #[must_use]
    pub fn status(&self) -> BuildStatus {
        let record = self.record.borrow();
        BuildStatus {
            sha256: self.me.clone(),
            trial: record.on_trial(&self.me),
            coming: self.coming.borrow().clone(),
            refused: record.refused.clone(),
        }
    }

    /// Says what is being done about the build that is assigned; whether that is news.
    fn say(&self, coming: Option<String>) -> bool {
        let coming = coming.map(bounded);
        let news = *self.coming.borrow() != coming;
        if news {
            if let Some(text) = &coming {
                tracing::info!("{text}");
            }
            self.coming.replace(coming);
        }
        news
    }

    /// Makes a record durable; `false` if the disk does not take it, and then it is as before.
    fn write(&self, next: Record) -> bool {
        if *self.record.borrow() == next {
            return true;
        }
        match disk::write(&self.dir, &next) {
            Ok(()) => {
                self.record.replace(next);
                true
            }
            Err(error) => {
                tracing::error!(error, "the record of the agent's builds cannot be written");
                false
            }
        }
    }
}

/// Cuts a text for heartbeats.
fn bounded(mut text: String) -> String {
    if text.len() > BUILD_TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(BUILD_TEXT_BYTES_MAX - '…'.len_utf8()));
        text.push('…');
    }
    text
}

/// The short name of a build, for people.
fn short(build: &Which) -> &str {
    build.as_ref().map_or("the packaged agent", Digest::short)
}
