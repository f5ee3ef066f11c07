//! Who may use the gateway: whoever has a token, in constant time.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use orchion_contract::ErrorCode;
use subtle::ConstantTimeEq;

use crate::config::Tokens;
use crate::error::Error;

/// Lets a request in, or says what it lacks.
///
/// # Errors
/// `MISSING_TOKEN` or `BAD_TOKEN`.
pub(crate) fn check(tokens: &Tokens, headers: &HeaderMap) -> Result<(), Error> {
    if tokens.is_empty() {
        return Ok(());
    }
    let Some(given) = given(headers) else {
        return Err(Error::new(
            ErrorCode::MissingToken,
            "a token is needed: send the header `Authorization: Bearer TOKEN`; `orchion-gateway token` prints it",
        ));
    };
    let matches = tokens.iter().fold(0u8, |found, token| {
        found | token.expose().as_bytes().ct_eq(given).unwrap_u8()
    });
    if matches == 1 {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::BadToken,
        "this token is not known here; `orchion-gateway token` prints the right one",
    ))
}

/// The token that a request brings, whether it is known or not.
pub(crate) fn given(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(value) = headers.get(AUTHORIZATION) {
        let (scheme, token) = value.as_bytes().split_at_checked(7)?;
        return scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then(|| token.trim_ascii())
            .filter(|token| !token.is_empty());
    }
    headers.get("x-api-key").map(|value| value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchion_service::Secret;

    fn code(name: &'static str, value: &str) -> Option<ErrorCode> {
        let tokens = Tokens::from_iter(["first", "second"].map(Secret::new));
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        check(&tokens, &headers).err().map(|error| error.0.code)
    }

    #[test]
    fn each_token_opens_in_both_forms() {
        assert_eq!(code("authorization", "Bearer second"), None);
        assert_eq!(code("authorization", "bearer first"), None);
        assert_eq!(code("x-api-key", "first"), None);
    }

    #[test]
    fn missing_and_wrong_are_told_apart() {
        assert_eq!(code("accept", "x"), Some(ErrorCode::MissingToken));
        assert_eq!(
            code("authorization", "Basic Zm9v"),
            Some(ErrorCode::MissingToken)
        );
        assert_eq!(
            code("authorization", "Bearer firs"),
            Some(ErrorCode::BadToken)
        );
        assert_eq!(code("x-api-key", "Bearer first"), Some(ErrorCode::BadToken));
    }

    #[test]
    fn no_token_configured_lets_everybody_in() {
        assert!(check(&Tokens::default(), &HeaderMap::new()).is_ok());
    }
}
