//! The audit trail in memory.

use super::{MemoryStore, duplicate, missing, most};
use crate::{AuditBegin, AuditEnd, AuditFilter, AuditRecord, AuditStore, PageRequest, Result};
use async_trait::async_trait;

fn wanted(record: &AuditRecord, filter: &AuditFilter) -> bool {
    let AuditRecord { begin, end, .. } = record;
    let topology = end.as_ref().and_then(|end| end.topology.as_ref());
    filter.tenant.as_ref().is_none_or(|tenant| *tenant == begin.tenant)
        && filter.caller.as_ref().is_none_or(|caller| *caller == begin.caller)
        && filter.topology.as_ref().is_none_or(|wanted| topology == Some(wanted))
        && filter.method.as_ref().is_none_or(|method| *method == begin.method)
        && filter.status.is_none_or(|status| end.as_ref().is_some_and(|end| end.status == status))
        && filter.since_ms.is_none_or(|since| begin.at_ms >= since)
        && filter.until_ms.is_none_or(|until| begin.at_ms < until)
}

#[async_trait]
impl AuditStore for MemoryStore {
    async fn audit_begin(&self, begin: &AuditBegin) -> Result<i64> {
        let trail = &mut self.tables().audit;
        let seq = i64::try_from(trail.len()).unwrap_or(i64::MAX) + 1;
        trail.push(AuditRecord { seq, begin: begin.clone(), end: None });
        Ok(seq)
    }

    async fn audit_end(&self, seq: i64, end: &AuditEnd) -> Result<()> {
        let trail = &mut self.tables().audit;
        let record = trail.iter_mut().find(|record| record.seq == seq).ok_or_else(|| missing("request", seq))?;
        if record.end.is_some() {
            return Err(duplicate("end of request", seq));
        }
        record.end = Some(end.clone());
        Ok(())
    }

    async fn audit(&self, filter: &AuditFilter, page: &PageRequest) -> Result<Vec<AuditRecord>> {
        let before = page.after.as_deref().and_then(|after| after.parse::<i64>().ok()).unwrap_or(i64::MAX);
        let tables = self.tables();
        let found = tables.audit.iter().rev().filter(|record| record.seq < before && wanted(record, filter));
        Ok(found.take(most(page.limit)).cloned().collect())
    }
}
