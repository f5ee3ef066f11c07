//! `GET /api/nodes`: the hosts of the cluster.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use orchion_contract::job::ListJobs;
use orchion_contract::node::Node;
use orchion_contract::{ErrorBody, NodeId, rpc};

use super::jobs::{JobView, views};
use crate::error::{Error, Result};
use crate::state::Gateway;

/// How long the registry may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// All nodes, sorted by id
#[utoipa::path(get, path = "/api/nodes", tag = "nodes",
    responses((status = 200, description = "The nodes, lost ones too", body = Vec<Node>)))]
pub(crate) async fn list(State(gateway): State<Arc<Gateway>>) -> Result<Json<Vec<Node>>> {
    // Whoever watches nodes wants to see a loss when it happens.
    Ok(Json(gateway.list_nodes_now().await?.to_vec()))
}

/// One node
#[utoipa::path(get, path = "/api/nodes/{id}", tag = "nodes",
    params(("id" = String, Path, description = "Letters, digits, dashes and underscores")),
    responses(
        (status = 200, description = "The node", body = Node),
        (status = 400, description = "This can be no node's id", body = ErrorBody),
        (status = 404, description = "No such node", body = ErrorBody),
    ))]
pub(crate) async fn get(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
) -> Result<Json<Node>> {
    let id = node_id(&id, "id")?;
    Ok(Json(known(&gateway, &id).await?))
}

/// What the registry knows of a node.
///
/// # Errors
/// When there is no such node, or the registry does not answer.
pub(crate) async fn known(gateway: &Gateway, id: &NodeId) -> Result<Node> {
    let asked = gateway.bus.ask_patiently(&rpc::GET_NODE, &(), id, PATIENCE);
    asked
        .await
        .map_err(|error| Error::from_bus(error, "registry"))
}

/// Jobs of one node, newest first
#[utoipa::path(get, path = "/api/nodes/{id}/jobs", tag = "nodes",
    params(("id" = String, Path, description = "Id of the node")),
    responses(
        (status = 200, description = "Jobs that are open or ended a short while ago", body = Vec<JobView>),
        (status = 400, description = "This can be no node's id", body = ErrorBody),
        (status = 404, description = "No such node", body = ErrorBody),
    ))]
pub(crate) async fn jobs(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
) -> Result<Json<Vec<JobView>>> {
    let filter = ListJobs {
        node: Some(node_id(&id, "id")?),
        ..ListJobs::default()
    };
    Ok(Json(views(&gateway, &filter).await?))
}

/// Reads a node's id.
///
/// # Errors
/// Which character it must not have.
pub(crate) fn node_id(text: &str, param: &str) -> Result<NodeId> {
    NodeId::new(text).map_err(|error| Error::invalid(param, error.to_string()))
}
