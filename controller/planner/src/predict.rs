//! What a change would do, before it is done: for dry runs.
//!
//! The wished state is planned as if every node were let through at once, and what each node would
//! be assigned is set beside what it has. Nothing is guessed of what a script makes of its inputs: a
//! node whose `pre_config` runs again is named, `config` follows there if the rendering differs.
//!
//! Never here: whether the change is allowed, or in which waves it goes.

use crate::desired::Wanted;
use crate::gates::Gates;
use crate::observe::Known;
use crate::{Component, PlanInput, desired};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use straas_schemas::config::is_sealed;
use straas_schemas::configuration::SECRET;
use straas_schemas::view::DryRun;
use straas_schemas::{Assignment, Lifecycle, StageOrder};

/// What a new host goes through, in order.
const ON_A_NEW_HOST: [&str; 6] = ["spawn", "verify_spawn", "install", "pre_config", "config", "validate"];

/// What would happen if `wished` were wanted instead of `now`.
#[must_use]
pub fn predict(now: &PlanInput, wished: &PlanInput) -> DryRun {
    let mut wished = wished.clone();
    // through all waves: nobody waits for a canary
    wished.components.iter_mut().for_each(|c| c.rollout = None);
    let mut out = DryRun { changes: changes(now, &wished), steps: Vec::new(), nodes: BTreeMap::new() };
    let desired = desired::nodes(&wished);
    let known = Known::new(&wished, &desired);
    let gates = Gates::new(&known);
    let step = |out: &mut DryRun, component: &Component, stage: &str| {
        let id = format!("{}/{stage}", component.name);
        if !out.steps.contains(&id) {
            out.steps.push(id);
        }
    };
    for wanted in known.desired {
        let (node, component) = (&wanted.node, wanted.component);
        let mut why = Vec::new();
        let recorded = wanted.recorded;
        let new_host = match recorded {
            None => Some("is new"),
            Some(n) if n.host_number < wanted.wish.replacements => {
                Some("gets another host; its place, name and number stay")
            }
            Some(_) => None,
        };
        if let Some(text) = new_host {
            ON_A_NEW_HOST.iter().for_each(|stage| step(&mut out, component, stage));
            why.push(text.to_owned());
        }
        let before = recorded.and_then(|n| n.assignment.as_ref());
        if let (Some(before), Some(after), true) = (before, gates.assignments.get(&node.id), why.is_empty()) {
            for (stage, text) in differences(before, after) {
                step(&mut out, component, &stage);
                why.push(text);
            }
            // who joins or leaves one at a time is not in its context yet
            if why.is_empty() && other_peers(&known, wanted, before) {
                step(&mut out, component, "pre_config");
                why.push("pre_config runs again: peers".to_owned());
            }
        }
        if !why.is_empty() {
            out.nodes.insert(node.name.clone(), why);
        }
    }
    for node in &known.unwanted {
        if let Some(component) = now.components.iter().find(|c| c.id == node.component) {
            let leave = gates.operations.leave.get(&node.id).map(|need| need.operation.command.clone());
            if leave.is_some() {
                step(&mut out, component, "leave");
            }
            step(&mut out, component, "remove");
            let first = leave.map_or_else(String::new, |command| format!("{command} runs for it; then it "));
            out.nodes.insert(node.name.clone(), vec![format!("{first}is removed with its host")]);
        }
    }
    out
}

/// Whether in the end a node knows other peers by name than its context does.
fn other_peers(known: &Known<'_>, wanted: &Wanted<'_>, before: &Assignment) -> bool {
    let Some(meta) = desired::meta(wanted.component) else { return false };
    let roles = meta.peers.get(&wanted.node.role).map_or(&[][..], Vec::as_slice);
    let of_component = known.of_component(&wanted.component.id).iter();
    let after: BTreeSet<&str> =
        of_component.filter(|w| roles.contains(&w.node.role)).map(|w| w.node.name.as_str()).collect();
    let peers = before.context.get("peers").and_then(Value::as_array);
    let names = peers.into_iter().flatten().filter_map(|p| p.get("name").and_then(Value::as_str));
    // a role that does not know itself has itself among its peers all the same
    let before: BTreeSet<&str> = names.filter(|n| after.contains(n) || *n != wanted.node.name).collect();
    before != after
}

/// The stages that would run again, and why.
fn differences(before: &Assignment, after: &Assignment) -> Vec<(String, String)> {
    let mut out = Vec::new();
    if before.lifecycle != after.lifecycle {
        out.push(match after.lifecycle {
            Lifecycle::Stopped => ("halt".to_owned(), "its services are stopped".to_owned()),
            Lifecycle::Running => ("config".to_owned(), "its services are started".to_owned()),
        });
    }
    if before.restarts != after.restarts {
        out.push(("config".to_owned(), "its services are restarted".to_owned()));
    }
    let last = |order: &StageOrder| before.order(order.stage).map(|o| &o.inputs);
    for order in after.stages.iter().filter(|order| last(order) != Some(&order.inputs)) {
        if order.stage == straas_schemas::Stage::Config && before.restarts != after.restarts {
            continue;
        }
        let because = context_keys(&before.context, &after.context);
        let because = if order.stage == straas_schemas::Stage::PreConfig && !because.is_empty() {
            because.join(", ")
        } else if before.version != after.version {
            format!("version {} → {}", before.version, after.version)
        } else {
            "its script differs".to_owned()
        };
        out.push((order.stage.to_string(), format!("{} runs again: {because}", order.stage)));
    }
    out
}

/// What of the context differs, by key.
fn context_keys(before: &Value, after: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for part in ["peers", "dependencies", "node"] {
        if before.get(part) != after.get(part) {
            out.push(part.to_owned());
        }
    }
    out.extend(values(before.get("config"), after.get("config")));
    out
}

/// `section.key: old → new` of two configurations.
fn values(before: Option<&Value>, after: Option<&Value>) -> Vec<String> {
    let none = serde_json::Map::new();
    let map = |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_else(|| none.clone());
    let (before, after) = (map(before), map(after));
    let sections: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut out = Vec::new();
    for section in sections {
        let (old, new) = (map(before.get(section)), map(after.get(section)));
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys.into_iter().filter(|key| old.get(*key) != new.get(*key)) {
            let shown = |value: &Value| match value.as_str() {
                Some(text) if is_sealed(text) => SECRET.to_owned(),
                _ => value.to_string(),
            };
            let text = |value: Option<&Value>| value.map_or_else(|| "none".to_owned(), shown);
            out.push(format!("{section}.{key}: {} → {}", text(old.get(key)), text(new.get(key))));
        }
    }
    out
}

/// What is wanted otherwise.
fn changes(now: &PlanInput, wished: &PlanInput) -> Vec<String> {
    let mut out = Vec::new();
    for after in &wished.components {
        let Some(before) = now.components.iter().find(|c| c.id == after.id) else {
            out.push(format!("component {} is new", after.name));
            continue;
        };
        let name = &after.name;
        let mut differs = |what: &str, old: &str, new: &str| {
            if old != new {
                out.push(format!("{name} {what}: {old} → {new}"));
            }
        };
        differs("version", &before.target.version, &after.target.version);
        let needs = |c: &Component| {
            let names = c.depends_on.iter().chain(c.foreign.iter().map(|f| &f.name));
            names.cloned().collect::<Vec<_>>().join(" ")
        };
        differs("depends on", &needs(before), &needs(after));
        differs("scripts", short(&before.target.scripts), short(&after.target.scripts));
        for group in &after.groups {
            if let Some(old) = before.groups.iter().find(|g| g.name == group.name) {
                differs(&format!("{} size", group.name), &old.size.to_string(), &group.size.to_string());
            }
        }
        if let (Ok(old), Ok(new)) = (&before.target.known, &after.target.known) {
            let json = |config| serde_json::to_value(config).unwrap_or_default();
            out.extend(values(Some(&json(&old.config)), Some(&json(&new.config))));
        }
        if after.removed && !before.removed {
            out.push(format!("component {name} is removed"));
        }
    }
    out
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}
