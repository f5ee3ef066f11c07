//! `Idempotency-Key`: the same key and body are the same job.
//!
//! The key becomes the job's id, so that the scheduler alone decides whether it
//! is known, at whichever gateway it is used again.

use axum::http::{Extensions, HeaderMap};
use orchion_contract::JobId;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::auth;
use crate::error::{Error, Result};

/// The header.
const HEADER: &str = "idempotency-key";
/// Longest key, in bytes.
const LONGEST: usize = 255;

/// The job that a request names by its key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named(pub(crate) JobId);

impl Named {
    /// What the headers of a request name. Callers with other tokens name other jobs.
    ///
    /// # Errors
    /// When the key is empty, too long, or not printable.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Option<Self>> {
        let Some(key) = headers.get(HEADER) else {
            return Ok(None);
        };
        let is_good = |key: &&str| (1..=LONGEST).contains(&key.len());
        let Some(key) = key.to_str().ok().filter(is_good) else {
            return Err(Error::invalid(
                "Idempotency-Key",
                format!(
                    "`Idempotency-Key` must have 1 to {LONGEST} printable characters; a fresh UUID does"
                ),
            ));
        };
        let account = Sha256::digest(auth::given(headers).unwrap_or_default());
        let mut hash = Sha256::new();
        hash.update(b"orchion idempotency key\0");
        hash.update(account);
        hash.update(key.as_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finalize()[..16]);
        Ok(Some(Self(Uuid::new_v8(id).into())))
    }

    /// What the request of these extensions names.
    pub(crate) fn of(extensions: &Extensions) -> Option<JobId> {
        extensions.get::<Self>().map(|named| named.0)
    }
}

/// Says of a taken id that it comes from a key.
pub(crate) fn taken(mut error: Error) -> Error {
    error.0.message =
        "this `Idempotency-Key` was used with another body; use a fresh key for a new request"
            .to_owned();
    error.about("Idempotency-Key")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(headers: &[(&'static str, &str)]) -> Option<JobId> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let headers: HeaderMap = headers.collect();
        Named::from_headers(&headers).unwrap().map(|named| named.0)
    }

    #[test]
    fn one_key_of_one_caller_is_one_job_everywhere() {
        let once = named(&[("idempotency-key", "a"), ("authorization", "Bearer x")]);
        assert_eq!(
            once.unwrap().to_string(),
            "7c075c6a-912b-875d-915b-9f4fc6ce6829"
        );
        let other_key = named(&[("idempotency-key", "b"), ("authorization", "Bearer x")]);
        let other_caller = named(&[("idempotency-key", "a"), ("authorization", "Bearer y")]);
        let nobody = named(&[("idempotency-key", "a")]);
        assert!(![other_key, other_caller, nobody].contains(&once));
        assert_ne!(other_caller, nobody);
        assert_eq!(named(&[]), None);
    }

    #[test]
    fn a_key_that_cannot_be_one_is_named() {
        for bad in ["", "\u{e4}", &"x".repeat(256)] {
            let mut headers = HeaderMap::new();
            let value = axum::http::HeaderValue::from_bytes(bad.as_bytes()).unwrap();
            headers.insert(HEADER, value);
            let error = Named::from_headers(&headers).unwrap_err();
            assert_eq!(error.0.param.as_deref(), Some("Idempotency-Key"));
        }
    }
}
