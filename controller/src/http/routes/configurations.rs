//! The config repo.

use crate::http::access::Reach::{All, Never, Own};
use crate::http::configurations as of;
use crate::http::lists::ListQuery;
use crate::http::route::Route;
use crate::http::route::on::{read, remove, send, set};
use crate::http::topologies::Mutation;
use straas_schemas::configuration::{
    Blame, CommitView, ConfigDiff, ConfigNode, ConfigWrite, ConfigWritten, EffectiveView, ResealView, SettingsView,
    TagRequest, TagView, UpdatesView,
};
use straas_schemas::view::Page;

/// See the module.
pub fn routes() -> Vec<Route> {
    let tree = |route: Route| {
        route
            .says("Lists a folder or reads a file of the config repo, at a branch, tag or commit.")
            .may(Own, All, Never)
            .answers::<ConfigNode>(200, "The folder or file; its ETag is the commit.")
    };
    let log = |route: Route| {
        route
            .says("Lists the commits that changed a path, newest first.")
            .may(Own, All, Never)
            .query::<ListQuery>()
            .answers::<Page<CommitView>>(200, "A page.")
    };
    vec![
        tree(read("/configurations/tree/{ref}", of::read_top)),
        tree(read("/configurations/tree/{ref}/", of::read_top)),
        tree(read("/configurations/tree/{ref}/{*path}", of::read)),
        set("/configurations/tree/{ref}/{*path}", of::write)
            .matches()
            .says("Writes a file: values of a topology's user.json, or for the platform anything on its branches.")
            .may(Own, All, Never)
            .takes::<ConfigWrite>()
            .answers::<ConfigWritten>(200, "It is committed; the ETag is the commit."),
        read("/configurations/tree/{ref}/tags", of::list_tags)
            .says("Lists the tags of a branch.")
            .may(Own, All, Never)
            .query::<of::TagsQuery>()
            .answers::<Page<TagView>>(200, "A page."),
        send("/configurations/tree/{ref}/tags", of::create_tag)
            .says("Tags a commit of a branch, the newest if none is named.")
            .may(Own, All, Never)
            .takes::<TagRequest>()
            .answers::<TagView>(201, "The tag."),
        remove("/configurations/tree/{ref}/tags/{tag}", of::delete_tag)
            .matches()
            .says("Removes a tag.")
            .may(Own, All, Never)
            .answers_with(204, "It is gone.", None),
        read("/configurations/diff/{range}", of::diff)
            .says("Tells what differs between two refs, written a...b, key by key.")
            .may(Own, All, Never)
            .answers::<ConfigDiff>(200, "The differences."),
        log(read("/configurations/log/{ref}", of::log_top)),
        log(read("/configurations/log/{ref}/{*path}", of::log)),
        read("/configurations/blame/{ref}/{*path}", of::blame)
            .says("Tells of every value of a configuration file who set it, when and in which commit.")
            .may(Own, All, Never)
            .answers::<Blame>(200, "The values."),
        read("/configurations/updates/{component_id}", of::updates)
            .says("Tells which defaults moved since a component's topology took them, and what they collide with.")
            .may(Own, All, Never)
            .answers::<UpdatesView>(200, "What moved."),
        send("/configurations/updates/{component_id}", of::take_up)
            .says("Takes up the defaults that moved, on the topology's branch; values that the user set stay.")
            .may(Own, All, Never)
            .query::<Mutation>()
            .answers::<UpdatesView>(200, "What moved; the commit has it, and the component takes it up when told to."),
        read("/configurations/effective/{component_id}", of::effective)
            .says("Tells what every key comes to for a component, and which file and commit set it.")
            .may(Own, All, Never)
            .answers::<EffectiveView>(200, "The values."),
        read("/configurations/settings", of::settings)
            .says("Tells what every setting of the service itself comes to, which file and commit set it, and what is in force.")
            .may(Never, All, Never)
            .query::<of::SettingsQuery>()
            .answers::<SettingsView>(200, "The values."),
        send("/configurations/reseal", of::reseal)
            .says("Seals what older keys sealed with the newest, on every branch; ask again while there is more.")
            .may(Never, All, Never)
            .answers::<ResealView>(200, "The branches that have it now; a component takes its commit up when it is told to."),
    ]
}
