//! Authorities and certificates in SQL.

use super::rows::{count, from_text, int, key, to_text};
use super::{Fail, SqlStore};
use crate::authority::joined;
use crate::input::bounded;
use crate::{
    AgentCertificate, AgentId, AuthorityRecord, AuthorityStore, CertificateShown, PoolHost, Result, SHOWN_BATCH_MAX,
    StoreError,
};
use async_trait::async_trait;
use sqlx::{FromRow, query, query_as, query_scalar};
use straas_schemas::Digest;

/// A column keeps what it has, as long as that is of the same incarnation.
macro_rules! stays {
    ($table:literal, $column:literal) => {
        concat!(
            $column,
            " = case when ",
            $table,
            ".incarnation = excluded.incarnation then ",
            $table,
            ".",
            $column,
            " end, "
        )
    };
}
/// Notes the key of a certificate that is given; what was shown by an earlier incarnation is forgotten.
macro_rules! issued {
    ($table:literal, $of:literal, $from:literal) => {
        concat!(
            "insert into ",
            $table,
            " (",
            $of,
            ", incarnation, issued_key) select id, $2, $3 from ",
            $from,
            " where id = $1 and incarnation = $2 on conflict (",
            $of,
            ") do update set ",
            stays!($table, "shown_key"),
            stays!($table, "shown_by"),
            stays!($table, "trusts"),
            "issued_key = excluded.issued_key, incarnation = excluded.incarnation"
        )
    };
}
/// Notes what was shown and said; the key that an earlier incarnation was given is forgotten.
macro_rules! shown {
    ($table:literal, $of:literal, $from:literal) => {
        concat!(
            "insert into ",
            $table,
            " (",
            $of,
            ", incarnation, shown_key, shown_by, trusts) select id, $2, $3, $4, $5 from ",
            $from,
            " where id = $1 and incarnation = $2 on conflict (",
            $of,
            ") do update set ",
            stays!($table, "issued_key"),
            "shown_key = excluded.shown_key, shown_by = excluded.shown_by, trusts = excluded.trusts,
                incarnation = excluded.incarnation"
        )
    };
}
macro_rules! nodes {
    ($rest:literal) => {
        concat!(
            "select n.id, n.name as about, n.incarnation, h.received_ms as heard_ms, c.issued_key, c.shown_key, c.shown_by, c.trusts
                from node n left join heartbeat h on h.node = n.id and h.incarnation = n.incarnation
                left join node_certificate c on c.node = n.id and c.incarnation = n.incarnation
                where n.enrolled_ms is not null",
            $rest
        )
    };
}
macro_rules! hosts {
    ($rest:literal) => {
        concat!(
            "select n.id, n.document as about, n.incarnation, n.seen_ms as heard_ms, c.issued_key, c.shown_key, c.shown_by, c.trusts
                from pool_host n left join host_certificate c on c.host = n.id and c.incarnation = n.incarnation
                where n.incarnation > 0",
            $rest
        )
    };
}

statements! {
    GET = "select revision, document from authority where name = 'fleet'";
    ADD = "insert into authority (name, issuer, revision, document) values ('fleet', $1, 1, $2) on conflict (name) do nothing";
    CHANGE = "update authority set issuer = $2, revision = revision + 1, document = $3 where name = 'fleet' and revision = $1";
    NODE_ISSUED = issued!("node_certificate", "node", "node");
    HOST_ISSUED = issued!("host_certificate", "host", "pool_host");
    NODE_SHOWN = shown!("node_certificate", "node", "node");
    HOST_SHOWN = shown!("host_certificate", "host", "pool_host");
    AGENTS_OF_NODES = nodes!(" order by n.id");
    AGENT_OF_NODE = nodes!(" and n.id = $1");
    AGENTS_OF_HOSTS = hosts!(" order by n.id");
    AGENT_OF_HOST = hosts!(" and n.id = $1");
    @ ISSUER = sqlite "select issuer from authority where name = 'fleet'",
        postgres "select issuer from authority where name = 'fleet' for share";
}

#[derive(FromRow)]
struct Row {
    id: String,
    about: String,
    incarnation: i64,
    heard_ms: Option<i64>,
    issued_key: Option<String>,
    shown_key: Option<String>,
    shown_by: Option<String>,
    trusts: Option<String>,
}

impl Row {
    fn of_node(self) -> Result<AgentCertificate, Fail> {
        let (agent, name) = (AgentId::Node(self.id.as_str().into()), self.about.clone());
        self.of(agent, name)
    }

    fn of_host(self) -> Result<AgentCertificate, Fail> {
        let host: PoolHost = from_text(|| format!("host {}", self.id), &self.about)?;
        let agent = AgentId::Host(self.id.as_str().into());
        self.of(agent, host.name)
    }

    fn of(self, agent: AgentId, name: String) -> Result<AgentCertificate, Fail> {
        let list = |text: String| text.split_whitespace().map(|one| Digest(one.to_owned())).collect();
        Ok(AgentCertificate {
            agent,
            name,
            incarnation: count(self.incarnation)?,
            heard_ms: self.heard_ms,
            issued_key: self.issued_key.map(Digest),
            shown_key: self.shown_key.map(Digest),
            shown_by: self.shown_by.map(Digest),
            trusts: self.trusts.map(list),
        })
    }
}

#[async_trait]
impl AuthorityStore for SqlStore {
    async fn authorities(&self) -> Result<Option<AuthorityRecord>> {
        let row: Option<(i64, String)> =
            asking!(self, "reading the authorities", |pool, on| query_as(on(&GET)).fetch_optional(pool))?;
        let record = |(revision, document): (i64, String)| {
            let record: AuthorityRecord = from_text(|| "the authorities".to_owned(), &document)?;
            Ok::<_, Fail>(AuthorityRecord { revision: count(revision)?, ..record })
        };
        row.map(record).transpose().map_err(|fail| fail.into_error("reading the authorities"))
    }

    async fn change_authorities(&self, record: &AuthorityRecord) -> Result<()> {
        writing!(self, "recording the authorities", |tx, on| {
            let document = to_text("the authorities", record)?;
            let written = if record.revision == 0 {
                query(on(&ADD)).bind(key(record.issuer.as_str())).bind(document).execute(&mut *tx).await?
            } else {
                let change = query(on(&CHANGE)).bind(int(record.revision)?).bind(key(record.issuer.as_str()));
                change.bind(document).execute(&mut *tx).await?
            };
            if written.rows_affected() == 0 {
                return Err(StoreError::Conflict { what: "authority", id: record.revision.to_string() }.into());
            }
        })
    }

    async fn note_issued(&self, agent: &AgentId, incarnation: u64, public: &Digest, issuer: &Digest) -> Result<()> {
        writing!(self, "recording a certificate", |tx, on| {
            let issues: Option<String> = query_scalar(on(&ISSUER)).fetch_optional(&mut *tx).await?;
            if issues.is_some_and(|issues| issues != issuer.as_str()) {
                return Err(StoreError::Conflict { what: "authority", id: issuer.to_string() }.into());
            }
            let statement = match agent {
                AgentId::Node(_) => &NODE_ISSUED,
                AgentId::Host(_) => &HOST_ISSUED,
            };
            query(on(statement))
                .bind(key(agent.as_str()))
                .bind(int(incarnation)?)
                .bind(key(public.as_str()))
                .execute(&mut *tx)
                .await?;
        })
    }

    async fn note_shown(&self, shown: &[CertificateShown]) -> Result<()> {
        bounded(shown.len(), SHOWN_BATCH_MAX, "what agents showed")?;
        let mut shown: Vec<_> = shown.iter().collect();
        // One order for all writers: no deadlocks.
        shown.sort_by(|a, b| a.agent.cmp(&b.agent));
        writing!(self, "recording what agents showed", |tx, on| {
            for CertificateShown { agent, incarnation, key: public, by, trusts } in &shown {
                let statement = match agent {
                    AgentId::Node(_) => &NODE_SHOWN,
                    AgentId::Host(_) => &HOST_SHOWN,
                };
                query(on(statement))
                    .bind(key(agent.as_str()))
                    .bind(int(*incarnation)?)
                    .bind(key(public.as_str()))
                    .bind(key(by.as_str()))
                    .bind(trusts.as_deref().map(joined))
                    .execute(&mut *tx)
                    .await?;
            }
        })
    }

    async fn agent_certificates(&self) -> Result<Vec<AgentCertificate>> {
        reading!(self, "reading certificates", |tx, on| {
            let nodes: Vec<Row> = query_as(on(&AGENTS_OF_NODES)).fetch_all(&mut *tx).await?;
            let hosts: Vec<Row> = query_as(on(&AGENTS_OF_HOSTS)).fetch_all(&mut *tx).await?;
            let nodes = nodes.into_iter().map(Row::of_node);
            nodes.chain(hosts.into_iter().map(Row::of_host)).collect::<Result<Vec<_>, Fail>>()?
        })
    }

    async fn agent_certificate(&self, agent: &AgentId) -> Result<Option<AgentCertificate>> {
        let (statement, of): (_, fn(Row) -> Result<AgentCertificate, Fail>) = match agent {
            AgentId::Node(_) => (&AGENT_OF_NODE, Row::of_node),
            AgentId::Host(_) => (&AGENT_OF_HOST, Row::of_host),
        };
        let row: Option<Row> = asking!(self, "reading a certificate", |pool, on| query_as(on(statement))
            .bind(key(agent.as_str()))
            .fetch_optional(pool))?;
        row.map(of).transpose().map_err(|fail| fail.into_error("reading a certificate"))
    }
}
