//! Events: appended with rising numbers, pruned per topology.
//!
//! Numbers come from one counter row. That orders writers, which a sequence of the database would
//! not: there, number 8 may become visible before number 7, and a reader that goes on "after 8"
//! never sees 7.

use super::SqlStore;
use super::rows::key;
use crate::input::clean;
use crate::{NewEvent, PAGE_MAX, Result};
use sqlx::query_as;
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

/// Appends events inside a transaction, as the last thing that it locks: whoever has the counter waits for nobody.
macro_rules! add_events {
    ($tx:ident, $on:ident, $events:expr) => {{
        let events: &[$crate::NewEvent] = $events;
        let many = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let last: i64 = sqlx::query_scalar($on(&$crate::sql::events::NUMBERS)).bind(many).fetch_one(&mut *$tx).await?;
        let written = $crate::sql::events::numbered(last - many, events);
        for event in &written {
            sqlx::query($on(&$crate::sql::events::ADD))
                .bind(event.seq)
                .bind(event.at_ms)
                .bind(event.topology.as_str())
                .bind(event.node.as_ref().map(|node| node.as_str()))
                .bind(&event.kind)
                .bind(&event.text)
                .execute(&mut *$tx)
                .await?;
        }
        for (topology, added) in $crate::sql::events::tally(events) {
            let kept: i64 = sqlx::query_scalar($on(&$crate::sql::events::TALLY))
                .bind(topology)
                .bind(added)
                .fetch_one(&mut *$tx)
                .await?;
            let most = i64::from($crate::EVENTS_PER_TOPOLOGY_MAX);
            if kept > most {
                let more = kept - most;
                sqlx::query($on(&$crate::sql::events::PRUNE)).bind(topology).bind(more).execute(&mut *$tx).await?;
                sqlx::query($on(&$crate::sql::events::PRUNED)).bind(topology).bind(most).execute(&mut *$tx).await?;
            }
        }
        written
    }};
}

/// Events with the numbers after `last`.
pub(super) fn numbered(last: i64, events: &[NewEvent]) -> Vec<Event> {
    let event = |(seq, event): (i64, &NewEvent)| Event {
        seq,
        at_ms: event.at_ms,
        topology: event.topology.clone(),
        node: event.node.clone(),
        kind: event.kind.to_owned(),
        text: clean(&event.text).into_owned(),
    };
    (last + 1..).zip(events).map(event).collect()
}

/// How many of them are of each topology.
pub(super) fn tally(events: &[NewEvent]) -> BTreeMap<&str, i64> {
    let mut tally = BTreeMap::new();
    for event in events {
        *tally.entry(event.topology.as_str()).or_default() += 1;
    }
    tally
}

/// See [`crate::Store::add_events`].
pub(super) async fn add(store: &SqlStore, events: &[NewEvent]) -> Result<Vec<Event>> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    writing!(store, "appending events", |tx, on| { add_events!(tx, on, events) })
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
