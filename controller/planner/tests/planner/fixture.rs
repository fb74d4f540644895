//! Component types, topologies and settings to plan with.

use serde_json::json;
use std::collections::BTreeMap;
use straas_planner::{Component, Group, Knowledge, PlanInput, Target, Topology};
use straas_schemas::metadata::ComponentMeta;
use straas_schemas::settings::TimingSettings;
use straas_schemas::{Digest, Stage};

/// Versions that exist; installing the second fails on every node.
pub const VERSIONS: [&str; 3] = ["1.0", "2.0-bad", "3.0"];

/// Metadata of a type whose nodes all know each other.
pub fn meta(kind: &str, max_unavailable: u32) -> ComponentMeta {
    let versions: serde_json::Map<_, _> =
        VERSIONS.iter().map(|v| ((*v).to_owned(), json!({ "packages": [{ "name": kind, "version": v }] }))).collect();
    let meta = json!({
        "type": kind, "description": "a type", "default_role": kind, "default_version": "1.0",
        "roles": [{ "name": kind, "script_role": kind, "description": "a role" }],
        "versions": versions,
        "flavors": { "tiny": { "memory_mib": 512, "vcpus": 1, "disk_gib": 10 } }, "default_flavor": "tiny",
        "sizes": { "min": 1, "max": 9, "default": 3, "odd": false },
        "dependencies": [], "peers": { kind: [kind] },
        "disruption": { "max_unavailable": max_unavailable, "last_fact": { "mode": "leader" } },
        "ports": [], "stages": {}, "validate_wait_s": 300, "validate_every_s": 30
    });
    serde_json::from_value(meta).expect("metadata")
}

/// Digests of a role's scripts at a commit.
pub fn scripts(commit: &str) -> BTreeMap<Stage, Digest> {
    Stage::ALL.into_iter().map(|stage| (stage, Digest::of(&[stage.name(), commit]))).collect()
}

/// A component of one group.
pub fn component(name: &str, kind: &str, size: u32, after: &[&str], max_unavailable: u32) -> Component {
    Component {
        id: format!("c-{name}").into(),
        name: name.into(),
        kind: kind.into(),
        depends_on: after.iter().map(|s| (*s).to_owned()).collect(),
        foreign: Vec::new(),
        groups: vec![group(name, kind, size)],
        target: Target {
            version: "1.0".into(),
            config: "config-a".into(),
            scripts: "commit-a".into(),
            known: Ok(Knowledge {
                meta: meta(kind, max_unavailable),
                config: BTreeMap::from([(kind.to_owned(), BTreeMap::from([("tick".to_owned(), json!(2000))]))]),
                scripts: BTreeMap::from([(kind.to_owned(), scripts("a"))]),
            }),
        },
        rollout: None,
        wishes: BTreeMap::new(),
        files: Vec::new(),
        agent: None,
        removed: false,
    }
}

/// A group of nodes with nothing special about it.
pub fn group(name: &str, role: &str, size: u32) -> Group {
    Group {
        name: name.into(),
        role: role.into(),
        size,
        without: Vec::new(),
        flavor: "tiny".into(),
        fault_domains_min: 0,
        anti_affinity_group: None,
        cname: false,
    }
}

/// A topology `t` with nothing recorded yet.
pub fn input(components: Vec<Component>) -> PlanInput {
    PlanInput {
        writes: 0,
        now_ms: 1_000_000,
        topology: Topology {
            id: "T".into(),
            name: "t".into(),
            zone: "az1".into(),
            tenant: "acme".into(),
            branch: "t@az1".into(),
            deleting: false,
            created_ms: 1_000_000,
        },
        components,
        nodes: Vec::new(),
        jobs: Vec::new(),
        operations: Vec::new(),
        neighbours: Vec::new(),
        files: Vec::new(),
        settings: TimingSettings {
            heartbeat_ms: 5_000,
            suspect_after_ms: 15_000,
            unreachable_after_ms: 60_000,
            retry_ms: 1_000,
            retry_max_ms: 60_000,
            waiting_ms: 500,
        },
    }
}
