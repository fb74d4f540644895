//! What is being done: jobs, rollouts over the fleet, guest commands, batches of them.

use crate::http::access::Reach::{All, Never, Own};
use crate::http::commands::{batches, live, reading};
use crate::http::route::on::{read, send};
use crate::http::route::{Content, Route};
use crate::http::topologies::Mutation;
use crate::http::{events, fleet, jobs, steer};
use straas_schemas::command::{BatchView, CommandView, CommandsOffered};
use straas_schemas::job::Job;
use straas_schemas::rollout::{FleetRollout, FleetRolloutRequest};
use straas_schemas::view::{DryRun, Page};

/// See the module.
pub fn routes() -> Vec<Route> {
    vec![
        read("/jobs", jobs::list)
            .says("Lists jobs, newest first.")
            .may(Own, All, Never)
            .query::<jobs::JobsQuery>()
            .answers::<Page<Job>>(200, "A page; without steps."),
        read("/jobs/{id}", jobs::show)
            .says("Shows a job with its steps and how each node stands in them.")
            .may(Own, All, Never)
            .answers::<Job>(200, "The job."),
        read("/jobs/{id}/events", events::of_job)
            .says("Follows a job until it ends.")
            .may(Own, All, Never)
            .answers_with(200, "Events as they happen; `job` events carry its picture.", Some(Content::Events)),
        steered("/jobs/{id}/pause", "Lets the change of a job reach no further node.", |path| send(path, steer::pause)),
        steered("/jobs/{id}/resume", "Goes on with a change that was paused or held.", |path| {
            send(path, steer::resume)
        }),
        steered("/jobs/{id}/cancel", "Takes back what a job changed, as far as that can be.", |path| {
            send(path, steer::cancel)
        }),
        read("/rollouts", fleet::list)
            .says("Lists rollouts over the fleet, newest first; without their members.")
            .may(Own, All, Never)
            .query::<fleet::RolloutsQuery>()
            .answers::<Page<FleetRollout>>(200, "A page."),
        send("/rollouts", fleet::begin)
            .says("Rolls something out over many components, batch by batch; turned back as a whole if one fails.")
            .may(Own, All, Never)
            .query::<Mutation>()
            .takes::<FleetRolloutRequest>()
            .answers::<FleetRollout>(201, "The rollout.")
            .answers::<FleetRollout>(200, "As it would be, with its batches and members; nothing is written."),
        read("/rollouts/{id}", fleet::show)
            .says("Shows a rollout with its members.")
            .may(Own, All, Never)
            .answers::<FleetRollout>(200, "The rollout."),
        turned("/rollouts/{id}/pause", "Lets no further member of a rollout begin.", |path| send(path, fleet::pause)),
        turned("/rollouts/{id}/resume", "Goes on with a rollout that was paused.", |path| send(path, fleet::resume)),
        turned("/rollouts/{id}/cancel", "Has every member that has begun want what it did before.", |path| {
            send(path, fleet::cancel)
        }),
        read("/commands", reading::list)
            .says("Lists guest commands, newest first; without their output.")
            .may(Own, All, Never)
            .query::<reading::CommandsQuery>()
            .answers::<Page<CommandView>>(200, "A page."),
        read("/commands/{id}", reading::show)
            .waits()
            .says("Shows a guest command; waits for its end if asked to.")
            .may(Own, All, Never)
            .query::<reading::Waiting>()
            .answers::<CommandView>(200, "The command."),
        send("/commands/{id}/cancel", reading::cancel)
            .says("Cancels a guest command.")
            .may(Own, All, Never)
            .answers::<CommandView>(202, "The command, which ends as soon as its node hears of it."),
        read("/commands/{id}/output", reading::output)
            .says("Gives the output of a guest command as it came.")
            .may(Own, All, Never)
            .query::<reading::From>()
            .answers_with(200, "The bytes from the offset.", Some(Content::Bytes)),
        read("/commands/{id}/events", live::events)
            .says("Follows a guest command and its output until it ends.")
            .may(Own, All, Never)
            .answers_with(200, "Events as they happen.", Some(Content::Events)),
        read("/batches/{id}", batches::show)
            .waits()
            .says("Shows a batch of guest commands; waits for its end if asked to.")
            .may(Own, All, Never)
            .query::<reading::Waiting>()
            .answers::<BatchView>(200, "The batch."),
        send("/batches/{id}/cancel", batches::cancel)
            .says("Cancels what has not ended of a batch.")
            .may(Own, All, Never)
            .answers::<BatchView>(202, "The batch."),
        read("/guestcmds", reading::offered)
            .says("Lists the guest commands there are, with the schemas of their arguments.")
            .may(Own, All, Never)
            .query::<reading::OfferedQuery>()
            .answers::<CommandsOffered>(200, "The commands by group."),
    ]
}

fn steered(path: &'static str, says: &'static str, route: impl Fn(&'static str) -> Route) -> Route {
    route(path)
        .says(says)
        .may(Own, All, Never)
        .query::<Mutation>()
        .answers::<Job>(200, "The job as it stands now.")
        .answers::<DryRun>(200, "What it would do.")
}

fn turned(path: &'static str, says: &'static str, route: impl Fn(&'static str) -> Route) -> Route {
    route(path).says(says).may(Own, All, Never).answers::<FleetRollout>(200, "The rollout as it stands now.")
}
