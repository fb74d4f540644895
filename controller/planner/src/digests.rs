//! Fingerprints of the four stages: what each depends on, and what each should have become.
//!
//! The inputs of `pre_config` cover the whole context. Two assignments with the same stage orders
//! therefore have the same context, which spares building and comparing contexts of thousands of
//! peers for nodes that do not change.

use crate::{NewNode, Node};
use std::collections::BTreeMap;
use straas_schemas::stage::effective_digest;
use straas_schemas::{Assignment, Digest, Package, Stage};

/// Raised when the shape of the context changes, so that nodes render theirs anew.
const CONTEXT_SHAPE: &str = "2";

/// The inputs of `install`.
pub fn install(script: &str, packages: &[Package]) -> Digest {
    let packages: Vec<String> = packages.iter().map(|p| format!("{}={}", p.name, p.version)).collect();
    Digest::of(&["install", script, &packages.join(" ")])
}

/// The inputs of `pre_config`: its script and what is shared ([`shared`]), and the node itself.
/// Of a role that does not read fault domains there is none at all.
pub fn pre_config(
    shared: &Digest,
    node: &NewNode,
    address: Option<&str>,
    fault_domain: Option<Option<&str>>,
) -> Digest {
    let ordinal = node.ordinal.to_string();
    let mut parts = vec![shared.as_str(), node.id.as_str(), &node.name, &node.role, &ordinal];
    parts.push(address.unwrap_or_default());
    parts.extend(fault_domain.map(Option::unwrap_or_default));
    Digest::of(&parts)
}

/// What the inputs of `pre_config` have in common for all nodes of a role.
pub fn shared(script: &str, version: &str, context: &Digest) -> Digest {
    Digest::of(&["pre_config", CONTEXT_SHAPE, script, version, context.as_str()])
}

/// The inputs of `config` or `validate`: their script.
pub fn of_script(stage: Stage, script: &str) -> Digest {
    Digest::of(&[stage.name(), script])
}

/// The inputs of `config` after so many restarts were asked for: another one runs it again.
pub fn restarted(config: &Digest, restarts: u32) -> Digest {
    Digest::of(&["restarts", config.as_str(), &restarts.to_string()])
}

/// The effective digests that an assignment gives on a node, as far as they can be known: those
/// of `config` and `validate` only once the newest `pre_config` has run.
pub fn effective(assignment: &Assignment, node: &Node) -> BTreeMap<Stage, Digest> {
    let mut out = BTreeMap::new();
    let mut expect = |stage, installed: Option<&Digest>, rendered: Option<&Digest>, configured: Option<&Digest>| {
        let order = assignment.order(stage);
        let digest = order.map(|o| effective_digest(stage, &o.inputs, installed, rendered, configured));
        if let Some(digest) = &digest {
            out.insert(stage, digest.clone());
        }
        digest
    };
    let install = expect(Stage::Install, None, None, None);
    let Some(pre_config) = expect(Stage::PreConfig, None, None, None) else { return out };
    let rendered = node.stages.get(&Stage::PreConfig).filter(|(result, _)| result.digest == pre_config);
    let Some(rendered) = rendered.and_then(|(result, _)| result.produced.as_ref()) else { return out };
    let config = expect(Stage::Config, install.as_ref(), Some(rendered), None);
    expect(Stage::Validate, None, None, config.as_ref());
    out
}
