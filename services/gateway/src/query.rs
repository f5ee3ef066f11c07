//! Query parameters, each checked by name.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use crate::error::Error;

/// The parameters of a request; unknown ones are ignored, as unknown fields are.
pub(crate) struct Params(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let read = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(pairs) =
            read.map_err(|_| Error::invalid("query", "the query of the address cannot be read"))?;
        Ok(Self(
            pairs
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .collect(),
        ))
    }
}

impl Params {
    /// The parameters of a request that is read by hand.
    ///
    /// # Errors
    /// When the query cannot be read.
    pub(crate) async fn of(parts: &mut Parts) -> Result<Self, Error> {
        match parts.uri.query() {
            None => Ok(Self(BTreeMap::new())),
            Some(_) => Self::from_request_parts(parts, &()).await,
        }
    }

    /// A parameter as text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A parameter that stands for something.
    ///
    /// # Errors
    /// When it does not; `expected` says what would.
    pub(crate) fn parse<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, Error> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let text_shown: String = text.chars().take(60).collect();
        text.parse().map(Some).map_err(|_| {
            Error::invalid(
                name,
                format!("`{name}` must be {expected}, not '{text_shown}'"),
            )
        })
    }
}
