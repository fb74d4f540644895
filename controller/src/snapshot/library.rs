//! Components as recorded, with what the repos say of what their nodes are made of.

use super::Given;
use crate::books::Books;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use straas_planner::{Component, Foreign, Group, Knowledge, NodeWish, Reverted, Rollout, Target};
use straas_schemas::config::Effective;
use straas_schemas::metadata::{Catalog, ComponentMeta};
use straas_schemas::storage::DeliveredFile;
use straas_schemas::{FileRef, Lifecycle, NodeId};
use straas_store::{ComponentRecord, ComponentSpec, GroupSpec, NodeSpec, Want};

/// What the repos say, asked once for each thing that is made of the same.
pub(super) struct Library {
    pub(super) books: Arc<dyn Books>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) given: Given,
    pub(super) known: BTreeMap<Edition, Result<Knowledge, String>>,
    /// Only the metadata is asked for.
    pub(super) brief: bool,
}

/// Everything that decides what a node of a component is made of.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edition {
    kind: String,
    version: String,
    config: String,
    scripts: String,
    roles: BTreeSet<String>,
}

impl Library {
    pub(super) fn component(&mut self, record: ComponentRecord) -> Component {
        let ComponentSpec { kind, depends_on, foreign, want, rollout, removed } = record.spec;
        let group = |g: &GroupSpec| Group {
            name: g.name.clone(),
            role: g.role.clone(),
            size: g.size,
            without: g.without.clone(),
            flavor: g.flavor.clone(),
            fault_domains_min: g.fault_domains_min,
            anti_affinity_group: g.anti_affinity_group.clone(),
            cname: g.cname,
        };
        let groups = want.groups.iter().map(group).collect();
        let rollout = rollout.map(|rollout| Rollout {
            job: rollout.job,
            before: self.target(&kind, &rollout.before, None, None),
            canary: rollout.canary,
            max_failures: rollout.max_failures,
            paused: rollout.paused,
            reverted: rollout.reverted.map(|r| Reverted { reason: r.reason, by_user: r.by_user }),
        });
        let given = self.given.get(&record.id).cloned();
        let given = given.as_deref();
        let wish = |(id, node): (&NodeId, &NodeSpec)| {
            let wish = NodeWish {
                lifecycle: if node.stopped { Lifecycle::Stopped } else { Lifecycle::Running },
                restarts: node.restarts,
                replacements: node.replacements,
                target: node.scripts.as_deref().map(|scripts| self.target(&kind, &want, Some(scripts), given)),
                files: node.files.iter().map(file).collect(),
            };
            (id.clone(), wish)
        };
        let wishes = want.nodes.iter().map(wish).collect();
        Component {
            id: record.id,
            name: record.name,
            target: self.target(&kind, &want, None, given),
            kind,
            depends_on,
            foreign: foreign.into_iter().map(|f| Foreign { component: f.component, name: f.name }).collect(),
            groups,
            rollout,
            wishes,
            files: want.files.iter().map(file).collect(),
            agent: want.agent.clone(),
            removed,
        }
    }

    /// A component of another topology: of what the repos know its metadata is enough.
    pub(super) fn neighbour(&mut self, record: ComponentRecord) -> Component {
        self.brief = true;
        let component = self.component(record);
        self.brief = false;
        component
    }

    /// What `want` makes of nodes; `scripts` are those of one node, if not the component's; `given`
    /// is said in place of what the config repo says.
    fn target(&mut self, kind: &str, want: &Want, scripts: Option<&str>, given: Option<&Effective>) -> Target {
        let edition = Edition {
            kind: kind.to_owned(),
            version: want.version.clone(),
            config: want.config.clone(),
            scripts: scripts.unwrap_or(&want.scripts).to_owned(),
            roles: want.groups.iter().map(|group| group.role.clone()).collect(),
        };
        if self.brief {
            let meta = self.meta(kind).cloned();
            let known = meta.map(|meta| Knowledge { meta, config: Effective::default(), scripts: BTreeMap::new() });
            return Target { version: edition.version, config: edition.config, scripts: edition.scripts, known };
        }
        let known = match self.known.get(&edition).filter(|_| given.is_none()) {
            Some(known) => known.clone(),
            None => self.read(&edition, given),
        };
        if given.is_none() {
            self.known.insert(edition.clone(), known.clone());
        }
        Target { version: edition.version, config: edition.config, scripts: edition.scripts, known }
    }

    fn meta(&self, kind: &str) -> Result<&ComponentMeta, String> {
        self.catalog.get(kind).ok_or_else(|| format!("the catalog has no component type {kind}"))
    }

    fn read(&self, edition: &Edition, given: Option<&Effective>) -> Result<Knowledge, String> {
        let Edition { kind, version, config, scripts, roles } = edition;
        let meta = self.meta(kind)?;
        let config = match given {
            Some(given) => given.clone(),
            None => (*self.books.config(config, kind, version)?).clone(),
        };
        if let Some(locked) = self.books.locked(&config) {
            return Err(format!(
                "the secret {locked} was sealed with another key than this controller's (secrets.key in its data \
                 directory): set it anew, or bring that key back"
            ));
        }
        let mut by_role = BTreeMap::new();
        for role in roles {
            let role = &meta.role(role).ok_or_else(|| format!("{kind} has no role {role}"))?.script_role;
            by_role.insert(role.clone(), self.books.stages(scripts, kind, role, version)?);
        }
        Ok(Knowledge { meta: meta.clone(), config, scripts: by_role })
    }
}

fn file(file: &DeliveredFile) -> FileRef {
    FileRef { path: file.target_path.clone(), sha256: file.sha256.clone(), size: file.size, mode: file.mode }
}
