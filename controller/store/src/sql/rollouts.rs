//! Rollouts over the fleet in SQL.
//!
//! That a component is in one open rollout of a kind only is held by a unique index; who is in the way is looked up
//! before, and once more if another writer was faster.

use super::rows::{count, from_text, ids, int, key, to_text};
use super::{Fail, SqlStore};
use crate::{
    PAGE_MAX, PageRequest, Result, RolloutFilter, RolloutMember, RolloutRecord, RolloutStore, RolloutSummary,
    StoreError,
};
use async_trait::async_trait;
use sqlx::{FromRow, query, query_as, query_scalar};
use straas_schemas::ComponentId;
use straas_schemas::rollout::FleetRolloutKind;

macro_rules! listed {
    ($which:literal) => {
        concat!(
            "select id, revision, document,
                (select count(*) from rollout_member m where m.rollout = rollout.id) as total,
                (select count(*) from rollout_member m where m.rollout = rollout.id and m.phase = 'verified') as verified
            from rollout where ",
            $which,
            " id < $1 and (cast($3 as text) is null or tenant = $3) order by id desc limit $2"
        )
    };
}

statements! {
    ADD = "insert into rollout (id, kind, tenant, ended_ms, revision, document) values ($1, $2, $3, $4, 1, $5)";
    ADD_MEMBER = "insert into rollout_member (rollout, position, component, kind, phase, is_open, document)
        values ($1, $2, $3, $4, $5, $6, $7)";
    GET = "select id, revision, document, cast(0 as bigint) as total, cast(0 as bigint) as verified from rollout where id = $1";
    REVISION = "select revision from rollout where id = $1";
    MEMBERS = "select document from rollout_member where rollout = $1 order by position";
    LIST = listed!("");
    LIST_OPEN = listed!("ended_ms is null and");
    LIST_OF_TENANT = listed!("tenant = $3 and");
    LIST_OF_TENANT_OPEN = listed!("tenant = $3 and ended_ms is null and");
    CHANGE = "update rollout set ended_ms = $3, revision = revision + 1, document = $4 where id = $1 and revision = $2";
    CHANGE_MEMBER = "update rollout_member set phase = $3, document = $4 where rollout = $1 and position = $2";
    CLOSE = "update rollout_member set is_open = 0 where rollout = $1";
    @ IN_THE_WAY = sqlite "select rollout from rollout_member
            where component in (select value from json_each($1)) and kind = $2 and is_open = 1 limit 1",
        postgres "select rollout from rollout_member
            where component = any(array(select json_array_elements_text($1::json))) and kind = $2 and is_open = 1 limit 1";
}

/// Above every id in bytewise order: where a list of the newest begins.
const ABOVE_ALL: &str = "\u{10ffff}";

/// Said of a rollout that is refused because of another one; the name is the other one's id.
const OTHER: &str = "open rollout";

#[derive(FromRow)]
struct Row {
    id: String,
    revision: i64,
    document: String,
    total: i64,
    verified: i64,
}

impl TryFrom<Row> for RolloutSummary {
    type Error = Fail;
    fn try_from(row: Row) -> Result<Self, Fail> {
        let mut rollout: RolloutRecord = from_text(|| format!("rollout {}", row.id), &row.document)?;
        rollout.revision = count(row.revision)?;
        Ok(Self { rollout, total: count(row.total)?, verified: count(row.verified)? })
    }
}

async fn add(store: &SqlStore, rollout: &RolloutRecord) -> Result<()> {
    let kind = rollout.kind.name();
    writing!(store, "recording a rollout", |tx, on| {
        let components = ids(rollout.members.iter().map(|member| member.component.as_str()))?;
        let other: Option<String> =
            query_scalar(on(&IN_THE_WAY)).bind(&components).bind(kind).fetch_optional(&mut *tx).await?;
        if let Some(name) = other {
            return Err(StoreError::Duplicate { what: OTHER, name }.into());
        }
        query(on(&ADD))
            .bind(key(&rollout.id))
            .bind(kind)
            .bind(key(&rollout.tenant))
            .bind(rollout.ended_ms)
            .bind(to_text("a rollout", rollout)?)
            .execute(&mut *tx)
            .await
            .map_err(|cause| Fail::or_duplicate(cause, "rollout", &rollout.id))?;
        for (position, member) in (0..).zip(&rollout.members) {
            query(on(&ADD_MEMBER))
                .bind(key(&rollout.id))
                .bind(position)
                .bind(key(member.component.as_str()))
                .bind(kind)
                .bind(member.phase.name())
                .bind(i64::from(rollout.ended_ms.is_none()))
                .bind(to_text("a member of a rollout", member)?)
                .execute(&mut *tx)
                .await
                .map_err(|cause| Fail::or_duplicate(cause, OTHER, member.component.as_str()))?;
        }
    })
}

#[async_trait]
impl RolloutStore for SqlStore {
    async fn add_rollout(&self, rollout: &RolloutRecord) -> Result<()> {
        match add(self, rollout).await {
            // another writer was faster than the look for others: now it is seen who
            Err(StoreError::Duplicate { what: OTHER, .. }) => add(self, rollout).await,
            done => done,
        }
    }

    async fn open_rollout_of(&self, kind: FleetRolloutKind, components: &[ComponentId]) -> Result<Option<String>> {
        let looking = "looking for an open rollout";
        let ids = ids(components.iter().map(ComponentId::as_str)).map_err(|fail| fail.into_error(looking))?;
        asking!(self, "looking for an open rollout", |pool, on| query_scalar(on(&IN_THE_WAY))
            .bind(&ids)
            .bind(kind.name())
            .fetch_optional(pool))
    }

    async fn rollout(&self, id: &str) -> Result<Option<RolloutRecord>> {
        reading!(self, "reading a rollout", |tx, on| {
            let row: Option<Row> = query_as(on(&GET)).bind(key(id)).fetch_optional(&mut *tx).await?;
            match row.map(RolloutSummary::try_from).transpose()? {
                None => None,
                Some(RolloutSummary { mut rollout, .. }) => {
                    let members: Vec<String> = query_scalar(on(&MEMBERS)).bind(key(id)).fetch_all(&mut *tx).await?;
                    let read = |text: &String| from_text(|| format!("a member of rollout {id}"), text);
                    rollout.members = members.iter().map(read).collect::<Result<Vec<RolloutMember>, Fail>>()?;
                    Some(rollout)
                }
            }
        })
    }

    async fn rollout_revision(&self, id: &str) -> Result<Option<u64>> {
        let revision: Option<i64> = asking!(self, "reading a rollout", |pool, on| query_scalar(on(&REVISION))
            .bind(key(id))
            .fetch_optional(pool))?;
        Ok(revision.and_then(|revision| u64::try_from(revision).ok()))
    }

    async fn rollouts(&self, filter: &RolloutFilter, page: &PageRequest) -> Result<Vec<RolloutSummary>> {
        let statement = match (&filter.tenant, filter.open_only) {
            (None, false) => &LIST,
            (None, true) => &LIST_OPEN,
            (Some(_), false) => &LIST_OF_TENANT,
            (Some(_), true) => &LIST_OF_TENANT_OPEN,
        };
        reading!(self, "listing rollouts", |tx, on| {
            let found: Vec<Row> = query_as(on(statement))
                .bind(key(page.after.as_deref().unwrap_or(ABOVE_ALL)))
                .bind(i64::from(page.limit.min(PAGE_MAX)))
                .bind(filter.tenant.as_deref().map(key))
                .fetch_all(&mut *tx)
                .await?;
            super::rows::all(found)?
        })
    }

    async fn change_rollout(&self, rollout: &RolloutRecord, changed: &[usize], expected: u64) -> Result<()> {
        writing!(self, "changing a rollout", |tx, on| {
            let done = query(on(&CHANGE))
                .bind(key(&rollout.id))
                .bind(int(expected)?)
                .bind(rollout.ended_ms)
                .bind(to_text("a rollout", rollout)?)
                .execute(&mut *tx)
                .await?
                .rows_affected();
            if done == 0 {
                let there: Option<i64> =
                    query_scalar(on(&REVISION)).bind(key(&rollout.id)).fetch_optional(&mut *tx).await?;
                let (what, id) = ("rollout", rollout.id.clone());
                let refused = match there {
                    Some(_) => StoreError::Conflict { what, id },
                    None => StoreError::NotFound { what, id },
                };
                return Err(refused.into());
            }
            for (position, member) in changed.iter().filter_map(|at| Some((*at, rollout.members.get(*at)?))) {
                query(on(&CHANGE_MEMBER))
                    .bind(key(&rollout.id))
                    .bind(i64::try_from(position).unwrap_or(i64::MAX))
                    .bind(member.phase.name())
                    .bind(to_text("a member of a rollout", member)?)
                    .execute(&mut *tx)
                    .await?;
            }
            if rollout.ended_ms.is_some() {
                query(on(&CLOSE)).bind(key(&rollout.id)).execute(&mut *tx).await?;
            }
        })
    }
}
