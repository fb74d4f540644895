//! Bounds how often somebody may join with tokens that are no good: by the address he comes from, before the store is asked.
//!
//! A token cannot be guessed in any time; what is bounded is what a stranger can make the database do, and how fast a log
//! fills. Whoever joins with a good token is never counted. Behind a load balancer all come from its address, so the bound is
//! wide enough for a rack of hosts whose token has expired and which try again as agents do.

use crate::app::App;
use crate::bucket::Bucket;
use crate::http::problem::ApiError;
use crate::port::Source;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Refusals a second of one address, in the long run.
const RATE: f64 = 2.0;
/// Refusals of one address at a stroke.
const BURST: f64 = 60.0;
/// Addresses that are known at once; those that were refused nothing lately are forgotten first.
const SOURCES_MAX: usize = 4096;

/// Who was refused lately.
#[derive(Default)]
pub struct Guesses(Mutex<HashMap<Option<IpAddr>, Bucket>>);

impl Guesses {
    fn lock(&self) -> MutexGuard<'_, HashMap<Option<IpAddr>, Bucket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an address try, or says how long it has to wait.
    fn admit(&self, source: Option<IpAddr>, now: Instant) -> Result<(), ApiError> {
        let wait = self.lock().get_mut(&source).and_then(|bucket| bucket.wait(RATE, BURST, now));
        wait.map_or(Ok(()), |wait| {
            Err(ApiError::too_many_for("too many join tokens that are no good came from this address", wait))
        })
    }

    /// Counts a refusal.
    fn refused(&self, source: Option<IpAddr>, now: Instant) {
        let mut all = self.lock();
        if all.len() >= SOURCES_MAX && !all.contains_key(&source) {
            all.retain(|_, bucket| !bucket.is_full(RATE, BURST, now));
        }
        // with so many about, newcomers share what one has
        let source = if all.len() >= SOURCES_MAX && !all.contains_key(&source) { None } else { source };
        // one that was admitted beside others may find nothing left: it is refused anyway
        let _ = all.entry(source).or_insert_with(|| Bucket::full(BURST, now)).take(RATE, BURST, now);
    }
}

/// Around every route that takes a join token.
pub async fn bounded(State(app): State<Arc<App>>, request: Request, next: Next) -> Result<Response, ApiError> {
    let source = request.extensions().get::<Source>().map(|source| source.0.ip());
    app.guesses.admit(source, Instant::now())?;
    let answer = next.run(request).await;
    if answer.status() == StatusCode::UNAUTHORIZED {
        app.guesses.refused(source, Instant::now());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn bounded_by_address_and_in_all() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let from = |low: u16| Some(IpAddr::from([10, 0, (low >> 8) as u8, low as u8]));
        for _ in 0..60 {
            guesses.admit(from(1), now).expect("admitted");
            guesses.refused(from(1), now);
        }
        assert!(guesses.admit(from(1), now).is_err());
        guesses.admit(from(2), now).expect("another address");
        guesses.admit(from(1), now + Duration::from_secs(1)).expect("after a while");
        for low in 0..u16::try_from(2 * SOURCES_MAX).expect("small") {
            guesses.refused(from(low), now);
        }
        assert!(guesses.lock().len() <= SOURCES_MAX + 1);
    }
}
