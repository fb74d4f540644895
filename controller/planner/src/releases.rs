//! What a component had on those that it depended on goes when it is removed.
//!
//! The metadata says what is to be done there (`dependencies[].remove`). It waits until all hosts of
//! the component are gone, for until then these may write there, and it needs some node of the
//! dependency that works. A component that nobody ever could be configured for has left nothing.
//!
//! A dependency that cannot be reached does not keep what is removed for ever: after [`TRIES`] tries or
//! [`WAIT_MS_MAX`] it is given up, and the job says what was left behind. Where the dependency goes as
//! well, nothing is done: it takes everything along.
//!
//! Never here: what was given up is not tried again later, since nothing of the component is known then.

use crate::desired;
use crate::observe::{Dependency, Known, opened};
use crate::operations::{Need, Operations, Progress, executor, fill};
use crate::{Component, OperationRun};
use std::collections::BTreeMap;
use straas_schemas::ComponentId;
use straas_schemas::command::CommandStanding;
use straas_schemas::metadata::Operation;

/// Tries of a release: with the pauses between them more than a minute.
const TRIES: u32 = 5;
/// How long a removal waits for releases at most, from the end of its last host, in ms: a dependency
/// that is restarted is back by then.
const WAIT_MS_MAX: i64 = 300_000;

impl<'a> Operations<'a> {
    /// Finds what is to be released of a component that is removed.
    pub(crate) fn releases(
        &mut self,
        known: &Known<'a>,
        component: &'a Component,
        newest: &BTreeMap<&str, &'a OperationRun>,
    ) {
        let prepared = format!("prepare {}/", component.id);
        let prepared = newest.range(prepared.as_str()..).next().is_some_and(|(key, _)| key.starts_with(&prepared));
        if !prepared && !known.leavers(&component.id).any(opened) {
            return;
        }
        let Some(meta) = desired::meta(component) else { return };
        for dependency in known.dependencies(component).filter(|d| stays(known, d)) {
            let of = meta.dependencies.iter().find(|d| d.kind == dependency.component.kind);
            let Some(operation) = of.and_then(|d| d.remove.as_ref()) else { continue };
            let need = self.release(known, component, &dependency, operation, newest);
            self.release.entry(&component.id).or_default().push(need);
        }
    }

    fn release(
        &mut self,
        known: &Known<'a>,
        component: &'a Component,
        on: &Dependency<'a>,
        operation: &'a Operation,
        newest: &BTreeMap<&str, &'a OperationRun>,
    ) -> Need<'a> {
        let mut need = Need {
            key: format!("release {}/{}", component.id, on.component.id),
            operation,
            progress: Progress::Done,
            attempt: 0,
            due_ms: None,
            executor: executor(known, &on.component.id, None),
            args: fill(operation, known, component, None),
        };
        if !known.rid_of_leavers(&component.id) {
            need.progress = Progress::Waits(format!("the hosts of {} go first", component.name));
            return need;
        }
        let last = newest.get(need.key.as_str());
        let gone_ms = known.leavers(&component.id).map(|n| n.host_changed_ms).max().unwrap_or(i64::MIN);
        let over_ms = gone_ms.saturating_add(WAIT_MS_MAX);
        let failed = |run: &&&OperationRun| run.standing.is_final() && run.attempt >= TRIES;
        let over = known.input.now_ms >= over_ms || last.filter(failed).is_some();
        if over && last.is_none_or(|run| run.standing != CommandStanding::Succeeded) {
            let because = match last {
                Some(run) if !run.reason.is_empty() => run.reason.as_str(),
                Some(run) => run.standing.name(),
                None => "no node worked that could do it",
            };
            need.attempt = last.map_or(0, |run| run.attempt);
            need.progress = Progress::GivenUp(format!("{} on component {}: {because}", operation.command, on.name));
            return need;
        }
        self.judge(known, &mut need, newest, None);
        if need.progress != Progress::Done {
            self.due(over_ms);
        }
        need
    }

    /// Whether nothing is to be released of a component any more.
    pub fn released(&self, component: &ComponentId) -> bool {
        let over = |need: &Need<'_>| matches!(need.progress, Progress::Done | Progress::GivenUp(_));
        self.release.get(component).is_none_or(|needs| needs.iter().all(over))
    }

    /// The same of all components.
    pub fn released_all(&self) -> bool {
        self.release.keys().all(|component| self.released(component))
    }

    /// What was given up of a component, in words.
    pub fn left_behind(&self, component: &ComponentId) -> impl Iterator<Item = &str> {
        let given_up = |need: &'_ Need<'_>| matches!(need.progress, Progress::GivenUp(_));
        let needs = self.release.get(component).into_iter().flatten().filter(move |need| given_up(need));
        needs.filter_map(|need| if let Progress::GivenUp(text) = &need.progress { Some(text.as_str()) } else { None })
    }
}

/// Whether a dependency is there after this, to have anything left on it.
fn stays(known: &Known<'_>, dependency: &Dependency<'_>) -> bool {
    let home = dependency.home.unwrap_or(&known.input.topology);
    !home.deleting && !dependency.component.removed
}
