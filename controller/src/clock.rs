//! The controller's one clock. Everything that needs the time is given it from here.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in ms. A clock before 1970 counts as 1970.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
