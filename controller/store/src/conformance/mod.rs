//! What the trait means, as cases that every implementation passes.
//!
//! A case gets a store, which may hold what other cases left, and panics when a promise is broken.
//! Cases name their things after themselves, so they also run side by side on one database. Used by
//! the tests of this crate; part of the library so that another implementation can be held to it.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is how a case speaks

mod agents;
mod audit;
mod authority;
mod batches;
mod commands;
mod concurrency;
mod events;
mod fixture;
mod health;
mod heartbeats;
mod history;
mod identity;
mod jobs;
mod leases;
mod neighbours;
mod news;
mod nodes;
mod pool;
mod requests;
mod rollouts;
mod storage;
mod topologies;
mod workflows;

pub use fixture::{World, heartbeat, silent, stage_report};
pub use rollouts::rollout;

use crate::Store;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A case.
pub type CaseFn = fn(Arc<dyn Store>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

macro_rules! cases {
    ($($file:ident :: $case:ident,)*) => {
        vec![$((concat!(stringify!($file), "::", stringify!($case)), |store| Box::pin($file::$case(store))),)*]
    };
}

/// Every case with its name.
#[must_use]
pub fn cases() -> Vec<(&'static str, CaseFn)> {
    cases![
        topologies::created_and_read,
        topologies::names_are_unique_in_a_zone,
        topologies::a_refused_creation_leaves_nothing,
        topologies::paged_by_id_and_tenant,
        topologies::deleted_as_it_was_seen,
        topologies::deleted_once,
        topologies::forgotten_with_all_that_is_theirs,
        topologies::components_change_by_revision,
        topologies::nothing_changes_while_deleting,
        topologies::snapshot_has_everything,
        topologies::odd_texts_survive,
        nodes::nodes_with_addresses_are_targets,
        nodes::added_once_and_removed,
        nodes::orphans_are_refused,
        nodes::hosts_are_written,
        nodes::another_host_is_another_incarnation,
        nodes::of_a_host_that_is_gone_nothing_comes_back,
        nodes::what_has_a_host_is_not_forgotten,
        nodes::assignments_swap_by_generation,
        nodes::a_plan_holds_while_no_other_assignment_was_written,
        nodes::large_assignments,
        nodes::listed_in_bytewise_order,
        agents::what_a_report_tells_is_recorded_with_it,
        agents::tokens_are_spent_once,
        agents::a_lost_answer_to_an_enrolment_is_given_again,
        agents::a_new_token_ends_the_earlier,
        agents::tokens_are_bounded,
        agents::enrolment_clears_what_was_observed,
        agents::reports_count_once,
        agents::reports_of_another_incarnation_are_refused,
        agents::late_results_do_not_overwrite,
        agents::converged_only_rises,
        agents::that_a_node_worked_is_kept,
        agents::the_newest_refusal_is_kept,
        agents::old_reports_are_pruned_and_stay_known,
        agents::impossible_numbers_are_refused_whole,
        heartbeats::the_newest_is_kept,
        heartbeats::out_of_order,
        heartbeats::strangers_are_dropped,
        heartbeats::batches_are_bounded,
        heartbeats::one_bad_beat_spoils_nothing,
        jobs::read_and_filtered,
        jobs::end_once,
        jobs::later_requests_supersede,
        events::numbered_and_paged,
        events::pruned_per_topology,
        commands::queued_and_read,
        commands::listed_newest_first,
        commands::queues_are_bounded,
        commands::started_and_ended_once,
        commands::assumptions_give_way_to_the_truth,
        commands::cancelled_at_once_or_by_the_agent,
        commands::what_a_lost_agent_may_have_run_is_unknown,
        commands::a_removed_node_ends_its_commands,
        batches::output_has_no_gaps,
        batches::pruned_per_node,
        batches::batches_go_forward_and_stop,
        batches::changes_are_numbered,
        batches::many_at_once,
        workflows::jobs_supersede_those_of_their_component,
        workflows::the_whole_spec_is_kept,
        workflows::a_job_is_taken_back_whole,
        workflows::components_come_and_go,
        workflows::quarantine_holds_until_released,
        identity::tenants_and_users_are_kept,
        identity::users_change_as_they_were_seen,
        identity::a_tenant_with_topologies_stays,
        identity::tokens_end,
        identity::log_ins_are_bounded,
        history::what_a_node_was_told_is_kept,
        history::what_a_node_reported_outlives_its_incarnation,
        neighbours::both_ends_are_seen,
        neighbours::what_others_need_stays,
        neighbours::nothing_depends_on_what_goes,
        neighbours::topologies_do_not_go_in_circles,
        neighbours::at_once,
        audit::appended_and_read_newest_first,
        requests::answered_as_the_first_time,
        requests::a_refused_one_is_forgotten,
        requests::what_is_made_and_the_note_of_it_are_one,
        requests::bounded_per_tenant,
        requests::one_claim_among_many,
        storage::files_are_kept_by_name,
        storage::a_file_is_changed_as_expected_or_not,
        storage::a_tenants_limit_holds_for_all_at_once,
        storage::content_that_is_needed_is_known,
        news::words_are_heard_in_their_order,
        leases::one_has_it_until_it_ends,
        leases::one_of_many_takes_it,
        leases::what_is_written_under_a_lost_one_is_refused,
        authority::the_record_is_changed_as_it_was_seen,
        authority::certificates_are_noted_of_the_newest_incarnation,
        authority::hosts_have_certificates_too,
        pool::hosts_join_with_tokens,
        pool::a_lost_answer_is_given_again,
        pool::hosts_change_as_they_were_seen,
        pool::a_node_is_on_one_host,
        pool::what_changed_is_found,
        rollouts::kept_and_changed_as_they_were_seen,
        rollouts::listed_newest_first,
        rollouts::a_component_is_in_one_at_a_time,
        rollouts::what_a_request_begins_is_noted_with_it,
        health::the_newest_word_counts,
        health::a_model_is_made_once,
        concurrency::one_enrolment_per_token,
        concurrency::one_winner_per_generation,
        concurrency::no_report_is_lost,
        concurrency::converged_rises_for_all,
        concurrency::nothing_observed_outlives_an_enrolment,
        concurrency::one_creation_per_name,
        concurrency::events_become_visible_in_order,
        concurrency::snapshots_are_of_one_moment,
        concurrency::overlapping_heartbeat_batches,
    ]
}

/// Runs every case, one after the other.
///
/// # Panics
/// With the names of all cases that failed.
pub async fn run(store: Arc<dyn Store>) {
    let mut failed = Vec::new();
    for (name, case) in cases() {
        if let Err(cause) = tokio::spawn(case(store.clone())).await {
            failed.push(format!("{name}: {cause}"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
