//! Who calls: from a token in a header to a caller.

use super::problem::ApiError;
use crate::app::App;
use crate::secrets;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;

/// The tenant of the administrator's token.
const ADMIN_TENANT: &str = "admin";

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The tenant whose topologies he sees and changes.
    pub tenant: String,
    /// He may do what is for administrators only.
    pub admin: bool,
}

/// Lets through who has a token, and says who it is.
pub async fn authenticate(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Result<Response, ApiError> {
    let Some(token) = token(request.headers()) else {
        return Err(ApiError::unauthorized("send a token in the header X-Auth-Token or Authorization: Bearer"));
    };
    if !secrets::matches(token, &app.admin_token) {
        return Err(ApiError::unauthorized("this token is not known"));
    }
    request.extensions_mut().insert(Caller { tenant: ADMIN_TENANT.to_owned(), admin: true });
    Ok(next.run(request).await)
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
    // a scheme's name has no case (RFC 9110, 11.1)
    let bearer = || text("authorization")?.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    text("x-auth-token").or_else(|| text("token")).or_else(|| bearer().map(|(_, token)| token.trim()))
}
