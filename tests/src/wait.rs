//! Waiting for something to be so.
//!
//! A look and a short pause, until a deadline. The deadline is no assertion about speed: it is at
//! least five times what an idle machine needs, and only ends a test that would wait for ever.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Looks until there is something to see.
///
/// # Errors
/// Nothing was seen within `limit`; the message says what was waited for.
pub async fn wait<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(seen) = look().await {
            return Ok(seen);
        }
        if Instant::now() > end {
            bail!("waited {} s in vain for: {what}", limit.as_secs());
        }
        // waits for: what another process shows only when it is asked
        tokio::time::sleep(PAUSE).await;
    }
}
