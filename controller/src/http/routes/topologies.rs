//! Topologies, components, nodes: what there is, and changes of what is wanted.

use super::{Begins as _, Works as _};
use crate::http::access::Reach::{All, Never, Own};
use crate::http::route::on::{alter, read, remove, send, set};
use crate::http::route::{Content, Route};
use crate::http::{cms, flavors, status, topologies, topologies::TopologiesQuery};
use crate::http::{commands, components, creation, dependencies, events, flex, history, nodes, rollouts, services};
use straas_schemas::change::{ComponentPatch, FlexupRequest, RolloutOptions};
use straas_schemas::cms::CmsView;
use straas_schemas::command::{BatchView, CommandBatchRequest, CommandRequest, CommandView};
use straas_schemas::history::NodeAsOf;
use straas_schemas::topology::{ComponentRequest, TopologyRequest};
use straas_schemas::view::{ComponentView, NodeView, Page, TopologyView, Why};

/// See the module.
pub fn routes() -> Vec<Route> {
    let mut all = listed();
    all.extend(model("topologies"));
    // the spelling of the API's first description
    all.extend(model("typologies").into_iter().map(Route::deprecated));
    all
}

/// The model of a topology in the configuration management system.
fn model(top: &str) -> Vec<Route> {
    let path = format!("/{top}/{{id}}/cms");
    vec![
        read(&path, cms::show)
            .says("Shows the model of a topology in the configuration management system, and whether it is in sync.")
            .may(Own, All, Never)
            .answers::<CmsView>(200, "The model."),
        send(&path, cms::create)
            .says("Makes the model of a topology in the configuration management system.")
            .may(Own, All, Never)
            .answers::<CmsView>(201, "The model."),
        set(&path, cms::sync)
            .matches()
            .says("Syncs the model of a topology with how it is now.")
            .may(Own, All, Never)
            .answers::<CmsView>(200, "The model."),
        remove(&path, cms::remove)
            .matches()
            .says("Removes the model of a topology.")
            .may(Own, All, Never)
            .answers_with(204, "It is gone.", None),
    ]
}

fn listed() -> Vec<Route> {
    vec![
        read("/topologies", topologies::list)
            .says("Lists topologies of the caller's tenant.")
            .may(Own, All, All)
            .query::<TopologiesQuery>()
            .answers::<Page<TopologyView>>(200, "A page."),
        send("/topologies", creation::create)
            .says("Creates a topology.")
            .may(Own, Own, Never)
            .takes::<TopologyRequest>()
            .works(),
        read("/topologies/{id}", topologies::show)
            .says("Shows a topology with its components, nodes and what each waits for.")
            .may(Own, All, All)
            .answers::<TopologyView>(200, "The topology."),
        remove("/topologies/{id}", topologies::delete)
            .matches()
            .says("Deletes a topology with all that belongs to it.")
            .may(Own, Own, Never)
            .works(),
        send("/topologies/{id}/components", creation::add)
            .says("Adds a component.")
            .may(Own, Own, Never)
            .takes::<ComponentRequest>()
            .works(),
        read("/topologies/{id}/events", events::of_topology)
            .says("Follows what happens in a topology, from the beginning or from Last-Event-ID.")
            .may(Own, All, Never)
            .answers_with(200, "Events as they happen.", Some(Content::Events)),
        send("/topologies/{id}/commands", commands::batches::on_topology)
            .says("Runs a guest command on the nodes of a topology.")
            .may(Own, Own, Never)
            .takes::<CommandBatchRequest>()
            .answers::<BatchView>(202, "The batch."),
        read("/components/{id}", components::show)
            .says("Shows a component.")
            .may(Own, All, All)
            .answers::<ComponentView>(200, "The component."),
        send("/components/{id}", flex::up)
            .matches()
            .says("Adds nodes to a component (flexup).")
            .may(Own, Own, Never)
            .takes::<FlexupRequest>()
            .works(),
        alter("/components/{id}", components::patch)
            .matches()
            .says("Changes version, size or configuration of a component.")
            .may(Own, Own, Never)
            .takes::<ComponentPatch>()
            .works(),
        remove("/components/{id}", components::remove)
            .matches()
            .says("Removes a component that nothing depends on.")
            .may(Own, Own, Never)
            .works(),
        send("/components/{id}/services", services::start_all)
            .matches()
            .says("Starts the services of all nodes of a component.")
            .may(Own, Own, Never)
            .works(),
        remove("/components/{id}/services", services::stop_all)
            .matches()
            .says("Stops the services of all nodes of a component; they stay stopped.")
            .may(Own, Own, Never)
            .works(),
        set("/components/{id}/services", services::restart_all)
            .matches()
            .says("Restarts the services of a component, node after node as permits allow.")
            .may(Own, Own, Never)
            .works(),
        set("/components/{id}/tree/{ref}", rollouts::configure)
            .matches()
            .says("Has a component take up a commit, tag or branch of its configuration; an older one is a rollback.")
            .may(Own, Own, Never)
            .may_take::<RolloutOptions>()
            .works(),
        send("/components/{id}/dependencies", dependencies::dependencies)
            .matches()
            .says("Tells what a component depends on and what depends on it; with `depends_on`, changes it.")
            .may(Own, Own, Never)
            .may_take::<dependencies::DependenciesRequest>()
            .works()
            .answers::<dependencies::Dependencies>(200, "What it depends on, where nothing was to be changed."),
        read("/components/{id}/nova_flavors", flavors::list)
            .says("Lists the flavors that a component type supports; the id is its name, as in a request.")
            .may(Own, Own, Own)
            .answers::<flavors::Flavors>(200, "The flavors."),
        send("/components/{id}/status", status::write)
            .says("Writes what a health check found of the nodes of a component.")
            .may(Never, Never, All)
            .takes::<status::StatusReport>()
            .answers_with(204, "It is written.", None),
        send("/components/{id}/commands", commands::batches::on_component)
            .says("Runs a guest command on the nodes of a component.")
            .may(Own, Own, Never)
            .takes::<CommandBatchRequest>()
            .answers::<BatchView>(202, "The batch."),
        read("/nodes", nodes::list)
            .says("Lists nodes by topology, component, role and number.")
            .may(Own, All, All)
            .query::<nodes::NodesQuery>()
            .answers::<Page<NodeView>>(200, "A page."),
        read("/nodes/{id}", nodes::show).says("Shows a node.").may(Own, All, All).answers::<NodeView>(200, "The node."),
        set("/nodes/{id}", nodes::replace)
            .matches()
            .says("Replaces the host of a node; its name and settings stay.")
            .may(Own, Own, Never)
            .works(),
        remove("/nodes/{id}", flex::down)
            .matches()
            .says("Removes a node (flexdown).")
            .may(Own, Own, Never)
            .query::<flex::Down>()
            .begins(),
        read("/nodes/{id}/why", nodes::why)
            .says("Tells the one reason why a node waits, with its evidence.")
            .may(Own, All, Never)
            .answers::<Why>(200, "The reason."),
        read("/nodes/{id}/history", history::of_node)
            .says("Tells what a node was told, had run and had reported at a time.")
            .may(Own, All, Never)
            .query::<history::AsOf>()
            .answers::<NodeAsOf>(200, "The node as it was, as far as that is kept."),
        send("/nodes/{id}/services", services::start)
            .matches()
            .says("Starts the services of a node.")
            .may(Own, Own, Never)
            .works(),
        remove("/nodes/{id}/services", services::stop)
            .matches()
            .says("Stops the services of a node; they stay stopped over reboots and changes.")
            .may(Own, Own, Never)
            .works(),
        set("/nodes/{id}/services", services::restart)
            .matches()
            .says("Restarts the services of a node.")
            .may(Own, Own, Never)
            .works(),
        send("/nodes/{id}/commands", commands::on_node)
            .says("Runs a guest command on a node.")
            .may(Own, Own, Never)
            .takes::<CommandRequest>()
            .answers::<CommandView>(202, "The command, queued."),
    ]
}
