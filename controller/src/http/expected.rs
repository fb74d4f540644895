//! What a writer of a file expects at its name: `If-Match` and `If-None-Match` of an upload or removal.
//!
//! A file's ETag is the SHA-256 of its content. What is expected is compared by the store, in the transaction of
//! the change; before an upload it is looked at once more, so that nobody sends for nothing.

use super::conditions::{Named, named};
use super::problem::ApiError;
use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use straas_store::Expected;

/// What has to be there, from the headers of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upon(pub Expected);

impl<S: Send + Sync> FromRequestParts<S> for Upon {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let mut expected = Expected::default();
        match named(&parts.headers, &header::IF_MATCH)? {
            Some(Named::Any) => expected.something = true,
            Some(Named::These(tags)) => expected.one_of = Some(tags),
            None => {}
        }
        match named(&parts.headers, &header::IF_NONE_MATCH)? {
            Some(Named::Any) => expected.nothing = true,
            Some(Named::These(tags)) => expected.none_of = tags,
            None => {}
        }
        Ok(Self(expected))
    }
}

impl Upon {
    /// Whether it matters what is there.
    pub fn is_asked(&self) -> bool {
        self.0 != Expected::default()
    }

    /// Refuses unless what is there will do.
    ///
    /// # Errors
    /// See [`Upon::refused`].
    pub fn check(&self, path: &str, there: Option<&str>) -> Result<(), ApiError> {
        if self.0.admits(there) { Ok(()) } else { Err(Self::refused(path, there)) }
    }

    /// 412 with the ETag of what is there.
    pub fn refused(path: &str, there: Option<&str>) -> ApiError {
        let detail = match there {
            Some(sha256) => format!("{path} has the content {sha256}, which is not what you expect; look at it again"),
            None => format!("there is no {path}, and you expect one; look at what is there again"),
        };
        ApiError::precondition_failed(&detail, there.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    async fn read(headers: &[(header::HeaderName, &str)]) -> Expected {
        let mut request = Request::new(());
        for (name, value) in headers {
            request.headers_mut().append(name, value.parse().expect("a value"));
        }
        Upon::from_request_parts(&mut request.into_parts().0, &()).await.expect("read").0
    }

    #[tokio::test]
    async fn both_headers_are_read_and_held_to() {
        let (is, is_not) = (header::IF_MATCH, header::IF_NONE_MATCH);
        for (headers, nothing, a, b) in [
            (&[][..], true, true, true),
            (&[(is.clone(), "\"a\"")], false, true, false),
            (&[(is.clone(), "\"a\", \"b\"")], false, true, true),
            (&[(is.clone(), "*")], false, true, true),
            (&[(is.clone(), "W/\"a\"")], false, false, false),
            (&[(is_not.clone(), "*")], true, false, false),
            (&[(is_not.clone(), "\"a\"")], true, false, true),
            (&[(is.clone(), "*"), (is_not.clone(), "\"b\"")], false, true, false),
            (&[(is, "*"), (is_not, "*")], false, false, false),
        ] {
            let expected = read(headers).await;
            let found = (expected.admits(None), expected.admits(Some("a")), expected.admits(Some("b")));
            assert_eq!(found, (nothing, a, b), "{headers:?}");
        }
    }
}
