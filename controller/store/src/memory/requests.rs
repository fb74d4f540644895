//! Requests that name themselves in memory.

use super::{MemoryStore, Tables, conflict};
use crate::{
    Begun, REQUEST_AGE_MS_MAX, REQUESTS_PER_TENANT_MAX, RequestClaim, RequestKey, RequestStore, Result, Store,
};
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// By tenant and name.
pub(super) type Requests = BTreeMap<(String, String), Request>;

#[derive(Debug)]
pub(super) struct Request {
    digest: String,
    claim: String,
    until_ms: i64,
    made: Option<Value>,
    answer: Option<String>,
    created_ms: i64,
}

fn name(claim: &RequestClaim) -> (String, String) {
    (claim.tenant.clone(), claim.key.clone())
}

impl Tables {
    /// The request of a claim that is held.
    pub(super) fn held(&mut self, claim: &RequestClaim) -> Option<&mut Request> {
        self.requests.get_mut(&name(claim)).filter(|request| request.claim == claim.id)
    }

    /// Does some work for a request, if its claim is held, and notes what it made.
    pub(super) fn work_for<T>(
        &mut self,
        bound: Option<&(RequestClaim, Value)>,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let Some((claim, made)) = bound else { return work(self) };
        if self.held(claim).is_none_or(|request| request.answer.is_some()) {
            return Err(conflict("request", &claim.key));
        }
        let done = work(self)?;
        if let Some(request) = self.held(claim) {
            request.made = Some(made.clone());
        }
        Ok(done)
    }
}

#[async_trait]
impl RequestStore for MemoryStore {
    async fn begin_request(&self, request: &RequestKey, claim: &str, now_ms: i64, until_ms: i64) -> Result<Begun> {
        let requests = &mut self.tables().requests;
        requests.retain(|_, known| known.created_ms >= now_ms.saturating_sub(REQUEST_AGE_MS_MAX));
        let name = (request.tenant.clone(), request.key.clone());
        let Some(known) = requests.get_mut(&name) else {
            let count = requests.keys().filter(|(tenant, _)| *tenant == request.tenant).count();
            if count >= REQUESTS_PER_TENANT_MAX as usize {
                return Ok(Begun::Full);
            }
            let (digest, claim) = (request.digest.clone(), claim.to_owned());
            let new = Request { digest, claim, until_ms, made: None, answer: None, created_ms: now_ms };
            requests.insert(name, new);
            return Ok(Begun::New);
        };
        Ok(match (&known.answer, &known.made) {
            _ if known.digest != request.digest => Begun::Other,
            (Some(answer), _) => Begun::Answered(answer.clone()),
            _ if known.until_ms > now_ms => Begun::Running { until_ms: known.until_ms },
            (None, Some(made)) => Begun::Made(made.clone()),
            (None, None) => {
                claim.clone_into(&mut known.claim);
                known.until_ms = until_ms;
                Begun::New
            }
        })
    }

    async fn renew_request(&self, claim: &RequestClaim, until_ms: i64) -> Result<bool> {
        let mut tables = self.tables();
        let held = tables.held(claim).filter(|request| request.answer.is_none());
        Ok(held.map(|request| request.until_ms = until_ms).is_some())
    }

    async fn end_request(&self, claim: &RequestClaim, answer: Option<&str>) -> Result<()> {
        let mut tables = self.tables();
        let Some(request) = tables.held(claim) else { return Ok(()) };
        match answer {
            Some(answer) => request.answer = Some(answer.to_owned()),
            None if request.made.is_none() => drop(tables.requests.remove(&name(claim))),
            None => request.until_ms = 0,
        }
        Ok(())
    }

    fn claimed(&self, claim: &RequestClaim, made: &Value) -> Arc<dyn Store> {
        Arc::new(Self { all: self.all.clone(), bound: Some((claim.clone(), made.clone())) })
    }
}
