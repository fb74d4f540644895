//! Component types that random histories are about: a stepwise ensemble, one that copies its data
//! and shows when it has settled, and one of two roles.
//!
//! What a commit or a version says follows from its name, so that a target is made of three words:
//! a configuration `c7=broken` sets a key to `broken`; scripts `s7:config` differ in `config`, and
//! `s7:config:bad` fail there; a version `…-bad` cannot be installed, one `…-mute` never works.

use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use straas_planner::{Component, Group, Knowledge, Target};
use straas_schemas::metadata::ComponentMeta;
use straas_schemas::{Digest, Stage};

/// Every version of every type.
pub const VERSIONS: [&str; 5] = ["1.0", "2.0-bad", "3.0", "4.0-mute", "5.0"];
/// What works; nobody asks for it before the end, so it is not in quarantine then.
pub const GOOD: (&str, &str) = ("5.0", "c0=7");

/// Roles of a type, each with a group of its name.
pub fn roles(kind: &str) -> &'static [&'static str] {
    match kind {
        "zookeeper" => &["zookeeper"],
        "kafka" => &["kafka"],
        _ => &["nimbus", "supervisor"],
    }
}

fn meta(kind: &str) -> ComponentMeta {
    thread_local!(static KNOWN: RefCell<BTreeMap<String, ComponentMeta>> = RefCell::default());
    KNOWN.with_borrow_mut(|known| known.entry(kind.to_owned()).or_insert_with(|| make(kind)).clone())
}

fn make(kind: &str) -> ComponentMeta {
    let role = |name: &str| json!({ "name": name, "script_role": name, "description": "a role" });
    let (name, option) = kind.split_once('/').unwrap_or((kind, ""));
    let versions: serde_json::Map<_, _> =
        VERSIONS.iter().map(|v| ((*v).to_owned(), json!({ "packages": [{ "name": name, "version": v }] }))).collect();
    let mut meta = json!({
        "type": kind, "description": "a type", "default_role": roles(name)[0], "default_version": "1.0",
        "roles": roles(name).iter().map(|r| role(r)).collect::<Vec<_>>(),
        "versions": versions,
        "flavors": { "tiny": { "memory_mib": 512, "vcpus": 1, "disk_gib": 10 } }, "default_flavor": "tiny",
        "sizes": { "min": 1, "max": 9, "default": 3, "odd": false },
        "dependencies": [], "peers": { name: [name] },
        "disruption": { "max_unavailable": 1, "last_fact": { "mode": "leader" } },
        "ports": [], "stages": {}, "validate_wait_s": 300, "validate_every_s": 30
    });
    let remove = json!({ "command": "zk-cmd/delete-namespace", "args": { "name": "{component}", "recursive": true } });
    match name {
        "zookeeper" => meta["membership"] = json!("stepwise"),
        "kafka" => {
            let on_node = |command: &str| json!({ "command": command, "args": { "broker": "{ordinal}" } });
            meta["roles"][0]["join"] = on_node("kafka-cmd/rebalance");
            meta["roles"][0]["leave"] = on_node("kafka-cmd/drain");
            let operation = json!({ "command": "zk-cmd/create-namespace", "args": { "name": "{component}" } });
            let on = |kind: &str| json!({ "type": kind, "required": true, "operation": operation, "remove": remove });
            meta["dependencies"] = json!([on("zookeeper"), on("zookeeper/enforce")]);
            meta["disruption"]["settled"] = json!({ "under_replicated": 0 });
            meta["disruption"]["install"] = json!(option == "install");
        }
        _ => {
            // what it has there its own nodes make
            let on = |kind: &str| json!({ "type": kind, "required": true, "remove": remove });
            meta["dependencies"] = json!([on("zookeeper"), on("zookeeper/enforce")]);
            meta["peers"] = json!({ "nimbus": ["nimbus"], "supervisor": ["nimbus"] });
            meta["roles"][0]["sections"] = json!(["nimbus"]);
            meta["roles"][1]["sections"] = json!(["supervisor"]);
            meta["disruption"]["max_unavailable"] = json!(if option == "two" { 2 } else { 1 });
        }
    }
    if option == "enforce" {
        meta["drift"] = json!({ "every_s": 60, "policy": "enforce" });
    }
    serde_json::from_value(meta).expect("metadata")
}

/// What nodes of a type get.
pub fn target(kind: &str, version: &str, config: &str, scripts: &str) -> Target {
    let name = kind.split('/').next().unwrap_or(kind);
    let value: Value = json!(config.split_once('=').map_or(config, |(_, value)| value));
    let changed = scripts.split(':').nth(1);
    let script = |stage: Stage| Digest::of(&[stage.name(), if changed == Some(stage.name()) { scripts } else { "" }]);
    let of_role = || Stage::ALL.into_iter().map(|stage| (stage, script(stage))).collect();
    Target {
        version: version.into(),
        config: config.into(),
        scripts: scripts.into(),
        known: Ok(Knowledge {
            meta: meta(kind),
            config: roles(name)
                .iter()
                .map(|role| ((*role).to_owned(), BTreeMap::from([("tick".to_owned(), value.clone())])))
                .collect(),
            scripts: roles(name).iter().map(|role| ((*role).to_owned(), of_role())).collect(),
        }),
    }
}

/// The same with other scripts.
pub fn with_scripts(kind: &str, target: &Target, scripts: &str) -> Target {
    self::target(kind, &target.version, &target.config, scripts)
}

/// Whether a node cannot become what a target says.
pub fn hopeless(target: &Target) -> bool {
    target.version.contains('-') || target.config.contains("broken") || target.scripts.contains("bad")
}

/// A component as it is asked for; a group for each role.
pub fn component(name: &str, kind: &str, sizes: &[u32], after: &[&str]) -> Component {
    let base = kind.split('/').next().unwrap_or(kind);
    let group = |(role, size): (&&str, &u32)| Group {
        name: if roles(base).len() == 1 { name.to_owned() } else { format!("{name}-{role}") },
        ..crate::fixture::group(name, role, *size)
    };
    let groups = roles(base).iter().zip(sizes).map(group).collect();
    let (known, target) = (crate::fixture::component(name, base, 1, after, 1), target(kind, "1.0", "c0=1", "s0"));
    Component { kind: kind.into(), groups, target, ..known }
}
