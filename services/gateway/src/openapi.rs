//! The OpenAPI document, made from the code.

use axum::Json;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi as _};

use crate::routes::{chat, health, jobs, logs, models, nodes, tasks};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Orchion",
        description = "Runs AI work on every machine you own. Answers cannot be lost.",
        license(name = "MIT", identifier = "MIT")
    ),
    paths(
        chat::create,
        models::list,
        models::get,
        tasks::create,
        tasks::get,
        tasks::stream,
        tasks::events,
        tasks::explain,
        tasks::cancel,
        nodes::list,
        nodes::get,
        nodes::jobs,
        jobs::list,
        jobs::create,
        jobs::get,
        jobs::cancel,
        jobs::logs,
        logs::get,
        health::healthz,
        health::readyz,
        health::version,
    ),
    security(("token" = [])),
    modifiers(&Token)
)]
struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("Not needed on a loopback address without tokens"))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

/// `GET /openapi.json`
pub(crate) async fn document() -> Json<OpenApi> {
    Json(Document::openapi())
}

/// The document as it is checked in: `openapi.json`.
///
/// # Errors
/// Never in practice: the document is plain data.
pub fn document_json() -> serde_json::Result<String> {
    Document::openapi().to_pretty_json()
}
