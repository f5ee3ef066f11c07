//! What happens to every request, and which route answers it.
//!
//! Around the routes there is one layer, written out: correlation, origin,
//! token, then the route, then the envelope of a failure and the headers that
//! every answer has.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, SERVER};
use axum::http::{HeaderValue, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use orchion_service::Tasks;
use tower_service::Service;

use crate::config;
use crate::correlation::{self, Correlation};
use crate::cors::Origins;
use crate::error::{self, Error};
use crate::idempotency::Named;
use crate::routes::{chat, health, jobs, logs, models, nodes, tasks};
use crate::state::Gateway;
use crate::{auth, openapi};

/// Routes that need neither a token nor NATS.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/version"];

/// Takes every request, from the first moment on: before NATS is there, it says so.
pub(crate) struct Front {
    config: config::Gateway,
    origins: Origins,
    tasks: Tasks,
    connected: OnceLock<(Arc<Gateway>, Router)>,
}

impl Front {
    pub(crate) fn new(config: config::Gateway, tasks: &Tasks) -> Self {
        Self {
            origins: Origins::new(&config.cors_origins),
            config,
            tasks: tasks.clone(),
            connected: OnceLock::new(),
        }
    }

    /// NATS is there: from now on every route answers.
    pub(crate) fn connect(&self, gateway: Arc<Gateway>) {
        let router = routes().with_state(gateway.clone());
        // Called once, by `start`.
        let _ = self.connected.set((gateway, router));
    }

    pub(crate) fn connected(&self) -> Option<&Arc<Gateway>> {
        self.connected.get().map(|(gateway, _)| gateway)
    }

    pub(crate) fn instance(&self) -> &str {
        self.tasks.instance()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.tasks.stop().is_stopping()
    }

    /// Answers one request.
    pub(crate) async fn answer(self: Arc<Self>, mut request: Request<Body>) -> Response {
        let correlation = Correlation::from_headers(request.headers());
        let correlation_header = correlation.header();
        let origin = self.origins.allowed(request.headers());
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        request.extensions_mut().insert(correlation);

        let mut response = match self.admit(&request, &path) {
            Ok(()) if self.origins.is_preflight(&request) => crate::cors::preflight(),
            Ok(()) => self.clone().route(request, &path).await,
            Err(error) => error.into_response(),
        };

        error::render(&mut response, (method.as_str(), &path));
        let headers = response.headers_mut();
        headers.insert(SERVER, HeaderValue::from_static("orchion-gateway"));
        if let Some(correlation) = correlation_header {
            headers.insert(correlation::HEADER, correlation);
        }
        self.origins.decorate(headers, origin);
        response
    }

    fn admit(&self, request: &Request<Body>, path: &str) -> Result<(), Error> {
        if OPEN.contains(&path) || self.origins.is_preflight(request) {
            return Ok(());
        }
        self.origins.check(request, self.config.tokens.is_empty())?;
        auth::check(&self.config.tokens, request.headers())
    }

    async fn route(self: Arc<Self>, mut request: Request<Body>, path: &str) -> Response {
        match Named::from_headers(request.headers()) {
            Ok(None) => {}
            Ok(Some(named)) => drop(request.extensions_mut().insert(named)),
            Err(error) => return error.into_response(),
        }
        // Nothing behind this may log or pass on a token.
        request.headers_mut().remove(AUTHORIZATION);
        let routed = if OPEN.contains(&path) {
            open_routes().with_state(self.clone()).call(request).await
        } else if let Some((_, router)) = self.connected.get() {
            router.clone().call(request).await
        } else {
            Ok(Error::starting().into_response())
        };
        routed.unwrap_or_else(|never: Infallible| match never {})
    }
}

fn open_routes() -> Router<Arc<Front>> {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/version", get(health::version))
}

fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/api/chat/completions", post(chat::create))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::get))
        .route("/v1/tasks", post(tasks::create))
        .route("/v1/tasks/{id}", get(tasks::get))
        .route("/v1/tasks/{id}/stream", get(tasks::stream))
        .route("/v1/tasks/{id}/events", get(tasks::events))
        .route("/v1/tasks/{id}/explain", get(tasks::explain))
        .route("/v1/tasks/{id}/cancel", post(tasks::cancel))
        .route("/api/nodes", get(nodes::list))
        .route("/api/nodes/{id}", get(nodes::get))
        .route("/api/nodes/{id}/jobs", get(nodes::jobs))
        .route("/api/jobs", get(jobs::list).post(jobs::create))
        .route("/api/jobs/{id}", get(jobs::get))
        .route("/api/jobs/{id}/logs", get(jobs::logs))
        .route("/api/jobs/{id}/cancel", post(jobs::cancel))
        .route("/api/logs", get(logs::get))
        .route("/openapi.json", get(openapi::document))
}
