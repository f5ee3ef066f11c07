//! Routes that are open to everybody: whether the gateway lives, is ready,
//! and which version it is.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use orchion_contract::streams::TRANSCRIPTS;
use orchion_contract::{ErrorBody, ErrorCode};
use orchion_service::VERSION;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::router::Front;

/// How long JetStream may take to answer before the gateway is not ready.
const PATIENCE: Duration = Duration::from_secs(1);

/// The process lives.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Alive {
    /// Always `ok`.
    status: &'static str,
}

/// Who answers.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Version {
    /// Always `orchion-gateway`.
    service: &'static str,
    /// Its version.
    version: &'static str,
    /// This run of it.
    instance: String,
}

/// Whether the process lives
#[utoipa::path(get, path = "/healthz", tag = "service", security(()),
    responses((status = 200, description = "It lives", body = Alive)))]
pub(crate) async fn healthz() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// Whether requests can be answered now
#[utoipa::path(get, path = "/readyz", tag = "service", security(()),
    responses(
        (status = 200, description = "NATS and its store answer", body = Alive),
        (status = 503, description = "They do not, or the gateway is starting or stopping", body = ErrorBody),
    ))]
pub(crate) async fn readyz(State(front): State<Arc<Front>>) -> Result<Json<Alive>> {
    let not_ready = |why: &str| Error::new(ErrorCode::PoolUnready, format!("not ready: {why}"));
    let Some(gateway) = front.connected() else {
        return Err(not_ready(
            "NATS does not answer, or has no room for its streams; is nats-server running, and its disk not full?",
        ));
    };
    if front.is_stopping() {
        return Err(not_ready("the gateway is stopping"));
    }
    let stored = tokio::time::timeout(PATIENCE, gateway.bus.last_sequence(TRANSCRIPTS.name)).await;
    if !gateway.bus.is_connected() || !matches!(stored, Ok(Ok(_))) {
        return Err(not_ready(
            "NATS or its JetStream does not answer; is nats-server running?",
        ));
    }
    Ok(Json(Alive { status: "ok" }))
}

/// Which version answers
#[utoipa::path(get, path = "/version", tag = "service", security(()),
    responses((status = 200, description = "Service and version", body = Version)))]
pub(crate) async fn version(State(front): State<Arc<Front>>) -> Json<Version> {
    Json(Version {
        service: "orchion-gateway",
        version: VERSION,
        instance: front.instance().to_owned(),
    })
}
