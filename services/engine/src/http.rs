//! The engine's HTTP interface: OpenAI's routes, and one of its own for probing.

mod answer;
mod error;
mod info;
mod request;
mod shape;

use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;

use crate::engine::Engine;
use crate::slots::Slots;
use error::Error;
pub(crate) use info::NOTE;

/// Prompts, and the ids of a long prefix, fit easily; a mistaken upload does not.
const MOST_BODY_BYTES: usize = 16 << 20;

/// What the routes share.
pub struct Service {
    /// The name under which the model is served.
    model: String,
    slots: Slots,
    /// Empty while the model is loading.
    engine: OnceLock<Arc<Engine>>,
    started: u64,
}

impl Service {
    /// A service that is still loading; see [`Service::ready`].
    pub fn new(model: String, slots: usize) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            model,
            slots: Slots::new(slots),
            engine: OnceLock::new(),
            started: now.map_or(0, |now| now.as_secs()),
        }
    }

    /// Starts answering with `engine`. The first engine stays.
    pub fn ready(&self, engine: Engine) {
        // A second call has no caller; the first engine would simply stay.
        let _ = self.engine.set(Arc::new(engine));
    }

    fn engine(&self) -> Result<&Arc<Engine>, Error> {
        self.engine.get().ok_or_else(Error::loading)
    }
}

/// All routes.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/health", get(info::health))
        .route("/v1/engine", get(info::engine))
        .route("/v1/models", get(info::models))
        .route("/v1/models/{id}", get(info::model))
        .route("/v1/chat/completions", post(answer::chat))
        .route("/v1/completions", post(answer::completions))
        .fallback(async |request: Request| {
            let route = format!("{} {}", request.method(), request.uri().path());
            Error::new(
                StatusCode::NOT_FOUND,
                "not_found_error",
                format!("no route {route}"),
            )
            .code("unknown_route")
        })
        .method_not_allowed_fallback(async |request: Request| {
            let message = format!(
                "{} does not take {}",
                request.uri().path(),
                request.method()
            );
            Error::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "invalid_request_error",
                message,
            )
            .code("method_not_allowed")
        })
        .layer(DefaultBodyLimit::max(MOST_BODY_BYTES))
        .layer(axum::middleware::map_response(name_server))
        .with_state(service)
}

/// Serves until `stop` resolves; answers that still run are then cut.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = listener.tap_io(|connection| {
        // A token must not wait for the next one; without it, it merely comes later.
        let _ = connection.set_nodelay(true);
    });
    let served = axum::serve(listener, router(service)).into_future();
    tokio::select! {
        served = served => served,
        () = stop => Ok(()),
    }
}

async fn name_server(mut response: Response) -> Response {
    let name = HeaderValue::from_static(concat!("orchion-engine/", env!("CARGO_PKG_VERSION")));
    response.headers_mut().insert(header::SERVER, name);
    response
}
