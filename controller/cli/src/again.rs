//! What is asked for again when its answer was lost, and what is not.
//!
//! ```text
//!  asked ──► answered
//!    └─ the connection ended before the answer was here ─► a GET, or named by a key? ──no──► said: it may be done
//!                                                              └yes─► asked again, a bounded number of times
//! ```
//! Every POST names itself with a key of its own (`Idempotency-Key`), so that the controller carries it out once and
//! answers it again. PUT, PATCH and DELETE have no such name: a restart asked for twice is two restarts, and a removal
//! that was done is not there the second time. Never again: what a controller did not take at all (it is away, and a
//! script wants to hear of it at once), and what it does not answer in time (it is at it still).

use crate::error::CliError;
use http::Method;
use std::time::Duration;
use straas_schemas::problem::Problem;

/// Waits before a request is made again, longer than the controller takes one that died for alive (15 s).
const WAITS_MS: [u64; 7] = [100, 400, 1_500, 3_000, 4_000, 5_000, 5_000];

/// The course of one request.
pub struct Again {
    key: Option<String>,
    may: bool,
    lost: bool,
    waits: std::slice::Iter<'static, u64>,
}

impl Again {
    /// Of a request of this method; `named` if the controller knows keys of it.
    pub fn of(method: &Method, named: bool) -> Self {
        let key = (*method == Method::POST && named).then(|| uuid::Uuid::new_v4().to_string());
        let may = *method == Method::GET || key.is_some();
        Self { key, may, lost: false, waits: WAITS_MS.iter() }
    }

    /// Its key, the same each time.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// How long to wait before it is made again; none if it is not.
    pub fn after(&mut self, error: &CliError) -> Option<Duration> {
        if self.is_without_key(error) {
            self.key = None;
            self.may = false;
            return Some(Duration::ZERO);
        }
        let lost = matches!(error, CliError::Unreachable { lost: true, .. });
        self.lost |= lost;
        // once an answer was lost, a controller that starts anew or is at it still is waited for
        let wanted = lost || self.lost && (matches!(error, CliError::Unreachable { .. }) || is(error, "in-progress"));
        if !(self.may && wanted) {
            return None;
        }
        self.waits.next().map(|ms| Duration::from_millis(*ms))
    }

    /// A tenant's names of a day are used up: what was refused for that is asked for without one.
    fn is_without_key(&self, error: &CliError) -> bool {
        self.key.is_some() && !self.lost && is(error, "names-full")
    }
}

fn is(error: &CliError, kind: &str) -> bool {
    matches!(error, CliError::Problem(Problem { kind: of, .. }) if of.rsplit(':').next() == Some(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away(lost: bool) -> CliError {
        CliError::Unreachable { endpoint: "e".into(), reason: "r".into(), lost }
    }

    fn problem(kind: &str) -> CliError {
        CliError::Problem(Problem {
            kind: format!("straas:{kind}"),
            title: String::new(),
            status: 409,
            detail: String::new(),
            errors: Vec::new(),
        })
    }

    #[test]
    fn what_was_lost_is_asked_for_again_if_that_is_safe() {
        let of = |method: Method| Again::of(&method, true);
        for (method, again) in [
            (Method::GET, true),
            (Method::POST, true),
            (Method::PUT, false),
            (Method::PATCH, false),
            (Method::DELETE, false),
        ] {
            assert_eq!(of(method.clone()).after(&away(true)).is_some(), again, "{method}");
            assert_eq!(of(method.clone()).key().is_some(), method == Method::POST, "{method}");
            assert!(of(method.clone()).after(&away(false)).is_none(), "{method}: it was not taken");
            assert!(of(method.clone()).after(&problem("in-progress")).is_none(), "{method}: of somebody else");
        }
        assert!(Again::of(&Method::POST, false).after(&away(true)).is_none(), "the controller knows no key of it");
        let mut course = of(Method::POST);
        let key = course.key().map(str::to_owned);
        assert!(course.after(&away(true)).is_some() && course.after(&away(false)).is_some());
        assert!(course.after(&problem("in-progress")).is_some() && course.after(&problem("conflict")).is_none());
        assert_eq!(course.key().map(str::to_owned), key);
        let left = std::iter::from_fn(|| course.after(&away(true))).count();
        assert_eq!(left, WAITS_MS.len() - 3, "not for ever");
        assert!(WAITS_MS.iter().sum::<u64>() > 15_000, "longer than a claim lasts");
        let mut full = of(Method::POST);
        assert_eq!((full.after(&problem("names-full")), full.key()), (Some(Duration::ZERO), None));
        assert!(full.after(&away(true)).is_none(), "without its name it is asked for once");
    }
}
