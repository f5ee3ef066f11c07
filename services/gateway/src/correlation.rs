//! The id that ties a request, its answer, its job and its log records together.

use std::sync::Arc;

use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The header, in requests and in every answer.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-correlation-id");

/// Longest id that is taken over from a caller.
const LONGEST: usize = 128;

/// The correlation id of a request.
#[derive(Debug, Clone)]
pub(crate) struct Correlation(Arc<str>);

impl Correlation {
    /// The caller's id when it is short and printable, else a fresh one.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let given = headers.get(HEADER).and_then(|value| value.to_str().ok());
        match given.filter(|given| (1..=LONGEST).contains(&given.len())) {
            // `to_str` lets visible ASCII and tabs through.
            Some(given) if !given.contains('\t') => Self(given.into()),
            Some(_) | None => Self(Uuid::new_v4().to_string().into()),
        }
    }

    /// The id of the request that these extensions belong to.
    pub(crate) fn of(extensions: &Extensions) -> String {
        let found = extensions.get::<Self>();
        found
            .map(|correlation| correlation.0.to_string())
            .unwrap_or_default()
    }

    pub(crate) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(given: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_bytes(given).unwrap());
        Correlation::from_headers(&headers).0.to_string()
    }

    #[test]
    fn a_good_id_is_kept_and_a_bad_one_replaced() {
        assert_eq!(id(b"my-id 1"), "my-id 1");
        for bad in [&b"a\tb"[..], b"\xff", b"", &[b'x'; 129]] {
            assert!(Uuid::parse_str(&id(bad)).is_ok());
        }
    }
}
