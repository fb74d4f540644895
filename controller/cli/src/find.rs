//! From what people call things to their ids: topologies, components, nodes, refs.

use crate::client::Client;
use crate::error::CliError;
use crate::routes;
use straas_schemas::ids::is_id;
use straas_schemas::view::{ComponentView, NodeView, Page, TopologyView};

/// What of a query was said.
pub fn given<const N: usize>(all: [(&'static str, Option<String>); N]) -> Vec<(&'static str, String)> {
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// A value of a query that is there or not.
pub fn flag(on: bool) -> Option<String> {
    on.then(|| "true".to_owned())
}

/// The id of a topology, if one is named.
pub async fn topology_id(client: &Client, wanted: Option<&str>) -> Result<Option<String>, CliError> {
    match wanted {
        Some(wanted) => Ok(Some(topology(client, wanted).await?.id.0)),
        None => Ok(None),
    }
}

/// The id of a component called TOPOLOGY/COMPONENT, if one is named.
pub async fn component_id(client: &Client, wanted: Option<&str>) -> Result<Option<String>, CliError> {
    let Some(wanted) = wanted else { return Ok(None) };
    let Some((of, name)) = wanted.split_once('/') else {
        return Err(CliError::Input(format!("{wanted} is not TOPOLOGY/COMPONENT")));
    };
    Ok(Some(component(client, of, name).await?.1.id.0))
}

/// The topology of a name, a branch or an id.
pub async fn topology(client: &Client, wanted: &str) -> Result<TopologyView, CliError> {
    if is_id(wanted) {
        match client.get(routes::TOPOLOGY, &[wanted]).await {
            Err(error) if Client::is_missing(&error) => {}
            other => return other,
        }
    }
    let mut marker = None;
    loop {
        let page: Page<TopologyView> =
            client.page(routes::TOPOLOGIES, &[], &[("limit", "100".to_owned())], marker).await?;
        if let Some(found) = page.items.into_iter().find(|t| t.name == wanted || t.branch == wanted) {
            return Ok(found);
        }
        marker = page.next;
        if marker.is_none() {
            return Err(CliError::NotFound {
                text: format!("there is no topology {wanted}"),
                hint: "straas topology list",
            });
        }
    }
}

/// The component of this name or id in a topology.
pub async fn component(client: &Client, of: &str, wanted: &str) -> Result<(TopologyView, ComponentView), CliError> {
    let mut topology = topology(client, of).await?;
    let names: Vec<String> = topology.components.iter().map(|component| component.name.clone()).collect();
    let place = topology.components.iter().position(|c| c.name == wanted || c.id.as_str() == wanted);
    let Some(place) = place else {
        return Err(CliError::NotFound {
            text: format!("{of} has no component {wanted}; it has: {}", names.join(", ")),
            hint: "straas component list TOPOLOGY",
        });
    };
    let found = topology.components.swap_remove(place);
    Ok((topology, found))
}

/// The node of this name or id.
pub async fn node(client: &Client, wanted: &str) -> Result<NodeView, CliError> {
    if is_id(wanted) {
        match client.get(routes::NODE, &[wanted]).await {
            Err(error) if Client::is_missing(&error) => {}
            other => return other,
        }
    }
    let mut marker = None;
    loop {
        let page: Page<NodeView> = client.page(routes::NODES, &[], &[], marker).await?;
        if let Some(found) = page.items.into_iter().find(|node| node.name == wanted) {
            return Ok(found);
        }
        marker = page.next;
        if marker.is_none() {
            return Err(CliError::NotFound { text: format!("there is no node {wanted}"), hint: "straas node list" });
        }
    }
}

/// A ref of the config repo: as it is, or the branch of the topology that is meant, also in front of
/// a tag (`demo&v1`).
pub async fn reference(client: &Client, wanted: &str) -> Result<String, CliError> {
    let commit = wanted.len() == 40 && wanted.bytes().all(|b| b.is_ascii_hexdigit());
    if commit || wanted.contains('@') || wanted == "master" || wanted.starts_with("master&") {
        return Ok(wanted.to_owned());
    }
    let (name, tag) = wanted.split_once('&').map_or((wanted, None), |(name, tag)| (name, Some(tag)));
    match topology(client, name).await {
        Ok(topology) => Ok(tag.map_or(topology.branch.clone(), |tag| format!("{}&{tag}", topology.branch))),
        // a branch of the operator's, or a mistake, which the controller names
        Err(CliError::NotFound { .. }) => Ok(wanted.to_owned()),
        Err(other) => Err(other),
    }
}
