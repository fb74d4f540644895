//! What a topology request must mean, beside its shape: names, sizes, types, dependencies.
//!
//! Reads the raw JSON leniently, so that a wrong type in one place does not hide a cycle in another.

use super::{AFFINITY_NAME_MAX, COMPONENTS_MAX, SUBMODULES_MAX};
use crate::Fault;
use crate::ids::{COMPONENT_NAME_MAX, TOPOLOGY_NAME_MAX, ZONE_NAME_MAX, name_fault};
use crate::metadata::{Catalog, ComponentMeta, Sizes};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Most characters of a wrong name that are repeated to its sender.
const SHOWN_MAX: usize = 40;

/// Components of other topologies, by what a request calls them: their type, or why they cannot be
/// depended on.
pub type Elsewhere = BTreeMap<String, Result<String, String>>;

/// What a request calls components of other topologies: every name with a `/` in a `depends_on`.
#[must_use]
pub fn elsewhere(body: &Value) -> BTreeSet<&str> {
    let all = array(body, "components").iter().take(COMPONENTS_MAX).flat_map(depends_on);
    all.map(|(name, _)| name).filter(|name| name.contains('/')).collect()
}

/// Every fault of meaning in a topology request; `found` says what its names of components of other
/// topologies ([`elsewhere`]) mean. Values of a wrong type are left to the schema.
#[must_use]
pub fn faults(body: &Value, catalog: &Catalog, found: &Elsewhere) -> Vec<Fault> {
    let mut out = Vec::new();
    check_name(&mut out, body, "", "name", "the topology's name", TOPOLOGY_NAME_MAX);
    check_name(&mut out, body, "", "availability_zone", "the availability zone", ZONE_NAME_MAX);
    let components = array(body, "components");
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut groups: BTreeMap<&str, String> = BTreeMap::new();
    for (index, component) in components.iter().enumerate().take(COMPONENTS_MAX) {
        let at = format!("/components/{index}");
        check_name(&mut out, component, &at, "name", "the component's name", COMPONENT_NAME_MAX);
        if let Some(name) = text(component, "name")
            && let Some(first) = names.insert(name, index)
        {
            out.push(Fault::at(
                format!("{at}/name"),
                format!("component {:?} is already at /components/{first}", shown(name)),
            ));
        }
        component_faults(&mut out, &mut groups, component, &at, catalog);
    }
    for (index, component) in components.iter().enumerate().take(COMPONENTS_MAX) {
        dependency_faults(&mut out, component, index, components, &names, (catalog, found));
    }
    cycle_faults(&mut out, components, &names);
    out
}

/// Whether a text can be the name of an availability zone.
#[must_use]
pub fn is_zone(name: &str) -> bool {
    name_fault("the availability zone", name, ZONE_NAME_MAX).is_none()
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn check_name(out: &mut Vec<Fault>, value: &Value, at: &str, key: &str, what: &str, max: usize) {
    if let Some(name) = text(value, key)
        && let Some(message) = name_fault(what, name, max)
    {
        out.push(Fault::at(format!("{at}/{key}"), message));
    }
}

/// As much of a sender's own text as is of use to them.
fn shown(text: &str) -> String {
    if text.chars().count() <= SHOWN_MAX {
        return text.to_owned();
    }
    text.chars().take(SHOWN_MAX).chain("...".chars()).collect()
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn component_faults<'a>(
    out: &mut Vec<Fault>,
    groups: &mut BTreeMap<&'a str, String>,
    component: &'a Value,
    at: &str,
    catalog: &Catalog,
) {
    // names are judged even where the type is not known: every fault at once
    let kind = text(component, "type");
    let meta = kind.and_then(|kind| catalog.get(kind));
    if let (Some(kind), None) = (kind, meta) {
        let message = format!("no component type {:?}; there are: {}", shown(kind), list(catalog.keys()));
        out.push(Fault::at(format!("{at}/type"), message));
    }
    if let Some(meta) = meta {
        version_faults(out, component, at, meta);
    }
    group_faults(out, component, at, meta);
    let submodules = array(component, "submodules");
    if submodules.is_empty() {
        if let Some(meta) = meta {
            size_faults(out, component, at, &meta.kind, meta.sizes_of(&meta.default_role));
        }
        if let Some(name) = text(component, "name") {
            claim_host_name(out, groups, name, at);
        }
    }
    domain_faults(out, component, submodules, at);
    sum_faults(out, component, submodules, at, meta);
    let mut roles: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, submodule) in submodules.iter().enumerate().take(SUBMODULES_MAX) {
        let at = format!("{at}/submodules/{index}");
        // ordinals are unique per role: they become broker ids and the like
        if let Some(role) = text(submodule, "role")
            && let Some(first) = roles.insert(role, index)
        {
            let message = format!("submodule {first} has the role {:?} already; enlarge that one", shown(role));
            out.push(Fault::at(format!("{at}/role"), message));
        }
        check_name(out, submodule, &at, "name", "the submodule's name", COMPONENT_NAME_MAX);
        if let Some(name) = text(submodule, "name") {
            claim_host_name(out, groups, name, &at);
        }
        group_faults(out, submodule, &at, meta);
        if let (Some(meta), Some(role)) = (meta, text(submodule, "role")) {
            role_faults(out, submodule, &at, meta, role);
        }
    }
}

fn version_faults(out: &mut Vec<Fault>, component: &Value, at: &str, meta: &ComponentMeta) {
    if let Some(version) = text(component, "version")
        && !meta.versions.contains_key(version)
    {
        let (kind, version, there) = (&meta.kind, shown(version), list(meta.versions.keys()));
        out.push(Fault::at(format!("{at}/version"), format!("{kind} has no version {version:?}; there are: {there}")));
    }
}

fn role_faults(out: &mut Vec<Fault>, submodule: &Value, at: &str, meta: &ComponentMeta, role: &str) {
    match meta.role(role) {
        Some(_) => size_faults(out, submodule, at, role, meta.sizes_of(role)),
        None => {
            let (kind, role, there) = (&meta.kind, shown(role), list(meta.roles.iter().map(|r| &r.name)));
            out.push(Fault::at(format!("{at}/role"), format!("{kind} has no role {role:?}; there are: {there}")));
        }
    }
}

/// Host names are made of the topology's name and this one, so it must be unique in the topology.
fn claim_host_name<'a>(out: &mut Vec<Fault>, groups: &mut BTreeMap<&'a str, String>, name: &'a str, at: &str) {
    if let Some(first) = groups.get(name) {
        // two components of one name are already reported as such
        if at.contains("/submodules/") || first.contains("/submodules/") {
            out.push(Fault::at(format!("{at}/name"), format!("{:?} names the hosts of {first} already", shown(name))));
        }
    } else {
        groups.insert(name, at.to_owned());
    }
}

/// What components and submodules have in common.
fn group_faults(out: &mut Vec<Fault>, value: &Value, at: &str, meta: Option<&ComponentMeta>) {
    check_name(out, value, at, "anti_affinity_group", "the anti-affinity group", AFFINITY_NAME_MAX);
    if let (Some(flavor), Some(meta)) = (text(value, "flavor"), meta)
        && !meta.flavors.contains_key(flavor)
    {
        let (kind, flavor, there) = (&meta.kind, shown(flavor), list(meta.flavors.keys()));
        out.push(Fault::at(format!("{at}/flavor"), format!("{kind} has no flavor {flavor:?}; there are: {there}")));
    }
}

fn size_faults(out: &mut Vec<Fault>, value: &Value, at: &str, what: &str, sizes: Sizes) {
    let Some(size) = value.get("size").and_then(Value::as_u64) else { return };
    out.extend(size_fault(what, sizes, size).map(|message| Fault::at(format!("{at}/size"), message)));
}

/// Why there cannot be so many nodes of `what`; `None` if there can.
#[must_use]
pub fn size_fault(what: &str, sizes: Sizes, size: u64) -> Option<String> {
    if size < u64::from(sizes.min) || size > u64::from(sizes.max) {
        return Some(format!("{what} has {} to {} nodes, not {size}", sizes.min, sizes.max));
    }
    let even = sizes.odd && size.is_multiple_of(2);
    even.then(|| format!("{what} needs an odd number of nodes for its quorum, not {size}"))
}

/// A number of fault domains says nothing where hosts are not to be spread.
fn domain_faults(out: &mut Vec<Fault>, component: &Value, submodules: &[Value], at: &str) {
    let (spread, least) = ("enable_fault_domain", "min_num_of_fault_domain");
    let spreads = |value: &Value| value.get(spread).and_then(Value::as_bool);
    let whole = spreads(component) == Some(true);
    let mut idle = |value: &Value, at: String, spread: bool| {
        if value.get(least).is_some_and(Value::is_number) && !spread {
            out.push(Fault::at(format!("{at}/{least}"), "has no effect unless enable_fault_domain is true"));
        }
    };
    idle(component, at.to_owned(), whole || submodules.iter().any(|sub| spreads(sub) == Some(true)));
    for (index, submodule) in submodules.iter().enumerate().take(SUBMODULES_MAX) {
        idle(submodule, format!("{at}/submodules/{index}"), spreads(submodule).unwrap_or(whole));
    }
}

/// With submodules their sizes count; another number beside them would be ignored in silence.
fn sum_faults(out: &mut Vec<Fault>, component: &Value, submodules: &[Value], at: &str, meta: Option<&ComponentMeta>) {
    let Some(size) = component.get("size").and_then(Value::as_u64).filter(|_| !submodules.is_empty()) else { return };
    let usual = |submodule: &Value| Some(u64::from(meta?.sizes_of(text(submodule, "role")?).default));
    let each = |submodule: &Value| match submodule.get("size") {
        Some(size) => size.as_u64(),
        None => usual(submodule),
    };
    let Some(sum) = submodules.iter().map(each).sum::<Option<u64>>() else { return };
    if sum != size {
        out.push(Fault::at(format!("{at}/size"), format!("the submodules have {sum} nodes in all, not {size}")));
    }
}

/// The names with the pointer of each, below the component.
fn depends_on(component: &Value) -> Vec<(&str, String)> {
    match component.get("depends_on") {
        Some(Value::String(name)) => vec![(name, "/depends_on".to_owned())],
        Some(Value::Array(names)) => {
            let names = names.iter().enumerate().take(COMPONENTS_MAX);
            names.filter_map(|(i, name)| Some((name.as_str()?, format!("/depends_on/{i}")))).collect()
        }
        _ => Vec::new(),
    }
}

fn dependency_faults(
    out: &mut Vec<Fault>,
    component: &Value,
    index: usize,
    all: &[Value],
    names: &BTreeMap<&str, usize>,
    (catalog, found): (&Catalog, &Elsewhere),
) {
    let at = format!("/components/{index}");
    let mut kinds = BTreeSet::new();
    for (name, below) in depends_on(component) {
        match (names.get(name), found.get(name)) {
            (Some(other), _) => kinds.extend(text(&all[*other], "type")),
            (None, Some(Ok(kind))) => drop(kinds.insert(kind)),
            (None, Some(Err(message))) => out.push(Fault::at(format!("{at}{below}"), message.clone())),
            (None, None) if name.contains('/') => {
                let message = format!("no component {:?} in another topology", shown(name));
                out.push(Fault::at(format!("{at}{below}"), message));
            }
            (None, None) => {
                let message = format!("no component {:?} in this topology", shown(name));
                out.push(Fault::at(format!("{at}{below}"), message));
            }
        }
    }
    let Some(meta) = text(component, "type").and_then(|kind| catalog.get(kind)) else { return };
    for needed in meta.dependencies.iter().filter(|d| d.required && !kinds.contains(d.kind.as_str())) {
        let message = format!("{} needs a component of type {} to depend on", meta.kind, needed.kind);
        out.push(Fault::at(format!("{at}/depends_on"), message));
    }
}

/// Reports each cycle once, at its first component in the order of the body.
fn cycle_faults(out: &mut Vec<Fault>, components: &[Value], names: &BTreeMap<&str, usize>) {
    let mut reported = BTreeSet::new();
    for start in 0..components.len().min(COMPONENTS_MAX) {
        let mut path = vec![start];
        if !reported.contains(&start) && closes(&mut path, components, names) {
            let words: Vec<_> = path.iter().chain([&start]).filter_map(|i| text(&components[*i], "name")).collect();
            out.push(Fault::at(
                format!("/components/{start}/depends_on"),
                format!("dependency cycle: {}", words.join(" → ")),
            ));
            reported.extend(path);
        }
    }
}

/// Whether a walk along the dependencies comes back to where `path` begins; `path` is then the cycle.
fn closes(path: &mut Vec<usize>, components: &[Value], names: &BTreeMap<&str, usize>) -> bool {
    let mut seen = BTreeSet::new();
    walk(path, &mut seen, components, names)
}

fn walk(
    path: &mut Vec<usize>,
    seen: &mut BTreeSet<usize>,
    components: &[Value],
    names: &BTreeMap<&str, usize>,
) -> bool {
    let Some(&last) = path.last() else { return false };
    for next in depends_on(&components[last]).into_iter().filter_map(|(name, _)| names.get(name).copied()) {
        if path.first() == Some(&next) {
            return true;
        }
        if seen.insert(next) {
            path.push(next);
            if walk(path, seen, components, names) {
                return true;
            }
            path.pop();
        }
    }
    false
}
