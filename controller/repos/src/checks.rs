//! What a component type's metadata has to be beyond its shape: names that exist, limits that can be
//! kept, operations that can be read.
//!
//! Knows the catalog and nothing else: whether scripts and guest commands are there is not asked
//! here, for they are in another repository and move by themselves.

use crate::refs::segment_fault;
use std::collections::BTreeSet;
use straas_schemas::Stage;
use straas_schemas::ids::{COMPONENT_NAME_MAX, name_fault};
use straas_schemas::metadata::{Catalog, ComponentMeta, Membership, Operation, Sizes};

/// Verbs with time limits of their own besides the stages.
const VERBS: [&str; 3] = ["start", "stop", "remove"];
/// What may stand in braces in an operation's arguments.
const PLACEHOLDERS: [&str; 6] = ["node", "ordinal", "role", "topology", "component", "component_id"];

/// Everything about a component type that its shape does not say, as (pointer, message).
pub(crate) fn check(meta: &ComponentMeta, catalog: &Catalog) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut add = |pointer: String, message: String| found.push((pointer, message));
    if let Some(why) = name_fault("the type", &meta.kind, COMPONENT_NAME_MAX) {
        add("/type".into(), why);
    }
    let mut names = BTreeSet::new();
    for (r, role) in meta.roles.iter().enumerate() {
        if let Some(why) = name_fault("the role", &role.name, COMPONENT_NAME_MAX) {
            add(format!("/roles/{r}/name"), why);
        }
        if !names.insert(role.name.as_str()) {
            add(format!("/roles/{r}/name"), format!("{:?} is the name of an earlier role", role.name));
        }
        match segment_fault(&role.script_role) {
            Some(why) => add(format!("/roles/{r}/script_role"), why),
            None if role.script_role == "lib" => {
                add(format!("/roles/{r}/script_role"), "\"lib\" holds what scripts share; choose another name".into());
            }
            None => {}
        }
        for (when, operation) in [("join", &role.join), ("leave", &role.leave)] {
            if let Some(operation) = operation {
                check_operation(operation, &format!("/roles/{r}/{when}"), &mut add);
            }
        }
        if let Some(sizes) = role.sizes {
            check_sizes(sizes, &format!("/roles/{r}/sizes"), &mut add);
        }
    }
    check_sizes(meta.sizes, "/sizes", &mut add);
    if !names.contains(meta.default_role.as_str()) {
        add("/default_role".into(), format!("{:?} is not one of the roles", meta.default_role));
    }
    if !meta.versions.contains_key(&meta.default_version) {
        add("/default_version".into(), format!("{:?} is not one of the versions", meta.default_version));
    }
    for why in meta.versions.keys().filter_map(|version| segment_fault(version)) {
        add("/versions".into(), why);
    }
    if !meta.flavors.contains_key(&meta.default_flavor) {
        add("/default_flavor".into(), format!("{:?} is not one of the flavors", meta.default_flavor));
    }
    for (role, peers) in &meta.peers {
        for name in std::iter::once(role).chain(peers).filter(|name| !names.contains(name.as_str())) {
            add(format!("/peers/{role}"), format!("{name:?} is not one of the roles"));
        }
    }
    for role in names.iter().filter(|role| !meta.peers.contains_key(**role)) {
        add("/peers".into(), format!("says nothing of the role {role:?}; name whom it must know, or []"));
    }
    for (version, what) in &meta.versions {
        let mut seen = BTreeSet::new();
        for (p, package) in what.packages.iter().enumerate() {
            let pointer = format!("/versions/{}/packages/{p}", version.replace('~', "~0").replace('/', "~1"));
            if !seen.insert(&package.name) {
                add(pointer.clone(), format!("{} stands here twice", package.name));
            }
            if let Some(why) = package_fault(&package.name, &package.version) {
                add(pointer, why);
            }
        }
    }
    let mut kinds = BTreeSet::new();
    for (d, dependency) in meta.dependencies.iter().enumerate() {
        if !kinds.insert(&dependency.kind) {
            add(format!("/dependencies/{d}/type"), format!("{:?} stands here twice", dependency.kind));
        }
        if let Some(operation) = &dependency.operation {
            check_operation(operation, &format!("/dependencies/{d}/operation"), &mut add);
        }
        if let Some(operation) = &dependency.remove {
            check_operation(operation, &format!("/dependencies/{d}/remove"), &mut add);
        }
        if !catalog.contains_key(&dependency.kind) {
            add(format!("/dependencies/{d}/type"), format!("{:?} has no file in metadata/", dependency.kind));
        } else if dependency.kind == meta.kind && dependency.required {
            add(format!("/dependencies/{d}/type"), "a type cannot require itself; nothing could be the first".into());
        }
    }
    if meta.disruption.max_unavailable == 0 {
        add("/disruption/max_unavailable".into(), "must be at least 1, or nothing could ever be changed".into());
    }
    for (stage, limits) in &meta.stages {
        if !Stage::ALL.iter().any(|known| known.name() == stage) && !VERBS.contains(&stage.as_str()) {
            let known: Vec<&str> = Stage::ALL.iter().map(|stage| stage.name()).chain(VERBS).collect();
            add(format!("/stages/{stage}"), format!("is not a stage or verb; known are {}", known.join(", ")));
        }
        if limits.total_s == 0 || limits.no_progress_s == 0 {
            add(format!("/stages/{stage}"), "limits must be at least 1 second".into());
        }
    }
    for (p, port) in meta.ports.iter().enumerate() {
        let known =
            matches!(port.protocol.as_str(), "tcp" | "udp") && matches!(port.from.as_str(), "tenant" | "component");
        if !known || port.port == 0 {
            add(
                format!("/ports/{p}"),
                "needs a port from 1 up, protocol tcp or udp, and from tenant or component".into(),
            );
        }
    }
    if meta.membership == Membership::Stepwise && meta.disruption.max_unavailable > 1 {
        let text = "must be 1 where membership is stepwise: two at once can take the majority away";
        add("/disruption/max_unavailable".into(), text.into());
    }
    if meta.drift.every_s == 0 {
        add("/drift/every_s".into(), "must be at least 1; a look is a Puppet run".into());
    }
    if meta.validate_every_s == 0 {
        add("/validate_every_s".into(), "must be at least 1".into());
    }
    found
}

/// The form of an operation; whether there is such a command is not asked here.
fn check_operation(operation: &Operation, pointer: &str, add: &mut impl FnMut(String, String)) {
    let parts: Vec<&str> = operation.command.split('/').collect();
    let well = parts.len() == 2 && parts.iter().all(|part| segment_fault(part).is_none());
    if !well || ["lib", "schema"].contains(&parts.first().copied().unwrap_or_default()) {
        add(format!("{pointer}/command"), format!("{:?} is not group/name of a guest command", operation.command));
    }
    for (name, value) in &operation.args {
        for found in value.as_str().into_iter().flat_map(placeholders).filter(|found| !PLACEHOLDERS.contains(found)) {
            let known = PLACEHOLDERS.join("}, {");
            add(format!("{pointer}/args/{name}"), format!("{{{found}}} stands for nothing; known are {{{known}}}"));
        }
    }
}

/// What stands in braces.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

/// Debian's rules (policy 5.6.1, 5.6.12), and one `*` at the end of a version.
fn package_fault(name: &str, version: &str) -> Option<String> {
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let named = name.len() >= 2 && name.starts_with(lower) && name.chars().all(|c| lower(c) || "+-.".contains(c));
    if !named {
        return Some(format!("{name:?} is not a package: lower-case letters, digits and + - ., at least 2"));
    }
    let exact = version.strip_suffix('*').unwrap_or(version);
    let fine = |c: char| c.is_ascii_alphanumeric() || ".+-~:".contains(c);
    if exact.is_empty() || !exact.starts_with(|c: char| c.is_ascii_digit()) || !exact.chars().all(fine) {
        return Some(format!(
            "{version:?} is not a version: a digit first, letters, digits and . + - ~ :, then maybe *"
        ));
    }
    None
}

fn check_sizes(sizes: Sizes, pointer: &str, add: &mut impl FnMut(String, String)) {
    if !(sizes.min <= sizes.default && sizes.default <= sizes.max && sizes.max > 0) {
        add(
            pointer.into(),
            format!("needs min <= default <= max; it has {}, {}, {}", sizes.min, sizes.default, sizes.max),
        );
    } else if sizes.odd && sizes.default.is_multiple_of(2) {
        add(format!("{pointer}/default"), format!("{} is even, but only odd sizes are allowed", sizes.default));
    }
}
