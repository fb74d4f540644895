//! What belongs to the platform: scripts and what failed its canaries.

use crate::http::access::Reach::{All, Never, Own};
use crate::http::route::Route;
use crate::http::route::on::{read, remove, set};
use crate::http::topologies::Mutation;
use crate::http::{audit, discovery, quarantine, scripts};
use straas_schemas::audit::AuditView;
use straas_schemas::change::SyncRequest;
use straas_schemas::view::{DryRun, Page, QuarantineView};

/// See the module.
pub fn routes() -> Vec<Route> {
    vec![
        set("/nodes/scripts", scripts::put)
            .says("Has topologies, components or nodes take up a commit of the script repo.")
            .may(Own, All, Never)
            .query::<Mutation>()
            .takes::<SyncRequest>()
            .answers::<super::Jobs>(202, "The jobs that do it.")
            .answers::<super::Jobs>(200, "All have it.")
            .answers::<DryRun>(200, "What it would do."),
        read("/discovery/prometheus", discovery::prometheus)
            .says("Tells Prometheus where agents show their metrics (http_sd_config).")
            .may(Own, All, All)
            .query::<discovery::Whose>()
            .answers::<Vec<discovery::Group>>(200, "The agents."),
        read("/audit", audit::list)
            .says("Lists requests that changed something, newest first.")
            .may(Own, All, Never)
            .query::<audit::AuditQuery>()
            .answers::<Page<AuditView>>(200, "A page."),
        read("/quarantine", quarantine::list)
            .says("Lists versions and script commits that failed their canaries.")
            .may(Own, All, Never)
            .query::<quarantine::QuarantineQuery>()
            .answers::<Page<QuarantineView>>(200, "A page."),
        remove("/quarantine/{what}/{key}", quarantine::release)
            .says("Lets a version or script commit through again.")
            .may(Never, All, Never)
            .answers_with(204, "It may be had again.", None),
    ]
}
