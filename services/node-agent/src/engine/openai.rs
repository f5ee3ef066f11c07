//! Anything that speaks OpenAI's protocol.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use orchion_contract::job::Workload;
use orchion_contract::node::{Continuation, EngineKind};
use serde::Deserialize;

use super::answer::{Answer, Form, Prompt};
use super::body::{self, BodyWriter};
use super::{Ask, Delivery, EngineAdapter, Error, Probed, Served, http};

/// Seeds are signed numbers in some engines.
const LARGEST_SEED: u64 = i64::MAX as u64;

/// How long a small question may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// An engine of which nothing more is known.
#[derive(Debug, Clone)]
pub struct OpenAi {
    client: http::Client,
}

impl OpenAi {
    /// The engine that `client` talks to.
    #[must_use]
    pub fn new(client: http::Client) -> Self {
        Self { client }
    }
}

impl EngineAdapter for OpenAi {
    fn kind(&self) -> EngineKind {
        EngineKind::OpenAi
    }

    /// Ollama and vLLM do, and who does not is done soon.
    fn notices_hang_ups(&self) -> bool {
        true
    }

    fn client(&self) -> &http::Client {
        &self.client
    }

    fn probe(&self) -> BoxFuture<'_, Result<Probed, Error>> {
        async {
            let models = models(&self.client).await?;
            let version = version(&self.client).await;
            Ok(Probed {
                version,
                models,
                slots: None,
                continuation: Continuation::None,
            })
        }
        .boxed()
    }

    fn look(&self) -> BoxFuture<'_, Result<(), Error>> {
        async { get(&self.client, "/v1/models").await.map(drop) }.boxed()
    }

    fn open<'a>(&'a self, ask: Ask<'a>) -> BoxFuture<'a, Result<Answer, Error>> {
        async move {
            let (body, prompt) = body(BodyWriter::new(&ask, LARGEST_SEED), &ask)?;
            let begun = self.client.open(path(ask.spec.workload)?, body).await?;
            let form = match ask.delivery {
                Delivery::Stream => Form::OpenAi,
                Delivery::Whole => Form::Whole,
            };
            Answer::of(begun, form, prompt).await
        }
        .boxed()
    }
}

/// The request, and what the engine counts as its prompt.
pub(super) fn body(writer: BodyWriter, ask: &Ask<'_>) -> Result<(Bytes, Prompt), Error> {
    let spec = ask.spec;
    match ask.rest {
        None => Ok((writer.with_body(&spec.body)?, Prompt::Without(0))),
        Some(rest) => {
            let body = body::with_beginning(writer, spec.workload, &spec.body, rest)?;
            Ok((body, Prompt::Without(rest.prefix.tokens)))
        }
    }
}

/// Where a kind of work is asked for.
pub(super) fn path(workload: Workload) -> Result<&'static str, Error> {
    match workload {
        Workload::Chat => Ok("/v1/chat/completions"),
        Workload::Completion => Ok("/v1/completions"),
        Workload::Unknown => Err(body::unknown_workload()),
    }
}

#[derive(Deserialize)]
struct ModelList {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    #[serde(default)]
    max_model_len: Option<u32>,
    #[serde(default)]
    meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    n_ctx: Option<u32>,
    #[serde(default)]
    digest: Option<String>,
}

/// The models that an engine lists.
pub(super) async fn models(client: &http::Client) -> Result<Vec<Served>, Error> {
    let bytes = get(client, "/v1/models").await?;
    let list: ModelList = serde_json::from_slice(&bytes)
        .map_err(|_| Error::Strange("/v1/models is no list of models".to_owned()))?;
    let served = |model: Model| Served {
        name: model.id,
        ctx: (model.max_model_len).or(model.meta.as_ref().and_then(|meta| meta.n_ctx)),
        digest: model.meta.and_then(|meta| meta.digest),
    };
    Ok(list.data.into_iter().map(served).collect())
}

/// Whatever version an engine tells.
async fn version(client: &http::Client) -> Option<String> {
    #[derive(Deserialize)]
    struct Version {
        version: String,
    }
    let bytes = get(client, "/version").await.ok()?;
    let found: Version = serde_json::from_slice(&bytes).ok()?;
    Some(found.version)
}

/// A small answer with status 200.
pub(super) async fn get(client: &http::Client, path: &str) -> Result<Bytes, Error> {
    let whole = client.get(path, PATIENCE).await?;
    good(whole)
}

/// The same with a body.
pub(super) async fn post(client: &http::Client, path: &str, body: Bytes) -> Result<Bytes, Error> {
    let whole = client.post(path, body, PATIENCE * 5).await?;
    good(whole)
}

fn good(whole: http::Whole) -> Result<Bytes, Error> {
    match whole.status {
        StatusCode::OK => Ok(whole.bytes),
        status => Err(Error::Unavailable {
            status: status.as_u16(),
            message: "it did not answer a simple question".to_owned(),
        }),
    }
}
