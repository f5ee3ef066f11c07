//! Which web pages may use the gateway.
//!
//! A page of a listed origin may read answers. A page of any other origin may
//! not even send: a browser would let it post to this host without asking.

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HOST,
    ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use orchion_contract::ErrorCode;

use crate::error::Error;

/// The official client sends nine of these from a browser and fails without any one.
const ALLOWED_HEADERS: &str = "authorization, content-type, accept, idempotency-key, last-event-id, x-api-key, x-correlation-id, \
     x-stainless-arch, x-stainless-lang, x-stainless-os, x-stainless-package-version, \
     x-stainless-retry-count, x-stainless-runtime, x-stainless-runtime-version, \
     x-stainless-timeout, x-stainless-helper-method";
const EXPOSED_HEADERS: &str = "x-correlation-id, x-orchion-job, x-orchion-queue-position, x-orchion-predicted-start-ms, \
     x-backoff-ms, retry-after, retry-after-ms, x-should-retry";

/// Origins of web pages that may use the gateway.
pub(crate) struct Origins(Vec<HeaderValue>);

impl Origins {
    pub(crate) fn new(origins: &[String]) -> Self {
        let valid = origins
            .iter()
            .filter_map(|origin| HeaderValue::from_str(origin).ok());
        Self(valid.collect())
    }

    /// The origin of a request, when it is a listed one.
    pub(crate) fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(ORIGIN)?;
        self.0.contains(origin).then(|| origin.clone())
    }

    /// Whether a browser asks what a page may do.
    #[expect(clippy::unused_self, reason = "reads as a question about origins")]
    pub(crate) fn is_preflight(&self, request: &Request<Body>) -> bool {
        let headers = request.headers();
        request.method() == Method::OPTIONS
            && headers.contains_key(ORIGIN)
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Refuses pages of unlisted origins, and on a host that asks for no token
    /// also names that are not its own: a page may have a name that leads here.
    ///
    /// # Errors
    /// `FORBIDDEN`, with what to change.
    pub(crate) fn check(&self, request: &Request<Body>, is_open: bool) -> Result<(), Error> {
        let headers = request.headers();
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        if let Some(host) = host.filter(|host| is_open && !is_local(host)) {
            let host: String = host.chars().take(80).collect();
            return Err(Error::new(
                ErrorCode::Forbidden,
                format!(
                    "the host name {host} is not this machine's; set gateway.tokens to be reached under any name"
                ),
            ));
        }
        let Some(origin) = headers.get(ORIGIN) else {
            return Ok(());
        };
        let is_own = origin
            .to_str()
            .ok()
            .and_then(|origin| origin.split_once("://"))
            .map(|(_, own)| own)
            == host;
        if is_own || self.0.contains(origin) {
            return Ok(());
        }
        Err(Error::new(
            ErrorCode::Forbidden,
            "web pages of this origin may not use the gateway; add it to gateway.cors_origins",
        ))
    }

    /// Tells a browser that the page may read the answer.
    pub(crate) fn decorate(&self, headers: &mut HeaderMap, allowed: Option<HeaderValue>) {
        if self.0.is_empty() {
            return;
        }
        headers.append(VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(
                ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static(EXPOSED_HEADERS),
            );
        }
    }
}

/// The answer to a browser's question; without the origin's name it means no.
pub(crate) fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, DELETE, OPTIONS"),
    );
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static(ALLOWED_HEADERS),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// Addresses, and names that always mean this machine.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_are_this_machine() {
        for host in [
            "127.0.0.1:8080",
            "[::1]:8080",
            "LocalHost",
            "orchion.localhost:1",
            "192.168.0.5",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil.example", ""] {
            assert!(!is_local(host), "{host}");
        }
    }
}
