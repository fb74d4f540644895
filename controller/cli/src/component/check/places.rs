//! Files at places where nobody looks for them: a name with a slip in it is silent everywhere else.

use super::fault;
use std::collections::BTreeSet;
use straas_repos::FileFault;
use straas_schemas::metadata::{Catalog, ComponentMeta};

/// What is run of a role's scripts.
const SCRIPTS: [&str; 6] = ["install.sh", "runpuppet.sh", "validate.sh", "start.sh", "stop.sh", "remove.sh"];
/// What is read of a version's configuration.
const FILES: [&str; 2] = ["default.json", "user.json"];

/// Whether one of the files is a component type's.
pub fn touched(paths: &BTreeSet<String>, kind: &str, meta: &ComponentMeta) -> bool {
    paths.iter().any(|path| match path.split('/').collect::<Vec<_>>().as_slice() {
        ["metadata", name] => name.strip_suffix(".json") == Some(kind),
        ["app", of, ..] => *of == kind,
        ["cmd" | "pre_config", role, ..] => meta.roles.iter().any(|known| known.script_role == **role),
        _ => false,
    })
}

/// What is wrong with the places of files.
pub fn faults(paths: &BTreeSet<String>, catalog: &Catalog) -> Vec<FileFault> {
    let mut found = Vec::new();
    let mut told = BTreeSet::new();
    for path in paths {
        let parts: Vec<&str> = path.split('/').collect();
        let Some((place, why)) = misplaced(&parts, catalog) else { continue };
        if told.insert(place.clone()) {
            found.push(fault(place, why));
        }
    }
    found
}

fn misplaced(parts: &[&str], catalog: &Catalog) -> Option<(String, String)> {
    let place = |depth: usize| parts.iter().take(depth).copied().collect::<Vec<_>>().join("/");
    match parts {
        ["metadata", name] if !name.ends_with(".json") => {
            Some((place(2), "is not read: call it {type}.json".to_owned()))
        }
        ["app", kind, ..] if !catalog.contains_key(*kind) => Some((
            place(2),
            format!("is of no component type: there is no metadata/{kind}.json; write it, or rename this"),
        )),
        ["app", kind, version, rest @ ..] => {
            let meta = catalog.get(*kind)?;
            if !meta.versions.contains_key(*version) {
                let known = list(meta.versions.keys());
                let why = format!("is of no version: add {version:?} to versions of metadata/{kind}.json ({known})");
                return Some((place(3), why));
            }
            let stray = rest.len() != 1 || !rest.iter().all(|name| FILES.contains(name));
            stray.then(|| (place(parts.len()), format!("is not read: a version has {}", FILES.join(" and "))))
        }
        ["cmd", "lib", ..] => None,
        ["cmd", "default", script] => not_run(script).map(|why| (place(3), why)),
        ["cmd", role, rest @ ..] => {
            let kinds: Vec<&ComponentMeta> = of_role(catalog, role);
            if kinds.is_empty() {
                return Some((place(2), no_role(catalog, role)));
            }
            match rest {
                [version, script] => {
                    let known = *version == "default" || kinds.iter().any(|meta| meta.versions.contains_key(*version));
                    if known {
                        return not_run(script).map(|why| (place(4), why));
                    }
                    let versions = list(kinds.iter().flat_map(|meta| meta.versions.keys()));
                    Some((place(3), format!("is of no version: call it default, or one of {versions}")))
                }
                _ => {
                    Some((place(parts.len()), "is not run: scripts are in cmd/{script_role}/{version|default}/".into()))
                }
            }
        }
        ["pre_config", role] if of_role(catalog, role).is_empty() => Some((place(2), no_role(catalog, role))),
        ["puppet", first, ..] if *first != "modules" => {
            Some((place(2), "is not read: modules are in puppet/modules/{class}/".to_owned()))
        }
        ["guestcmds", _] => Some((place(2), "is not read: commands are in guestcmds/{group}/".to_owned())),
        _ => None,
    }
}

fn of_role<'c>(catalog: &'c Catalog, role: &str) -> Vec<&'c ComponentMeta> {
    catalog.values().filter(|meta| meta.roles.iter().any(|known| known.script_role == role)).collect()
}

fn no_role(catalog: &Catalog, role: &str) -> String {
    let known: BTreeSet<&String> =
        catalog.values().flat_map(|meta| meta.roles.iter().map(|role| &role.script_role)).collect();
    format!("is of no role: no script_role in metadata/ is {role:?}; there are: {}", list(known.into_iter()))
}

fn not_run(script: &str) -> Option<String> {
    (!SCRIPTS.contains(&script)).then(|| format!("is never run; those that are: {}", SCRIPTS.join(", ")))
}

fn list<'s>(names: impl Iterator<Item = &'s String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}
