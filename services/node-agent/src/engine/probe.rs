//! Finds engines that run on this host already, and tells their kinds apart.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::SERVER;
use orchion_contract::node::EngineKind;
use serde::Deserialize;

use super::http::{Client, Whole};

/// How long one question may take: engines on this host answer at once.
const PATIENCE: Duration = Duration::from_millis(800);

/// What listens at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// An engine of this kind.
    Engine(EngineKind),
    /// An Orchion gateway: never an engine, or the cluster would ask itself.
    Gateway,
    /// Nothing that answers, or nothing that is known.
    Nothing,
}

/// Looks at what listens where `client` points to.
pub async fn look(client: &Client) -> Found {
    let Ok(version) = client.get("/version", PATIENCE).await else {
        return Found::Nothing;
    };
    if is_gateway(&version) {
        return Found::Gateway;
    }
    if let Some(kind) = says::<About>(client, "/v1/engine")
        .await
        .map(|about| about.kind)
        && kind == EngineKind::Starter
    {
        return Found::Engine(kind);
    }
    let is_llama = names_server(&version, "llama.cpp");
    if is_llama || says::<Props>(client, "/props").await.is_some() {
        return Found::Engine(EngineKind::LlamaCpp);
    }
    match says::<Models>(client, "/v1/models").await {
        Some(_) => Found::Engine(EngineKind::OpenAi),
        None => Found::Nothing,
    }
}

fn is_gateway(version: &Whole) -> bool {
    #[derive(Deserialize)]
    struct Service {
        service: String,
    }
    let said = serde_json::from_slice::<Service>(&version.bytes);
    names_server(version, "orchion-gateway")
        || said.is_ok_and(|said| said.service == "orchion-gateway")
}

fn names_server(answer: &Whole, name: &str) -> bool {
    let server = answer.headers.get(SERVER);
    server.is_some_and(|server| server.to_str().is_ok_and(|server| server.starts_with(name)))
}

#[derive(Deserialize)]
struct About {
    kind: EngineKind,
}

#[derive(Deserialize)]
struct Props {
    #[serde(rename = "build_info")]
    _build_info: String,
}

#[derive(Deserialize)]
struct Models {
    #[serde(rename = "data")]
    _data: Vec<serde::de::IgnoredAny>,
}

async fn says<T: for<'de> Deserialize<'de>>(client: &Client, path: &str) -> Option<T> {
    let whole = client.get(path, PATIENCE).await.ok()?;
    (whole.status == StatusCode::OK).then_some(())?;
    serde_json::from_slice(&whole.bytes).ok()
}
