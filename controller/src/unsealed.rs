//! The one place where secrets of a configuration are opened: on the way of an assignment to its node.
//!
//! In git, in the database, in plans and in what users see they are sealed. What a node gets has them in
//! clear, and says which they are, so that the agent hides them in what it reports.

use serde_json::{Value, json};
use straas_repos::Vault;
use straas_schemas::config::{Effective, is_sealed};
use straas_schemas::{Assignment, NodeId};

/// The assignment as its node gets it.
#[must_use]
pub fn for_node(vault: &Vault, assignment: &Assignment) -> Assignment {
    let mut open = assignment.clone();
    let mut names = Vec::new();
    for (section, keys) in open.context.get_mut("config").and_then(Value::as_object_mut).into_iter().flatten() {
        for (key, value) in keys.as_object_mut().into_iter().flatten() {
            let Some(text) = value.as_str().filter(|text| is_sealed(text)) else { continue };
            names.push(json!([section, key]));
            match vault.unseal(section, key, text) {
                Some(clear) => *value = clear.into(),
                None => not_opened(&assignment.node, section, key),
            }
        }
    }
    if !names.is_empty()
        && let Some(context) = open.context.as_object_mut()
    {
        context.insert("secrets".to_owned(), names.into());
    }
    open
}

fn not_opened(node: &NodeId, section: &str, key: &str) {
    tracing::error!(%node, section, key, "a secret cannot be opened: it was sealed with another key than this controller's");
}

/// The first secret of a configuration that cannot be opened here, as `section.key`.
#[must_use]
pub fn locked(vault: &Vault, config: &Effective) -> Option<String> {
    let mut all = config.iter().flat_map(|(section, keys)| keys.iter().map(move |(key, value)| (section, key, value)));
    let locked = |(section, key, value): &(&String, &String, &Value)| {
        value.as_str().is_some_and(|text| is_sealed(text) && vault.unseal(section, key, text).is_none())
    };
    all.find(locked).map(|(section, key, _)| format!("{section}.{key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_its_secrets_in_clear_and_is_told_which_they_are() {
        let dir = tempfile::tempdir().expect("a directory");
        let vault = Vault::open(&dir.path().join("key")).expect("a vault");
        let sealed = vault.seal("db", "password", "open sesame");
        let example = include_str!("../../schemas/golden/assignment.json");
        let mut assignment: Assignment = serde_json::from_str(example).expect("an assignment");
        assert_eq!(for_node(&vault, &assignment), assignment, "nothing to open");
        assignment.context["config"] = json!({ "db": { "password": sealed, "port": 1 }, "web": { "stolen": sealed } });
        let open = for_node(&vault, &assignment);
        assert_eq!(open.context["config"]["db"], json!({ "password": "open sesame", "port": 1 }));
        assert_eq!(open.context["config"]["web"]["stolen"], sealed, "it opens under its own name only");
        assert_eq!(open.context["secrets"], json!([["db", "password"], ["web", "stolen"]]));
        let config: Effective = serde_json::from_value(assignment.context["config"].clone()).expect("a configuration");
        assert_eq!(locked(&vault, &config).as_deref(), Some("web.stolen"));
    }
}
