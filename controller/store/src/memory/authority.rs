//! Authorities and certificates in memory.

use super::{MemoryStore, Tables, conflict};
use crate::input::bounded;
use crate::{AgentCertificate, AgentId, AuthorityRecord, AuthorityStore, CertificateShown, Result, SHOWN_BATCH_MAX};
use async_trait::async_trait;
use std::collections::BTreeMap;
use straas_schemas::Digest;

/// The record, and what is known of each agent's certificates, with the incarnation that it is of.
#[derive(Debug, Default)]
pub(super) struct Authority {
    record: Option<AuthorityRecord>,
    notes: BTreeMap<AgentId, (u64, Note)>,
}

#[derive(Clone, Debug, Default)]
struct Note {
    issued_key: Option<Digest>,
    shown_key: Option<Digest>,
    shown_by: Option<Digest>,
    trusts: Option<Vec<Digest>>,
}

impl Tables {
    /// Name, newest incarnation and when it was heard of, of an agent that enrolled or joined.
    fn agent(&self, agent: &AgentId) -> Option<(String, u64, Option<i64>)> {
        match agent {
            AgentId::Node(id) => {
                let seen = &self.nodes.get(id)?.seen;
                seen.enrolled_ms?;
                let heard = seen.heartbeat.as_ref().map(|(_, at_ms)| *at_ms);
                Some((seen.record.name.clone(), seen.incarnation, heard))
            }
            AgentId::Host(id) => {
                let host = self.pool.host_of(id).filter(|host| host.incarnation > 0)?;
                Some((host.name.clone(), host.incarnation, host.seen_ms))
            }
        }
    }

    /// What is known of the certificates of an agent's newest incarnation.
    fn note(&mut self, agent: &AgentId, incarnation: u64) -> Option<&mut Note> {
        let (_, newest, _) = self.agent(agent).filter(|(_, newest, _)| *newest == incarnation)?;
        let note = self.authority.notes.entry(agent.clone()).or_default();
        if note.0 != newest {
            *note = (newest, Note::default());
        }
        Some(&mut note.1)
    }

    fn certificate(&self, agent: AgentId) -> Option<AgentCertificate> {
        let (name, incarnation, heard_ms) = self.agent(&agent)?;
        let note = self.authority.notes.get(&agent).filter(|(of, _)| *of == incarnation);
        let Note { issued_key, shown_key, shown_by, trusts } = note.map(|(_, note)| note.clone()).unwrap_or_default();
        Some(AgentCertificate { agent, name, incarnation, heard_ms, issued_key, shown_key, shown_by, trusts })
    }
}

#[async_trait]
impl AuthorityStore for MemoryStore {
    async fn authorities(&self) -> Result<Option<AuthorityRecord>> {
        Ok(self.tables().authority.record.clone())
    }

    async fn change_authorities(&self, record: &AuthorityRecord) -> Result<()> {
        self.write(|tables| {
            let known = tables.authority.record.as_ref().map_or(0, |record| record.revision);
            if known != record.revision {
                return Err(conflict("authority", record.revision));
            }
            tables.authority.record = Some(AuthorityRecord { revision: known + 1, ..record.clone() });
            Ok(())
        })
    }

    async fn note_issued(&self, agent: &AgentId, incarnation: u64, key: &Digest, issuer: &Digest) -> Result<()> {
        self.write(|tables| {
            if tables.authority.record.as_ref().is_some_and(|record| record.issuer != *issuer) {
                return Err(conflict("authority", issuer));
            }
            if let Some(note) = tables.note(agent, incarnation) {
                note.issued_key = Some(key.clone());
            }
            Ok(())
        })
    }

    async fn note_shown(&self, shown: &[CertificateShown]) -> Result<()> {
        bounded(shown.len(), SHOWN_BATCH_MAX, "what agents showed")?;
        self.write(|tables| {
            for CertificateShown { agent, incarnation, key, by, trusts } in shown {
                if let Some(note) = tables.note(agent, *incarnation) {
                    note.shown_key = Some(key.clone());
                    note.shown_by = Some(by.clone());
                    note.trusts.clone_from(trusts);
                }
            }
            Ok(())
        })
    }

    async fn agent_certificates(&self) -> Result<Vec<AgentCertificate>> {
        let tables = self.tables();
        let nodes = tables.nodes.keys().cloned().map(AgentId::Node);
        let hosts = tables.pool.host_ids().cloned().map(AgentId::Host);
        Ok(nodes.chain(hosts).filter_map(|agent| tables.certificate(agent)).collect())
    }

    async fn agent_certificate(&self, agent: &AgentId) -> Result<Option<AgentCertificate>> {
        Ok(self.tables().certificate(agent.clone()))
    }
}
