//! The starter engine that comes with Orchion, `orchion-engine`.
//!
//! It tells the ids of the tokens with every piece and goes on behind them
//! exactly where an answer stopped.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use orchion_contract::node::{Continuation, EngineKind};
use orchion_node_agent_core::Way;
use serde::Deserialize;

use super::answer::{Answer, Form, Prompt};
use super::body::BodyWriter;
use super::openai::{get, path};
use super::{Ask, EngineAdapter, Error, Probed, Rest, Served, http};

/// A running starter.
#[derive(Debug, Clone)]
pub struct Starter {
    client: http::Client,
}

impl Starter {
    /// The starter that `client` talks to.
    #[must_use]
    pub fn new(client: http::Client) -> Self {
        Self { client }
    }
}

/// What it says about itself at `/v1/engine`.
#[derive(Debug, Deserialize)]
struct About {
    kind: EngineKind,
    version: String,
    status: String,
    model: String,
    digest: Option<String>,
    ctx: Option<u32>,
    slots: u32,
}

impl EngineAdapter for Starter {
    fn kind(&self) -> EngineKind {
        EngineKind::Starter
    }

    fn client(&self) -> &http::Client {
        &self.client
    }

    fn probe(&self) -> BoxFuture<'_, Result<Probed, Error>> {
        async {
            let bytes = get(&self.client, "/v1/engine").await?;
            let about: About = serde_json::from_slice(&bytes)
                .map_err(|_| Error::Strange("/v1/engine is not what it should be".to_owned()))?;
            if about.kind != EngineKind::Starter || about.status != "ok" {
                return Err(Error::Unavailable {
                    status: 503,
                    message: "it is loading its model".to_owned(),
                });
            }
            Ok(Probed {
                version: Some(about.version),
                models: vec![Served {
                    name: about.model,
                    ctx: about.ctx,
                    digest: about.digest,
                }],
                slots: Some(about.slots),
                continuation: Continuation::Ids,
            })
        }
        .boxed()
    }

    fn look(&self) -> BoxFuture<'_, Result<(), Error>> {
        async { get(&self.client, "/health").await.map(drop) }.boxed()
    }

    fn open<'a>(&'a self, ask: Ask<'a>) -> BoxFuture<'a, Result<Answer, Error>> {
        async move {
            let mut writer = BodyWriter::new(&ask, u64::MAX);
            if let Some(rest) = ask.rest {
                writer.raw("orchion_continue", &beginning(rest)?);
            }
            let body = writer.with_body(&ask.spec.body)?;
            let begun = self.client.open(path(ask.spec.workload)?, body).await?;
            // It does not count the beginning as prompt.
            Answer::of(begun, Form::OpenAi, Prompt::Without(0)).await
        }
        .boxed()
    }
}

/// The beginning as ids, with its text for the engine to check.
fn beginning(rest: Rest<'_>) -> Result<String, Error> {
    let ids = rest.prefix.ids.as_ref();
    let ids = ids.filter(|_| rest.behind == Way::Ids).ok_or_else(|| {
        Error::CannotGoOn("the starter engine goes on behind token ids only".to_owned())
    })?;
    Ok(serde_json::json!({"ids": ids, "text": rest.prefix.text}).to_string())
}
