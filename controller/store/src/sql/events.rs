//! Events: appended with rising numbers, pruned per topology.
//!
//! Numbers come from one counter row. That orders writers, which a sequence of the database would
//! not: there, number 8 may become visible before number 7, and a reader that goes on "after 8"
//! never sees 7.

use super::SqlStore;
use super::rows::key;
use crate::input::clean;
use crate::{EVENTS_PER_TOPOLOGY_MAX, NewEvent, PAGE_MAX, Result};
use sqlx::{query, query_as, query_scalar};
use std::collections::BTreeMap;
use straas_schemas::TopologyId;
use straas_schemas::view::Event;

statements! {
    NUMBERS = "update counter set value = value + $1 where name = 'event' returning value";
    ADD = "insert into event (seq, at_ms, topology, node, kind, text) values ($1, $2, $3, $4, $5, $6)";
    TALLY = "insert into event_tally (topology, kept) values ($1, $2)
        on conflict (topology) do update set kept = event_tally.kept + excluded.kept returning kept";
    PRUNE = "delete from event where seq in (select seq from event where topology = $1 order by seq limit $2)";
    PRUNED = "update event_tally set kept = $2 where topology = $1";
    LIST = "select seq, at_ms, topology, node, kind, text from event where topology = $1 and seq > $2 order by seq limit $3";
}

/// See [`crate::Store::add_events`].
pub(super) async fn add(store: &SqlStore, events: &[NewEvent]) -> Result<Vec<Event>> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let many = i64::try_from(events.len()).unwrap_or(i64::MAX);
    writing!(store, "appending events", |tx, on| {
        let last: i64 = query_scalar(on(&NUMBERS)).bind(many).fetch_one(&mut *tx).await?;
        let mut written = Vec::with_capacity(events.len());
        let mut tally: BTreeMap<&str, i64> = BTreeMap::new();
        for (seq, event) in (last - many + 1..).zip(events) {
            let event = Event {
                seq,
                at_ms: event.at_ms,
                topology: event.topology.clone(),
                node: event.node.clone(),
                kind: event.kind.to_owned(),
                text: clean(&event.text).into_owned(),
            };
            query(on(&ADD))
                .bind(seq)
                .bind(event.at_ms)
                .bind(event.topology.as_str())
                .bind(event.node.as_ref().map(|node| node.as_str()))
                .bind(&event.kind)
                .bind(&event.text)
                .execute(&mut *tx)
                .await?;
            written.push(event);
        }
        for event in events {
            *tally.entry(event.topology.as_str()).or_default() += 1;
        }
        for (topology, added) in tally {
            let kept: i64 = query_scalar(on(&TALLY)).bind(topology).bind(added).fetch_one(&mut *tx).await?;
            let most = i64::from(EVENTS_PER_TOPOLOGY_MAX);
            if kept > most {
                query(on(&PRUNE)).bind(topology).bind(kept - most).execute(&mut *tx).await?;
                query(on(&PRUNED)).bind(topology).bind(most).execute(&mut *tx).await?;
            }
        }
        written
    })
}

type EventRow = (i64, i64, String, Option<String>, String, String);

/// See [`crate::Store::events`].
pub(super) async fn list(store: &SqlStore, topology: &TopologyId, after: i64, limit: u32) -> Result<Vec<Event>> {
    let limit = i64::from(limit.min(PAGE_MAX));
    let found: Vec<EventRow> = asking!(store, "listing events", |pool, on| {
        query_as(on(&LIST)).bind(key(topology.as_str())).bind(after).bind(limit).fetch_all(pool)
    })?;
    let event = |(seq, at_ms, topology, node, kind, text): EventRow| {
        let node = node.map(Into::into);
        Event { seq, at_ms, topology: topology.into(), node, kind, text }
    };
    Ok(found.into_iter().map(event).collect())
}
