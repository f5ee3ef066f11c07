//! `GET /v1/models`: what can be asked for now.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use orchion_contract::node::{Node, NodeState};
use orchion_contract::{ErrorBody, ErrorCode, ModelName};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::state::Gateway;

/// How many near names are told for one that is unknown.
const NEAR: usize = 5;

/// A model, as OpenAI's clients expect it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(crate) struct Model {
    /// What to ask for.
    id: ModelName,
    /// Always `model`.
    object: &'static str,
    /// When a node that serves it was first seen, in seconds since 1970.
    created: u64,
    /// Always `orchion`.
    owned_by: &'static str,
}

/// A list, as OpenAI's clients expect it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ModelList {
    /// Always `list`.
    object: &'static str,
    /// Sorted by id.
    data: Vec<Model>,
}

/// Models that some node serves now
#[utoipa::path(get, path = "/v1/models", tag = "models",
    responses((status = 200, description = "The models", body = ModelList)))]
pub(crate) async fn list(State(gateway): State<Arc<Gateway>>) -> Result<Json<ModelList>> {
    let data = models(&gateway.list_nodes().await?);
    Ok(Json(ModelList {
        object: "list",
        data,
    }))
}

/// One model
#[utoipa::path(get, path = "/v1/models/{id}", tag = "models",
    params(("id" = String, Path, description = "Name of the model; a slash may be written %2F")),
    responses(
        (status = 200, description = "The model", body = Model),
        (status = 404, description = "No node serves it; near names are told", body = ErrorBody),
    ))]
pub(crate) async fn get(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
) -> Result<Json<Model>> {
    let models = models(&gateway.list_nodes().await?);
    match models.iter().find(|model| model.id.as_str() == id) {
        Some(model) => Ok(Json(model.clone())),
        None => Err(unknown(&id, &models)),
    }
}

fn models(nodes: &[Node]) -> Vec<Model> {
    let online = nodes.iter().filter(|node| node.state == NodeState::Online);
    let mut created = BTreeMap::<&ModelName, u64>::new();
    for node in online {
        for replica in node.replicas.iter().filter(|replica| replica.ready) {
            let first_seen = node.first_seen_ms / 1000;
            let earliest = created.entry(&replica.model).or_insert(first_seen);
            *earliest = first_seen.min(*earliest);
        }
    }
    let model = |(id, created): (&ModelName, u64)| Model {
        id: id.clone(),
        object: "model",
        created,
        owned_by: "orchion",
    };
    created.into_iter().map(model).collect()
}

fn unknown(id: &str, models: &[Model]) -> Error {
    let id: String = id.chars().take(120).collect();
    let mut near: Vec<_> = models
        .iter()
        .map(|model| {
            (
                strsim::jaro_winkler(&id, model.id.as_str()),
                model.id.as_str(),
            )
        })
        .filter(|(likeness, _)| *likeness > 0.7)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names: Vec<_> = near.iter().take(NEAR).map(|(_, name)| *name).collect();
    let hint = match names.as_slice() {
        [] => "GET /v1/models lists the models".to_owned(),
        names => format!("did you mean {}?", names.join(" or ")),
    };
    Error::new(
        ErrorCode::NotFound,
        format!("no node serves the model '{id}'; {hint}"),
    )
    .about("model")
}
