//! How much may be asked for: at once by all, at once by one tenant, and in a while by one token.
//!
//! Who asks for more gets 429 with the time to wait, before anything is done for him; so a tenant that asks
//! without end takes nothing away from the others. Requests that wait for something to happen have room of
//! their own, since they cost a slot and no work. Administrators have no rate: they have to get in when a
//! tenant does not stop. `/healthz`, `/readyz` and `/metrics` are not counted and always answer.

use super::access::Rank;
use super::auth::Caller;
use super::problem::ApiError;
use crate::app::App;
use crate::bucket::{Buckets, Size};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use straas_schemas::settings::LimitSettings;

/// Requests that wait, at once: each holds a connection and a few kB.
const WAITING_MAX: usize = 2048;
/// One tenant has a quarter of what there is at once.
const SHARE: usize = 4;
/// A tenant's rate, in rates of a token: with one token it may do all that the token may, with a hundred not
/// a hundred times that.
const TOKENS_OF_TENANT: f64 = 4.0;

/// What is going on. How much of it there may be is told anew with each request, since it can change.
#[derive(Default)]
pub struct Limits {
    /// Requests that are at work, and that wait.
    at_work: AtomicUsize,
    waiting: AtomicUsize,
    /// Requests of a tenant that are at work, and that wait.
    tenants: Mutex<HashMap<(String, bool), usize>>,
    buckets: Mutex<Buckets<String>>,
}

impl Limits {
    /// Room for one more request, until it is dropped.
    fn room(&self, limits: &LimitSettings, waits: bool) -> Option<Slot<'_>> {
        let (count, most) = if waits { (&self.waiting, WAITING_MAX) } else { (&self.at_work, limits.at_once as usize) };
        // a number that nothing else hangs on
        let more = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < most).then_some(now + 1));
        more.is_ok().then(|| Slot(count))
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<(String, bool), usize>> {
        // numbers that are whole at any time: a panic elsewhere does not make them wrong
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more request of a tenant, until it is dropped.
    fn enter(&self, limits: &LimitSettings, tenant: &str, waits: bool) -> Option<Place<'_>> {
        let most = if waits { WAITING_MAX } else { limits.at_once as usize } / SHARE;
        let key = (tenant.to_owned(), waits);
        let mut tenants = self.tenants();
        let count = tenants.entry(key.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { limits: self, key })
    }

    /// Counts a request of a token and its tenant; or how long it is until there may be one.
    fn count(&self, limits: &LimitSettings, token: &str, tenant: &str, now: Instant) -> Result<(), Duration> {
        let of_token = Size { rate: limits.rate.into(), burst: limits.burst.into() };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, times) in [(format!("token {token}"), 1.0), (format!("tenant {tenant}"), TOKENS_OF_TENANT)] {
            let size = Size { rate: of_token.rate * times, burst: of_token.burst * times };
            buckets.of(key, size, of_token, now).take(size.rate, size.burst, now)?;
        }
        Ok(())
    }
}

/// One of the requests there may be.
struct Slot<'a>(&'a AtomicUsize);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request of a tenant that is at work.
struct Place<'a> {
    limits: &'a Limits,
    key: (String, bool),
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut tenants = self.limits.tenants();
        if let Some(count) = tenants.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                tenants.remove(&self.key);
            }
        }
    }
}

fn busy() -> ApiError {
    ApiError::too_many_for("the controller has as many requests at once as it takes", Duration::from_secs(1))
}

/// Lets as many in as there is room for.
///
/// # Errors
/// 429.
pub async fn at_once(
    State((app, waits)): State<(Arc<App>, bool)>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let _slot = app.limits.room(&app.settings.common().limits, waits).ok_or_else(busy)?;
    Ok(next.run(request).await)
}

/// Gives each tenant its share, and each token its rate.
///
/// # Errors
/// 429.
pub async fn fair(
    State((app, waits)): State<(Arc<App>, bool)>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(caller) = request.extensions().get::<Caller>().filter(|caller| caller.rank != Rank::Admin) else {
        return Ok(next.run(request).await);
    };
    let limits = app.settings.common().limits;
    if let Err(wait) = app.limits.count(&limits, &caller.token.id, &caller.tenant, Instant::now()) {
        let text = "this token, or its tenant, asks more often than it may";
        return Err(ApiError::too_many_for(text, wait));
    }
    let Some(place) = app.limits.enter(&limits, &caller.tenant, waits) else {
        let text = "this tenant has as many requests at once as it may; wait for some to be answered";
        return Err(ApiError::too_many_for(text, Duration::from_secs(1)));
    };
    let response = next.run(request).await;
    drop(place);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::{BUCKETS_MAX, Bucket};

    fn limits(rate: u32, burst: u32, at_once: u32) -> (Limits, LimitSettings) {
        (Limits::default(), LimitSettings { at_once, rate, burst })
    }

    #[test]
    fn a_bucket_fills_with_time_and_not_above_its_brim() {
        let begun = Instant::now();
        let mut bucket = Bucket::full(2.0, begun);
        let mut take =
            |ms: u64| bucket.take(10.0, 2.0, begun + Duration::from_millis(ms)).map_err(|wait| wait.as_millis());
        assert_eq!([take(0), take(0), take(0)], [Ok(()), Ok(()), Err(100)]);
        assert_eq!([take(60), take(100), take(100)], [Err(40), Ok(()), Err(100)]);
        assert_eq!([take(10_000), take(10_000), take(10_000)], [Ok(()), Ok(()), Err(100)]);
    }

    #[test]
    fn one_token_and_one_tenant_take_nothing_from_the_others() {
        let ((limits, most), now) = (limits(1, 2, 8), Instant::now());
        let ask = |token: &str, tenant: &str| limits.count(&most, token, tenant, now).is_ok();
        assert_eq!([ask("a", "red"), ask("a", "red"), ask("a", "red")], [true, true, false]);
        assert_eq!([ask("b", "red"), ask("x", "blue")], [true, true]);
        // with many tokens a tenant has four times what one has
        let given = (0..20).filter(|number| ask(&format!("t{number}"), "green")).count();
        assert_eq!(given, 8);
    }

    #[test]
    fn so_many_buckets_and_no_more() {
        let ((limits, most), now) = (limits(1, 2, 8), Instant::now());
        let given = (0..BUCKETS_MAX + 100)
            .filter(|number| limits.count(&most, &number.to_string(), "one", now).is_ok())
            .count();
        assert!(given <= 8 + 4, "{given}");
        for number in 0..2 * BUCKETS_MAX {
            let _ = limits.count(&most, &format!("n{number}"), &format!("tenant {number}"), now);
        }
        assert!(limits.buckets.lock().expect("whole").len() <= BUCKETS_MAX + 1);
        // those who asked for nothing for a while are forgotten
        let later = now + Duration::from_secs(10);
        limits.count(&most, "late", "late", later).expect("room");
        assert!(limits.buckets.lock().expect("whole").len() < 10);
    }

    #[test]
    fn a_tenant_has_its_share_at_once() {
        let (limits, most) = limits(1, 1, 8);
        let held: Vec<_> = (0..2).map(|_| limits.enter(&most, "red", false).expect("room")).collect();
        assert!(limits.enter(&most, "red", false).is_none());
        assert!(limits.enter(&most, "red", true).is_some() && limits.enter(&most, "blue", false).is_some());
        drop(held);
        assert!(limits.enter(&most, "red", false).is_some());
        assert!(limits.tenants().is_empty(), "nobody is at work");
    }

    #[test]
    fn other_limits_count_for_the_next_request() {
        let ((limits, most), now) = (limits(1, 2, 8), Instant::now());
        let ask = |most: &LimitSettings, at| limits.count(most, "a", "red", at).is_ok();
        assert_eq!([ask(&most, now), ask(&most, now), ask(&most, now)], [true, true, false]);
        let faster = LimitSettings { rate: 10, ..most };
        assert!(ask(&faster, now + Duration::from_millis(100)));
        let held: Vec<_> = (0..8).map(|_| limits.room(&most, false).expect("room")).collect();
        assert!(limits.room(&most, false).is_none() && limits.room(&most, true).is_some());
        let more = LimitSettings { at_once: 9, ..most };
        let last = limits.room(&more, false).expect("room");
        // fewer: those that are at work end in peace
        assert!(limits.room(&most, false).is_none());
        drop((last, held));
        assert!(limits.room(&most, false).is_some());
    }
}
