//! The certificate authority and its exchange for another one.

use crate::http::access::Reach::{All, Never};
use crate::http::authority as of;
use crate::http::route::Route;
use crate::http::route::on::{read, remove, send};
use crate::http::topologies::Mutation;
use straas_schemas::authority::{AdvanceRequest, AuthorityView};

/// See the module.
pub fn routes() -> Vec<Route> {
    vec![
        read("/authority", of::show)
            .says("Shows the certificate authority, how far an exchange is, and which agents are waited for.")
            .may(Never, All, Never)
            .answers::<AuthorityView>(200, "The authority."),
        send("/authority/rotation", of::begin)
            .says("Begins to exchange the certificate authority for a new one; each step comes by itself.")
            .may(Never, All, Never)
            .query::<Mutation>()
            .answers::<AuthorityView>(200, "The authority, with the exchange as it begins."),
        send("/authority/rotation/advance", of::advance)
            .says("Goes on with the exchange without the agents that are waited for.")
            .may(Never, All, Never)
            .query::<Mutation>()
            .takes::<AdvanceRequest>()
            .answers::<AuthorityView>(200, "The authority in the next phase."),
        remove("/authority/rotation", of::take_back)
            .says("Takes the exchange back, as long as the old authority is not retired.")
            .may(Never, All, Never)
            .query::<Mutation>()
            .answers::<AuthorityView>(200, "The authority, with the exchange on its way back."),
    ]
}
