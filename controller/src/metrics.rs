//! The controller's own numbers, for Prometheus.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use straas_schemas::command::CommandStanding;

/// How a guest command ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// One of the repositories.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Repo {
    repo: &'static str,
}

/// How mirrors of upstream git servers are.
#[derive(Clone, Default)]
struct Mirrors {
    age: Family<Repo, Gauge<f64, AtomicU64>>,
    up: Family<Repo, Gauge>,
    refused: Family<Repo, Gauge>,
}

/// All metrics and their registry.
pub struct Metrics {
    registry: Registry,
    plans: Histogram,
    beats: Counter,
    reports: Counter,
    enrolments: Counter,
    refusals: Counter,
    commands: Counter,
    commands_ended: Family<Outcome, Counter>,
    nodes: Gauge,
    connected: Gauge,
    beside: Gauge,
    chores: Gauge,
    store_writes: Counter,
    settings_faults: Gauge,
    disk: Gauge,
    mirrors: Mirrors,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("straas_controller");
        let plans = Histogram::new(exponential_buckets(1e-5, 4.0, 10));
        registry.register_with_unit("plan", "Time to plan one topology", Unit::Seconds, plans.clone());
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let beats = counter("heartbeats", "Heartbeats written");
        let reports = counter("reports", "Reports recorded");
        let enrolments = counter("enrolments", "Agents enrolled");
        let refusals = counter("agent_refusals", "Requests of agents refused for who they are");
        let commands = counter("commands_queued", "Guest commands queued");
        let commands_ended = Family::<Outcome, Counter>::default();
        registry.register("commands_ended", "Guest commands ended, by outcome", commands_ended.clone());
        let (nodes, connected) = (Gauge::default(), Gauge::default());
        registry.register("nodes", "Nodes recorded", nodes.clone());
        registry.register("nodes_polling", "Nodes whose agent holds a poll open", connected.clone());
        let beside = Gauge::default();
        registry.register("controllers_beside", "Other controllers over the same database", beside.clone());
        let chores = Gauge::default();
        let help = "Background work that only one controller does, and this one does now";
        registry.register("chores", help, chores.clone());
        let store_writes = Counter::default();
        let help = "Transactions of this controller that wrote to the database";
        registry.register("store_writes", help, store_writes.clone());
        let settings_faults = Gauge::default();
        let help = "Faults for which the newest settings of the service are not in force";
        registry.register("settings_faults", help, settings_faults.clone());
        let disk = Gauge::default();
        registry.register("disk_writable", "1 if the disk of the data directory takes writes", disk.clone());
        let mirrors = Mirrors::default();
        let help = "Time since the mirror was known to be as upstream is";
        registry.register_with_unit("git_mirror_age", help, Unit::Seconds, mirrors.age.clone());
        registry.register("git_upstream_up", "1 if the upstream git server answers", mirrors.up.clone());
        registry.register("git_upstream_refused", "Refs of upstream that are not taken", mirrors.refused.clone());
        Self {
            registry,
            plans,
            beats,
            reports,
            enrolments,
            refusals,
            commands,
            commands_ended,
            nodes,
            connected,
            beside,
            chores,
            store_writes,
            settings_faults,
            disk,
            mirrors,
        }
    }
}

impl Metrics {
    /// A topology was planned.
    pub fn planned(&self, took: Duration) {
        self.plans.observe(took.as_secs_f64());
    }

    /// Heartbeats were written.
    pub fn beats_written(&self, count: usize) {
        self.beats.inc_by(count as u64);
    }

    /// Reports were recorded.
    pub fn reports_recorded(&self, count: usize) {
        self.reports.inc_by(count as u64);
    }

    /// An agent enrolled.
    pub fn enrolled(&self) {
        self.enrolments.inc();
    }

    /// An agent was refused.
    pub fn refused(&self) {
        self.refusals.inc();
    }

    /// Guest commands were queued.
    pub fn commands_queued(&self, count: usize) {
        self.commands.inc_by(count as u64);
    }

    /// A guest command ended.
    pub fn command_ended(&self, standing: CommandStanding) {
        self.commands_ended.get_or_create(&Outcome { outcome: standing.name() }).inc();
    }

    /// How a mirror is now; one whose age is not known has none.
    pub fn mirror(&self, repo: &'static str, age: Option<Duration>, up: bool, refused: usize) {
        let of = Repo { repo };
        if let Some(age) = age {
            self.mirrors.age.get_or_create(&of).set(age.as_secs_f64());
        }
        self.mirrors.up.get_or_create(&of).set(i64::from(up));
        self.mirrors.refused.get_or_create(&of).set(i64::try_from(refused).unwrap_or(i64::MAX));
    }

    /// Whether the disk of the data directory takes writes.
    pub fn disk(&self, writable: bool) {
        self.disk.set(i64::from(writable));
    }

    /// So many other controllers are there.
    pub fn beside(&self, others: u32) {
        self.beside.set(i64::from(others));
    }

    /// This one has so many chores.
    pub fn chores(&self, held: usize) {
        self.chores.set(i64::try_from(held).unwrap_or(i64::MAX));
    }

    /// All metrics as OpenMetrics text; `counts` are nodes recorded and polling,
    /// `settings_faults` those of the newest settings, `writes` what the store counted.
    #[must_use]
    pub fn text(&self, counts: (usize, usize), settings_faults: usize, writes: u64) -> String {
        self.store_writes.inc_by(writes.saturating_sub(self.store_writes.get()));
        self.settings_faults.set(i64::try_from(settings_faults).unwrap_or(i64::MAX));
        self.nodes.set(i64::try_from(counts.0).unwrap_or(i64::MAX));
        self.connected.set(i64::try_from(counts.1).unwrap_or(i64::MAX));
        let mut text = String::new();
        // writing to a String cannot fail
        let _ = encode(&mut text, &self.registry);
        text
    }
}
