//! The headers of conditional requests (RFC 9110, 13.1): the ETags that a caller names.

use super::problem::ApiError;
use axum::http::{HeaderMap, HeaderName, header};

/// What a header with ETags names.
pub enum Named {
    /// Whatever there is: `*`.
    Any,
    /// These, without their quotes.
    These(Vec<String>),
}

/// The ETags of a header; none if it is not there or any will do.
///
/// # Errors
/// 400 for an empty one.
pub fn tags(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Vec<String>>, ApiError> {
    Ok(named(headers, name)?.and_then(|named| match named {
        Named::Any => None,
        Named::These(tags) => Some(tags),
    }))
}

/// What a header names; none if it is not there. A weak ETag matches nothing where a change is asked for (RFC 9110,
/// 13.1.1). Whatever is no ETag of ours matches nothing either.
///
/// # Errors
/// 400 for an empty one.
pub fn named(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Named>, ApiError> {
    let mut found: Option<Vec<String>> = None;
    for value in headers.get_all(name) {
        if value.is_empty() {
            return Err(ApiError::unreadable(format!("{name} is the ETag of an earlier answer, in quotes")));
        }
        let known = found.get_or_insert_default();
        for tag in String::from_utf8_lossy(value.as_bytes()).split(',').map(str::trim) {
            if tag == "*" {
                return Ok(Some(Named::Any));
            }
            // many send it without the quotes; there is nothing else that it could mean
            let plain = tag.trim_start_matches("W/").trim_matches('"');
            if !plain.is_empty() && (name == header::IF_NONE_MATCH || !tag.starts_with("W/")) {
                known.push(plain.to_owned());
            }
        }
    }
    Ok(found.map(Named::These))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn headers_are_read_as_the_rfc_says() {
        let read = |name: HeaderName, text: &str| {
            let headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_str(text).expect("a value"))]);
            tags(&headers, &name).map_err(|error| error.status().as_u16())
        };
        let list = |tags: &[&str]| Ok(Some(tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>()));
        assert_eq!(read(header::IF_MATCH, "\"a\""), list(&["a"]));
        assert_eq!(read(header::IF_MATCH, "\"a\", \"b\""), list(&["a", "b"]));
        assert_eq!(read(header::IF_MATCH, "*"), Ok(None));
        assert_eq!(read(header::IF_MATCH, "W/\"a\""), list(&[]), "a weak one matches nothing");
        assert_eq!(read(header::IF_NONE_MATCH, "W/\"a\""), list(&["a"]));
        assert_eq!(read(header::IF_MATCH, "a"), list(&["a"]));
        assert_eq!(read(header::IF_MATCH, "\"a\","), list(&["a"]));
        for none in ["\"\"", ",", "W/", "\""] {
            assert_eq!(read(header::IF_MATCH, none), list(&[]), "{none}");
        }
        assert_eq!(read(header::IF_MATCH, ""), Err(400));
    }
}
