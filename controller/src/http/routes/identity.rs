//! Users, tenants and tokens.

use crate::http::access::Reach::{All, Never, Own};
use crate::http::identity as of;
use crate::http::lists::ListQuery;
use crate::http::route::Route;
use crate::http::route::on::{read, remove, send, set};
use straas_schemas::identity::{
    LogIn, PasswordRequest, RoleRequest, TenantView, TokenIssued, TokenRequest, TokenView, UserRequest, UserView,
};
use straas_schemas::view::Page;

/// See the module.
pub fn routes() -> Vec<Route> {
    vec![
        send("/auth/tokens", of::log_in)
            .says("Gives a token for a password, or for another token of the same user and a tenant.")
            .for_anybody()
            .takes::<LogIn>()
            .answers::<TokenIssued>(201, "The token, shown this once."),
        read("/auth/tenants", of::tenants_of_caller)
            .says("Lists the tenants that the caller can choose from.")
            .for_known()
            .answers::<Page<String>>(200, "All of them."),
        read("/auth/token", of::who)
            .says("Tells who the caller is.")
            .for_known()
            .answers::<TokenView>(200, "What is known of the token."),
        remove("/auth/token", of::revoke_own)
            .says("Ends the token that the request comes with.")
            .for_known()
            .answers_with(204, "It has ended.", None),
        read("/tokens", of::list)
            .says("Lists tokens of the caller's tenant.")
            .may(Own, All, Never)
            .query::<of::TokensQuery>()
            .answers::<Page<TokenView>>(200, "A page."),
        send("/tokens", of::create)
            .says("Makes a token for a program.")
            .may(Own, Own, Never)
            .takes::<TokenRequest>()
            .secret()
            .answers::<TokenIssued>(201, "The token, shown this once."),
        read("/tokens/{id}", of::show)
            .says("Shows what is known of a token, never the token itself.")
            .may(Own, All, Never)
            .answers::<TokenView>(200, "The token."),
        remove("/tokens/{id}", of::remove).says("Revokes a token.").may(Own, Own, Never).answers_with(
            204,
            "It has ended.",
            None,
        ),
        read("/tenants", of::tenants)
            .says("Lists tenants.")
            .may(Never, All, Never)
            .query::<ListQuery>()
            .answers::<Page<TenantView>>(200, "A page."),
        send("/tenants", of::add_tenant)
            .says("Adds a tenant.")
            .may(Never, Never, Never)
            .takes::<TenantView>()
            .answers::<TenantView>(201, "The tenant."),
        read("/tenants/{id}", of::tenant)
            .says("Shows a tenant.")
            .may(Never, All, Never)
            .answers::<TenantView>(200, "The tenant."),
        remove("/tenants/{id}", of::remove_tenant)
            .says("Removes a tenant that has no topologies.")
            .may(Never, Never, Never)
            .answers_with(204, "It is gone, with its tokens.", None),
        read("/users", of::users)
            .says("Lists users.")
            .may(Never, All, Never)
            .query::<of::UsersQuery>()
            .answers::<Page<UserView>>(200, "A page."),
        send("/users", of::add_user)
            .says("Adds a user.")
            .may(Never, Never, Never)
            .takes::<UserRequest>()
            .answers::<UserView>(201, "The user."),
        read("/users/{name}", of::user)
            .says("Shows a user.")
            .may(Never, All, Never)
            .answers::<UserView>(200, "The user."),
        remove("/users/{name}", of::remove_user)
            .matches()
            .says("Removes a user.")
            .may(Never, Never, Never)
            .answers_with(204, "He is gone, with his tokens.", None),
        set("/users/{name}/password", of::set_password)
            .matches()
            .says("Sets a user's password and ends all his tokens.")
            .may(Never, Never, Never)
            .takes::<PasswordRequest>()
            .answers_with(204, "It is set.", None),
        set("/users/{name}/tenants/{tenant}", of::set_membership)
            .matches()
            .says("Gives a user a role in a tenant.")
            .may(Never, Never, Never)
            .takes::<RoleRequest>()
            .answers_with(204, "He has it.", None),
        remove("/users/{name}/tenants/{tenant}", of::end_membership)
            .matches()
            .says("Takes a user out of a tenant.")
            .may(Never, Never, Never)
            .answers_with(204, "His tokens there have ended.", None),
    ]
}
