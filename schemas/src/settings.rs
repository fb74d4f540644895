//! What an operator may change of the service while it runs, and what of it fits together.
//!
//! The values stand in `service/` of the config repo, in the same form as those of components. Here
//! is what the controller makes of them: typed, with built-in values where nobody says anything.
//! Decides nothing about files: which of them wins is told by whoever merges them.

mod packages;

pub use packages::{AptRepository, PackageSettings};

use crate::config::Effective;
use serde::Serialize;
use std::ops::RangeInclusive;

/// Requests at once below which a tenant, who has a quarter of them, could ask for nothing.
pub const AT_ONCE_MIN: u32 = 4;
/// Days a certificate may live at most: ten years, so that a date is a date.
pub const CERTIFICATE_DAYS_MAX: u32 = 3650;

/// A part of the service, with a file of its own beside `service/default.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What answers users.
    Api,
    /// What makes and certifies.
    Controller,
    /// What nodes are told, and how they are judged.
    Agent,
}

impl Part {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Api, Self::Controller, Self::Agent];

    /// Its file.
    #[must_use]
    pub const fn file(self) -> &'static str {
        match self {
            Self::Api => "api.json",
            Self::Controller => "controller.json",
            Self::Agent => "agent.json",
        }
    }

    /// The part that reads a section; `None` for a section that StraaS does not know.
    #[must_use]
    pub fn that_reads(section: &str) -> Option<Self> {
        match section {
            "limits" | "storage" | "guestcmd" => Some(Self::Api),
            "agents" | "log" => Some(Self::Controller),
            "timing" | "packages" => Some(Self::Agent),
            _ => None,
        }
    }
}

/// Everything that is read while the service runs.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ServiceSettings {
    /// `[packages]`
    pub packages: PackageSettings,
    /// `[timing]`
    pub timing: TimingSettings,
    /// `[limits]`
    pub limits: LimitSettings,
    /// `[storage]`
    pub storage: StorageSettings,
    /// `[agents]`
    pub agents: AgentSettings,
    /// `[log]`
    pub log: LogSettings,
}

/// `[timing]`, all in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TimingSettings {
    /// Between two heartbeats of a node.
    pub heartbeat_ms: u32,
    /// Silence after which a node is suspect.
    pub suspect_after_ms: u32,
    /// Silence after which a node counts as unreachable.
    pub unreachable_after_ms: u32,
    /// First wait after a failed stage, or a host that could not be made.
    pub retry_ms: u32,
    /// Longest of these waits.
    pub retry_max_ms: u32,
    /// Longest wait after a stage that said "not yet"; the first ones are short.
    pub waiting_ms: u32,
}

impl Default for TimingSettings {
    fn default() -> Self {
        Self {
            heartbeat_ms: 10_000,
            suspect_after_ms: 35_000,
            unreachable_after_ms: 90_000,
            retry_ms: 5_000,
            retry_max_ms: 300_000,
            waiting_ms: 2_000,
        }
    }
}

/// `[limits]` of the API for users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Requests that are worked on at once; a tenant has a quarter of them. Each may plan a large
    /// topology, so more would only make all of them slower.
    pub at_once: u32,
    /// Requests per second of a token in the long run; its tenant has four times as many. A program
    /// that looks at everything it has every second stays far below.
    pub rate: u32,
    /// Requests that a token may make at a stroke, after a while of silence.
    pub burst: u32,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { at_once: 256, rate: 50, burst: 500 }
    }
}

/// `[storage]`: limits of what tenants upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageSettings {
    /// MiB that the files of one tenant may have in all.
    pub tenant_mib_max: u32,
    /// MiB of one file.
    pub file_mib_max: u32,
}

impl Default for StorageSettings {
    fn default() -> Self {
        Self { tenant_mib_max: 20 * 1024, file_mib_max: 5 * 1024 }
    }
}

impl StorageSettings {
    /// Most bytes of the files of one tenant.
    #[must_use]
    pub fn tenant_bytes_max(&self) -> u64 {
        u64::from(self.tenant_mib_max) << 20
    }

    /// Most bytes of one file.
    #[must_use]
    pub fn file_bytes_max(&self) -> u64 {
        u64::from(self.file_mib_max) << 20
    }
}

/// `[agents]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentSettings {
    /// Days a node's certificate lives.
    pub certificate_days: u32,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self { certificate_days: 30 }
    }
}

/// `[log]` of the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogSettings {
    /// What is too small to be told.
    pub level: LogLevel,
}

/// What a controller's log tells, from this upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// What needs somebody.
    Error,
    /// What went wrong and is tried again, too.
    Warn,
    /// What happens, too.
    #[default]
    Info,
    /// Why it happens, too.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// Its name, as in `RUST_LOG`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Values that cannot be, or cannot be together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingFault {
    /// Their section.
    pub section: &'static str,
    /// Their keys.
    pub keys: Vec<&'static str>,
    /// What is wrong.
    pub message: String,
}

impl ServiceSettings {
    /// The settings that values come to; what they do not say is as built in.
    ///
    /// # Errors
    /// Every fault.
    pub fn read(values: &Effective) -> Result<Self, Vec<SettingFault>> {
        let (built_in, mut faults) = (Self::default(), Vec::new());
        let mut number = |section: &'static str, key: &'static str, within: RangeInclusive<u32>, or: u32| {
            let Some(value) = values.get(section).and_then(|keys| keys.get(key)) else { return or };
            let found = value.as_u64().and_then(|number| u32::try_from(number).ok());
            found.filter(|number| within.contains(number)).unwrap_or_else(|| {
                let message = format!("{key} must be a whole number from {} to {}", within.start(), within.end());
                faults.push(SettingFault { section, keys: vec![key], message });
                or
            })
        };
        let named = values.get("log").and_then(|keys| keys.get("level"));
        let level = named.map(|value| LogLevel::ALL.into_iter().find(|level| value == level.name()));
        let (t, l, s) = (built_in.timing, built_in.limits, built_in.storage);
        let some = 1..=u32::MAX;
        let settings = Self {
            packages: PackageSettings::default(),
            timing: TimingSettings {
                heartbeat_ms: number("timing", "heartbeat_ms", some.clone(), t.heartbeat_ms),
                suspect_after_ms: number("timing", "suspect_after_ms", some.clone(), t.suspect_after_ms),
                unreachable_after_ms: number("timing", "unreachable_after_ms", some.clone(), t.unreachable_after_ms),
                retry_ms: number("timing", "retry_ms", some.clone(), t.retry_ms),
                retry_max_ms: number("timing", "retry_max_ms", some.clone(), t.retry_max_ms),
                waiting_ms: number("timing", "waiting_ms", some.clone(), t.waiting_ms),
            },
            limits: LimitSettings {
                at_once: number("limits", "at_once", AT_ONCE_MIN..=u32::MAX, l.at_once),
                rate: number("limits", "rate", some.clone(), l.rate),
                burst: number("limits", "burst", some, l.burst),
            },
            storage: StorageSettings {
                tenant_mib_max: number("storage", "tenant_mib_max", 0..=u32::MAX, s.tenant_mib_max),
                file_mib_max: number("storage", "file_mib_max", 0..=u32::MAX, s.file_mib_max),
            },
            agents: AgentSettings {
                certificate_days: number(
                    "agents",
                    "certificate_days",
                    1..=CERTIFICATE_DAYS_MAX,
                    built_in.agents.certificate_days,
                ),
            },
            log: LogSettings { level: level.flatten().unwrap_or(built_in.log.level) },
        };
        if level == Some(None) {
            let message = format!("level must be one of {}", LogLevel::ALL.map(LogLevel::name).join(", "));
            faults.push(SettingFault { section: "log", keys: vec!["level"], message });
        }
        if faults.is_empty() {
            faults.extend(settings.timing.faults());
        }
        let packages = PackageSettings::read(values).unwrap_or_else(|more| {
            faults.extend(more);
            PackageSettings::default()
        });
        if faults.is_empty() { Ok(Self { packages, ..settings }) } else { Err(faults) }
    }
}

impl TimingSettings {
    /// What is out of order.
    fn faults(&self) -> impl Iterator<Item = SettingFault> {
        let Self {
            heartbeat_ms: h, suspect_after_ms: s, unreachable_after_ms: u, retry_ms: r, retry_max_ms: m, ..
        } = *self;
        let order = |(low, a, high, b): (&'static str, u32, &'static str, u32), right: bool| {
            (!right).then(|| SettingFault {
                section: "timing",
                keys: vec![low, high],
                message: format!(
                    "there must be 0 < heartbeat_ms < suspect_after_ms < unreachable_after_ms and \
                     0 < retry_ms <= retry_max_ms: {low} would be {a} and {high} {b}"
                ),
            })
        };
        [
            order(("heartbeat_ms", h, "suspect_after_ms", s), h < s),
            order(("suspect_after_ms", s, "unreachable_after_ms", u), s < u),
            order(("retry_ms", r, "retry_max_ms", m), r <= m),
        ]
        .into_iter()
        .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &str, expect: Result<ServiceSettings, &[(&str, &[&str])]>) {
        let effective: Effective = serde_json::from_str(values).expect("values");
        match (ServiceSettings::read(&effective), expect) {
            (Ok(got), Ok(expect)) => assert_eq!(got, expect, "{values}"),
            (Err(got), Err(expect)) => {
                let got: Vec<_> = got.iter().map(|fault| (fault.section, fault.keys.as_slice())).collect();
                assert_eq!(got, expect, "{values}");
            }
            (got, expect) => panic!("{values}: {got:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn what_is_said_counts_if_it_fits_together() {
        let built_in = ServiceSettings::default();
        check("{}", Ok(built_in.clone()));
        check(r#"{"other":{"x":1},"timing":{"unknown":"x"}}"#, Ok(built_in.clone()));
        let timing = TimingSettings { heartbeat_ms: 7, ..built_in.timing };
        check(r#"{"timing":{"heartbeat_ms":7}}"#, Ok(ServiceSettings { timing, ..built_in.clone() }));
        let log = LogSettings { level: LogLevel::Debug };
        check(r#"{"log":{"level":"debug"}}"#, Ok(ServiceSettings { log, ..built_in }));
        for (values, expect) in [
            (r#"{"timing":{"heartbeat_ms":0}}"#, &[("timing", &["heartbeat_ms"][..])][..]),
            (r#"{"timing":{"heartbeat_ms":"7"}}"#, &[("timing", &["heartbeat_ms"])]),
            (r#"{"timing":{"heartbeat_ms":35000}}"#, &[("timing", &["heartbeat_ms", "suspect_after_ms"])]),
            (
                r#"{"timing":{"unreachable_after_ms":35000,"retry_max_ms":1}}"#,
                &[("timing", &["suspect_after_ms", "unreachable_after_ms"]), ("timing", &["retry_ms", "retry_max_ms"])],
            ),
            (r#"{"limits":{"at_once":3}}"#, &[("limits", &["at_once"])]),
            (r#"{"limits":{"rate":0,"burst":0}}"#, &[("limits", &["rate"]), ("limits", &["burst"])]),
            (r#"{"agents":{"certificate_days":3651}}"#, &[("agents", &["certificate_days"])]),
            (r#"{"storage":{"file_mib_max":-1}}"#, &[("storage", &["file_mib_max"])]),
            (r#"{"log":{"level":"loud"}}"#, &[("log", &["level"])]),
            (r#"{"log":{"level":3}}"#, &[("log", &["level"])]),
        ] {
            check(values, Err(expect));
        }
    }
}
