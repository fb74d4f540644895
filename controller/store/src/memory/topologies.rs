//! Topologies and components in memory, and the jobs that change them.

use super::{Tables, conflict, duplicate, missing};
use crate::input::clean;
use crate::{ComponentRecord, JobEnd, JobRecord, QuarantineRecord, Result, Snapshot, TopologyRecord};
use serde_json::Value;
use std::collections::BTreeSet;
use straas_schemas::job::JobStanding;
use straas_schemas::{ComponentId, JobId, TopologyId};

impl Tables {
    pub(super) fn create_topology(
        &mut self,
        topology: &TopologyRecord,
        components: &[ComponentRecord],
        job: &JobRecord,
    ) -> Result<()> {
        let taken = |other: &TopologyRecord| {
            other.id == topology.id || (&other.name, &other.zone) == (&topology.name, &topology.zone)
        };
        if self.topologies.values().any(taken) {
            return Err(duplicate("topology", format!("{}@{}", topology.name, topology.zone)));
        }
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for component in components {
            if component.topology != topology.id && !self.topologies.contains_key(&component.topology) {
                return Err(missing("topology", &component.topology));
            }
            let known = self.components.contains_key(&component.id) || !ids.insert(&component.id);
            if known || !names.insert((&component.topology, &component.name)) {
                return Err(duplicate("component", &component.name));
            }
        }
        self.check_job(job)?;
        components.iter().try_for_each(|component| self.check_links(component))?;
        self.topologies.insert(topology.id.clone(), topology.clone());
        for component in components {
            self.components.insert(component.id.clone(), component.clone());
        }
        self.begin(&topology.id, job);
        Ok(())
    }

    pub(super) fn delete_topology(
        &mut self,
        id: &TopologyId,
        job: &JobRecord,
        seen: Option<&[(ComponentId, u64)]>,
    ) -> Result<bool> {
        let topology = self.topologies.get(id).ok_or_else(|| missing("topology", id))?;
        let own = self.components.values().filter(|component| component.topology == *id);
        let now: BTreeSet<_> = own.map(|component| (component.id.clone(), component.revision)).collect();
        if seen.is_some_and(|seen| seen.iter().cloned().collect::<BTreeSet<_>>() != now) {
            return Err(conflict("topology", id));
        }
        if topology.deleting {
            return Ok(false);
        }
        self.check_job(job)?;
        self.check_unneeded(|link| link.topology == *id)?;
        if let Some(topology) = self.topologies.get_mut(id) {
            topology.deleting = true;
        }
        self.begin(id, job);
        Ok(true)
    }

    pub(super) fn forget_topology(&mut self, id: &TopologyId, now_ms: i64, documents: &[(JobId, Value)]) -> Result<()> {
        if !self.topologies.contains_key(id) {
            return Err(missing("topology", id));
        }
        self.no_host(|node| node.topology == *id)?;
        self.topologies.remove(id);
        self.writes.remove(id);
        self.cms.remove(id);
        self.components.retain(|_, component| component.topology != *id);
        self.remove_nodes(|node| node.topology == *id);
        for job in self.jobs.values_mut().filter(|job| job.topology == *id && job.ended.is_none()) {
            let document = documents.iter().rfind(|(of, _)| *of == job.id).map(|(_, document)| document.clone());
            job.ended = Some(JobEnd { standing: JobStanding::Succeeded, at_ms: now_ms, document });
        }
        Ok(())
    }

    pub(super) fn add_component(&mut self, component: &ComponentRecord, job: &JobRecord) -> Result<()> {
        let topology =
            self.topologies.get(&component.topology).ok_or_else(|| missing("topology", &component.topology))?;
        if topology.deleting {
            return Err(conflict("topology", &component.topology));
        }
        let taken = |other: &ComponentRecord| {
            other.id == component.id || (&other.topology, &other.name) == (&component.topology, &component.name)
        };
        if self.components.values().any(taken) {
            return Err(duplicate("component", &component.name));
        }
        self.check_job(job)?;
        self.check_links(component)?;
        self.components.insert(component.id.clone(), component.clone());
        self.begin(&component.topology, job);
        Ok(())
    }

    pub(super) fn forget_component(&mut self, id: &ComponentId) -> Result<()> {
        self.no_host(|node| node.component == *id)?;
        self.components.remove(id);
        self.remove_nodes(|node| node.component == *id);
        Ok(())
    }

    pub(super) fn quarantine(&mut self, records: &[QuarantineRecord]) -> Result<()> {
        for record in records {
            let record = QuarantineRecord {
                what: clean(&record.what).into_owned(),
                key: clean(&record.key).into_owned(),
                reason: clean(&record.reason).into_owned(),
                ..record.clone()
            };
            self.quarantine.entry((record.what.clone(), record.key.clone())).or_insert(record);
        }
        Ok(())
    }

    pub(super) fn snapshot(&self, id: &TopologyId) -> Option<Snapshot> {
        let topology = self.topologies.get(id).cloned()?;
        let mut components: Vec<_> =
            self.components.values().filter(|component| component.topology == *id).cloned().collect();
        components.sort_by_key(|component| component.position);
        let nodes =
            self.nodes.values().map(|node| &node.seen).filter(|node| node.record.topology == *id).cloned().collect();
        let jobs = self.jobs.values().filter(|job| job.topology == *id && job.ended.is_none()).cloned().collect();
        let (operations, neighbours) = (self.guest.operations(id), self.near(id));
        let writes = self.writes.get(id).copied().unwrap_or(0);
        Some(Snapshot { topology, writes, components, nodes, jobs, operations, neighbours })
    }

    pub(super) fn check_job(&self, job: &JobRecord) -> Result<()> {
        if self.jobs.contains_key(&job.id) { Err(duplicate("job", &job.id)) } else { Ok(()) }
    }

    pub(super) fn change(
        &mut self,
        component: &ComponentRecord,
        expected: u64,
        cancelled: Option<(&JobId, i64)>,
        job: Option<&JobRecord>,
    ) -> Result<()> {
        let topology =
            self.topologies.get(&component.topology).ok_or_else(|| missing("topology", &component.topology))?;
        if topology.deleting {
            return Err(conflict("component", &component.id));
        }
        let recorded = self.components.get(&component.id).filter(|recorded| recorded.topology == component.topology);
        if recorded.ok_or_else(|| missing("component", &component.id))?.revision != expected {
            return Err(conflict("component", &component.id));
        }
        if let Some((id, _)) = cancelled
            && self.jobs.get(id).is_none_or(|open| open.ended.is_some())
        {
            return Err(conflict("job", id));
        }
        if let Some(job) = job {
            self.check_job(job)?;
        }
        self.check_links(component)?;
        if component.spec.removed {
            self.check_unneeded(|link| link.component == component.id)?;
        }
        if let Some(recorded) = self.components.get_mut(&component.id) {
            recorded.spec = component.spec.clone();
            recorded.revision += 1;
        }
        if let Some((id, at_ms)) = cancelled
            && let Some(open) = self.jobs.get_mut(id)
        {
            open.ended = Some(JobEnd { standing: JobStanding::Cancelled, at_ms, document: None });
        }
        if let Some(job) = job {
            self.begin(&component.topology, job);
        }
        Ok(())
    }

    /// Ends the open jobs that `job` takes the place of and records it.
    fn begin(&mut self, topology: &TopologyId, job: &JobRecord) {
        for open in self.jobs.values_mut().filter(|open| open.topology == *topology && open.ended.is_none()) {
            let same = job.component.is_none() || job.component == open.component;
            if same && job.kind.takes_place_of(open.kind) {
                open.ended = Some(JobEnd { standing: JobStanding::Superseded, at_ms: job.created_ms, document: None });
            }
        }
        let job = JobRecord { detail: clean(&job.detail).into_owned(), ..job.clone() };
        self.jobs.insert(job.id.clone(), job);
    }
}
