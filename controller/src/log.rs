//! The log of the controller: lines on standard error, from the level upwards that the settings say.
//!
//! What cannot be written there, because the disk is full for one, is lost without a complaint: that would be a panic,
//! which ends the task that had something to say.
//!
//! `RUST_LOG`, where it is set, says more than a level and counts instead. Whoever runs the controller as a library has
//! a log of his own; then nothing here does anything.

use std::sync::OnceLock;
use straas_schemas::settings::LogLevel;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// Changes the level of the log that [`begin`] made.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Begins to log.
pub fn begin() {
    if let Ok(filter) = EnvFilter::try_from_default_env() {
        fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false).init();
        return;
    }
    let (level, handle) = reload::Layer::new(LevelFilter::INFO);
    let lines = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
    tracing_subscriber::registry().with(level).with(lines).init();
    let _ = LEVEL.set(handle);
}

/// Logs from this level upwards from now on.
pub(crate) fn from(level: LogLevel) {
    let filter = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    if let Some(handle) = LEVEL.get() {
        let _ = handle.modify(|now| *now = filter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn the_level_follows_unless_the_environment_says_more() {
        begin();
        if std::env::var_os("RUST_LOG").is_some() {
            assert!(LEVEL.get().is_none());
            return;
        }
        assert!(tracing::enabled!(Level::INFO) && !tracing::enabled!(Level::DEBUG));
        from(LogLevel::Trace);
        assert!(tracing::enabled!(Level::TRACE));
        from(LogLevel::Error);
        assert!(tracing::enabled!(Level::ERROR) && !tracing::enabled!(Level::WARN));
    }
}
