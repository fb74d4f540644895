//! The audit trail.

use super::fixture::{is_duplicate, is_missing};
use crate::{AuditBegin, AuditEnd, AuditFilter, PageRequest, Store};
use serde_json::json;
use std::sync::Arc;

fn begin(tenant: &str, caller: &str, at_ms: i64) -> AuditBegin {
    AuditBegin {
        at_ms,
        request_id: format!("r-{at_ms}"),
        caller: caller.to_owned(),
        tenant: tenant.to_owned(),
        token: "t-1".to_owned(),
        source: "127.0.0.1".to_owned(),
        method: "PUT".to_owned(),
        path: "/x?y".to_owned(),
    }
}

pub(super) async fn appended_and_read_newest_first(store: Arc<dyn Store>) {
    let mut numbers = Vec::new();
    for (caller, at_ms) in [("ann", 10), ("bob", 20), ("ann", 30)] {
        numbers.push(store.audit_begin(&begin("aud", caller, at_ms)).await.unwrap());
    }
    store.audit_begin(&begin("aud-other", "ann", 40)).await.unwrap();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let end = AuditEnd {
        at_ms: 25,
        status: 202,
        topology: Some("aud-t".into()),
        changes: json!([{ "what": "component zk", "before": { "size": 3 }, "after": { "size": 5 } }]),
    };
    store.audit_end(numbers[1], &end).await.unwrap();
    assert!(is_duplicate(&store.audit_end(numbers[1], &end).await), "it ended once");
    assert!(is_missing(&store.audit_end(i64::MAX, &end).await));

    let page = |after: Option<i64>, limit| PageRequest { after: after.map(|seq| seq.to_string()), limit };
    let of = AuditFilter { tenant: Some("aud".into()), ..AuditFilter::default() };
    let first = store.audit(&of, &page(None, 2)).await.unwrap();
    assert_eq!(first.iter().map(|record| record.begin.at_ms).collect::<Vec<_>>(), [30, 20]);
    assert_eq!((first[0].end.as_ref(), first[1].end.as_ref()), (None, Some(&end)));
    let rest = store.audit(&of, &page(Some(first[1].seq), 2)).await.unwrap();
    assert_eq!(rest.iter().map(|record| &record.begin).collect::<Vec<_>>(), [&begin("aud", "ann", 10)]);
    for (filter, expect) in [
        (AuditFilter { caller: Some("ann".into()), ..of.clone() }, vec![30, 10]),
        (AuditFilter { topology: Some("aud-t".into()), ..of.clone() }, vec![20]),
        (AuditFilter { status: Some(202), ..of.clone() }, vec![20]),
        (AuditFilter { status: Some(404), ..of.clone() }, vec![]),
        (AuditFilter { method: Some("GET".into()), ..of.clone() }, vec![]),
        (AuditFilter { since_ms: Some(20), until_ms: Some(30), ..of.clone() }, vec![20]),
    ] {
        let found = store.audit(&filter, &page(None, 10)).await.unwrap();
        assert_eq!(found.iter().map(|record| record.begin.at_ms).collect::<Vec<_>>(), expect, "{filter:?}");
    }
}
