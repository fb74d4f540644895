//! Who calls, and whether he may: from a token in a header to a caller with a reach.
//!
//! Nobody comes to a handler who has no right to its route (`access.rs`, `routes/`). How far the right goes,
//! to his tenant's things or to everybody's, travels with the caller: a handler asks
//! [`Caller::may`] of everything that it finds by an id.

use super::access::{Access, Rank, Reach};
use super::problem::ApiError;
use crate::app::App;
use crate::identity::{ADMIN_TENANT, Person, Refused};
use crate::secrets;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;
use straas_schemas::identity::{Role, TokenView};

/// The name of who has the administrator's token of the data directory.
const ADMIN_NAME: &str = "admin";

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The tenant that he works in.
    pub tenant: String,
    /// His name: a user's, or what a program's token is called.
    pub name: String,
    /// What he is.
    pub rank: Rank,
    /// The token he showed.
    pub token: TokenView,
    /// How far his right to this route goes.
    reach: Reach,
}

impl Caller {
    /// Whether his right to this route goes as far as what this tenant owns.
    #[must_use]
    pub fn may(&self, tenant: &str) -> bool {
        match self.reach {
            Reach::All => true,
            Reach::Own => self.tenant == tenant,
            Reach::Never => false,
        }
    }

    /// Whether his right to this route goes to what belongs to no tenant.
    #[must_use]
    pub fn may_common(&self) -> bool {
        self.reach == Reach::All
    }

    /// Whether he is an administrator.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.rank == Rank::Admin
    }

    /// The tenants whose things a list shows: his own, or with `all` everybody's.
    ///
    /// # Errors
    /// 403 if everybody's are not his to see.
    pub fn listed(&self, all: bool) -> Result<Option<&str>, ApiError> {
        match (all, self.reach) {
            (false, _) => Ok(Some(&self.tenant)),
            (true, Reach::All) => Ok(None),
            (true, _) => Err(ApiError::forbidden("all_tenants is for administrators and operators")),
        }
    }
}

/// The token of a request, on its way to handlers that deal in tokens.
#[derive(Clone)]
pub struct Shown(pub String);

/// Lets through who has a token with a right to the route, and says who it is.
pub async fn authenticate(
    State((app, access)): State<(Arc<App>, Access)>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if access.open {
        return Ok(next.run(request).await);
    }
    let Some(token) = token(request.headers()) else {
        return Err(ApiError::unauthorized("send a token in the header X-Auth-Token or Authorization: Bearer"));
    };
    let token = token.to_owned();
    let Some(person) = person(&app, &token).await? else {
        return Err(ApiError::unauthorized("this token is not known, or has expired"));
    };
    let rank = person.scope.as_ref().map_or(Rank::Nobody, |(_, role)| Rank::of(person.token.admin, *role));
    let reach = access.reach(rank);
    if reach == Reach::Never {
        return Err(ApiError::forbidden(match rank {
            Rank::Nobody if person.token.tenant.is_some() => {
                "none of your roles in this tenant gives you any right here: ask for one that does, or choose another tenant"
            }
            Rank::Nobody => "this token is for no tenant yet: choose one with POST /straas/v1.0/auth/tokens",
            _ => "this is not for your role",
        }));
    }
    let tenant = person.scope.map(|(tenant, _)| tenant).unwrap_or_default();
    request.extensions_mut().insert(Caller { tenant, name: person.name, rank, token: person.token, reach });
    request.extensions_mut().insert(Shown(token));
    Ok(next.run(request).await)
}

async fn person(app: &App, token: &str) -> Result<Option<Person>, ApiError> {
    if secrets::matches(token, &app.admin_token) {
        return Ok(Some(administrator()));
    }
    app.identity.person(token).await.map_err(refused)
}

/// Who has the administrator's token of the data directory.
fn administrator() -> Person {
    let token = TokenView {
        id: "admin.token".to_owned(),
        label: "the administrator's token in the data directory".to_owned(),
        user: None,
        tenant: Some(ADMIN_TENANT.to_owned()),
        role: Some(Role::Member),
        admin: true,
        by: "the controller".to_owned(),
        created_ms: 0,
        expires_ms: None,
    };
    Person { name: ADMIN_NAME.to_owned(), scope: Some((ADMIN_TENANT.to_owned(), Role::Member)), token }
}

/// The HTTP face of a refusal.
pub fn refused(error: Refused) -> ApiError {
    match error {
        Refused::Unknown(why) => ApiError::unauthorized(why),
        Refused::Busy => ApiError::too_many(&error.to_string()),
        Refused::Away(_) => {
            tracing::warn!(error = crate::error::chain(&error), "cannot find out who calls");
            ApiError::unavailable("who you are cannot be found out now; nobody is let in until it can")
        }
    }
}

/// The token of a request.
pub fn token(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    // a scheme's name has no case (RFC 9110, 11.1)
    let bearer = || text("authorization")?.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    text("x-auth-token").or_else(|| text("token")).or_else(|| bearer().map(|(_, token)| token.trim()))
}

#[cfg(test)]
impl Caller {
    /// One for tests of what a rank may do.
    pub(crate) fn of(tenant: &str, rank: Rank, reach: Reach) -> Self {
        let token = administrator().token;
        Self { tenant: tenant.to_owned(), name: "somebody".to_owned(), rank, token, reach }
    }
}
