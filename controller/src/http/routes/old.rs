//! The API before 1.0.

use crate::http::access::Reach::{Never, Own};
use crate::http::old_api as of;
use crate::http::route::Route;
use crate::http::route::on::{read, send};
use crate::http::topologies::TopologiesQuery;
use straas_schemas::command::CommandView;
use straas_schemas::view::{Page, TopologyView};

/// See the module.
pub fn routes() -> Vec<Route> {
    let routes = vec![
        read("/straas/", of::list)
            .says("Lists topologies of the caller's tenant.")
            .may(Own, Own, Never)
            .query::<TopologiesQuery>()
            .answers::<Page<TopologyView>>(200, "A page."),
        read("/straas/{topology_name}", of::show)
            .says("Shows a topology by its name.")
            .may(Own, Own, Never)
            .query::<of::Zone>()
            .answers::<TopologyView>(200, "The topology."),
        send("/straas/guestcmd/{component_id}/{node_name}", of::guestcmd)
            .waits()
            .says("Runs a guest command and waits for its end.")
            .may(Own, Own, Never)
            .takes::<of::OldCommand>()
            .answers::<CommandView>(200, "How it ended.")
            .answers::<CommandView>(202, "It has not ended yet."),
        send("/straas/stormjar/{component_id}", of::stormjar)
            .waits()
            .says("Submits a Storm topology: the body is its jar.")
            .may(Own, Own, Never)
            .query::<of::Jar>()
            .takes_bytes()
            .answers::<CommandView>(200, "How it ended.")
            .answers::<CommandView>(202, "It has not ended yet."),
    ];
    routes.into_iter().map(Route::deprecated).collect()
}
