//! Waiting for something to be so.
//!
//! A look and a short pause, until a deadline. The deadline is no assertion about speed: it is at
//! least five times what an idle machine needs, and only ends a test that would wait for ever; a look
//! that hangs is ended too.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// What a look that is under way at the deadline is given to end: longer than any that ends at all.
const LAST_LOOK: Duration = Duration::from_secs(60);

/// Looks until there is something to see.
///
/// # Errors
/// Nothing was seen within `limit`, or a look itself did not end; the message says what was waited for.
pub async fn wait<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match tokio::time::timeout_at((end + LAST_LOOK).into(), look()).await {
            Ok(Some(seen)) => return Ok(seen),
            Ok(None) => {}
            Err(_) => bail!("waited {} s for a look that does not end, at: {what}", (limit + LAST_LOOK).as_secs()),
        }
        if Instant::now() > end {
            bail!("waited {} s in vain for: {what}", limit.as_secs());
        }
        // waits for: what another process shows only when it is asked
        tokio::time::sleep(PAUSE).await;
    }
}
