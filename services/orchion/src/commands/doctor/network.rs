//! Checks of what should answer: NATS, the gateway, engines.

use std::time::Duration;

use hyper::Method;
use orchion_contract::node::{Node, NodeState};
use serde_json::Value;

use super::Check;
use crate::commands::rows;
use crate::exit::Kind;
use crate::gateway::Gateway;
use crate::http::{self, Base, Request};
use crate::nats;

const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The server's greeting tells what it can; no user is needed for it.
pub(super) async fn nats(url: &str) -> Check {
    const NAME: &str = "nats";
    let address = nats::address(url);
    match nats::greeting(&address).await {
        Ok(greeting) if !greeting.jetstream => Check::fail(
            NAME,
            format!(
                "nats-server {} at {address} has no JetStream",
                greeting.version
            ),
            "start it with the configuration in nats/, or let `orchion up` start one",
        ),
        Ok(greeting) => {
            let login = if greeting.auth_required {
                ", asks for a password"
            } else {
                ""
            };
            Check::ok(
                NAME,
                format!(
                    "nats-server {} with JetStream at {address}{login}",
                    greeting.version
                ),
            )
        }
        Err(nats::Silence::Nobody(reason)) => Check::fail(
            NAME,
            format!("nobody answers at {address}: {reason}"),
            "start everything here with `orchion up`, or name the server with --nats-url",
        ),
        Err(nats::Silence::Another) => Check::fail(
            NAME,
            format!("another program has the port of {address}"),
            "choose another with `orchion up --nats-port`, or end that program",
        ),
    }
}

/// The gateway, what is behind it, and what it offers.
pub(super) async fn gateway(gateway: &Gateway) -> Vec<Check> {
    const NAME: &str = "gateway";
    let version: Value = match gateway.get("/version").await {
        Ok(version) => version,
        Err(failure) if failure.kind == Kind::Unavailable => {
            return vec![Check::fail(
                NAME,
                failure.message,
                failure.next.unwrap_or_default(),
            )];
        }
        Err(failure) => {
            return vec![Check::fail(
                NAME,
                format!(
                    "what answers at {} is no Orchion gateway: {}",
                    gateway.base(),
                    failure.message
                ),
                "choose another port with `orchion up --http-port`, or name the gateway with --url",
            )];
        }
    };
    let shown = version["version"].as_str().unwrap_or("of unknown version");
    let found = format!("{shown} at {}", gateway.base());
    let mut checks = vec![if shown == env!("CARGO_PKG_VERSION") {
        Check::ok(NAME, found)
    } else {
        Check::warn(NAME, found, "run the same version of Orchion everywhere")
    }];
    if let Err(failure) = gateway.get::<Value>("/readyz").await {
        checks.push(Check::fail(
            "readiness",
            failure.message,
            "wait a moment; if it stays so, read `orchion logs --level warn`",
        ));
    }
    checks.push(nodes(gateway).await);
    checks
}

async fn nodes(gateway: &Gateway) -> Check {
    const NAME: &str = "nodes";
    let listed = gateway.get::<Value>("/api/nodes").await;
    let nodes: Vec<Node> = match listed.and_then(|document| rows(document, NAME)) {
        Ok(nodes) => nodes,
        Err(failure) => {
            return Check::fail(NAME, failure.message, failure.next.unwrap_or_default());
        }
    };
    let online: Vec<&Node> = nodes
        .iter()
        .filter(|node| node.state == NodeState::Online)
        .collect();
    let replicas = online.iter().flat_map(|node| &node.replicas);
    let ready = replicas.filter(|replica| replica.ready).count();
    let found = format!(
        "{} of {} online; models ready on them: {ready}",
        online.len(),
        nodes.len()
    );
    match (online.len(), ready) {
        (0, _) => Check::fail(
            NAME,
            found,
            "start an agent: `orchion agent --nats-url nats://HOST:4222`",
        ),
        (_, 0) => Check::fail(
            NAME,
            found,
            "start an engine on a node; `orchion nodes` shows what each has",
        ),
        _ => Check::ok(NAME, found),
    }
}

/// Engines of this machine that an agent would use.
pub(super) async fn engines(gateway: &Gateway) -> Check {
    const NAME: &str = "engines";
    let mut found = Vec::new();
    for place in orchion_node_agent::NodeAgent::default().probe {
        let Ok(base) = Base::parse(&place) else {
            continue;
        };
        let is_gateway = gateway.base().is_local() && gateway.base().port() == base.port();
        if !is_gateway && serves_models(&base).await {
            found.push(place);
        }
    }
    if found.is_empty() {
        return Check::warn(
            NAME,
            "none on the usual ports of this machine; the starter engine answers, with a tiny model",
            "for real work start llama-server, Ollama or vLLM: the agent finds it",
        );
    }
    Check::ok(NAME, found.join(", "))
}

async fn serves_models(base: &Base) -> bool {
    let request = Request {
        method: Method::GET,
        path: "/v1/models",
        headers: Vec::new(),
        body: None,
    };
    let asked = tokio::time::timeout(PROBE_TIMEOUT, http::send(base, request)).await;
    match asked {
        Ok(Ok(response)) => {
            // An Orchion gateway names every answer; an engine does not.
            response.status.is_success() && response.header("x-correlation-id").is_none()
        }
        Ok(Err(_)) | Err(_) => false,
    }
}
