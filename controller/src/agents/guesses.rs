//! Bounds how often somebody may join with tokens that are no good: by the address he comes from, before the store is asked.
//!
//! A token cannot be guessed in any time; what is bounded is what a stranger can make the database do, and how fast a log
//! fills. Whoever joins with a good token is never counted. Behind a load balancer all come from its address, so the bound is
//! wide enough for a rack of hosts whose token has expired and which try again as agents do.

use crate::app::App;
use crate::bucket::{Buckets, Size};
use crate::http::problem::ApiError;
use crate::port::Source;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Refusals of one address: a second in the long run, and at a stroke.
const REFUSALS: Size = Size { rate: 2.0, burst: 60.0 };

/// Who was refused lately.
#[derive(Default)]
pub struct Guesses(Mutex<Buckets<Option<IpAddr>>>);

impl Guesses {
    fn lock(&self) -> MutexGuard<'_, Buckets<Option<IpAddr>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an address try, or says how long it has to wait.
    fn admit(&self, source: Option<IpAddr>, now: Instant) -> Result<(), ApiError> {
        let wait = self.lock().wait(&source, REFUSALS, now);
        wait.map_or(Ok(()), |wait| {
            Err(ApiError::too_many_for("too many join tokens that are no good came from this address", wait))
        })
    }

    /// Counts a refusal.
    fn refused(&self, source: Option<IpAddr>, now: Instant) {
        // one that was admitted beside others may find nothing left: it is refused anyway
        let _ = self.lock().of(source, REFUSALS, REFUSALS, now).take(REFUSALS.rate, REFUSALS.burst, now);
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
    use crate::bucket::BUCKETS_MAX;
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
        for low in 0..u16::try_from(2 * BUCKETS_MAX).expect("small") {
            guesses.refused(from(low), now);
        }
        assert!(guesses.lock().len() <= BUCKETS_MAX + 1);
    }
}
