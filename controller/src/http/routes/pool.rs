//! The pool of hosts and the tokens that they join with.

use crate::http::access::Reach::{All, Never};
use crate::http::lists::ListQuery;
use crate::http::pool as of;
use crate::http::route::Route;
use crate::http::route::on::{alter, read, remove, send};
use straas_schemas::pool::{
    HostAnnounced, HostPatch, HostRequest, HostView, JoinTokenIssued, JoinTokenRequest, JoinTokenView,
};
use straas_schemas::view::Page;

/// See the module.
pub fn routes() -> Vec<Route> {
    vec![
        read("/hosts", of::list)
            .says("Lists the hosts of the pool.")
            .may(Never, All, Never)
            .query::<of::HostsQuery>()
            .answers::<Page<HostView>>(200, "A page."),
        send("/hosts", of::announce)
            .says("Announces a host, which joins the pool with the token that is answered.")
            .may(Never, All, Never)
            .takes::<HostRequest>()
            .secret()
            .answers::<HostAnnounced>(201, "The host, and its token, shown this once."),
        read("/hosts/{id}", of::show)
            .says("Shows a host of the pool.")
            .may(Never, All, Never)
            .answers::<HostView>(200, "The host."),
        alter("/hosts/{id}", of::patch)
            .matches()
            .says("Keeps further nodes from a host or lets them come again, or tells it that it was cleaned by hand.")
            .may(Never, All, Never)
            .takes::<HostPatch>()
            .answers::<HostView>(200, "The host."),
        remove("/hosts/{id}", of::remove)
            .matches()
            .says("Takes a host out of the pool.")
            .may(Never, All, Never)
            .query::<of::Removal>()
            .answers_with(204, "It is out, and its certificate is good for nothing.", None),
        read("/join-tokens", of::tokens)
            .says("Lists the join tokens that have not expired.")
            .may(Never, All, Never)
            .query::<ListQuery>()
            .answers::<Page<JoinTokenView>>(200, "A page."),
        send("/join-tokens", of::make_token)
            .says("Makes a token with which hosts join the pool.")
            .may(Never, All, Never)
            .takes::<JoinTokenRequest>()
            .secret()
            .answers::<JoinTokenIssued>(201, "The token, shown this once."),
        read("/join-tokens/{id}", of::token)
            .says("Shows what is known of a join token, never the token itself.")
            .may(Never, All, Never)
            .answers::<JoinTokenView>(200, "The token."),
        remove("/join-tokens/{id}", of::remove_token).says("Ends a join token.").may(Never, All, Never).answers_with(
            204,
            "Nobody joins with it any more; who has joined stays.",
            None,
        ),
    ]
}
