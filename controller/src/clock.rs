//! The controller's one clock. Everything that needs the time is given it from here; the life of certificates is judged by
//! the host's, as TLS does it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Gives the Unix time in ms.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The host's.
#[must_use]
pub fn system() -> Clock {
    Arc::new(now_ms)
}

/// Unix time in ms. A clock before 1970 counts as 1970.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
