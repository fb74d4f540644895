//! The request that creates a topology (2017 design, 4.3.2.1), and what makes one well-formed.
//!
//! Two layers, both of which report every fault at once: the shape is the JSON Schema made from
//! [`TopologyRequest`]; the meaning is [`faults`], which reads the raw JSON leniently, so that a
//! wrong type in one place does not hide a cycle in another.

use crate::Fault;
use crate::ids::{COMPONENT_NAME_MAX, TOPOLOGY_NAME_MAX, ZONE_NAME_MAX, name_fault};
use crate::metadata::{Catalog, ComponentMeta, Sizes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Most components of one topology; a topology is planned as a whole, so its size is bounded.
pub const COMPONENTS_MAX: usize = 32;
/// Most submodules of one component.
pub const SUBMODULES_MAX: usize = 16;
/// Most nodes of one group: a node's assignment names its peers, and a topology of 1,000 nodes is
/// what the planner is measured with.
pub const GROUP_SIZE_MAX: u32 = 1_000;
/// Longest anti-affinity group: a label of the provider.
pub const AFFINITY_NAME_MAX: usize = 63;
/// Most characters of a wrong name that are repeated to its sender.
const SHOWN_MAX: usize = 40;

/// A topology as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopologyRequest {
    /// Its name, unique in its availability zone.
    pub name: String,
    /// The availability zone its nodes are in.
    pub availability_zone: String,
    /// Its components.
    #[schemars(length(min = 1, max = 32))]
    pub components: Vec<ComponentRequest>,
}

/// A component as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComponentRequest {
    /// Its name, unique in the topology.
    pub name: String,
    /// Its type: one of the catalog.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its version; the type's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Number of nodes; the type's default if absent. With submodules their sizes count instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub size: Option<u32>,
    /// Size of its hosts; the type's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// Spread its hosts over fault domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_fault_domain: Option<bool>,
    /// Over at least so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub min_num_of_fault_domain: Option<u32>,
    /// Hosts of one group are kept apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anti_affinity_group: Option<String>,
    /// Give each node a DNS alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_cname: Option<bool>,
    /// Components of this topology that must work first: one name or a list.
    #[serde(default, skip_serializing_if = "DependsOn::is_empty")]
    pub depends_on: DependsOn,
    /// Groups of nodes with a role of their own; they override the component's settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub submodules: Vec<SubmoduleRequest>,
}

/// A group of nodes of one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmoduleRequest {
    /// The role: one of the type's.
    pub role: String,
    /// Its name, used in host names.
    pub name: String,
    /// Number of nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub size: Option<u32>,
    /// Overrides the component's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flavor: Option<String>,
    /// Overrides the component's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_fault_domain: Option<bool>,
    /// Overrides the component's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub min_num_of_fault_domain: Option<u32>,
    /// Overrides the component's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anti_affinity_group: Option<String>,
    /// Overrides the component's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_cname: Option<bool>,
}

/// One name or a list of names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum DependsOn {
    /// One.
    One(String),
    /// Several.
    Many(#[schemars(length(max = 32))] Vec<String>),
}

impl Default for DependsOn {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl DependsOn {
    /// The names.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::One(name) => vec![name],
            Self::Many(names) => names.iter().map(String::as_str).collect(),
        }
    }

    /// No names at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names().is_empty()
    }
}

/// Changes to a component: only the named fields change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComponentPatch {
    /// The new version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Every fault of meaning in a topology request. Values of a wrong type are left to the schema.
#[must_use]
pub fn faults(body: &Value, catalog: &Catalog) -> Vec<Fault> {
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
        dependency_faults(&mut out, component, index, components, &names, catalog);
    }
    cycle_faults(&mut out, components, &names);
    out
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
            let sizes = meta.role(&meta.default_role).and_then(|r| r.sizes).unwrap_or(meta.sizes);
            size_faults(out, component, at, &meta.kind, sizes);
        }
        if let Some(name) = text(component, "name") {
            claim_host_name(out, groups, name, at);
        }
    }
    for (index, submodule) in submodules.iter().enumerate().take(SUBMODULES_MAX) {
        let at = format!("{at}/submodules/{index}");
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
        Some(found) => size_faults(out, submodule, at, role, found.sizes.unwrap_or(meta.sizes)),
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
    let at = format!("{at}/size");
    if size < u64::from(sizes.min) || size > u64::from(sizes.max) {
        out.push(Fault::at(at, format!("{what} has {} to {} nodes, not {size}", sizes.min, sizes.max)));
    } else if sizes.odd && size.is_multiple_of(2) {
        out.push(Fault::at(at, format!("{what} needs an odd number of nodes for its quorum, not {size}")));
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
    catalog: &Catalog,
) {
    let at = format!("/components/{index}");
    let mut kinds = BTreeSet::new();
    for (name, below) in depends_on(component) {
        match names.get(name) {
            Some(other) => kinds.extend(text(&all[*other], "type")),
            None => {
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
